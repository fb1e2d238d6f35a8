//! The binary layout of share records and batches.
//!
//! A batch has a head, its shares and a signature. The head names the tables that shares refer to by
//! index, their number, the sums of their work and value and the Merkle-sum root over them; its
//! tagged hash is the batch hash, which is signed and which the next batch names. So head, signature,
//! one share and a path prove that share to anyone.
//!
//! Batches of version 1 know no value; they are read, but not written any more.
//!
//! Each batch has exactly one encoding: tables are in order of first use and hold nothing unused.
//!
//! Source: `spec/03-share-batch.md`.

use radpool_units::{Exponent, Value, Work, tagged_hash};

use crate::{BatchError, Owner, Rail, Weight, WeightError, reader::Reader};

/// Most shares in a batch: so many always fit tables with 16-bit indices.
pub const SHARES_MAX: usize = u16::MAX as usize;
/// Longest extranonce.
pub const EXTRANONCE_MAX: usize = 32;

pub(crate) const MAGIC: [u8; 4] = *b"RPSB";
/// The version that is written.
pub(crate) const VERSION: u8 = 2;
/// The version without prices.
pub(crate) const VERSION_WORK: u8 = 1;
/// Length of an entry of the owner table: commitment, epoch, rail.
const OWNER_LEN: usize = 32 + 4 + 1;
/// Length of an entry of the table of templates: digest, price.
const TEMPLATE_LEN: usize = 32 + 16;
/// Length of the head without its tables.
const HEAD_LEN: usize = 4 + 1 + 32 + 8 + 32 + 8 + 4 + 3 + 2 + 2 + 4 + 16 + 16 + 32;

/// Where a batch stands in its MSP's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The number of the batch, from 0.
    pub sequence: u64,
    /// The hash of the batch before it; zeros before the first.
    pub previous: [u8; 32],
    /// When it is sealed, in milliseconds since 1970.
    pub time_ms: u64,
    /// The lowest epoch that is not settled yet: shares of earlier tags count in it.
    pub epoch_min: u32,
}

/// A template body that shares refer to, at its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PricedTemplate {
    pub digest: [u8; 32],
    /// What a share of the base exponent is worth; 0 in batches without prices.
    pub price: u128,
}

/// A share as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// Index into the table of templates.
    pub template: u16,
    /// Index into the table of owners.
    pub owner: u16,
    /// Step of the job's tag: the share is worth `2^z`.
    pub exponent: Exponent,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    /// The full extranonce, prefix included.
    pub extranonce: &'a [u8],
}

impl<'a> Share<'a> {
    /// Appends the record; the extranonce has at most [`EXTRANONCE_MAX`] bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut fixed = [0; 18];
        fixed[..2].copy_from_slice(&self.template.to_le_bytes());
        fixed[2..4].copy_from_slice(&self.owner.to_le_bytes());
        fixed[4] = self.exponent.get();
        fixed[5] = self.extranonce.len() as u8;
        fixed[6..10].copy_from_slice(&self.version.to_le_bytes());
        fixed[10..14].copy_from_slice(&self.ntime.to_le_bytes());
        fixed[14..].copy_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.extranonce);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, BatchError> {
        let truncated = BatchError::Truncated;
        let template = reader.u16().ok_or(truncated)?;
        let owner = reader.u16().ok_or(truncated)?;
        let exponent = reader.u8().ok_or(truncated)?;
        let extranonce_len = usize::from(reader.u8().ok_or(truncated)?);
        let version = reader.u32().ok_or(truncated)?;
        let ntime = reader.u32().ok_or(truncated)?;
        let nonce = reader.u32().ok_or(truncated)?;
        let exponent =
            Exponent::new(exponent.into()).map_err(|_| BatchError::Exponent(exponent))?;
        if extranonce_len > EXTRANONCE_MAX {
            return Err(BatchError::ExtranonceLength(extranonce_len));
        }
        let extranonce = reader.take(extranonce_len).ok_or(truncated)?;
        Ok(Self { template, owner, exponent, version, ntime, nonce, extranonce })
    }
}

