//! What is wrong with a block by its structure, in Bitcoin Core's order and words.
//!
//! Source: Bitcoin Core, `CheckBlock`, `ContextualCheckBlock`, `CheckWitnessMalleation`, and of
//! `ConnectBlock` what the block alone decides.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use radpool_units::{Hash256, sha256d};

use crate::{
    coinbase::Coinbase,
    declaration::Ground,
    merkle::witness_root,
    reader::length_len,
    script::height_push,
    transaction::{BLOCK_WEIGHT_MAX, Transaction, WITNESS_SCALE},
};

/// A block's signature operations before BIP 16 cost four of the 80,000 each.
const SIGOPS_MAX: u64 = 80_000 / 4;
const HEADER_LEN: usize = 80;
/// From this number on a locktime is a time and not a height.
const LOCKTIME_IS_TIME: u32 = 500_000_000;
/// `OP_RETURN`, push of 36 bytes, and the mark of BIP 141.
const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
const COMMITMENT_LEN: usize = 38;

/// What is wrong with a template: Core's word for it, and what exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Core's word, such as `bad-blk-weight`.
    pub reason: &'static str,
    /// What exactly, in words.
    pub detail: String,
}

fn fault(reason: &'static str, detail: impl Into<String>) -> Option<Fault> {
    Some(Fault { reason, detail: detail.into() })
}

/// A block to be judged, whose extranonce is still open.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) coinbase: &'a Coinbase,
    pub(crate) transactions: &'a [Arc<Transaction>],
    pub(crate) mutated: bool,
}

