//! The Merkle-sum tree over the shares of a batch.
//!
//! A leaf binds a share record and its work, a node binds both children and both their sums. So the
//! path of a share proves that the share counts in the batch's work, and no total can be claimed that
//! is not the sum of leaves. A node without a sibling rises unchanged to the next level; the number of
//! leaves, which the batch hash covers, fixes the shape.
//!
//! Source: `spec/03-share-batch.md`.

use radpool_units::{TaggedHasher, Work};

/// A node of the tree: its hash and the work below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Hash of the leaf, or of both children and their sums.
    pub hash: [u8; 32],
    /// Sum of the work of all leaves below.
    pub work: Work,
}

/// The two hashers of the tree, their tags taken in once.
#[derive(Clone, Debug)]
pub struct SumTree {
    leaf: TaggedHasher,
    node: TaggedHasher,
}

impl Default for SumTree {
    fn default() -> Self {
        Self { leaf: TaggedHasher::new("radpool/leaf"), node: TaggedHasher::new("radpool/node") }
    }
}

impl SumTree {
    /// Makes the leaf of an encoded share record.
    #[must_use]
    pub fn leaf(&self, record: &[u8], work: Work) -> Node {
        Node { hash: self.leaf.hash(&[record, &work.to_le_bytes()]), work }
    }

    /// Joins two nodes; `None` when the sum exceeds 2^128 - 1.
    #[must_use]
    pub fn join(&self, left: &Node, right: &Node) -> Option<Node> {
        let hash = self.node.hash(&[
            &left.hash,
            &right.hash,
            &left.work.to_le_bytes(),
            &right.work.to_le_bytes(),
        ]);
        Some(Node { hash, work: left.work.checked_add(right.work)? })
    }

    /// Reduces leaves to the root; `None` without leaves or when the sum exceeds 2^128 - 1.
    #[must_use]
    pub fn root(&self, mut nodes: Vec<Node>) -> Option<Node> {
        while nodes.len() > 1 {
            let pairs = nodes.len() / 2;
            for pair in 0..pairs {
                nodes[pair] = self.join(&nodes[2 * pair], &nodes[2 * pair + 1])?;
            }
            if nodes.len() % 2 == 1 {
                nodes[pairs] = nodes[2 * pairs];
                nodes.truncate(pairs + 1);
            } else {
                nodes.truncate(pairs);
            }
        }
        nodes.first().copied()
    }

    /// Collects the siblings on the way from leaf `index` to the root, from the leaves up; `None`
    /// when there is no such leaf.
    #[must_use]
    pub fn prove(&self, leaves: &[Node], mut index: usize) -> Option<Vec<Node>> {
        if index >= leaves.len() {
            return None;
        }
        let mut level = leaves.to_vec();
        let mut path = Vec::new();
        while level.len() > 1 {
            path.extend(level.get(index ^ 1));
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => self.join(left, right),
                    _ => pair.first().copied(),
                })
                .collect::<Option<_>>()?;
            index /= 2;
        }
        Some(path)
    }

    /// Computes the root that leaf `index` of `count` leads to by `path`; `None` when the path has
    /// not exactly the siblings that a tree of this size needs, or the sum exceeds 2^128 - 1.
    #[must_use]
    pub fn root_of_path(
        &self,
        leaf: Node,
        index: usize,
        count: usize,
        path: &[Node],
    ) -> Option<Node> {
        if index >= count {
            return None;
        }
        let (mut node, mut index, mut count, mut path) = (leaf, index, count, path.iter());
        while count > 1 {
            if index % 2 == 1 {
                node = self.join(path.next()?, &node)?;
            } else if index + 1 < count {
                node = self.join(&node, path.next()?)?;
            }
            index /= 2;
            count = count.div_ceil(2);
        }
        path.next().is_none().then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(tree: &SumTree, works: &[u8]) -> Vec<Node> {
        let leaf = |(index, z): (usize, &u8)| tree.leaf(&index.to_le_bytes(), Work(1 << z));
        works.iter().enumerate().map(leaf).collect()
    }

    proptest! {
        #[test]
        fn each_leaf_is_proved_and_no_other_place_is(works in prop::collection::vec(0u8..120, 1..70)) {
            let tree = SumTree::default();
            let leaves = leaves(&tree, &works);
            let root = tree.root(leaves.clone()).unwrap();
            prop_assert_eq!(root.work.0, works.iter().map(|z| 1u128 << z).sum::<u128>());
            for (index, leaf) in leaves.iter().enumerate() {
                let mut path = tree.prove(&leaves, index).unwrap();
                let count = leaves.len();
                prop_assert_eq!(tree.root_of_path(*leaf, index, count, &path), Some(root));
                for other in (0..count).filter(|other| *other != index) {
                    prop_assert_ne!(tree.root_of_path(*leaf, other, count, &path), Some(root));
                }
                let heavier = Node { work: Work(leaf.work.0 + 1), ..*leaf };
                if count > 1 {
                    prop_assert_ne!(tree.root_of_path(heavier, index, count, &path), Some(root));
                }
                path.push(root);
                prop_assert_eq!(tree.root_of_path(*leaf, index, count, &path), None);
            }
            prop_assert!(tree.prove(&leaves, leaves.len()).is_none());
        }
    }

    #[test]
    fn sums_past_128_bits_and_empty_trees_have_no_root() {
        let tree = SumTree::default();
        let half = Node { hash: [0; 32], work: Work(1 << 127) };
        assert_eq!(tree.root(vec![half, half]), None);
        assert_eq!(tree.root(Vec::new()), None);
    }
}
