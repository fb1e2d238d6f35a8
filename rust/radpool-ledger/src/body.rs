//! The template body: all that shares of one template and one extranonce size have in common.
//!
//! Source: `spec/03-share-batch.md`.

use radpool_units::tagged_hash;
use thiserror::Error;

use crate::reader::Reader;

/// All that shares of one template have in common, whoever owns them.
///
/// The coinbase of a share, without witness, is
/// `coinbase_prefix || extranonce || coinbase_before_tag || owner output || coinbase_after_tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateBody {
    /// The version field that jobs are sent with; shares may differ in the rollable bits.
    pub version: u32,
    /// Hash of the block that the template builds on, internal byte order.
    pub prev_hash: [u8; 32],
    /// The header's `nBits`.
    pub nbits: u32,
    /// Height of the block that the template would become.
    pub height: u32,
    /// The coinbase from its version to the push of the extranonce.
    pub coinbase_prefix: Vec<u8>,
    /// The coinbase from the input's sequence up to the owner output; names the count of outputs.
    pub coinbase_before_tag: Vec<u8>,
    /// The coinbase from behind the owner output to its lock time.
    pub coinbase_after_tag: Vec<u8>,
    /// Siblings of the coinbase on the way to the merkle root, from the leaves up.
    pub merkle_path: Vec<[u8; 32]>,
}

/// Most siblings on a merkle path: a block of 4 MB holds fewer than 2^17 transactions.
pub const MERKLE_PATH_MAX: usize = 32;

/// A coinbase part or path longer than its length field can say.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a coinbase part has {0} bytes: 65535 is the most that a template body holds")]
pub struct CoinbaseLengthError(pub usize);

/// A template body that cannot be written, or bytes that are none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// A coinbase part is too long.
    #[error(transparent)]
    CoinbaseLength(#[from] CoinbaseLengthError),
    /// The merkle path is too long.
    #[error(
        "a merkle path of {0} hashes: {MERKLE_PATH_MAX} is the most that a template body holds"
    )]
    MerklePath(usize),
    /// The bytes end inside a field.
    #[error("a template body of {0} bytes ends inside a field")]
    Truncated(usize),
    /// Bytes follow the merkle path.
    #[error("{0} bytes follow the merkle path of a template body")]
    Trailing(usize),
}

impl TemplateBody {
    /// Writes the body as it is stored, exported and hashed.
    ///
    /// # Errors
    /// [`BodyError`] when a part does not fit its length field.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        let parts = [&self.coinbase_prefix, &self.coinbase_before_tag, &self.coinbase_after_tag];
        if self.merkle_path.len() > MERKLE_PATH_MAX {
            return Err(BodyError::MerklePath(self.merkle_path.len()));
        }
        let mut bytes = Vec::with_capacity(
            51 + parts.iter().map(|part| part.len()).sum::<usize>() + 32 * self.merkle_path.len(),
        );
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.prev_hash);
        bytes.extend_from_slice(&self.nbits.to_le_bytes());
        bytes.extend_from_slice(&self.height.to_le_bytes());
        for part in parts {
            let len = u16::try_from(part.len()).map_err(|_| CoinbaseLengthError(part.len()))?;
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes.push(self.merkle_path.len() as u8);
        bytes.extend_from_slice(self.merkle_path.as_flattened());
        Ok(bytes)
    }

    /// Reads a body, strictly: only what [`encode`](Self::encode) writes is accepted.
    ///
    /// # Errors
    /// [`BodyError`] says where the bytes are no body.
    pub fn decode(bytes: &[u8]) -> Result<Self, BodyError> {
        let mut reader = Reader::new(bytes);
        let truncated = BodyError::Truncated(bytes.len());
        let version = reader.u32().ok_or(truncated)?;
        let prev_hash = reader.array().ok_or(truncated)?;
        let nbits = reader.u32().ok_or(truncated)?;
        let height = reader.u32().ok_or(truncated)?;
        let mut part = || {
            let len = reader.u16()?;
            reader.take(len.into()).map(<[u8]>::to_vec)
        };
        let coinbase_prefix = part().ok_or(truncated)?;
        let coinbase_before_tag = part().ok_or(truncated)?;
        let coinbase_after_tag = part().ok_or(truncated)?;
        let path_len = usize::from(reader.u8().ok_or(truncated)?);
        if path_len > MERKLE_PATH_MAX {
            return Err(BodyError::MerklePath(path_len));
        }
        let path = reader.take(32 * path_len).ok_or(truncated)?;
        if !reader.rest().is_empty() {
            return Err(BodyError::Trailing(reader.rest().len()));
        }
        Ok(Self {
            version,
            prev_hash,
            nbits,
            height,
            coinbase_prefix,
            coinbase_before_tag,
            coinbase_after_tag,
            merkle_path: path.as_chunks().0.to_vec(),
        })
    }

    /// The digest of encoded bytes, by which batches name a body.
    #[must_use]
    pub fn digest_of(encoded: &[u8]) -> [u8; 32] {
        tagged_hash("radpool/template", &[encoded])
    }

    /// Writes the coinbase of a share, without witness, behind what `out` holds.
    pub fn write_coinbase(&self, extranonce: &[u8], owner_output: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.coinbase_prefix);
        out.extend_from_slice(extranonce);
        out.extend_from_slice(&self.coinbase_before_tag);
        out.extend_from_slice(owner_output);
        out.extend_from_slice(&self.coinbase_after_tag);
    }
}