impl Body<'_> {
    /// The first fault in Core's order.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.tree_fault()
            .or_else(|| self.length_fault())
            .or_else(|| self.place_fault())
            .or_else(|| self.form_fault())
            .or_else(|| self.sigops_fault())
            .or_else(|| self.locktime_fault())
            .or_else(|| self.height_fault())
            .or_else(|| self.witness_fault())
            .or_else(|| self.weight_fault())
            .or_else(|| self.spend_fault())
    }

    /// The block's bytes: without the witnesses, and with them.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let head = HEADER_LEN + length_len(1 + self.transactions.len());
        let coinbase = (self.coinbase.layout().base_len(), self.coinbase.raw().len());
        let start = (head + coinbase.0, head + coinbase.1);
        self.transactions
            .iter()
            .fold(start, |(base, whole), each| (base + each.base_len(), whole + each.raw().len()))
    }

    /// The block's weight.
    pub(crate) fn weight(&self) -> usize {
        let (base, whole) = self.sizes();
        base * (WITNESS_SCALE - 1) + whole
    }

    fn tree_fault(&self) -> Option<Fault> {
        if !self.mutated {
            return None;
        }
        fault("bad-txns-duplicate", "a repeated tail keeps the merkle root: duplicate transaction")
    }

    fn length_fault(&self) -> Option<Fault> {
        let (base, _) = self.sizes();
        let count = 1 + self.transactions.len();
        if base.max(count) * WITNESS_SCALE <= BLOCK_WEIGHT_MAX {
            return None;
        }
        fault("bad-blk-length", format!("{base} bytes without witnesses, {count} transactions"))
    }

    fn place_fault(&self) -> Option<Fault> {
        if !self.coinbase.layout().is_coinbase(self.coinbase.raw()) {
            return fault("bad-cb-missing", "the first transaction spends an output");
        }
        let second = self.transactions.iter().position(|each| each.is_coinbase())?;
        fault("bad-cb-multiple", format!("transaction {} is a coinbase", second + 1))
    }

    fn form_fault(&self) -> Option<Fault> {
        if let Some(reason) = self.coinbase.layout().fault(self.coinbase.raw()) {
            return fault(reason, "in the coinbase");
        }
        let faulty = self.transactions.iter().find(|each| each.fault().is_some())?;
        fault(faulty.fault()?, format!("in transaction {}", faulty.txid()))
    }

    fn sigops_fault(&self) -> Option<Fault> {
        let coinbase = self.coinbase.layout().legacy_sigops(self.coinbase.raw());
        let others = self.transactions.iter().map(|each| u64::from(each.sigops()));
        let count = u64::from(coinbase) + others.sum::<u64>();
        if count <= SIGOPS_MAX {
            return None;
        }
        fault("bad-blk-sigops", format!("{count} signature operations, at most {SIGOPS_MAX}"))
    }

    fn locktime_fault(&self) -> Option<Fault> {
        let open = (self.coinbase.sequence() != u32::MAX).then(|| self.coinbase.locktime());
        if open.is_some_and(|locktime| self.is_locked(locktime)) {
            return fault("bad-txns-nonfinal", "the coinbase is locked");
        }
        let locked = self
            .transactions
            .iter()
            .find(|each| each.locktime().is_some_and(|locktime| self.is_locked(locktime)))?;
        fault("bad-txns-nonfinal", format!("transaction {} is locked", locked.txid()))
    }

    /// Whether a locktime that counts holds a transaction back; a time needs the median to tell.
    fn is_locked(&self, locktime: u32) -> bool {
        match locktime {
            0 => false,
            1..LOCKTIME_IS_TIME => locktime >= self.ground.height,
            _ => self.ground.median_time.is_some_and(|median| locktime >= median),
        }
    }

    fn height_fault(&self) -> Option<Fault> {
        let push = height_push(self.ground.height);
        if self.coinbase.script().starts_with(&push) {
            return None;
        }
        let height = self.ground.height;
        fault("bad-cb-height", format!("the coinbase's script does not begin with {height}"))
    }

    fn witness_fault(&self) -> Option<Fault> {
        let (coinbase, raw) = (self.coinbase.layout(), self.coinbase.raw());
        let Some(commitment) = self.commitment() else {
            let has_witness =
                coinbase.has_witness || self.transactions.iter().any(|t| t.has_witness());
            return fault("unexpected-witness", "no output commits to the witnesses")
                .filter(|_| has_witness);
        };
        let stacks = coinbase.witness(raw);
        let [[nonce]] = stacks.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] else {
            return fault("bad-witness-nonce-size", "the coinbase's witness is not one item");
        };
        if nonce.len() != 32 {
            return fault("bad-witness-nonce-size", format!("it has {} bytes", nonce.len()));
        }
        let root = witness_root(self.transactions.iter().map(|each| each.wtxid()));
        if sha256d(&[root.as_bytes(), *nonce].concat()).as_bytes() == commitment {
            return None;
        }
        fault("bad-witness-merkle-match", "the commitment is to other witnesses")
    }

    /// What the last output with the mark of BIP 141 commits to.
    fn commitment(&self) -> Option<&[u8]> {
        self.coinbase.outputs().rev().find_map(|(_, script)| {
            let marked = script.len() >= COMMITMENT_LEN && script.starts_with(&COMMITMENT_HEAD);
            marked.then(|| &script[COMMITMENT_HEAD.len()..COMMITMENT_LEN])
        })
    }

    fn weight_fault(&self) -> Option<Fault> {
        let weight = self.weight();
        if weight <= BLOCK_WEIGHT_MAX {
            return None;
        }
        fault("bad-blk-weight", format!("{weight} weight units, at most {BLOCK_WEIGHT_MAX}"))
    }

    /// Spends that no chain allows: of a later transaction's output, of one that is not there or
    /// cannot be spent, and of the same one twice.
    fn spend_fault(&self) -> Option<Fault> {
        let places: HashMap<Hash256, usize> =
            self.transactions.iter().enumerate().map(|(at, each)| (each.txid(), at)).collect();
        let inputs = self.transactions.iter().map(|each| each.outpoints().count()).sum();
        let mut spent = HashSet::with_capacity(inputs);
        for (at, each) in self.transactions.iter().enumerate() {
            for outpoint in each.outpoints() {
                let (txid, index) = outpoint.split_first_chunk().expect("an outpoint has 36 bytes");
                let parent = places.get(&Hash256(*txid));
                let what = match parent {
                    Some(parent) if *parent >= at => Some("that only comes later in the block"),
                    Some(parent) if !self.transactions[*parent].has_spendable(index_of(index)) => {
                        Some("that is not there, or that nobody can spend")
                    }
                    _ if !spent.insert(outpoint) => Some("that the block has spent before"),
                    _ => None,
                };
                if let Some(what) = what {
                    let (id, parent, index) = (each.txid(), Hash256(*txid), index_of(index));
                    let detail = format!("transaction {id} spends {parent}:{index}, {what}");
                    return fault("bad-txns-inputs-missingorspent", detail);
                }
            }
        }
        None
    }
}

fn index_of(field: &[u8]) -> u32 {
    u32::from_le_bytes(field.try_into().expect("an outpoint's index has 4 bytes"))
}
