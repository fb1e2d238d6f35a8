//! Transactions as a block has them: parsed strictly, with ids, sizes, and faults of their own.
//!
//! What Bitcoin Core reads as a transaction is one here, and nothing else is: a transaction that can
//! be read but breaks a rule is kept with its fault, so that the verdict can name it.

use radpool_units::{Hash256, sha256d};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    reader::Reader,
    script::{is_unspendable, legacy_sigops},
};

/// The most weight a block may have.
pub(crate) const BLOCK_WEIGHT_MAX: usize = 4_000_000;
/// A byte outside the witnesses weighs as much as four inside.
pub(crate) const WITNESS_SCALE: usize = 4;
/// A longer script cannot be run.
pub(crate) const SCRIPT_LEN_MAX: usize = 10_000;
const MONEY_MAX_SATS: i64 = 21_000_000 * 100_000_000;
const OUTPOINT_LEN: usize = 36;
const SEQUENCE_FINAL: u32 = u32::MAX;
/// Of an input: outpoint, empty script, sequence.
const INPUT_LEN_MIN: usize = 41;
/// Of an output: value, empty script.
const OUTPUT_LEN_MIN: usize = 9;
/// What the null outpoint of a coinbase looks like.
pub(crate) const NULL_OUTPOINT: [u8; OUTPOINT_LEN] = {
    let mut null = [0; OUTPOINT_LEN];
    let mut at = 32;
    while at < OUTPOINT_LEN {
        null[at] = 0xff;
        at += 1;
    }
    null
};
/// Beside the bytes of a cached transaction: ids, lengths, and its place in map and queue.
const FOOTPRINT: usize = 320;

/// Bytes that are not exactly one transaction.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TransactionError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A length is not in its shortest form.
    #[error("a length is not in its shortest form")]
    LongForm,
    /// A length is larger than any transaction.
    #[error("a length exceeds 33,554,432")]
    Excessive,
    /// The mark of a witness, and no witness.
    #[error("the mark of BIP 141 is there, and no witness")]
    NoWitness,
    /// A flag behind the mark that nobody has defined.
    #[error("the flag behind the mark of BIP 141 is unknown")]
    UnknownFlag,
    /// There are bytes behind the transaction.
    #[error("{0} bytes too many stand behind the transaction")]
    Trailing(usize),
}

/// Where the parts of a serialised transaction are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Where inputs begin, whose first field is the outpoint.
    pub(crate) inputs: Box<[u32]>,
    /// Where outputs begin, whose first field is the value.
    pub(crate) outputs: Box<[u32]>,
    /// From the count of inputs to the end of the outputs.
    pub(crate) body: core::ops::Range<usize>,
    /// Whether the mark and flag of BIP 141, and a witness, are there.
    pub(crate) has_witness: bool,
}

impl Layout {
    /// Finds the parts; the bytes have to be one transaction and nothing more.
    ///
    /// Source: Bitcoin Core, `UnserializeTransaction`.
    pub(crate) fn parse(raw: &[u8]) -> Result<Self, TransactionError> {
        let mut reader = Reader::new(raw);
        reader.u32()?;
        let mut start = reader.position();
        let mut inputs = inputs(&mut reader)?;
        let mut flag = 0;
        let mut outputs = Box::default();
        if inputs.is_empty() {
            // No inputs is how the mark of BIP 141 reads; a flag of 0 then says: no outputs either.
            [flag] = reader.array()?;
            if flag != 0 {
                start = reader.position();
                inputs = self::inputs(&mut reader)?;
                outputs = self::outputs(&mut reader)?;
            }
        } else {
            outputs = self::outputs(&mut reader)?;
        }
        let body = start..reader.position();
        let has_witness = flag & 1 != 0;
        if has_witness && !skip_witnesses(&mut reader, inputs.len())? {
            return Err(TransactionError::NoWitness);
        }
        if flag & !1 != 0 {
            return Err(TransactionError::UnknownFlag);
        }
        reader.u32()?;
        match reader.left() {
            0 => Ok(Self { inputs, outputs, body, has_witness }),
            left => Err(TransactionError::Trailing(left)),
        }
    }

    /// The length without the witness.
    pub(crate) const fn base_len(&self) -> usize {
        4 + (self.body.end - self.body.start) + 4
    }

    /// The serialisation without the witness.
    pub(crate) fn stripped(&self, raw: &[u8]) -> Vec<u8> {
        [&raw[..4], &raw[self.body.clone()], &raw[raw.len() - 4..]].concat()
    }

