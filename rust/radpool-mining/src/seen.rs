//! The pool-wide set of header hashes that were submitted.
//!
//! A share credits once, whichever channel, connection or tip it comes by: its header's hash goes
//! into this set first. Hashes are kept as 64-bit keyed fingerprints, apart for each previous block,
//! for the last several tips: a chain that goes from A to B and back to A still finds A's shares.
//! An honest share is mistaken for a duplicate once in 2^64 / n submissions, n being the shares on
//! that tip.
//!
//! Memory is bounded. When the bound is reached, first the oldest tip is forgotten, then the oldest
//! shares of the current one; the ledger's uniqueness constraint stands behind both. A table is
//! never rehashed: when it is full, another one twice as large is put beside it.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;

use parking_lot::Mutex;
use radpool_units::Hash256;

use crate::siphash::SipKey;

/// Shards, each with a lock of its own; a power of two.
const SHARDS: usize = 16;

/// Slots of the smallest table.
const TABLE_SLOTS_MIN: usize = 64;

/// Bounds of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenLimits {
    /// Tips that shares are remembered for; at least 2, so that the last one survives a switch.
    pub tips: u32,
    /// Shares to make room for at each new tip.
    pub shares_expected: usize,
    /// Shares remembered in all; 10.7 to 21.4 bytes each.
    pub shares_max: usize,
}

/// Whether a hash was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never, as far as the set remembers; it is remembered from now on.
    New,
    /// Yes.
    Before,
}

/// The set of header hashes; see the module's head.
pub struct SeenShares {
    key: SipKey,
    limits: SeenLimits,
    shards: Box<[Mutex<Shard>]>,
    forgotten: AtomicU64,
}

impl core::fmt::Debug for SeenShares {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "SeenShares({} hashes)", self.len())
    }
}

impl SeenShares {
    /// Makes an empty set. `key` is 16 random bytes that no client knows.
    #[must_use]
    pub fn new(key: [u8; 16], limits: SeenLimits) -> Self {
        Self {
            key: SipKey::new(key),
            limits,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Makes room for the shares of a new tip, so that none of them has to.
    pub fn prepare(&self, prev_hash: &[u8; 32]) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.select(prev_hash, &self.limits);
            shard.make_room(&self.limits);
        }
    }

    /// Remembers `hash`, the hash of a header on top of `prev_hash`, and says whether it was new.
    pub fn insert(&self, prev_hash: &[u8; 32], hash: &Hash256) -> Seen {
        let fingerprint = self.fingerprint(hash);
        let mut shard = self.shard(fingerprint).lock();
        if shard.restored.contains(fingerprint) {
            return Seen::Before;
        }
        shard.select(prev_hash, &self.limits);
        let (seen, dropped) = shard.insert(fingerprint, &self.limits);
        if dropped > 0 {
            self.forgotten.fetch_add(dropped, Ordering::Relaxed);
        }
        seen
    }

    /// Whether `hash`, the hash of a header on top of `prev_hash`, was inserted and is remembered.
    #[must_use]
    pub fn contains(&self, prev_hash: &[u8; 32], hash: &Hash256) -> bool {
        let fingerprint = self.fingerprint(hash);
        let shard = self.shard(fingerprint).lock();
        let mut tips = shard.tips.iter();
        tips.any(|(tip, tables)| tip == prev_hash && tables.contains(fingerprint))
    }

    /// Remembers hashes of an earlier run, whatever they build on, until the bound on tips has
    /// passed over them. Later hashes win when there are more than fit.
    pub fn preload<'hash>(&self, hashes: impl IntoIterator<Item = &'hash [u8; 32]>) {
        for hash in hashes {
            let fingerprint = self.fingerprint(&Hash256(*hash));
            let mut shard = self.shard(fingerprint).lock();
            shard.restored_tips = self.limits.tips;
            shard.restored.insert(fingerprint, TABLE_SLOTS_MIN, shard_bound(&self.limits));
        }
    }

    /// How many hashes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many hashes were forgotten since the bound on memory was reached.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn fingerprint(&self, hash: &Hash256) -> u64 {
        // 0 marks an empty slot.
        self.key.hash(&hash.0).max(1)
    }

    fn shard(&self, fingerprint: u64) -> &Mutex<Shard> {
        // The low bits choose the slot, so the high ones choose the shard.
        &self.shards[(fingerprint >> 60) as usize % SHARDS]
    }
}

fn first_slots(limits: &SeenLimits) -> usize {
    (limits.shares_expected / SHARDS * 4 / 3 + 1).next_power_of_two().max(TABLE_SLOTS_MIN)
}

