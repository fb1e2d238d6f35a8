//! The Merkle-sum tree over the shares of a batch.
//!
//! A leaf binds a share record and what it is worth, a node binds both children and both their sums.
//! So the path of a share proves that the share counts in the batch's sums, and no total can be
//! claimed that is not the sum of leaves. A node without a sibling rises unchanged to the next level;
//! the number of leaves, which the batch hash covers, fixes the shape.
//!
//! What is summed is a type of its own: work alone in batches of version 1 and over the claims of a
//! keyset, work and value in batches of version 2.
//!
//! Source: `spec/03-share-batch.md`.

use core::{fmt, marker::PhantomData};

use radpool_units::{ABREAST, TaggedHasher, Value, Work};

/// What a tree sums up.
pub trait Sum: Copy + Eq + fmt::Debug {
    /// Tag of the hash of a leaf.
    const LEAF_TAG: &'static str;
    /// Tag of the hash of two nodes.
    const NODE_TAG: &'static str;

    /// Adds, or returns `None` when a part exceeds 2^128 - 1.
    fn checked_add(self, other: Self) -> Option<Self>;

    /// The bytes that are hashed.
    fn to_bytes(self) -> impl AsRef<[u8]>;
}

impl Sum for Work {
    const LEAF_TAG: &'static str = "radpool/leaf";
    const NODE_TAG: &'static str = "radpool/node";

    fn checked_add(self, other: Self) -> Option<Self> {
        Self::checked_add(self, other)
    }

    fn to_bytes(self) -> impl AsRef<[u8]> {
        self.to_le_bytes()
    }
}

/// What shares have earned: their work, and what it is worth to the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earned {
    pub work: Work,
    pub value: Value,
}

impl Sum for Earned {
    const LEAF_TAG: &'static str = "radpool/leaf/2";
    const NODE_TAG: &'static str = "radpool/node/2";

    fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            work: self.work.checked_add(other.work)?,
            value: self.value.checked_add(other.value)?,
        })
    }

    fn to_bytes(self) -> impl AsRef<[u8]> {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.work.to_le_bytes());
        bytes[16..].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }
}

/// A node of the tree: its hash and the sum below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<S = Work> {
    /// Hash of the leaf, or of both children and their sums.
    pub hash: [u8; 32],
    /// Sum of all leaves below.
    pub sum: S,
}

/// Longest message of a node: two hashes and two sums of at most 32 bytes.
const PAIR_MAX: usize = 2 * 32 + 2 * 32;

/// Writes what the hash of a node is made of; returns what was written.
fn write_pair<'a, S: Sum>(
    left: &Node<S>,
    right: &Node<S>,
    message: &'a mut [u8; PAIR_MAX],
) -> &'a [u8] {
    message[..32].copy_from_slice(&left.hash);
    message[32..64].copy_from_slice(&right.hash);
    let mut end = 64;
    for sum in [left.sum.to_bytes(), right.sum.to_bytes()] {
        let sum = sum.as_ref();
        message[end..end + sum.len()].copy_from_slice(sum);
        end += sum.len();
    }
    &message[..end]
}

/// The two hashers of the tree, their tags taken in once.
#[derive(Clone, Debug)]
pub struct SumTree<S = Work> {
    leaf: TaggedHasher,
    node: TaggedHasher,
    summed: PhantomData<S>,
}

impl<S: Sum> Default for SumTree<S> {
    fn default() -> Self {
        Self {
            leaf: TaggedHasher::new(S::LEAF_TAG),
            node: TaggedHasher::new(S::NODE_TAG),
            summed: PhantomData,
        }
    }
}

impl<S: Sum> SumTree<S> {
    /// Makes the leaf of an encoded share record.
    #[must_use]
    pub fn leaf(&self, record: &[u8], sum: S) -> Node<S> {
        Node { hash: self.leaf.hash(&[record, sum.to_bytes().as_ref()]), sum }
    }

    /// Makes the leaves of encoded share records, in their order.
    #[must_use]
    pub fn leaves(&self, records: &[&[u8]], sums: &[S]) -> Vec<Node<S>> {
        let mut leaves = Vec::with_capacity(records.len());
        let mut hashes = [[0; 32]; ABREAST];
        let mut messages: [Vec<u8>; ABREAST] = Default::default();
        for (records, sums) in records.chunks(ABREAST).zip(sums.chunks(ABREAST)) {
            for ((message, record), sum) in messages.iter_mut().zip(records).zip(sums) {
                message.clear();
                message.extend_from_slice(record);
                message.extend_from_slice(sum.to_bytes().as_ref());
            }
            let own: [&[u8]; ABREAST] = messages.each_ref().map(Vec::as_slice);
            self.leaf.hash_abreast(&own[..records.len()], &mut hashes[..records.len()]);
            leaves
                .extend(hashes.iter().zip(sums).map(|(hash, sum)| Node { hash: *hash, sum: *sum }));
        }
        leaves
    }