    /// The outpoint, script and sequence of an input.
    pub(crate) fn input<'a>(&self, raw: &'a [u8], index: usize) -> (&'a [u8], &'a [u8], u32) {
        let mut reader = Reader::new(&raw[self.inputs[index] as usize..]);
        let mut parts = || Ok((reader.take(OUTPOINT_LEN)?, reader.string()?, reader.u32()?));
        let parts: Result<_, TransactionError> = parts();
        parts.expect("the layout was read from these bytes")
    }

    /// The value and script of an output.
    pub(crate) fn output<'a>(&self, raw: &'a [u8], index: usize) -> (i64, &'a [u8]) {
        let mut reader = Reader::new(&raw[self.outputs[index] as usize..]);
        let mut parts = || Ok((i64::from_le_bytes(reader.array()?), reader.string()?));
        let parts: Result<_, TransactionError> = parts();
        parts.expect("the layout was read from these bytes")
    }

    /// The witnesses' items, input after input.
    pub(crate) fn witness<'a>(&self, raw: &'a [u8]) -> Vec<Vec<&'a [u8]>> {
        if !self.has_witness {
            return vec![Vec::new(); self.inputs.len()];
        }
        let mut reader = Reader::new(&raw[self.body.end..]);
        let mut stack = || (0..reader.length()?).map(|_| reader.string()).collect();
        let stacks: Result<_, TransactionError> = (0..self.inputs.len()).map(|_| stack()).collect();
        stacks.expect("the layout was read from these bytes")
    }

    /// Whether this is a coinbase: one input, which spends nothing.
    pub(crate) fn is_coinbase(&self, raw: &[u8]) -> bool {
        self.inputs.len() == 1 && self.input(raw, 0).0 == NULL_OUTPOINT
    }

    /// Signature operations before BIP 16, not scaled.
    pub(crate) fn legacy_sigops(&self, raw: &[u8]) -> u32 {
        let inputs = (0..self.inputs.len()).map(|at| legacy_sigops(self.input(raw, at).1));
        let outputs = (0..self.outputs.len()).map(|at| legacy_sigops(self.output(raw, at).1));
        inputs.chain(outputs).sum()
    }

    /// What is wrong with the transaction by itself, in Core's words.
    ///
    /// Source: Bitcoin Core, `CheckTransaction`.
    pub(crate) fn fault(&self, raw: &[u8]) -> Option<&'static str> {
        if self.inputs.is_empty() {
            return Some("bad-txns-vin-empty");
        }
        if self.outputs.is_empty() {
            return Some("bad-txns-vout-empty");
        }
        if self.base_len() * WITNESS_SCALE > BLOCK_WEIGHT_MAX {
            return Some("bad-txns-oversize");
        }
        self.amount_fault(raw).or_else(|| self.input_fault(raw))
    }

    fn amount_fault(&self, raw: &[u8]) -> Option<&'static str> {
        let mut total = 0;
        for index in 0..self.outputs.len() {
            let (value, _) = self.output(raw, index);
            if value < 0 {
                return Some("bad-txns-vout-negative");
            }
            if value > MONEY_MAX_SATS {
                return Some("bad-txns-vout-toolarge");
            }
            // Both are at most 2.1e15, and so was the sum before.
            total += value;
            if total > MONEY_MAX_SATS {
                return Some("bad-txns-txouttotal-toolarge");
            }
        }
        None
    }

    fn input_fault(&self, raw: &[u8]) -> Option<&'static str> {
        let mut outpoints: Vec<_> =
            self.inputs.iter().map(|at| &raw[*at as usize..*at as usize + OUTPOINT_LEN]).collect();
        outpoints.sort_unstable();
        if outpoints.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("bad-txns-inputs-duplicate");
        }
        if self.is_coinbase(raw) {
            let len = self.input(raw, 0).1.len();
            return (!(2..=100).contains(&len)).then_some("bad-cb-length");
        }
        outpoints.contains(&&NULL_OUTPOINT[..]).then_some("bad-txns-prevout-null")
    }
}

fn inputs(reader: &mut Reader<'_>) -> Result<Box<[u32]>, TransactionError> {
    let count = reader.length()?;
    // Memory grows with what is there, not with what is announced.
    let mut starts = Vec::with_capacity(count.min(reader.left() / INPUT_LEN_MIN));
    for _ in 0..count {
        starts.push(offset(reader)?);
        reader.take(OUTPOINT_LEN)?;
        reader.string()?;
        reader.u32()?;
    }
    Ok(starts.into_boxed_slice())
}

