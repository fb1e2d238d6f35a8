//! A declared coinbase: a transaction with a hole for the extranonce in its script.

use core::ops::Range;

use thiserror::Error;

use crate::{
    reader::Reader,
    transaction::{Layout, SCRIPT_LEN_MAX, TransactionError},
};

/// Prefix, extranonce and suffix that do not make a coinbase; the declarer is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CoinbaseError {
    /// The prefix ends before the script, or its counts are not those of one input.
    #[error("the coinbase's prefix does not reach into the script of its one input")]
    Prefix,
    /// The extranonce would stand outside the script.
    #[error("the coinbase's script has no room for an extranonce of {0} bytes where it is to be")]
    Extranonce(usize),
    /// The three together are no transaction.
    #[error("prefix, extranonce and suffix are not one transaction: {0}")]
    Transaction(#[from] TransactionError),
}

/// The coinbase of a declared template.
#[derive(Debug)]
pub struct Coinbase {
    /// The whole transaction with zeros for the extranonce.
    raw: Vec<u8>,
    layout: Layout,
    hole: Range<usize>,
    script: Range<usize>,
}

impl Coinbase {
    /// Joins the declared parts.
    ///
    /// # Errors
    /// `CoinbaseError` when they do not fit together.
    pub(crate) fn join(
        prefix: &[u8],
        suffix: &[u8],
        extranonce_len: Option<usize>,
    ) -> Result<Self, CoinbaseError> {
        let script = script_range(prefix).ok_or(CoinbaseError::Prefix)?;
        let room = script.end.checked_sub(prefix.len()).ok_or(CoinbaseError::Prefix)?;
        let len = extranonce_len.unwrap_or(room);
        // A prefix of a few bytes may announce a script of 32 MiB: nobody mines on one that is longer
        // than scripts can be, and the zeros would cost memory before any rule is looked at.
        if len > room || len > SCRIPT_LEN_MAX {
            return Err(CoinbaseError::Extranonce(len));
        }
        let hole = prefix.len()..prefix.len() + len;
        let mut raw = Vec::with_capacity(hole.end + suffix.len());
        raw.extend_from_slice(prefix);
        raw.resize(hole.end, 0);
        raw.extend_from_slice(suffix);
        let layout = Layout::parse(&raw)?;
        if layout.inputs.len() != 1 {
            return Err(CoinbaseError::Prefix);
        }
        Ok(Self { raw, layout, hole, script })
    }

    /// The bytes of the extranonce.
    #[must_use]
    pub const fn extranonce_len(&self) -> usize {
        self.hole.end - self.hole.start
    }

    /// The transaction's version.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::from_le_bytes(*self.raw.first_chunk().expect("a transaction begins with its version"))
    }

    /// The script before the extranonce.
    #[must_use]
    pub fn script_prefix(&self) -> &[u8] {
        &self.raw[self.script.start..self.hole.start]
    }

    /// The script behind the extranonce.
    #[must_use]
    pub fn script_suffix(&self) -> &[u8] {
        &self.raw[self.hole.end..self.script.end]
    }

    /// The input's sequence.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.layout.input(&self.raw, 0).2
    }

    /// The transaction's locktime.
    #[must_use]
    pub fn locktime(&self) -> u32 {
        u32::from_le_bytes(*self.raw.last_chunk().expect("a transaction ends with its locktime"))
    }

    /// The outputs: satoshi and script.
    pub fn outputs(&self) -> impl DoubleEndedIterator<Item = (i64, &[u8])> {
        (0..self.layout.outputs.len()).map(|index| self.layout.output(&self.raw, index))
    }

    /// The outputs as serialised, without their count.
    #[must_use]
    pub fn outputs_raw(&self) -> &[u8] {
        let start = self.layout.outputs.first().map_or(self.layout.body.end, |at| *at as usize);
        &self.raw[start..self.layout.body.end]
    }

    /// The transaction with an extranonce, and with its witness; `None` for one of another length.
    #[must_use]
    pub fn with(&self, extranonce: &[u8]) -> Option<Vec<u8>> {
        let mut raw = self.raw.clone();
        let hole = raw.get_mut(self.hole.clone()).filter(|hole| hole.len() == extranonce.len())?;
        hole.copy_from_slice(extranonce);
        Some(raw)
    }

    /// Finds the extranonce with which this coinbase is `mined`, whose witness does not count.
    pub(crate) fn extranonce_of(&self, mined: &[u8]) -> Option<Vec<u8>> {
        let stripped = Layout::parse(mined).ok()?.stripped(mined);
        let before = self.hole.start - (self.layout.body.start - 4);
        let extranonce = stripped.get(before..before + self.extranonce_len())?.to_vec();
        (self.layout.stripped(&self.with(&extranonce)?) == stripped).then_some(extranonce)
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The script with zeros for the extranonce.
    pub(crate) fn script(&self) -> &[u8] {
        &self.raw[self.script.clone()]
    }
}

/// Where the script of the first input is, by a prefix that reaches into it.
fn script_range(prefix: &[u8]) -> Option<Range<usize>> {
    let mut reader = Reader::new(prefix);
    reader.u32().ok()?;
    let mut inputs = reader.length().ok()?;
    if inputs == 0 {
        // The mark of BIP 141; its flag follows.
        reader.take(1).ok()?;
        inputs = reader.length().ok()?;
    }
    if inputs != 1 {
        return None;
    }
    reader.take(36).ok()?;
    let len = reader.length().ok()?;
    let start = reader.position();
    Some(start..start + len)
}
