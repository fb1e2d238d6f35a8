//! Gathering the transactions of one declaration.

use std::{collections::HashMap, sync::Arc};

use radpool_units::Hash256;
use thiserror::Error;

use crate::{
    TransactionCache,
    parallel::{BatchError, parse_all},
    transaction::Transaction,
};

/// No block has more transactions besides its coinbase: none weighs less than 240 units.
pub const TRANSACTIONS_MAX: usize = 16_666;

/// A list of wtxids, or an answer with transactions, that cannot be used; the declarer is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SelectionError {
    /// No block is that long.
    #[error("the list names {0} transactions, at most {TRANSACTIONS_MAX} fit a block")]
    TooMany(usize),
    /// Some bytes are no transaction.
    #[error(transparent)]
    Parse(#[from] BatchError),
    /// The answer has another length than the request.
    #[error("{given} transactions came, {asked} were asked for")]
    Count {
        /// How many came.
        given: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The answer has something else in it.
    #[error("transaction {index} is {found}, and {wanted} was asked for in its place (wtxids)")]
    Other {
        /// Its place in the answer.
        index: usize,
        /// Its wtxid.
        found: Hash256,
        /// What was asked for.
        wanted: Hash256,
    },
}

/// Holds the transactions of one declaration, so that none leaves the cache meanwhile.
#[derive(Debug)]
pub struct Selection {
    cache: Arc<TransactionCache>,
    wtxids: Vec<Hash256>,
    found: Vec<Option<Arc<Transaction>>>,
}

impl Selection {
    /// Looks a list up: wtxids in block order, without the coinbase.
    ///
    /// # Errors
    /// `SelectionError::TooMany` for a list no block can have.
    pub fn new(cache: Arc<TransactionCache>, wtxids: Vec<Hash256>) -> Result<Self, SelectionError> {
        if wtxids.len() > TRANSACTIONS_MAX {
            return Err(SelectionError::TooMany(wtxids.len()));
        }
        let found = cache.find(&wtxids);
        Ok(Self { cache, wtxids, found })
    }

    /// The list as given.
    #[must_use]
    pub fn wtxids(&self) -> &[Hash256] {
        &self.wtxids
    }

    /// The positions still unknown, ascending; of a repeated wtxid the first alone.
    #[must_use]
    pub fn missing(&self) -> Vec<usize> {
        let mut first: Vec<_> = self.first_positions().into_values().collect();
        first.sort_unstable();
        first
    }

    /// Takes what is missing out of transactions in any order; the rest is let go.
    ///
    /// # Errors
    /// `SelectionError::Parse` when one is no transaction; nothing is taken then.
    pub fn offer<T: AsRef<[u8]> + Sync>(&mut self, raws: &[T]) -> Result<(), SelectionError> {
        let missing = self.first_positions();
        let parsed = parse_all(raws)?.into_iter();
        self.take(parsed.filter(|each| missing.contains_key(&each.wtxid())));
        Ok(())
    }

    /// Takes the answer to a request for `missing`.
    ///
    /// # Errors
    /// `SelectionError` when it is not exactly what was asked for, in that order; nothing is taken.
    pub fn supply<T: AsRef<[u8]> + Sync>(&mut self, raws: &[T]) -> Result<(), SelectionError> {
        let missing = self.missing();
        if raws.len() != missing.len() {
            return Err(SelectionError::Count { given: raws.len(), asked: missing.len() });
        }
        let parsed = parse_all(raws)?;
        for (index, (each, position)) in parsed.iter().zip(missing).enumerate() {
            let (found, wanted) = (each.wtxid(), self.wtxids[position]);
            if found != wanted {
                return Err(SelectionError::Other { index, found, wanted });
            }
        }
        self.take(parsed.into_iter());
        Ok(())
    }

    /// The transactions in block order, or how many are missing.
    pub(crate) fn transactions(&self) -> Result<Vec<Arc<Transaction>>, usize> {
        let all: Option<Vec<_>> = self.found.iter().cloned().collect();
        all.ok_or_else(|| self.missing().len())
    }

    fn first_positions(&self) -> HashMap<Hash256, usize> {
        let mut first = HashMap::new();
        for (index, wtxid) in self.wtxids.iter().enumerate() {
            if self.found[index].is_none() {
                first.entry(*wtxid).or_insert(index);
            }
        }
        first
    }

    fn take(&mut self, parsed: impl Iterator<Item = Transaction>) {
        let fresh: Vec<_> = parsed.map(Arc::new).collect();
        let by_wtxid: HashMap<_, _> = fresh.iter().map(|each| (each.wtxid(), each)).collect();
        for (slot, wtxid) in self.found.iter_mut().zip(&self.wtxids) {
            if slot.is_none() {
                *slot = by_wtxid.get(wtxid).map(|each| Arc::clone(each));
            }
        }
        self.cache.add(&fresh);
    }
}