/// All of a batch but its shares and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub msp_key: [u8; 32],
    pub link: Link,
    /// How shares are weighed; `None` in batches of version 1, which know no value.
    pub weight: Option<Weight>,
    /// The template bodies that shares refer to.
    pub templates: Vec<PricedTemplate>,
    /// The owners that shares refer to; all of this MSP.
    pub owners: Vec<Owner>,
    pub count: u32,
    /// The sum of the work of all shares.
    pub work: Work,
    /// The sum of the value of all shares; 0 in batches without prices.
    pub value: Value,
    /// Root of the Merkle-sum tree.
    pub root: [u8; 32],
}

impl Head {
    /// Writes the head of a batch with prices; the tables have at most [`SHARES_MAX`] entries.
    pub(crate) fn encode(&self, weight: Weight) -> Vec<u8> {
        let tables = TEMPLATE_LEN * self.templates.len() + OWNER_LEN * self.owners.len();
        let mut out = Vec::with_capacity(HEAD_LEN + tables);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.msp_key);
        out.extend_from_slice(&self.link.sequence.to_le_bytes());
        out.extend_from_slice(&self.link.previous);
        out.extend_from_slice(&self.link.time_ms.to_le_bytes());
        out.extend_from_slice(&self.link.epoch_min.to_le_bytes());
        out.extend_from_slice(&weight.to_bytes());
        out.extend_from_slice(&(self.templates.len() as u16).to_le_bytes());
        for template in &self.templates {
            out.extend_from_slice(&template.digest);
            out.extend_from_slice(&template.price.to_le_bytes());
        }
        out.extend_from_slice(&(self.owners.len() as u16).to_le_bytes());
        for owner in &self.owners {
            out.extend_from_slice(&owner.commitment);
            out.extend_from_slice(&owner.epoch.to_le_bytes());
            out.push(owner.rail as u8);
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.work.to_le_bytes());
        out.extend_from_slice(&self.value.to_le_bytes());
        out.extend_from_slice(&self.root);
        out
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, BatchError> {
        let truncated = BatchError::Truncated;
        if reader.array().ok_or(truncated)? != MAGIC {
            return Err(BatchError::Magic);
        }
        let version = reader.u8().ok_or(truncated)?;
        if version != VERSION && version != VERSION_WORK {
            return Err(BatchError::Version(version));
        }
        let is_priced = version == VERSION;
        let msp_key = reader.array().ok_or(truncated)?;
        let link = Link {
            sequence: reader.u64().ok_or(truncated)?,
            previous: reader.array().ok_or(truncated)?,
            time_ms: reader.u64().ok_or(truncated)?,
            epoch_min: reader.u32().ok_or(truncated)?,
        };
        let weight = if is_priced { Some(read_weight(reader)?) } else { None };
        let template_count = usize::from(reader.u16().ok_or(truncated)?);
        let templates = read_templates(reader, template_count, is_priced).ok_or(truncated)?;
        let owner_count = usize::from(reader.u16().ok_or(truncated)?);
        let owner_bytes = reader.take(OWNER_LEN * owner_count).ok_or(truncated)?;
        let owners = owner_bytes
            .chunks_exact(OWNER_LEN)
            .map(|entry| read_owner(entry, msp_key))
            .collect::<Result<_, _>>()?;
        let count = reader.u32().ok_or(truncated)?;
        let work = Work(reader.u128().ok_or(truncated)?);
        let value = if is_priced { reader.u128().ok_or(truncated)? } else { 0 };
        let root = reader.array().ok_or(truncated)?;
        Ok(Self {
            msp_key,
            link,
            weight,
            templates,
            owners,
            count,
            work,
            value: Value(value),
            root,
        })
    }

    /// What a share is worth, which is nothing in a batch without prices; `None` when its exponent is
    /// below the base or the value past 2^128 - 1.
    ///
    /// The share's template must be one of the table, as decoding has checked.
    #[must_use]
    pub fn value_of(&self, share: &Share<'_>) -> Option<Value> {
        let Some(weight) = self.weight else { return Some(Value(0)) };
        weight.value(self.templates[usize::from(share.template)].price, share.exponent)
    }
}