    /// Joins two nodes; `None` when the sum exceeds 2^128 - 1.
    #[must_use]
    pub fn join(&self, left: &Node<S>, right: &Node<S>) -> Option<Node<S>> {
        let mut message = [0; PAIR_MAX];
        let hash = self.node.hash(&[write_pair(left, right, &mut message)]);
        Some(Node { hash, sum: left.sum.checked_add(right.sum)? })
    }

    /// Joins up to [`ABREAST`] pairs of nodes.
    fn join_abreast(&self, pairs: &[[Node<S>; 2]]) -> Option<[Option<Node<S>>; ABREAST]> {
        let mut messages = [[0; PAIR_MAX]; ABREAST];
        let mut own: [&[u8]; ABREAST] = [&[]; ABREAST];
        for ((own, message), [left, right]) in own.iter_mut().zip(&mut messages).zip(pairs) {
            *own = write_pair(left, right, message);
        }
        let mut hashes = [[0; 32]; ABREAST];
        self.node.hash_abreast(&own[..pairs.len()], &mut hashes[..pairs.len()]);
        let mut joined = [None; ABREAST];
        for ((joined, [left, right]), hash) in joined.iter_mut().zip(pairs).zip(hashes) {
            *joined = Some(Node { hash, sum: left.sum.checked_add(right.sum)? });
        }
        Some(joined)
    }

    /// Reduces leaves to the root; `None` without leaves or when the sum exceeds 2^128 - 1.
    #[must_use]
    pub fn root(&self, mut nodes: Vec<Node<S>>) -> Option<Node<S>> {
        while nodes.len() > 1 {
            let pairs = nodes.len() / 2;
            for first in (0..pairs).step_by(ABREAST) {
                let last = pairs.min(first + ABREAST);
                let joined = self.join_abreast(nodes[2 * first..2 * last].as_chunks().0)?;
                for (node, joined) in nodes[first..last].iter_mut().zip(joined.iter().flatten()) {
                    *node = *joined;
                }
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
    pub fn prove(&self, leaves: &[Node<S>], mut index: usize) -> Option<Vec<Node<S>>> {
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
        leaf: Node<S>,
        index: usize,
        count: usize,
        path: &[Node<S>],
    ) -> Option<Node<S>> {
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

    fn leaves(tree: &SumTree<Earned>, works: &[u8]) -> Vec<Node<Earned>> {
        let leaf = |(index, z): (usize, &u8)| {
            let value = Value((1 << z) / 3);
            tree.leaf(&index.to_le_bytes(), Earned { work: Work(1 << z), value })
        };
        works.iter().enumerate().map(leaf).collect()
    }

    proptest! {
        #[test]
        fn each_leaf_is_proved_and_no_other_place_is(works in prop::collection::vec(0u8..120, 1..70)) {
            let tree = SumTree::default();
            let leaves = leaves(&tree, &works);
            let root = tree.root(leaves.clone()).unwrap();
            prop_assert_eq!(root.sum.work.0, works.iter().map(|z| 1u128 << z).sum::<u128>());
            for (index, leaf) in leaves.iter().enumerate() {
                let mut path = tree.prove(&leaves, index).unwrap();
                let count = leaves.len();
                prop_assert_eq!(tree.root_of_path(*leaf, index, count, &path), Some(root));
                for other in (0..count).filter(|other| *other != index) {
                    prop_assert_ne!(tree.root_of_path(*leaf, other, count, &path), Some(root));
                }
                let Earned { work, value } = leaf.sum;
                let heavier = Earned { work: Work(work.0 + 1), value };
                let dearer = Earned { work, value: Value(value.0 + 1) };
                for sum in [heavier, dearer] {
                    let more = Node { sum, ..*leaf };
                    if count > 1 {
                        prop_assert_ne!(tree.root_of_path(more, index, count, &path), Some(root));
                    }
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
        let half = Node { hash: [0; 32], sum: Work(1 << 127) };
        assert_eq!(tree.root(vec![half, half]), None);
        let dear = Earned { work: Work(1), value: Value(u128::MAX) };
        let valued = SumTree::default();
        assert_eq!(valued.root(vec![Node { hash: [0; 32], sum: dear }; 2]), None);
        assert_eq!(tree.root(Vec::new()), None);
    }
}
