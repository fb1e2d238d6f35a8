//! Sealing: from shares as the engine hands them over to a signed batch.
//!
//! This runs for every share that is paid, so it takes one pass: table indices and sums are found by
//! hash maps behind a memory of the last hit, since neighbours mostly share template and owner.

use std::{collections::HashMap, hash::Hash};

use radpool_identity::IdentityKey;
use radpool_units::{Exponent, Hash256, Value, Work, tagged_hash};
use thiserror::Error;

use crate::{
    BodyError, EXTRANONCE_MAX, Earned, Head, Link, Node, Owner, PricedTemplate, SHARES_MAX, Share,
    SumTree, TemplateBody, Weight, WorkOverflowError,
};

/// A validated share, borrowed from whoever holds it.
#[derive(Clone, Copy, Debug)]
pub struct ShareView<'a> {
    pub connection: u64,
    pub channel: u32,
    /// The ledger's number of the owner's account.
    pub account: u64,
    /// Owner of the job's tag.
    pub owner: &'a Owner,
    pub body: &'a TemplateBody,
    /// What a share of the base exponent is worth on this template.
    pub price: u128,
    /// Step of the job's tag.
    pub exponent: Exponent,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    /// The full extranonce, prefix included.
    pub extranonce: &'a [u8],
    /// The header's hash.
    pub hash: &'a Hash256,
}

/// What an account has earned in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountSum {
    pub account: u64,
    /// The epoch that the work counts in.
    pub epoch: u32,
    pub rail: u8,
    pub count: u64,
    pub work: Work,
    pub value: Value,
}

/// What a channel has contributed to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSum {
    pub connection: u64,
    pub channel: u32,
    pub count: u64,
    pub work: Work,
}

/// Length of a share's key in an index of all shares.
pub const SHARE_KEY_LEN: usize = 4 + 16;

/// A template body that a batch refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBody {
    pub digest: [u8; 32],
    pub body: Vec<u8>,
    pub height: u32,
    /// The price of the table's entry: one body may stand in it at several.
    pub price: u128,
}

impl SealedBody {
    const fn entry(&self) -> PricedTemplate {
        PricedTemplate { digest: self.digest, price: self.price }
    }
}

/// A batch, signed and chained, ready to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// The batch as it is stored and exported.
    pub blob: Vec<u8>,
    /// The batch hash, which the next batch names.
    pub hash: [u8; 32],
    pub root: [u8; 32],
    pub count: u32,
    pub work: Work,
    pub value: Value,
    /// Per account, epoch and rail, in that order.
    pub sums: Vec<AccountSum>,
    /// The header hashes in the order of the shares, back to back.
    pub header_hashes: Vec<u8>,
    /// What tells the shares apart, [`SHARE_KEY_LEN`] bytes each: ntime, most significant byte first,
    /// and the first half of the header hash. Shares of one moment have neighbouring keys, so an index
    /// over all shares ever is written in one place, not all over.
    pub share_keys: Vec<u8>,
    pub bodies: Vec<SealedBody>,
    /// Per connection and channel, in that order.
    pub channel_sums: Vec<ChannelSum>,
}

/// Shares that cannot be sealed: the caller is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// No share is left.
    #[error("a batch needs at least one share that is not excluded")]
    Empty,
    /// Too many shares.
    #[error("a batch holds at most {SHARES_MAX} shares: seal fewer at a time")]
    TooMany,
    /// The hash has fewer zero bits than the job's tag asks for.
    #[error("share {0} does not meet the exponent of its tag")]
    InsufficientWork(usize),
    /// The owner tag names another MSP than the key belongs to.
    #[error("share {0} belongs to another MSP than the one that signs")]
    ForeignOwner(usize),
    /// The extranonce is longer than 32 bytes.
    #[error("share {0} has an extranonce of {1} bytes: 32 is the most")]
    ExtranonceLength(usize, usize),
    /// A template body does not fit its encoding.
    #[error("share {0}: {1}")]
    Body(usize, BodyError),
    /// The hash has enough zero bits, but the rule of weight starts higher.
    #[error("share {0} has an exponent below the base of the weight: check mining.exponent_min")]
    ExponentBase(usize),
    /// The work sums to more than 128 bits.
    #[error(transparent)]
    WorkOverflow(#[from] WorkOverflowError),
    /// The value sums to more than 128 bits.
    #[error("the value of the shares together exceeds 2^128 - 1")]
    ValueOverflow,
}

