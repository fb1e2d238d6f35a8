//! The template body: all that shares of one template and one extranonce size have in common.
//!
//! Source: `spec/03-share-batch.md`.

use thiserror::Error;

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

/// A coinbase part or path longer than its length field can say.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a coinbase part has {0} bytes: 65535 is the most that a template body holds")]
pub struct CoinbaseLengthError(pub usize);