fn read_weight(reader: &mut Reader<'_>) -> Result<Weight, BatchError> {
    let [mode, scale, base] = reader.array().ok_or(BatchError::Truncated)?;
    Weight::new(mode, scale, base).map_err(|error| match error {
        WeightError::Mode(byte) | WeightError::Base(byte) => BatchError::Weight(byte),
    })
}

fn read_templates(
    reader: &mut Reader<'_>,
    count: usize,
    is_priced: bool,
) -> Option<Vec<PricedTemplate>> {
    let len = if is_priced { TEMPLATE_LEN } else { 32 };
    let entries = reader.take(len * count)?.chunks_exact(len);
    entries
        .map(|entry| {
            let mut reader = Reader::new(entry);
            let digest = reader.array()?;
            let price = if is_priced { reader.u128()? } else { 0 };
            Some(PricedTemplate { digest, price })
        })
        .collect()
}

fn read_owner(entry: &[u8], msp_key: [u8; 32]) -> Result<Owner, BatchError> {
    let mut reader = Reader::new(entry);
    let commitment = reader.array().ok_or(BatchError::Truncated)?;
    let epoch = reader.u32().ok_or(BatchError::Truncated)?;
    let rail = reader.u8().ok_or(BatchError::Truncated)?;
    let rail = Rail::try_from(rail).map_err(|_| BatchError::Rail(rail))?;
    Ok(Owner { msp_key, commitment, epoch, rail })
}

/// A batch that was read: its form is right, none of its claims is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub head: Head,
    /// Tagged hash of the head: what is signed.
    pub hash: [u8; 32],
    pub shares: Vec<Share<'a>>,
    /// The bytes of each share's record, in order.
    pub records: Vec<&'a [u8]>,
    pub signature: [u8; 64],
}

impl<'a> Batch<'a> {
    /// Reads a batch, strictly: only what sealing writes is accepted.
    ///
    /// Memory stays within a small multiple of `blob`: nothing is allocated before its bytes are there.
    ///
    /// # Errors
    /// [`BatchError`] says where the bytes are no batch.
    pub fn decode(blob: &'a [u8]) -> Result<Self, BatchError> {
        let mut reader = Reader::new(blob);
        let head = Head::read(&mut reader)?;
        let hash = tagged_hash("radpool/batch", &[&blob[..blob.len() - reader.rest().len()]]);
        if head.count == 0 || head.count as usize > SHARES_MAX {
            return Err(BatchError::ShareCount(head.count));
        }
        let (mut shares, mut records) = (Vec::new(), Vec::new());
        let (mut templates_used, mut owners_used) = (0, 0);
        for index in 0..head.count {
            let before = reader.rest();
            let share = Share::read(&mut reader)?;
            if head.weight.is_some_and(|weight| share.exponent < weight.base) {
                return Err(BatchError::ExponentBase(share.exponent.get()));
            }
            if usize::from(share.template) > templates_used
                || usize::from(share.owner) > owners_used
            {
                return Err(BatchError::TableOrder(index));
            }
            templates_used = templates_used.max(usize::from(share.template) + 1);
            owners_used = owners_used.max(usize::from(share.owner) + 1);
            shares.push(share);
            records.push(&before[..before.len() - reader.rest().len()]);
        }
        if templates_used != head.templates.len() || owners_used != head.owners.len() {
            return Err(BatchError::TableOrder(head.count));
        }
        let signature = reader.array().ok_or(BatchError::Truncated)?;
        if !reader.rest().is_empty() {
            return Err(BatchError::Trailing(reader.rest().len()));
        }
        let batch = Self { head, hash, shares, records, signature };
        batch.check_tables()?;
        Ok(batch)
    }

    fn check_tables(&self) -> Result<(), BatchError> {
        let mut templates = self.head.templates.clone();
        templates.sort_unstable();
        let mut owners = self.head.owners.clone();
        owners.sort_unstable();
        let repeated = templates.windows(2).any(|pair| pair[0] == pair[1])
            || owners.windows(2).any(|pair| pair[0] == pair[1]);
        if repeated { Err(BatchError::TableRepeat) } else { Ok(()) }
    }
}