fn outputs(reader: &mut Reader<'_>) -> Result<Box<[u32]>, TransactionError> {
    let count = reader.length()?;
    let mut starts = Vec::with_capacity(count.min(reader.left() / OUTPUT_LEN_MIN));
    for _ in 0..count {
        starts.push(offset(reader)?);
        reader.take(8)?;
        reader.string()?;
    }
    Ok(starts.into_boxed_slice())
}

fn offset(reader: &Reader<'_>) -> Result<u32, TransactionError> {
    u32::try_from(reader.position()).map_err(|_| TransactionError::Excessive)
}

/// Reads over the witnesses; tells whether any input has one.
fn skip_witnesses(reader: &mut Reader<'_>, inputs: usize) -> Result<bool, TransactionError> {
    let mut any = false;
    for _ in 0..inputs {
        let items = reader.length()?;
        any |= items > 0;
        for _ in 0..items {
            reader.string()?;
        }
    }
    Ok(any)
}

/// A transaction that a declared template may name.
#[derive(Debug)]
pub struct Transaction {
    raw: Box<[u8]>,
    layout: Layout,
    txid: Hash256,
    wtxid: Hash256,
    sigops: u32,
    fault: Option<&'static str>,
    all_final: bool,
}

impl Transaction {
    /// Parses exactly one transaction, with its witness if it has one.
    ///
    /// # Errors
    /// `TransactionError` when the bytes are anything else.
    pub fn parse(raw: &[u8]) -> Result<Self, TransactionError> {
        let layout = Layout::parse(raw)?;
        let wtxid = sha256d(raw);
        let txid = if layout.has_witness {
            let inner = Sha256::new()
                .chain_update(&raw[..4])
                .chain_update(&raw[layout.body.clone()])
                .chain_update(&raw[raw.len() - 4..])
                .finalize();
            Hash256(Sha256::digest(inner).into())
        } else {
            wtxid
        };
        let sequences = (0..layout.inputs.len()).map(|at| layout.input(raw, at).2);
        Ok(Self {
            raw: raw.into(),
            txid,
            wtxid,
            sigops: layout.legacy_sigops(raw),
            fault: layout.fault(raw),
            all_final: sequences.into_iter().all(|sequence| sequence == SEQUENCE_FINAL),
            layout,
        })
    }

    /// The bytes, with the witness.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The hash that other transactions name it by.
    #[must_use]
    pub const fn txid(&self) -> Hash256 {
        self.txid
    }

    /// The hash over the witness too.
    #[must_use]
    pub const fn wtxid(&self) -> Hash256 {
        self.wtxid
    }

    /// The weight in weight units.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.base_len() * (WITNESS_SCALE - 1) + self.raw.len()
    }

    pub(crate) const fn base_len(&self) -> usize {
        self.layout.base_len()
    }

    pub(crate) const fn has_witness(&self) -> bool {
        self.layout.has_witness
    }

    pub(crate) const fn sigops(&self) -> u32 {
        self.sigops
    }

    pub(crate) const fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    pub(crate) fn is_coinbase(&self) -> bool {
        self.layout.is_coinbase(&self.raw)
    }

    /// The locktime, or `None` when every input is final and it does not count.
    pub(crate) fn locktime(&self) -> Option<u32> {
        let field = self.raw.last_chunk().expect("a transaction ends with its locktime");
        (!self.all_final).then_some(u32::from_le_bytes(*field))
    }

    /// The outpoints that its inputs spend: txid and index.
    pub(crate) fn outpoints(&self) -> impl Iterator<Item = &[u8; OUTPOINT_LEN]> {
        self.layout.inputs.iter().map(|at| {
            self.raw[*at as usize..].first_chunk().expect("an input begins with its outpoint")
        })
    }

    /// Whether it has this output, and an input may spend it.
    pub(crate) fn has_spendable(&self, index: u32) -> bool {
        let index = index as usize;
        index < self.layout.outputs.len() && !is_unspendable(self.layout.output(&self.raw, index).1)
    }

    /// What it takes in memory.
    pub(crate) fn footprint(&self) -> usize {
        FOOTPRINT + self.raw.len() + 4 * (self.layout.inputs.len() + self.layout.outputs.len())
    }
}
