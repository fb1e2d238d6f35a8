//! Double SHA-256, tagged hashes and merkle paths.

use core::fmt;

use crate::sha256::{ABREAST, Midstate, digest_again, finish_abreast, join_abreast};

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
    Hash256(Midstate::START.finish(&Midstate::START.finish(data)))
}

/// Computes SHA-256 of SHA-256 of up to [`ABREAST`] messages, each of them behind what its midstate
/// has taken in.
///
/// # Panics
/// When there are more, or not as many states and hashes as messages.
pub fn sha256d_abreast(states: &[Midstate], rests: &[&[u8]], hashes: &mut [Hash256]) {
    let mut own = [Midstate::START; ABREAST];
    let mut digests = [[0; 32]; ABREAST];
    let count = rests.len();
    assert_eq!((states.len(), hashes.len()), (count, count), "one of each for each message");
    own[..count].copy_from_slice(states);
    finish_abreast(&mut own[..count], rests, &mut digests[..count]);
    digest_again(&mut digests[..count]);
    hashes.iter_mut().zip(digests).for_each(|(hash, digest)| *hash = Hash256(digest));
}

/// A SHA-256 state that has taken a tag in, to be reused for many messages under that tag.
///
/// Source: BIP340, "Tagged Hashes": `SHA256(SHA256(tag) || SHA256(tag) || message)`.
#[derive(Clone, Debug)]
pub struct TaggedHasher(Midstate);

impl TaggedHasher {
    /// Starts the hash of `tag`.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let tag_hash = Midstate::START.finish(tag.as_bytes());
        let mut state = Midstate::START;
        state.take_blocks([tag_hash; 2].as_flattened());
        Self(state)
    }

    /// Hashes the concatenation of `parts` under the tag.
    #[must_use]
    pub fn hash(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut state = self.0;
        let mut block = [0; 64];
        let mut filled = 0;
        for part in parts {
            let mut part = *part;
            if let Some((end, rest)) = part.split_at_checked(64 - filled) {
                block[filled..].copy_from_slice(end);
                state.take(&block);
                part = state.take_blocks(rest);
                filled = 0;
            }
            block[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        state.finish(&block[..filled])
    }

    /// Hashes each of up to [`ABREAST`] messages under the tag.
    ///
    /// # Panics
    /// When there are more, or not as many hashes as messages.
    pub fn hash_abreast(&self, messages: &[&[u8]], hashes: &mut [[u8; 32]]) {
        finish_abreast(&mut [self.0; ABREAST][..messages.len()], messages, hashes);
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

/// Replaces up to [`ABREAST`] coinbase transaction ids by the merkle roots that their paths lead to.
///
/// # Panics
/// When there are more, or not as many paths as ids.
pub fn merkle_roots_abreast(nodes: &mut [Hash256], paths: &[&[[u8; 32]]]) {
    assert_eq!(nodes.len(), paths.len(), "one path for each node");
    let levels = paths.iter().map(|path| path.len()).max().unwrap_or(0);
    let mut siblings = [None; ABREAST];
    for level in 0..levels {
        for (sibling, path) in siblings.iter_mut().zip(paths) {
            *sibling = path.get(level);
        }
        join_abreast(nodes, siblings);
    }
}
