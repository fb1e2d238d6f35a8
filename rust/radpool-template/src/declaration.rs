//! A whole declared template.

use std::sync::Arc;

use radpool_units::{Hash256, MerkleRoot, TaggedHasher, merkle_root_from_path, sha256d};
use thiserror::Error;

use crate::{
    coinbase::{Coinbase, CoinbaseError},
    merkle::tree,
    reader::put_length,
    selection::Selection,
    structure::{Body, Fault},
    transaction::{BLOCK_WEIGHT_MAX, Transaction},
};

const HEADER_LEN: usize = 80;
const DIGEST_TAG: &str = "radpool/declaration";

/// What a template builds on and how its header begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The header's version before rolling.
    pub version: u32,
    /// The tip's hash.
    pub prev_hash: Hash256,
    /// The header's compact target.
    pub nbits: u32,
    /// The block's height.
    pub height: u32,
    /// The median time past of the tip, s; without it locktimes in seconds are not judged.
    pub median_time: Option<u32>,
}

/// A declaration cannot be put together.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BuildError {
    /// The declarer's coinbase is none.
    #[error(transparent)]
    Coinbase(#[from] CoinbaseError),
    /// The caller's selection is not complete.
    #[error("{0} transactions are missing: supply them before the declaration is built")]
    Missing(usize),
}

/// No block can be made of a declaration and what was found on it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// No network takes it, and a list that repeats itself could fill the memory.
    #[error("the block would have {0} bytes, more than any block: its structure is refused")]
    TooLarge(usize),
    /// The extranonce is another's.
    #[error("the extranonce has {given} bytes, this template's has {wanted}")]
    Extranonce {
        /// How many it has.
        given: usize,
        /// How many it should have.
        wanted: usize,
    },
    /// The coinbase is another one.
    #[error("the coinbase is not this template's, whatever the extranonce")]
    Coinbase,
    /// The header is another one.
    #[error("the header does not build on this template's tip, or has another merkle root")]
    Header,
}

/// A whole template and what its structure says about it.
#[derive(Debug)]
pub struct Declaration {
    ground: Ground,
    coinbase: Coinbase,
    wtxids: Vec<Hash256>,
    transactions: Vec<Arc<Transaction>>,
    path: Vec<[u8; 32]>,
    size: usize,
    weight: usize,
    fault: Option<Fault>,
    digest: [u8; 32],
}

impl Declaration {
    /// Puts a template together and judges its structure.
    ///
    /// `extranonce_len` is `None` when the extranonce fills the coinbase's script to its end.
    ///
    /// # Errors
    /// `BuildError` when the coinbase is none, or a transaction is missing.
    pub fn build(
        selection: &Selection,
        ground: Ground,
        prefix: &[u8],
        suffix: &[u8],
        extranonce_len: Option<usize>,
    ) -> Result<Self, BuildError> {
        let coinbase = Coinbase::join(prefix, suffix, extranonce_len)?;
        let transactions = selection.transactions().map_err(BuildError::Missing)?;
        let wtxids = selection.wtxids().to_vec();
        let tree = tree(transactions.iter().map(|each| each.txid()));
        let body = Body {
            ground: &ground,
            coinbase: &coinbase,
            transactions: &transactions,
            mutated: tree.mutated,
        };
        let (size, weight, fault) = (body.sizes().1, body.weight(), body.fault());
        let digest = digest(&ground, &coinbase, prefix.len(), &wtxids);
        let path = tree.path;
        Ok(Self { ground, coinbase, wtxids, transactions, path, size, weight, fault, digest })
    }

    /// What is wrong with its structure.
    #[must_use]
    pub const fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// A hash over all that it is.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What it builds on.
    #[must_use]
    pub const fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Its coinbase.
    #[must_use]
    pub const fn coinbase(&self) -> &Coinbase {
        &self.coinbase
    }

    /// The transactions' wtxids in block order, without the coinbase.
    #[must_use]
    pub fn wtxids(&self) -> &[Hash256] {
        &self.wtxids
    }

