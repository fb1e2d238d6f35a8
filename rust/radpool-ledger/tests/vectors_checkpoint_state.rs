//! The vectors of `spec/15-checkpoint-state.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ledger::{Sum, SumTree};
use radpool_units::tagged_hash;

const FILE: &str = "15-checkpoint-state.json";
const SUMS_LEN: usize = 32;

/// Work and value of a row of the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Earned(u128, u128);

impl Sum for Earned {
    const LEAF_TAG: &'static str = "radpool/federation-leaf";
    const NODE_TAG: &'static str = "radpool/federation-node";

    fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self(self.0.checked_add(other.0)?, self.1.checked_add(other.1)?))
    }

    fn to_bytes(self) -> impl AsRef<[u8]> {
        [self.0.to_le_bytes(), self.1.to_le_bytes()].concat()
    }
}

/// spec: CS-1
#[test]
fn rules_have_digests() {
    for (id, case) in cases(FILE, "rules") {
        let digest =
            tagged_hash("radpool/federation-rules", &[&bytes(&case["expected"]["encoded"])]);
        assert_eq!(digest, array(&case["expected"]["digest"]), "{id}");
    }
}

/// spec: CS-16
#[test]
fn rows_have_the_tree_of_batches() {
    let tree = SumTree::<Earned>::default();
    for (id, case) in cases(FILE, "rows") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let rows = list(&inputs["rows"]).iter().zip(list(&expected["encoded"]));
        let leaves = rows.map(|(row, encoded)| {
            let (encoded, earned) = (bytes(encoded), Earned(decimal(&row[5]), decimal(&row[6])));
            let (place, sums) = encoded.split_at(encoded.len() - SUMS_LEN);
            assert_eq!(sums, earned.to_bytes().as_ref(), "{id}");
            tree.leaf(place, earned)
        });
        let (hash, sum) = tree
            .root(leaves.collect())
            .map_or(([0; 32], Earned(0, 0)), |root| (root.hash, root.sum));
        assert_eq!(hash, array(&expected["root"]), "{id}");
        assert_eq!(sum, Earned(decimal(&expected["work"]), decimal(&expected["value"])), "{id}");
    }
}

/// spec: CS-16
#[test]
fn books_without_rows_have_a_root() {
    for (id, case) in cases(FILE, "books") {
        let books = bytes(&case["expected"]["encoded"]);
        let (head, count) = books.split_last_chunk::<4>().unwrap();
        assert_eq!(count, &[0; 4], "{id}");
        let head = tagged_hash("radpool/federation-head", &[head]);
        let root = tagged_hash("radpool/federation-books", &[&head, count, &[0; 64]]);
        assert_eq!(root, array(&case["expected"]["root"]), "{id}");
    }
}

/// spec: CS-3
#[test]
fn payloads_have_their_lengths() {
    for (id, case) in cases(FILE, "said") {
        if let Some(expected) = case.get("expected") {
            let length = if case["inputs"]["kind"] == 14 { 65 } else { 110 };
            assert_eq!(bytes(&expected["payload"]).len(), length, "{id}");
        }
    }
}

/// spec: CS-25
#[test]
fn parts_and_fee_are_what_a_block_pays() {
    for (id, case) in cases(FILE, "payouts") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let parts = list(&expected["parts"]);
        let paid: u64 = parts.iter().map(|part| part[1].as_u64().unwrap()).sum();
        let fee = expected["fee_sats"].as_u64().unwrap();
        if parts.is_empty() {
            assert_eq!(fee, 0, "{id}");
            continue;
        }
        assert_eq!(paid + fee, inputs["value"].as_u64().unwrap(), "{id}");
        let outputs: u64 = list(&inputs["stakes"])
            .iter()
            .filter(|stake| parts.iter().any(|part| part[0] == stake[0]))
            .map(|stake| 9 + bytes(&stake[2]).len() as u64)
            .sum();
        let weight = 4 * (51 + outputs) + 68;
        assert_eq!(fee, weight.div_ceil(4) * inputs["fee"].as_u64().unwrap(), "{id}");
        assert!(parts.iter().all(|part| part[1].as_u64().unwrap() >= 546), "{id}");
    }
}
