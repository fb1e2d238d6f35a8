//! The outputs of page 17, `17-federation-coinbase.json`: a threshold key signs under the output
//! keys.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use frost_secp256k1_tr::{
    VerifyingKey,
    keys::{PublicKeyPackage, Tweak},
};
use radpool_identity::verify;
use radpool_units::tagged_hash;
use serde_json::Value;

fn cases(group: &str) -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../spec/vectors")
        .join("17-federation-coinbase.json");
    let mut vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("no {group}") };
    assert!(!cases.is_empty());
    cases
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap().try_into().unwrap()
}

/// The shortest push of a number above 0.
fn pushed(number: usize) -> Vec<u8> {
    if let 1..=16 = number {
        return vec![u8::try_from(number).unwrap() + 0x50];
    }
    let mut data = number.to_le_bytes().to_vec();
    while data.last() == Some(&0) {
        data.pop();
    }
    if data.last().unwrap() & 0x80 != 0 {
        data.push(0);
    }
    data.insert(0, u8::try_from(data.len()).unwrap());
    data
}

fn script(blocks: usize, threshold: usize, keys: &Value) -> Vec<u8> {
    let mut script = Vec::new();
    for (place, key) in keys.as_array().unwrap().iter().enumerate() {
        script.push(32);
        script.extend(bytes(key));
        script.push(if place == 0 { 0xac } else { 0xba });
    }
    [script, pushed(threshold), vec![0x9d], pushed(blocks), vec![0xb2]].concat()
}

fn leaf(script: &[u8]) -> [u8; 32] {
    let length = u16::try_from(script.len()).unwrap();
    let length = match u8::try_from(length) {
        Ok(short) if short < 0xfd => vec![short],
        _ => [vec![0xfd], length.to_le_bytes().to_vec()].concat(),
    };
    tagged_hash("TapLeaf", &[&[0xc0], &length, script])
}

fn output_key(internal: &[u8], root: &[u8]) -> [u8; 32] {
    let key = VerifyingKey::deserialize(&[&[2], internal].concat()).unwrap();
    let tweaked = PublicKeyPackage::new(BTreeMap::new(), key, None).tweak(Some(root));
    tweaked.verifying_key().serialize().unwrap()[1..].try_into().unwrap()
}

fn root_of(inputs: &Value) -> (Vec<Vec<u8>>, [u8; 32]) {
    let blocks = &inputs["recovery_blocks"];
    let threshold = number(&inputs["faulty_max"]) + 1;
    let mut scripts = vec![script(number(&blocks[0]), threshold, &inputs["members"])];
    let recovery = &inputs["recovery"];
    if !recovery.is_null() {
        let threshold = number(&recovery["threshold"]);
        scripts.push(script(number(&blocks[1]), threshold, &recovery["keys"]));
    }
    let mut leaves: Vec<_> = scripts.iter().map(|script| leaf(script)).collect();
    leaves.sort_unstable();
    let root = match leaves.as_slice() {
        [only] => *only,
        [low, high] => tagged_hash("TapBranch", &[low, high]),
        _ => panic!("one or two"),
    };
    (scripts, root)
}

/// spec: SO-1, SO-2, SO-3
#[test]
fn outputs_commit_to_a_key_and_scripts() {
    for case in cases("outputs") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let (scripts, root) = root_of(inputs);
        let wanted: Vec<_> = expected["scripts"].as_array().unwrap().iter().map(bytes).collect();
        assert_eq!(scripts, wanted, "{}", case["id"]);
        assert_eq!(root.to_vec(), bytes(&expected["merkle_root"]), "{}", case["id"]);
        let key = output_key(&bytes(&inputs["key"]), &root);
        assert_eq!(key.to_vec(), bytes(&expected["output_key"]), "{}", case["id"]);
    }
}

/// spec: SO-9
#[test]
fn payouts_are_signed_under_output_keys() {
    for case in cases("payouts") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let (_, root) = root_of(&inputs["output"]);
        let key = output_key(&bytes(&inputs["output"]["key"]), &root);
        let sighash: [u8; 32] = bytes(&expected["sighash"]).try_into().unwrap();
        let signature: [u8; 64] = bytes(&inputs["signature"]).try_into().unwrap();
        verify(&key, &sighash, &signature).unwrap();
    }
}