    /// The siblings of the coinbase, from the leaves up.
    #[must_use]
    pub fn path(&self) -> &[[u8; 32]] {
        &self.path
    }

    /// The block's bytes, with witnesses.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The block's weight.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// The coinbase transaction with an extranonce, and with its witness.
    ///
    /// # Errors
    /// `BlockError::Extranonce`.
    pub fn coinbase_with(&self, extranonce: &[u8]) -> Result<Vec<u8>, BlockError> {
        let (given, wanted) = (extranonce.len(), self.coinbase.extranonce_len());
        self.coinbase.with(extranonce).ok_or(BlockError::Extranonce { given, wanted })
    }

    /// The coinbase transaction with an extranonce, without witness.
    ///
    /// # Errors
    /// `BlockError::Extranonce`.
    pub fn stripped_coinbase_with(&self, extranonce: &[u8]) -> Result<Vec<u8>, BlockError> {
        Ok(self.coinbase.layout().stripped(&self.coinbase_with(extranonce)?))
    }

    /// The header's merkle root with an extranonce.
    ///
    /// # Errors
    /// `BlockError::Extranonce`.
    pub fn merkle_root(&self, extranonce: &[u8]) -> Result<MerkleRoot, BlockError> {
        let txid = sha256d(&self.stripped_coinbase_with(extranonce)?);
        Ok(merkle_root_from_path(txid, &self.path))
    }

    /// The block that a solution makes of it.
    ///
    /// # Errors
    /// `BlockError` for an extranonce of another length, or when no block is that large.
    pub fn block(
        &self,
        extranonce: &[u8],
        version: u32,
        ntime: u32,
        nonce: u32,
    ) -> Result<Vec<u8>, BlockError> {
        let root = self.merkle_root(extranonce)?;
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(self.ground.prev_hash.as_bytes());
        header[36..68].copy_from_slice(root.as_bytes());
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.ground.nbits.to_le_bytes());
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        self.serialise(&header, &self.coinbase_with(extranonce)?)
    }

    /// The block of a header and a coinbase that were mined on it.
    ///
    /// # Errors
    /// `BlockError` when they are not its own.
    pub fn block_of(
        &self,
        header: &[u8; HEADER_LEN],
        coinbase_tx: &[u8],
    ) -> Result<Vec<u8>, BlockError> {
        let extranonce = self.coinbase.extranonce_of(coinbase_tx).ok_or(BlockError::Coinbase)?;
        let root = self.merkle_root(&extranonce)?;
        if header[4..36] != *self.ground.prev_hash.as_bytes() || header[36..68] != *root.as_bytes()
        {
            return Err(BlockError::Header);
        }
        self.serialise(header, &self.coinbase_with(&extranonce)?)
    }

    fn serialise(&self, header: &[u8; HEADER_LEN], coinbase: &[u8]) -> Result<Vec<u8>, BlockError> {
        // A byte weighs at least one unit.
        if self.size > BLOCK_WEIGHT_MAX {
            return Err(BlockError::TooLarge(self.size));
        }
        let mut block = Vec::with_capacity(self.size);
        block.extend_from_slice(header);
        put_length(&mut block, 1 + self.transactions.len());
        block.extend_from_slice(coinbase);
        for each in &self.transactions {
            block.extend_from_slice(each.raw());
        }
        Ok(block)
    }
}

/// Names a template: the same bytes give the same name, and no others do.
fn digest(ground: &Ground, coinbase: &Coinbase, prefix: usize, wtxids: &[Hash256]) -> [u8; 32] {
    let numbers = [ground.version, ground.nbits, ground.height, ground.median_time.unwrap_or(0)];
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let lengths = [coinbase.raw().len(), prefix, coinbase.extranonce_len()];
    let lengths: Vec<u8> = lengths.iter().flat_map(|len| (*len as u64).to_le_bytes()).collect();
    let ids: Vec<u8> = wtxids.iter().flat_map(|wtxid| wtxid.0).collect();
    let parts = [&numbers[..], ground.prev_hash.as_bytes(), &lengths, coinbase.raw(), &ids];
    TaggedHasher::new(DIGEST_TAG).hash(&parts)
}