fn shard_bound(limits: &SeenLimits) -> usize {
    (limits.shares_max / SHARDS).max(TABLE_SLOTS_MIN)
}

/// One shard: a set for each tip, the one used last at the back.
#[derive(Default)]
struct Shard {
    tips: VecDeque<([u8; 32], Tables)>,
    restored: Tables,
    /// New tips until the restored hashes are forgotten.
    restored_tips: u32,
}

impl Shard {
    fn len(&self) -> usize {
        self.restored.len + self.tips.iter().map(|(_, tables)| tables.len).sum::<usize>()
    }

    /// Brings the set of `prev_hash` to the back, for a new one in place of the oldest.
    fn select(&mut self, prev_hash: &[u8; 32], limits: &SeenLimits) {
        if self.tips.back().is_some_and(|(tip, _)| tip == prev_hash) {
            return;
        }
        if let Some(index) = self.tips.iter().position(|(tip, _)| tip == prev_hash) {
            let found = self.tips.remove(index).expect("position() found it");
            self.tips.push_back(found);
            return;
        }
        while self.tips.len() >= limits.tips as usize {
            self.tips.pop_front();
        }
        self.restored_tips = self.restored_tips.saturating_sub(1);
        if self.restored_tips == 0 {
            self.restored = Tables::default();
        }
        self.tips.push_back((*prev_hash, Tables::default()));
    }

    fn make_room(&mut self, limits: &SeenLimits) {
        let (_, tables) = self.tips.back_mut().expect("select() has just put it there");
        if tables.tables.is_empty() {
            tables.add(first_slots(limits), shard_bound(limits));
        }
    }

    fn insert(&mut self, fingerprint: u64, limits: &SeenLimits) -> (Seen, u64) {
        let bound = shard_bound(limits);
        let mut dropped = 0;
        while self.tips.len() > 1 && self.len() >= bound {
            dropped += self.tips.pop_front().map_or(0, |(_, tables)| tables.len as u64);
        }
        let (_, tables) = self.tips.back_mut().expect("select() has just put it there");
        let (seen, cut) = tables.insert(fingerprint, first_slots(limits), bound);
        (seen, dropped + cut)
    }
}

/// Open-addressed tables of growing size, oldest first.
#[derive(Default)]
struct Tables {
    tables: Vec<Table>,
    len: usize,
}

struct Table {
    slots: Box<[u64]>,
    len: usize,
}

impl Tables {
    fn contains(&self, fingerprint: u64) -> bool {
        self.tables.iter().any(|table| table.slots[table.find(fingerprint)] == fingerprint)
    }

    /// Inserts, after a new table where the last is full; returns how many hashes were dropped for it.
    fn insert(&mut self, fingerprint: u64, first_slots: usize, bound: usize) -> (Seen, u64) {
        if self.contains(fingerprint) {
            return (Seen::Before, 0);
        }
        let mut dropped = 0;
        if self.tables.last().is_none_or(Table::is_full) {
            dropped = self.add(first_slots, bound);
        }
        let last = self.tables.last_mut().expect("a table with room was just made sure of");
        let slot = last.find(fingerprint);
        last.slots[slot] = fingerprint;
        last.len += 1;
        self.len += 1;
        (Seen::New, dropped)
    }
}

impl Tables {
    /// Puts an empty table behind the others, twice as large as the last; returns how many hashes
    /// were dropped for it.
    fn add(&mut self, first_slots: usize, bound: usize) -> u64 {
        let slots = self.tables.last().map_or(first_slots, |last| last.slots.len() * 2);
        // A table holds at most half of the bound, so that forgetting the oldest leaves the rest.
        let slots = slots.min((bound / 2).next_power_of_two());
        let mut dropped = 0;
        while self.len + Table::capacity(slots) > bound && !self.tables.is_empty() {
            let oldest = self.tables.remove(0);
            self.len -= oldest.len;
            dropped += oldest.len as u64;
        }
        self.tables.push(Table { slots: vec![0; slots].into(), len: 0 });
        dropped
    }
}

impl Table {
    /// Hashes that a table of so many slots holds: linear probing slows down above three quarters.
    fn capacity(slots: usize) -> usize {
        slots / 4 * 3
    }

    fn is_full(&self) -> bool {
        self.len >= Self::capacity(self.slots.len())
    }

    /// The slot that holds the fingerprint, or the empty one where it belongs.
    fn find(&self, fingerprint: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = fingerprint as usize & mask;
        while self.slots[slot] != 0 && self.slots[slot] != fingerprint {
            slot = (slot + 1) & mask;
        }
        slot
    }
}
