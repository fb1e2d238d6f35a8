//! The Merkle-sum tree over the claims of a keyset.
//!
//! A leaf binds a share, its blinded message and its units; nodes are those of share batches. A
//! statement names the root and the sum, so that each miner can show that its claim counts.
//!
//! Source: `spec/07-ecash-epochs.md`, `spec/03-share-batch.md`.

use radpool_ledger::{Node, SumTree};
use radpool_units::{TaggedHasher, Work};

use crate::POINT_LEN;

/// Length of a packed leaf: share hash, blinded message, units (little-endian).
pub const CLAIM_LEAF_LEN: usize = 32 + POINT_LEN + 8;

/// Makes the leaf of a claim.
#[must_use]
pub fn claim_leaf(packed: &[u8; CLAIM_LEAF_LEN]) -> Node {
    leaf(&TaggedHasher::new("radpool/claim"), packed)
}

fn leaf(hasher: &TaggedHasher, packed: &[u8; CLAIM_LEAF_LEN]) -> Node {
    let (_, units) = packed.split_last_chunk().expect("a leaf is longer than a u64");
    let units = u64::from_le_bytes(*units);
    Node { hash: hasher.hash(&[packed]), sum: Work(units.into()) }
}

fn leaves(packed: &[[u8; CLAIM_LEAF_LEN]]) -> Vec<Node> {
    let hasher = TaggedHasher::new("radpool/claim");
    packed.iter().map(|packed| leaf(&hasher, packed)).collect()
}

/// Computes the root over claims in their order: zeros and 0 units without any.
///
/// 2^64 claims of 2^63 units each do not exceed the sum's 128 bits.
#[must_use]
pub fn claims_root(packed: &[[u8; CLAIM_LEAF_LEN]]) -> Node {
    let none = Node { hash: [0; 32], sum: Work(0) };
    SumTree::default().root(leaves(packed)).unwrap_or(none)
}

/// Collects the siblings of claim `index` from the leaves up; `None` when there is no such claim.
#[must_use]
pub fn claims_path(packed: &[[u8; CLAIM_LEAF_LEN]], index: usize) -> Option<Vec<Node>> {
    SumTree::default().prove(&leaves(packed), index)
}
