//! The hashes and signatures of the pages 13 and 14, `13-broadcast.json` and
//! `14-epoch-agreement.json`: what members sign is verified here in batches.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::PathBuf};

use radpool_identity::{IdentityKey, Signed, invalid_signatures, verify};
use radpool_units::TaggedHasher;
use serde_json::Value;

fn cases(file: &str, group: &str) -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(file);
    let mut vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("no {group}") };
    assert!(!cases.is_empty());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The low bytes of a number, least significant first.
fn le(value: &Value, width: usize) -> Vec<u8> {
    value.as_u64().unwrap().to_le_bytes()[..width].to_vec()
}

fn members_of(committee: &Value) -> Vec<[u8; 32]> {
    committee["members"].as_array().unwrap().iter().map(array).collect()
}

fn committee_id(committee: &Value) -> [u8; 32] {
    let members = members_of(committee);
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    TaggedHasher::new("radpool/federation-committee").hash(&[
        &bytes(&committee["chain"]),
        &le(&committee["term"], 4),
        &le(&committee["height_first"], 4),
        &le(&committee["interval"], 2),
        &count,
        members.as_flattened(),
    ])
}

/// spec: FB-1
#[test]
fn committees_have_ids() {
    for case in cases("13-broadcast.json", "committees") {
        // What is no committee has no id; who may make one is for Python to say.
        let Some(wanted) = case.get("expected") else { continue };
        let wanted = array::<32>(&wanted["id"]);
        assert_eq!(committee_id(&case["inputs"]), wanted, "{}", case["id"]);
    }
}

/// spec: FB-3
#[test]
fn records_are_signed() {
    for case in cases("13-broadcast.json", "members") {
        let record = bytes(&case["expected"]["record"]);
        let (body, signature) = record.split_last_chunk::<64>().unwrap();
        let hash = TaggedHasher::new("radpool/federation-member").hash(&[body]);
        assert_eq!(hash, array::<32>(&case["expected"]["signed_hash"]), "{}", case["id"]);
        let key = IdentityKey::from_secret(&array(&case["inputs"]["secret"])).unwrap();
        assert_eq!(body[..32], *key.public());
        assert_eq!(key.sign(&hash), *signature, "{}", case["id"]);
        verify(key.public(), &hash, signature).unwrap();
    }
}

/// spec: FB-4, FB-5
#[test]
fn entries_are_echoed() {
    let mut echoes = Vec::new();
    for case in cases("13-broadcast.json", "entries") {
        let expected = &case["expected"];
        let digest =
            TaggedHasher::new("radpool/federation-entry").hash(&[&bytes(&expected["header"])]);
        assert_eq!(digest, array::<32>(&expected["digest"]), "{}", case["id"]);
        let echo = bytes(&expected["echo"]);
        assert!(echo.ends_with(&digest), "{}", case["id"]);
        let hash = TaggedHasher::new("radpool/federation-echo").hash(&[&echo]);
        assert_eq!(hash, array::<32>(&expected["echo_digest"]), "{}", case["id"]);
        let author = usize::try_from(case["inputs"]["echo_by"].as_u64().unwrap()).unwrap();
        let public = members_of(&case["inputs"]["committee"])[author];
        echoes.push(Signed { public, hash, signature: array(&expected["echo_signature"]) });
    }
    assert!(invalid_signatures(&echoes).is_empty());
    echoes[1].hash = [0; 32];
    assert_eq!(invalid_signatures(&echoes), [1]);
}

/// spec: FA-7, FA-15
#[test]
fn statements_are_signed() {
    let mut signed = Vec::new();
    for case in cases("14-epoch-agreement.json", "statements") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let statement = bytes(&inputs["statement"]);
        let (kind, statement) = statement.split_first().unwrap();
        let tag = match kind {
            3 => "radpool/federation-proposal",
            4 => "radpool/federation-vote",
            5 => "radpool/federation-state",
            other => panic!("a statement of kind {other}"),
        };
        let hash = TaggedHasher::new(tag).hash(&[statement]);
        assert_eq!(hash, array::<32>(&expected["digest"]), "{}", case["id"]);
        assert!(statement.starts_with(&committee_id(&inputs["committee"])), "{}", case["id"]);
        let author = usize::try_from(inputs["by"].as_u64().unwrap()).unwrap();
        let public = members_of(&inputs["committee"])[author];
        signed.push(Signed { public, hash, signature: array(&expected["signature"]) });
    }
    assert!(invalid_signatures(&signed).is_empty());
}
