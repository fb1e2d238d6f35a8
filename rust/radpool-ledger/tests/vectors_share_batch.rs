//! The vectors of `spec/03-share-batch.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use std::collections::HashMap;

use case::*;
use radpool_identity::IdentityKey;
use radpool_ledger::{
    Batch, Earned, Link, Node, Owner, SealError, ShareView, Sum, SumTree, TemplateBody, Weight,
    seal, verify_batch,
};
use radpool_units::{Hash256, Work};
use serde_json::Value;

const FILE: &str = "03-share-batch.json";

type Bodies = HashMap<[u8; 32], Vec<u8>>;

fn bodies_by_digest(value: &Value) -> Bodies {
    let entries = value.as_object().unwrap().iter();
    entries
        .map(|(digest, body)| (hex::decode(digest).unwrap().try_into().unwrap(), bytes(body)))
        .collect()
}

/// spec: SB-1, SB-2, SB-3, CV-2
#[test]
fn bodies_are_encoded_in_one_way() {
    for (id, case) in cases(FILE, "bodies") {
        let Some(expected) = case.get("expected") else {
            TemplateBody::decode(&bytes(&case["inputs"]["encoded"])).expect_err(&id);
            continue;
        };
        let body = body(&case["inputs"]["body"]);
        let encoded = bytes(&expected["encoded"]);
        assert_eq!(body.encode().unwrap(), encoded, "{id}");
        assert_eq!(TemplateBody::decode(&encoded), Ok(body), "{id}");
        assert_eq!(TemplateBody::digest_of(&encoded), array(&expected["digest"]), "{id}");
    }
}

/// spec: SB-11, SB-12, SB-13, SB-15
#[test]
fn trees_and_their_paths() {
    check_trees("trees", |node| Earned {
        work: Work(decimal(&node["work"])),
        value: radpool_units::Value(decimal(&node["value"])),
    });
}

/// spec: SB-26
#[test]
fn trees_of_work_alone() {
    check_trees("trees_1", |node| Work(decimal(&node["work"])));
}

/// What a tree's sums become when one of them grows.
trait Heavier: Sum {
    fn heavier(self) -> Self;
}