/// Seals shares into a batch.
///
/// Args: `weight` is the rule that prices are made by; `excluding` holds indices of shares to leave out, in ascending order, such as those that
/// the store has found to be credited already.
///
/// # Errors
/// [`SealError`] names the first share that does not belong into a batch.
pub fn seal<'a>(
    key: &IdentityKey,
    link: Link,
    weight: Weight,
    shares: impl IntoIterator<Item = ShareView<'a>>,
    excluding: &[usize],
) -> Result<SealedBatch, SealError> {
    let mut sealing = Sealing::new(link.epoch_min, weight);
    let mut excluded = excluding.iter().copied().peekable();
    for (index, share) in shares.into_iter().enumerate() {
        if excluded.next_if_eq(&index).is_none() {
            sealing.add(index, &share, key.public())?;
        }
    }
    sealing.finish(key, link)
}

#[derive(Debug)]
struct Sealing<'a> {
    tree: SumTree<Earned>,
    epoch_min: u32,
    weight: Weight,
    records: Vec<u8>,
    leaves: Vec<Node<Earned>>,
    header_hashes: Vec<u8>,
    share_keys: Vec<u8>,
    bodies: Vec<SealedBody>,
    body_indices: Index<(*const TemplateBody, u128)>,
    digest_indices: HashMap<PricedTemplate, usize>,
    owners: Vec<Owner>,
    owner_indices: Index<&'a Owner>,
    sums: Vec<AccountSum>,
    sum_indices: Index<(u64, u32, u8)>,
    channel_sums: Vec<ChannelSum>,
    channel_indices: Index<(u64, u32)>,
}

impl<'a> Sealing<'a> {
    fn new(epoch_min: u32, weight: Weight) -> Self {
        Self {
            tree: SumTree::default(),
            epoch_min,
            weight,
            records: Vec::new(),
            leaves: Vec::new(),
            header_hashes: Vec::new(),
            share_keys: Vec::new(),
            bodies: Vec::new(),
            body_indices: Index::default(),
            digest_indices: HashMap::new(),
            owners: Vec::new(),
            owner_indices: Index::default(),
            sums: Vec::new(),
            sum_indices: Index::default(),
            channel_sums: Vec::new(),
            channel_indices: Index::default(),
        }
    }

    fn add(
        &mut self,
        index: usize,
        view: &ShareView<'a>,
        msp_key: &[u8; 32],
    ) -> Result<(), SealError> {
        if self.leaves.len() == SHARES_MAX {
            return Err(SealError::TooMany);
        }
        if !view.exponent.is_met_by(view.hash) {
            return Err(SealError::InsufficientWork(index));
        }
        if view.owner.msp_key != *msp_key {
            return Err(SealError::ForeignOwner(index));
        }
        if view.extranonce.len() > EXTRANONCE_MAX {
            return Err(SealError::ExtranonceLength(index, view.extranonce.len()));
        }
        if view.exponent < self.weight.base {
            return Err(SealError::ExponentBase(index));
        }
        let value = self.weight.value(view.price, view.exponent).ok_or(SealError::ValueOverflow)?;
        // There are at most SHARES_MAX entries in each table, since each has its first share.
        let template = self.body(view.body, view.price);
        let template = template.map_err(|error| SealError::Body(index, error))? as u16;
        let owner = self.owner(view.owner) as u16;
        let start = self.records.len();
        let share = Share {
            template,
            owner,
            exponent: view.exponent,
            version: view.version,
            ntime: view.ntime,
            nonce: view.nonce,
            extranonce: view.extranonce,
        };
        share.write(&mut self.records);
        let earned = Earned { work: view.exponent.work(), value };
        self.leaves.push(self.tree.leaf(&self.records[start..], earned));
        self.header_hashes.extend_from_slice(view.hash.as_bytes());
        self.share_keys.extend_from_slice(&view.ntime.to_be_bytes());
        self.share_keys.extend_from_slice(&view.hash.as_bytes()[..16]);
        self.count(view, earned)
    }

