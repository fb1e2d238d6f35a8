//! The vectors of `spec/`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a test may panic outside of its test functions too")]

use std::{collections::HashMap, fs, path::PathBuf};

use radpool_ledger::{
    Batch, BodyError, Claim, Link, MspKey, Owner, OwnerTag, OwnerTagError, Rail, ShareView,
    SumTree, TemplateBody, seal, split_reward, verify_batch,
};
use radpool_units::{Exponent, Hash256, Sats, Work, tagged_hash};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn cases<'a>(vectors: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let cases = vectors[name].as_array().unwrap();
    assert!(!cases.is_empty());
    cases.iter().map(|case| (case["id"].as_str().unwrap(), case))
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn reversed(value: &Value) -> [u8; 32] {
    let mut hash = array(value);
    hash.reverse();
    hash
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn decimal(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn exponent(value: &Value) -> Exponent {
    Exponent::new(number(value)).unwrap()
}

fn owner(case: &Value, msp_key: [u8; 32]) -> Owner {
    Owner {
        msp_key,
        commitment: array(&case["commitment"]),
        epoch: number(&case["epoch"]),
        rail: Rail::try_from(number(&case["rail"]) as u8).unwrap(),
    }
}

/// [CV-3] [CV-4] [CV-5] [CV-6] [CV-7]
#[test]
fn conventions() {
    let vectors = vectors("01-conventions.json");
    for (id, case) in cases(&vectors, "tagged_hashes") {
        let hash = tagged_hash(case["tag"].as_str().unwrap(), &[&bytes(&case["message"])]);
        assert_eq!(hash, array(&case["hash"]), "{id}");
    }
    for (id, case) in cases(&vectors, "ladder") {
        let step = exponent(&case["z"]);
        assert_eq!(step.target().to_be_bytes(), array(&case["target"]), "{id}");
        assert_eq!(step.work().0, decimal(&case["work"]), "{id}");
    }
    for (id, case) in cases(&vectors, "off_ladder") {
        assert!(Exponent::new(number(&case["z"])).is_err(), "{id}");
    }
    for (id, case) in cases(&vectors, "hashes") {
        let hash = Hash256(array(&case["hash_internal"]));
        let zeros = number(&case["leading_zero_bits"]);
        assert_eq!(hash.leading_zero_bits(), zeros, "{id}");
        for z in 0..=120 {
            let step = Exponent::new(z).unwrap();
            assert_eq!(step.is_met_by(&hash), step.target().is_met_by(&hash), "{id} z {z}");
            assert_eq!(step.is_met_by(&hash), z <= zeros, "{id} z {z}");
        }
    }
}

/// [OT-2] [OT-4] [OT-5] [OT-6] [OT-7]
#[test]
fn owner_tags() {
    let vectors = vectors("02-owner-tag.json");
    for (id, case) in cases(&vectors, "commitments") {
        let name = case["name"].as_str().unwrap().as_bytes();
        let commitment = tagged_hash("radpool/account", &[name, &bytes(&case["salt"])]);
        assert_eq!(commitment, array(&case["commitment"]), "{id}");
    }
    for (id, case) in cases(&vectors, "tags") {
        let tag = owner(case, array(&case["msp_key"])).tag(exponent(&case["z"]));
        let script: [u8; 40] = array(&case["script"]);
        assert_eq!(tag.binding, array(&case["binding"]), "{id}");
        assert_eq!(tag.to_script(), script, "{id}");
        assert_eq!(OwnerTag::from_script(&script), Ok(tag), "{id}");
        assert_eq!(tag.to_output()[..9], [0, 0, 0, 0, 0, 0, 0, 0, 40], "{id}");
        for at in 0..6 {
            let mut other = script;
            other[at] ^= 1;
            assert_eq!(OwnerTag::from_script(&other), Err(OwnerTagError::Shape), "{id}");
        }
        for (at, value, error) in [
            (6, 0x20, OwnerTagError::Version(2)),
            (6, 0x13, OwnerTagError::Rail(3)),
            (7, 121, OwnerTagError::Exponent(121)),
        ] {
            let mut other = script;
            other[at] = value;
            assert_eq!(OwnerTag::from_script(&other), Err(error), "{id}");
        }
        assert_eq!(OwnerTag::from_script(&script[..39]), Err(OwnerTagError::Shape), "{id}");
    }
}

fn body_of(case: &Value) -> TemplateBody {
    let path = case["merkle_path"].as_array().unwrap();
    TemplateBody {
        version: number(&case["version"]),
        prev_hash: reversed(&case["prev_hash"]),
        nbits: number(&case["nbits"]),
        height: number(&case["height"]),
        coinbase_prefix: bytes(&case["coinbase_prefix"]),
        coinbase_before_tag: bytes(&case["coinbase_before_tag"]),
        coinbase_after_tag: bytes(&case["coinbase_after_tag"]),
        merkle_path: path.iter().map(array).collect(),
    }
}

/// [SB-1] [SB-2]
#[test]
fn template_bodies() {
    let vectors = vectors("03-share-batch.json");
    for (id, case) in cases(&vectors, "bodies") {
        let (body, encoded) = (body_of(case), bytes(&case["encoded"]));
        assert_eq!(body.encode().unwrap(), encoded, "{id}");
        assert_eq!(TemplateBody::digest_of(&encoded), array(&case["digest"]), "{id}");
        assert_eq!(TemplateBody::decode(&encoded), Ok(body), "{id}");
        for len in 0..encoded.len() {
            let error = TemplateBody::decode(&encoded[..len]).unwrap_err();
            assert_eq!(error, BodyError::Truncated(len), "{id}");
        }
        let longer = [&encoded[..], &[0]].concat();
        assert_eq!(TemplateBody::decode(&longer), Err(BodyError::Trailing(1)), "{id}");
    }
}

struct SealedCase {
    key: MspKey,
    link: Link,
    owners: Vec<Owner>,
    bodies: Vec<TemplateBody>,
    extranonces: Vec<Vec<u8>>,
    hashes: Vec<Hash256>,
}

impl SealedCase {
    fn new(case: &Value) -> Self {
        let key = MspKey::from_secret(&array(&case["secret_key"])).unwrap();
        let shares = case["shares"].as_array().unwrap();
        let link = Link {
            sequence: case["sequence"].as_u64().unwrap(),
            previous: array(&case["previous"]),
            time_ms: case["time_ms"].as_u64().unwrap(),
            epoch_min: number(&case["epoch_min"]),
        };
        Self {
            owners: shares.iter().map(|share| owner(share, *key.public())).collect(),
            bodies: shares
                .iter()
                .map(|share| TemplateBody::decode(&bytes(&share["body"])).unwrap())
                .collect(),
            extranonces: shares.iter().map(|share| bytes(&share["extranonce"])).collect(),
            hashes: shares.iter().map(|share| Hash256(reversed(&share["hash"]))).collect(),
            key,
            link,
        }
    }

    fn views<'a>(&'a self, case: &'a Value) -> impl Iterator<Item = ShareView<'a>> {
        let shares = case["shares"].as_array().unwrap();
        shares.iter().enumerate().map(|(index, share)| ShareView {
            connection: 1,
            channel: 1,
            account: share["account"].as_u64().unwrap(),
            owner: &self.owners[index],
            body: &self.bodies[index],
            exponent: exponent(&share["z"]),
            version: number(&share["version"]),
            ntime: number(&share["ntime"]),
            nonce: number(&share["nonce"]),
            extranonce: &self.extranonces[index],
            hash: &self.hashes[index],
        })
    }
}

/// [SB-3] [SB-6] [SB-7] [SB-8] [SB-9] [SB-10] [SB-12] [SB-14] [SB-15] [EA-1]
#[test]
fn batches_are_sealed_byte_by_byte_and_verified() {
    let vectors = vectors("03-share-batch.json");
    for (id, case) in cases(&vectors, "batches") {
        let parts = SealedCase::new(case);
        let sealed = seal(&parts.key, parts.link, parts.views(case), &[]).unwrap();
        assert_eq!(hex::encode(&sealed.blob), case["blob"].as_str().unwrap(), "{id}");
        assert_eq!(sealed.hash, array(&case["hash"]), "{id}");
        assert_eq!(sealed.root, array(&case["root"]), "{id}");
        assert_eq!(sealed.work.0, decimal(&case["work"]), "{id}");
        let sums: Vec<Value> = sealed
            .sums
            .iter()
            .map(|sum| {
                let work = sum.work.to_string();
                serde_json::json!([sum.account, sum.epoch, sum.rail, sum.count, work])
            })
            .collect();
        assert_eq!(Value::from(sums), case["sums"], "{id}");
        let bodies: HashMap<_, _> =
            sealed.bodies.iter().map(|sealed| (sealed.digest, &sealed.body[..])).collect();
        let verified = verify_batch(&sealed.blob, |digest| bodies.get(digest).copied()).unwrap();
        assert_eq!(verified.header_hashes, parts.hashes, "{id}");
        assert_eq!(verified.batch.head.link, parts.link, "{id}");
        check_proofs(&verified.batch);
    }
}

fn check_proofs(batch: &Batch<'_>) {
    let tree = SumTree::default();
    let leaf = |(share, record): (&radpool_ledger::Share<'_>, &&[u8])| {
        tree.leaf(record, share.exponent.work())
    };
    let leaves: Vec<_> = batch.shares.iter().zip(&batch.records).map(leaf).collect();
    for (index, leaf) in leaves.iter().enumerate() {
        let path = tree.prove(&leaves, index).unwrap();
        let root = tree.root_of_path(*leaf, index, leaves.len(), &path).unwrap();
        assert_eq!((root.hash, root.work), (batch.head.root, batch.head.work));
    }
}

/// [SB-4] [SB-5] [SB-11] [SB-13] [SB-16] [OT-1] [OT-3] [OT-8] [OT-9] [OT-10]
#[test]
fn wrong_batches_are_refused_for_the_right_reason() {
    let vectors = vectors("03-share-batch.json");
    for (id, case) in cases(&vectors, "refused") {
        let bodies: HashMap<[u8; 32], Vec<u8>> = case["bodies"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(digest, body)| (hex::decode(digest).unwrap().try_into().unwrap(), bytes(body)))
            .collect();
        let blob = bytes(&case["blob"]);
        let error =
            verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice)).unwrap_err();
        assert_eq!(error.code(), case["error"].as_str().unwrap(), "{id}: {error}");
    }
}

