//! Transactions by wtxid within a budget of bytes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use radpool_units::Hash256;

use crate::transaction::Transaction;

/// Remembers the transactions of earlier declarations, for all declarers together.
///
/// What somebody else holds is never dropped: it would take its memory all the same. The rest goes,
/// what was not asked for since its last turn first, until the budget is kept.
#[derive(Debug)]
pub struct TransactionCache {
    bytes_max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    entries: HashMap<Hash256, Entry>,
    /// All entries once, the next that may have to go in front.
    turns: VecDeque<Hash256>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    transaction: Arc<Transaction>,
    /// Whether it was asked for since its last turn.
    wanted: bool,
}

impl TransactionCache {
    /// Makes an empty one.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, shelf: Mutex::default() }
    }

    /// Keeps transactions; of one that is here already, the one that is here stays.
    pub fn add(&self, transactions: &[Arc<Transaction>]) {
        let mut shelf = self.shelf.lock();
        for transaction in transactions {
            shelf.put(transaction);
        }
        shelf.make_room(self.bytes_max);
    }

    /// Looks transactions up, in order.
    pub fn find(&self, wtxids: &[Hash256]) -> Vec<Option<Arc<Transaction>>> {
        let mut shelf = self.shelf.lock();
        wtxids
            .iter()
            .map(|wtxid| {
                let entry = shelf.entries.get_mut(wtxid)?;
                entry.wanted = true;
                Some(Arc::clone(&entry.transaction))
            })
            .collect()
    }

    /// The positions of wtxids that are not here, ascending.
    #[must_use]
    pub fn missing(&self, wtxids: &[Hash256]) -> Vec<usize> {
        let shelf = self.shelf.lock();
        let absent = wtxids.iter().enumerate().filter(|(_, id)| !shelf.entries.contains_key(id));
        absent.map(|(index, _)| index).collect()
    }

    /// How many transactions are here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shelf.lock().entries.len()
    }

    /// How much memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shelf.lock().bytes
    }
}

impl Shelf {
    fn put(&mut self, transaction: &Arc<Transaction>) {
        let wtxid = transaction.wtxid();
        if let Some(entry) = self.entries.get_mut(&wtxid) {
            entry.wanted = true;
            return;
        }
        self.bytes += transaction.footprint();
        self.turns.push_back(wtxid);
        self.entries.insert(wtxid, Entry { transaction: Arc::clone(transaction), wanted: false });
    }

    /// Gives each entry two turns at most, so this ends when nothing can go.
    fn make_room(&mut self, bytes_max: usize) {
        for _ in 0..2 * self.turns.len() {
            if self.bytes <= bytes_max {
                return;
            }
            let Some(wtxid) = self.turns.pop_front() else { return };
            let entry = self.entries.get_mut(&wtxid).expect("each turn belongs to an entry");
            if entry.wanted || Arc::strong_count(&entry.transaction) > 1 {
                entry.wanted = false;
                self.turns.push_back(wtxid);
                continue;
            }
            self.bytes -= entry.transaction.footprint();
            self.entries.remove(&wtxid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(number: u32) -> Arc<Transaction> {
        let mut raw = hex::decode("01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff00ffffffff01000000000000000000").unwrap();
        raw.extend_from_slice(&number.to_le_bytes());
        Arc::new(Transaction::parse(&raw).unwrap())
    }

    #[test]
    fn the_budget_is_kept_and_the_wanted_stay() {
        let each = transaction(0).footprint();
        let cache = TransactionCache::new(10 * each);
        let ids: Vec<_> = (0..10).map(|number| transaction(number).wtxid()).collect();
        for number in 0..10 {
            cache.add(&[transaction(number)]);
        }
        assert_eq!((cache.count(), cache.bytes()), (10, 10 * each));
        cache.find(&ids[..2]);
        cache.add(&[transaction(10), transaction(11)]);
        assert_eq!((cache.count(), cache.bytes()), (10, 10 * each));
        assert_eq!(cache.missing(&ids), [2, 3]);
    }

    #[test]
    fn the_held_stay_above_the_budget_and_go_when_they_are_let_go() {
        let held: Vec<_> = (0..5).map(transaction).collect();
        let cache = TransactionCache::new(0);
        cache.add(&held);
        assert_eq!(cache.count(), 5);
        cache.add(&[transaction(9)]);
        // Whoever adds holds what he adds; it goes with the next turn.
        assert_eq!(cache.count(), 6);
        cache.add(&[]);
        assert_eq!(cache.count(), 5);
        drop(held);
        cache.add(&[]);
        assert_eq!((cache.count(), cache.bytes()), (0, 0));
    }

    #[test]
    fn a_repeated_one_counts_once() {
        let cache = TransactionCache::new(usize::MAX);
        cache.add(&[transaction(1), transaction(1)]);
        cache.add(&[transaction(1)]);
        assert_eq!((cache.count(), cache.bytes()), (1, transaction(1).footprint()));
    }
}