    fn body(&mut self, body: &TemplateBody, price: u128) -> Result<usize, BodyError> {
        let key = (core::ptr::from_ref(body), price);
        if let Some(index) = self.body_indices.get(&key) {
            return Ok(index);
        }
        let encoded = body.encode()?;
        let digest = TemplateBody::digest_of(&encoded);
        let next = self.bodies.len();
        let index = *self.digest_indices.entry(PricedTemplate { digest, price }).or_insert(next);
        if index == next {
            self.bodies.push(SealedBody { digest, body: encoded, height: body.height, price });
        }
        self.body_indices.insert(key, index);
        Ok(index)
    }

    fn owner(&mut self, owner: &'a Owner) -> usize {
        if let Some(index) = self.owner_indices.get(&owner) {
            return index;
        }
        self.owners.push(*owner);
        self.owner_indices.insert(owner, self.owners.len() - 1)
    }

    fn count(&mut self, view: &ShareView<'_>, earned: Earned) -> Result<(), SealError> {
        let epoch = view.owner.epoch.max(self.epoch_min);
        let key = (view.account, epoch, view.owner.rail as u8);
        let sums = &mut self.sums;
        let index = self.sum_indices.get(&key).unwrap_or_else(|| {
            let (account, epoch, rail) = key;
            let (count, work, value) = (0, Work(0), Value(0));
            sums.push(AccountSum { account, epoch, rail, count, work, value });
            self.sum_indices.insert(key, sums.len() - 1)
        });
        let sum = &mut sums[index];
        sum.count += 1;
        sum.work = sum.work.checked_add(earned.work).ok_or(WorkOverflowError)?;
        sum.value = sum.value.checked_add(earned.value).ok_or(SealError::ValueOverflow)?;

        let key = (view.connection, view.channel);
        let sums = &mut self.channel_sums;
        let index = self.channel_indices.get(&key).unwrap_or_else(|| {
            let (connection, channel) = key;
            sums.push(ChannelSum { connection, channel, count: 0, work: Work(0) });
            self.channel_indices.insert(key, sums.len() - 1)
        });
        sums[index].count += 1;
        sums[index].work = sums[index].work.checked_add(earned.work).ok_or(WorkOverflowError)?;
        Ok(())
    }

    fn finish(mut self, key: &IdentityKey, link: Link) -> Result<SealedBatch, SealError> {
        if self.leaves.is_empty() {
            return Err(SealError::Empty);
        }
        let count = self.leaves.len() as u32;
        let root = self.tree.root(self.leaves).ok_or(WorkOverflowError)?;
        let head = Head {
            msp_key: *key.public(),
            link,
            weight: Some(self.weight),
            templates: self.bodies.iter().map(SealedBody::entry).collect(),
            owners: self.owners,
            count,
            work: root.sum.work,
            value: root.sum.value,
            root: root.hash,
        };
        let mut blob = head.encode(self.weight);
        let hash = tagged_hash("radpool/batch", &[&blob]);
        blob.reserve_exact(self.records.len() + 64);
        blob.append(&mut self.records);
        blob.extend_from_slice(&key.sign(&hash));
        self.sums.sort_unstable_by_key(|sum| (sum.account, sum.epoch, sum.rail));
        self.channel_sums.sort_unstable_by_key(|sum| (sum.connection, sum.channel));
        Ok(SealedBatch {
            blob,
            hash,
            root: root.hash,
            count,
            work: root.sum.work,
            value: root.sum.value,
            sums: self.sums,
            header_hashes: self.header_hashes,
            share_keys: self.share_keys,
            bodies: self.bodies,
            channel_sums: self.channel_sums,
        })
    }
}

/// A map to indices that remembers its last hit.
#[derive(Debug)]
struct Index<K> {
    last: Option<(K, usize)>,
    map: HashMap<K, usize>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self { last: None, map: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Index<K> {
    fn get(&mut self, key: &K) -> Option<usize> {
        if let Some((last, index)) = &self.last
            && last == key
        {
            return Some(*index);
        }
        let index = *self.map.get(key)?;
        self.last = Some((*key, index));
        Some(index)
    }

    fn insert(&mut self, key: K, index: usize) -> usize {
        self.map.insert(key, index);
        self.last = Some((key, index));
        index
    }
}