/// [SB-16]
#[test]
fn every_altered_or_missing_byte_is_found() {
    let vectors = vectors("03-share-batch.json");
    for (id, case) in cases(&vectors, "batches") {
        let blob = bytes(&case["blob"]);
        let parts = SealedCase::new(case);
        let sealed = seal(&parts.key, parts.link, parts.views(case), &[]).unwrap();
        let bodies: HashMap<_, _> =
            sealed.bodies.iter().map(|sealed| (sealed.digest, &sealed.body[..])).collect();
        for at in 0..blob.len() {
            let mut other = blob.clone();
            other[at] ^= 0x10;
            for wrong in [&other[..], &blob[..at]] {
                let result = verify_batch(wrong, |digest| bodies.get(digest).copied());
                assert!(result.is_err(), "{id}: byte {at}");
            }
        }
    }
}

/// [EA-4] [EA-5] [EA-6]
#[test]
fn rewards_are_split_to_the_satoshi() {
    let vectors = vectors("04-epoch-accounting.json");
    for (id, case) in cases(&vectors, "splits") {
        let claims: Vec<Claim> = case["claims"]
            .as_array()
            .unwrap()
            .iter()
            .map(|claim| Claim {
                commitment: array(&claim["commitment"]),
                rail: Rail::try_from(number(&claim["rail"]) as u8).unwrap(),
                work: Work(decimal(&claim["work"])),
            })
            .collect();
        let sats = Sats(case["sats"].as_u64().unwrap());
        let parts = split_reward(sats, &claims, &reversed(&case["block"])).unwrap();
        let parts = parts.map(|parts| parts.iter().map(|part| part.0).collect::<Vec<_>>());
        assert_eq!(Value::from(parts), case["parts"], "{id}");
    }
}