impl Heavier for Work {
    fn heavier(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Heavier for Earned {
    fn heavier(self) -> Self {
        Self { work: self.work, value: radpool_units::Value(self.value.0 + 1) }
    }
}

fn check_trees<S: Heavier>(group: &str, sum: impl Fn(&Value) -> S) {
    let tree = SumTree::<S>::default();
    let read = |node: &Value| Node { hash: array(&node["hash"]), sum: sum(node) };
    for (id, case) in cases(FILE, group) {
        let expected = &case["expected"];
        let leaves: Vec<_> = list(&case["inputs"]["leaves"])
            .iter()
            .map(|leaf| tree.leaf(&bytes(&leaf["record"]), sum(leaf)))
            .collect();
        for (leaf, hash) in leaves.iter().zip(list(&expected["leaf_hashes"])) {
            assert_eq!(leaf.hash, array(hash), "{id}");
        }
        let root = Node { hash: array(&expected["root"]), sum: sum(expected) };
        assert_eq!(tree.root(leaves.clone()), Some(root), "{id}");
        let count = leaves.len();
        assert_eq!(list(&expected["paths"]).len(), count, "{id}");
        for (index, path) in list(&expected["paths"]).iter().enumerate() {
            let path: Vec<_> = list(path).iter().map(read).collect();
            assert_eq!(tree.prove(&leaves, index).as_ref(), Some(&path), "{id} {index}");
            let leaf = leaves[index];
            assert_eq!(tree.root_of_path(leaf, index, count, &path), Some(root), "{id} {index}");
            check_wrong_paths(&tree, leaf, (index, count), &path, root);
        }
    }
}

fn check_wrong_paths<S: Heavier>(
    tree: &SumTree<S>,
    leaf: Node<S>,
    (index, count): (usize, usize),
    path: &[Node<S>],
    root: Node<S>,
) {
    let longer = [path, &[root]].concat();
    assert_eq!(tree.root_of_path(leaf, index, count, &longer), None);
    if let Some((_, shorter)) = path.split_last() {
        assert_eq!(tree.root_of_path(leaf, index, count, shorter), None);
    }
    for other in (0..count).filter(|other| *other != index) {
        assert_ne!(tree.root_of_path(leaf, other, count, path), Some(root));
    }
    for at in 0..path.len() {
        let mut heavier = path.to_vec();
        heavier[at].sum = heavier[at].sum.heavier();
        assert_ne!(tree.root_of_path(leaf, index, count, &heavier), Some(root));
    }
}

/// What a case of the group "batches" is sealed from.
struct Ingredients {
    key: IdentityKey,
    link: Link,
    weight: Weight,
    bodies: Vec<TemplateBody>,
    owners: Vec<Owner>,
    extranonces: Vec<Vec<u8>>,
    hashes: Vec<Hash256>,
}

impl Ingredients {
    fn read(case: &Value) -> Self {
        let inputs = &case["inputs"];
        let key = IdentityKey::from_secret(&array(&inputs["secret_key"])).unwrap();
        let link = Link {
            sequence: inputs["sequence"].as_u64().unwrap(),
            previous: array(&inputs["previous"]),
            time_ms: inputs["time_ms"].as_u64().unwrap(),
            epoch_min: number(&inputs["epoch_min"]),
        };
        let shares = list(&inputs["shares"]);
        let byte = |name: &str| u8::try_from(number(&inputs["weight"][name])).unwrap();
        Self {
            link,
            weight: Weight::new(byte("mode"), byte("scale"), byte("base")).unwrap(),
            bodies: list(&inputs["bodies"]).iter().map(body).collect(),
            owners: shares.iter().map(|share| owner(share, *key.public())).collect(),
            extranonces: shares.iter().map(|share| bytes(&share["extranonce"])).collect(),
            hashes: list(&case["expected"]["header_hashes"])
                .iter()
                .map(|hash| Hash256(array(hash)))
                .collect(),
            key,
        }
    }

    fn views<'a>(&'a self, case: &'a Value) -> impl Iterator<Item = ShareView<'a>> {
        let commitments: Vec<_> = self.owners.iter().map(|owner| owner.commitment).collect();
        list(&case["inputs"]["shares"]).iter().enumerate().map(move |(index, share)| {
            // The first place of a commitment stands in for the number of its account.
            let owner = &self.owners[index];
            let account = commitments.iter().position(|other| *other == owner.commitment);
            ShareView {
                connection: 1,
                channel: 1,
                account: account.unwrap() as u64,
                owner,
                body: &self.bodies[share["body"].as_u64().unwrap() as usize],
                price: decimal(&share["price"]),
                exponent: exponent(&share["exponent"]),
                version: number(&share["version"]),
                ntime: number(&share["ntime"]),
                nonce: number(&share["nonce"]),
                extranonce: &self.extranonces[index],
                hash: &self.hashes[index],
            }
        })
    }
}

/// spec: SB-4, SB-6, SB-7, SB-16, SB-17, SB-18, CV-7, EA-3
#[test]
fn shares_are_sealed_into_the_bytes_of_the_vectors() {
    for (id, case) in cases(FILE, "batches") {
        let (given, expected) = (Ingredients::read(&case), &case["expected"]);
        let sealed = seal(&given.key, given.link, given.weight, given.views(&case), &[]).unwrap();
        assert_eq!(hex::encode(&sealed.blob), expected["blob"], "{id}");
        assert_eq!(sealed.hash, array(&expected["hash"]), "{id}");
        assert_eq!(sealed.root, array(&expected["root"]), "{id}");
        assert_eq!(sealed.count, number(&expected["count"]), "{id}");
        assert_eq!(sealed.work.0, decimal(&expected["work"]), "{id}");
        assert_eq!(sealed.value.0, decimal(&expected["value"]), "{id}");
        let bodies: Bodies =
            sealed.bodies.iter().map(|body| (body.digest, body.body.clone())).collect();
        assert_eq!(bodies, bodies_by_digest(&expected["bodies"]), "{id}");
        let mut sums: Vec<_> = sealed
            .sums
            .iter()
            .map(|sum| {
                let commitment = given.owners[sum.account as usize].commitment;
                let sums = (sum.count, sum.work.0, sum.value.0);
                (hex::encode(commitment), sum.epoch, sum.rail, sums)
            })
            .collect();
        sums.sort();
        let due = list(&expected["sums"]).iter().map(|sum| {
            let commitment = sum["commitment"].as_str().unwrap().to_owned();
            let rail = rail(&sum["rail"]) as u8;
            let count = sum["count"].as_u64().unwrap();
            let sums = (count, decimal(&sum["work"]), decimal(&sum["value"]));
            (commitment, number(&sum["epoch"]), rail, sums)
        });
        assert_eq!(sums, due.collect::<Vec<_>>(), "{id}");
    }
}

/// spec: SB-14, SB-21, SB-22, SB-23, SB-27
#[test]
fn sealed_batches_are_recomputed_from_their_bytes() {
    for (id, case) in cases(FILE, "batches") {
        let (given, expected) = (Ingredients::read(&case), &case["expected"]);
        let (blob, bodies) = (bytes(&expected["blob"]), bodies_by_digest(&expected["bodies"]));
        let verified = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
        let verified = verified.unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(verified.header_hashes, given.hashes, "{id}");
        let batch = verified.batch;
        assert_eq!(batch.hash, array(&expected["hash"]), "{id}");
        assert_eq!(batch.head.msp_key, array(&expected["msp_key"]), "{id}");
        assert_eq!(batch.head.link, given.link, "{id}");
        assert_eq!(batch.head.weight, Some(given.weight), "{id}");
        assert_eq!(batch.head.work.0, decimal(&expected["work"]), "{id}");
        assert_eq!(batch.head.value.0, decimal(&expected["value"]), "{id}");
        for (share, view) in batch.shares.iter().zip(given.views(&case)) {
            let price = batch.head.templates[usize::from(share.template)].price;
            assert_eq!(price, view.price, "{id}");
            assert_eq!(batch.head.value_of(share), given.weight.value(price, share.exponent));
        }
    }
}

/// spec: SB-26
#[test]
fn batches_of_version_1_are_still_recomputed() {
    for (id, case) in cases(FILE, "batches_1") {
        let expected = &case["expected"];
        let (blob, bodies) = (bytes(&expected["blob"]), bodies_by_digest(&expected["bodies"]));
        let verified = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
        let verified = verified.unwrap_or_else(|error| panic!("{id}: {error}"));
        let hashes: Vec<_> =
            list(&expected["header_hashes"]).iter().map(|hash| Hash256(array(hash))).collect();
        assert_eq!(verified.header_hashes, hashes, "{id}");
        let head = verified.batch.head;
        assert_eq!(head.weight, None, "{id}");
        assert_eq!((head.work.0, head.value.0), (decimal(&expected["work"]), 0), "{id}");
    }
}

/// spec: SB-3, SB-5, SB-7, SB-8, SB-9, SB-10, SB-14, SB-16, SB-20, SB-21, SB-23, SB-24, OT-9, CV-3
#[test]
fn refused_batches_are_refused_for_the_first_fault() {
    for (id, case) in cases(FILE, "refused") {
        let blob = bytes(&case["inputs"]["blob"]);
        let bodies = bodies_by_digest(&case["inputs"]["bodies"]);
        let found = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
        assert_eq!(found.unwrap_err().code(), case["expected_error"], "{id}");
    }
}

/// Flips each bit of records and bodies of a batch: whoever does so cannot make it evidence.
///
/// spec: SB-25
#[test]
fn what_others_can_alter_is_no_evidence() {
    let (_, case) = cases(FILE, "batches").swap_remove(1);
    let (blob, bodies) =
        (bytes(&case["expected"]["blob"]), bodies_by_digest(&case["expected"]["bodies"]));
    let judge = |blob: &[u8], bodies: &Bodies| {
        let verdict = verify_batch(blob, |digest| bodies.get(digest).map(Vec::as_slice));
        verdict.expect_err("an altered batch")
    };
    for at in 0..blob.len() {
        for bit in 0..8 {
            let mut altered = blob.clone();
            altered[at] ^= 1 << bit;
            assert!(!judge(&altered, &bodies).is_evidence(), "byte {at}, bit {bit}");
        }
    }
    for (digest, body) in &bodies {
        for at in 0..body.len() {
            let mut altered = bodies.clone();
            altered.get_mut(digest).unwrap()[at] ^= 1;
            assert!(!judge(&blob, &altered).is_evidence(), "byte {at} of a body");
        }
    }
}

/// spec: SB-10, CV-2
#[test]
fn a_batch_cut_anywhere_is_truncated() {
    for (id, case) in cases(FILE, "batches") {
        let blob = bytes(&case["expected"]["blob"]);
        for len in 0..blob.len() {
            assert_eq!(Batch::decode(&blob[..len]).unwrap_err().code(), "truncated", "{id} {len}");
        }
    }
}

/// spec: SB-19
#[test]
fn weak_and_foreign_shares_are_not_sealed() {
    let (_, case) = cases(FILE, "batches").swap_remove(0);
    let given = Ingredients::read(&case);
    let view = given.views(&case).next().unwrap();
    let weak =
        ShareView { exponent: radpool_units::Exponent::MAX, hash: &Hash256([0xff; 32]), ..view };
    let sealed = seal(&given.key, given.link, given.weight, [view, weak], &[]);
    assert_eq!(sealed, Err(SealError::InsufficientWork(1)));
    let stranger = Owner { msp_key: [7; 32], ..*view.owner };
    let foreign = ShareView { owner: &stranger, ..view };
    let sealed = seal(&given.key, given.link, given.weight, [view, foreign], &[]);
    assert_eq!(sealed, Err(SealError::ForeignOwner(1)));
}
