//! Merkle trees over a block's transactions, and the mutation that keeps their root.

use radpool_units::{Hash256, sha256d};

/// What a block's tree says about it, whatever its coinbase is.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The siblings of the coinbase, from the leaves up.
    pub(crate) path: Vec<[u8; 32]>,
    /// Whether two neighbours of some level are equal: another list then has the same root, and
    /// nodes refuse this one.
    ///
    /// Source: Bitcoin Core, `ComputeMerkleRoot`; CVE-2012-2459.
    pub(crate) mutated: bool,
}

/// Walks the tree over the coinbase, whose place is kept open, and the ids of the others.
pub(crate) fn tree(ids: impl Iterator<Item = Hash256>) -> Tree {
    // No sibling of the leftmost leaf, and no other pair, depends on it: any hash keeps its place.
    let mut level: Vec<Hash256> = core::iter::once(Hash256::default()).chain(ids).collect();
    let mut path = Vec::new();
    let mut mutated = false;
    while level.len() > 1 {
        mutated |= level.chunks_exact(2).skip(1).any(|pair| pair[0] == pair[1]);
        path.push(level[1].0);
        level = level.chunks(2).map(parent).collect();
    }
    Tree { path, mutated }
}

/// The root over the wtxids of a block: the coinbase's own counts as zeros (BIP 141).
pub(crate) fn witness_root(wtxids: impl Iterator<Item = Hash256>) -> Hash256 {
    let mut level: Vec<Hash256> = core::iter::once(Hash256::default()).chain(wtxids).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(parent).collect();
    }
    level[0]
}

/// The parent of a pair; the last of a level may be its own neighbour.
fn parent(pair: &[Hash256]) -> Hash256 {
    let mut joined = [0; 64];
    joined[..32].copy_from_slice(pair[0].as_bytes());
    joined[32..].copy_from_slice(pair[pair.len() - 1].as_bytes());
    sha256d(&joined)
}

#[cfg(test)]
mod tests {
    use radpool_units::merkle_root_from_path;

    use super::*;

    fn id(number: u8) -> Hash256 {
        Hash256([number; 32])
    }

    /// The root by its definition, over all leaves.
    fn root(leaves: &[Hash256]) -> Hash256 {
        match leaves {
            [only] => *only,
            _ => root(&leaves.chunks(2).map(parent).collect::<Vec<_>>()),
        }
    }

    #[test]
    fn the_path_leads_to_the_root_for_every_count() {
        for count in 0..70 {
            let ids: Vec<_> = (1..=count).map(id).collect();
            let tree = tree(ids.iter().copied());
            let coinbase = id(200);
            let all: Vec<_> = core::iter::once(coinbase).chain(ids).collect();
            assert_eq!(merkle_root_from_path(coinbase, &tree.path), root(&all), "{count}");
            assert!(!tree.mutated, "{count}");
        }
    }

    #[test]
    fn a_repeated_tail_is_noticed_at_every_level() {
        // Leaves c 1 2 with 2 repeated, and c 1 2 3 4 5 with 4 5 repeated, keep their roots.
        assert!(tree([1, 2, 2].map(id).into_iter()).mutated);
        assert!(tree([1, 2, 3, 4, 5, 4, 5].map(id).into_iter()).mutated);
        // Equal ones that are no pair make no such root; other rules refuse them.
        assert!(!tree([1, 1, 2].map(id).into_iter()).mutated);
        assert!(!tree([1, 2, 3, 2].map(id).into_iter()).mutated);
    }
}
