//! Double SHA-256, tagged hashes and merkle paths.

use core::fmt;

use sha2::{Digest, Sha256};

/// A 256-bit hash in internal byte order: as it is hashed and sent, and, read as a number, little-endian.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash256(pub [u8; 32]);

/// The merkle root of a block's transactions, internal byte order.
pub type MerkleRoot = Hash256;

impl Hash256 {
    /// The bytes in internal order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The number of leading zero bits of the hash read as a little-endian number: 0 to 256.
    #[must_use]
    pub fn leading_zero_bits(&self) -> u32 {
        let mut zeros = 0;
        for byte in self.0.iter().rev() {
            if *byte != 0 {
                return zeros + byte.leading_zeros();
            }
            zeros += 8;
        }
        zeros
    }
}

impl fmt::Display for Hash256 {
    /// Writes the reversed hex that block explorers and Bitcoin Core show.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().rev() {
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Hash256({self})")
    }
}

/// Computes SHA-256 of SHA-256.
#[must_use]
pub fn sha256d(data: &[u8]) -> Hash256 {
    Hash256(Sha256::digest(Sha256::digest(data)).into())
}

/// A SHA-256 state that has taken a tag in, to be reused for many messages under that tag.
///
/// Source: BIP340, "Tagged Hashes": `SHA256(SHA256(tag) || SHA256(tag) || message)`.
#[derive(Clone, Debug)]
pub struct TaggedHasher(Sha256);

impl TaggedHasher {
    /// Starts the hash of `tag`.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let tag_hash = Sha256::digest(tag.as_bytes());
        Self(Sha256::new().chain_update(tag_hash).chain_update(tag_hash))
    }

    /// Hashes the concatenation of `parts` under the tag.
    #[must_use]
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.0.clone();
        for part in parts {
            state.update(part);
        }
        state.finalize().into()
    }
}

/// Computes the BIP340 tagged hash of the concatenation of `parts`.
#[must_use]
pub fn tagged_hash(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    TaggedHasher::new(tag).hash(parts)
}

/// Computes the merkle root of a block from its coinbase transaction id and the path beside it.
#[must_use]
pub fn merkle_root_from_path(coinbase_txid: Hash256, path: &[[u8; 32]]) -> MerkleRoot {
    let mut pair = [0u8; 64];
    let mut node = coinbase_txid;
    for sibling in path {
        pair[..32].copy_from_slice(&node.0);
        pair[32..].copy_from_slice(sibling);
        node = sha256d(&pair);
    }
    node
}
