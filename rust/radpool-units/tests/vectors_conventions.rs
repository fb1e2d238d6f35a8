//! The vectors of `spec/01-conventions.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::PathBuf};

use radpool_units::{
    CompactTargetError, Exponent, Hash256, Target, Work, merkle_root_from_path, sha256d,
    tagged_hash,
};
use serde_json::Value;

/// Runs `check` on the inputs of each case of a group, and on what is expected, null for an error.
fn each(group: &str, check: impl Fn(&str, &Value, &Value)) {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/01-conventions.json");
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let cases = vectors[group].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check(case["id"].as_str().unwrap(), &case["inputs"], &case["expected"]);
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// spec: CV-5, CV-6
#[test]
fn tagged_hashes_are_those_of_the_vectors() {
    each("tagged_hashes", |id, inputs, expected| {
        let message = bytes(&inputs["message"]);
        let hash = tagged_hash(inputs["tag"].as_str().unwrap(), &[&message]);
        assert_eq!(hash, array(&expected["hash"]), "{id}");
    });
}

/// spec: CV-4
#[test]
fn double_hashes_are_shown_reversed() {
    each("double_hashes", |id, inputs, expected| {
        let hash = sha256d(&bytes(&inputs["message"]));
        assert_eq!(hash.as_bytes(), &array(&expected["internal"]), "{id}");
        assert_eq!(hash.to_string(), expected["displayed"].as_str().unwrap(), "{id}");
    });
}

/// spec: CV-1, CV-8, CV-10
#[test]
fn steps_have_their_target_and_work() {
    each("ladder", |id, inputs, expected| {
        let exponent = Exponent::new(number(&inputs["exponent"]));
        if expected.is_null() {
            exponent.expect_err(id);
            return;
        }
        let exponent = exponent.unwrap();
        assert_eq!(exponent.target().to_be_bytes(), array(&expected["target"]), "{id}");
        let work: u128 = expected["work"].as_str().unwrap().parse().unwrap();
        assert_eq!(exponent.work(), Work(work), "{id}");
        let mut digits = work.to_be_bytes();
        digits.reverse();
        assert_eq!(exponent.work().to_le_bytes(), digits, "{id}");
    });
}

/// spec: CV-9, CV-10
#[test]
fn a_hash_meets_a_target_up_to_the_target_itself() {
    each("proofs", |id, inputs, expected| {
        let hash = Hash256(array(&inputs["hash"]));
        let exponent = Exponent::new(number(&inputs["exponent"])).unwrap();
        assert_eq!(hash.leading_zero_bits(), number(&expected["zeros"]), "{id}");
        assert_eq!(exponent.is_met_by(&hash), expected["is_share"], "{id}");
        assert_eq!(exponent.target().is_met_by(&hash), expected["is_share"], "{id}");
        assert_eq!(exponent.work(), Work(1 << exponent.get()), "{id}: whatever the hash");
    });
}

/// spec: CV-11
#[test]
fn compact_targets_expand_or_are_refused() {
    each("compact_targets", |id, inputs, expected| {
        let bits = number(&inputs["nbits"]);
        let target = Target::from_compact(bits);
        if expected.is_null() {
            assert_eq!(target, Err(CompactTargetError(bits)), "{id}");
            return;
        }
        let target = target.unwrap();
        assert_eq!(target.to_be_bytes(), array(&expected["target"]), "{id}");
        let easiest = expected["exponent"].as_u64();
        let found = target.exponent_at_most().map(|exponent| exponent.get().into());
        assert_eq!(found, easiest, "{id}");
    });
}

/// spec: CV-12
#[test]
fn merkle_paths_lead_to_their_root() {
    each("merkle_roots", |id, inputs, expected| {
        let path: Vec<_> = inputs["path"].as_array().unwrap().iter().map(array).collect();
        let root = merkle_root_from_path(Hash256(array(&inputs["txid"])), &path);
        assert_eq!(root.as_bytes(), &array(&expected["root"]), "{id}");
    });
}

/// spec: CV-3
#[test]
fn sums_of_work_end_below_128_bits() {
    let all = Work(u128::MAX);
    assert_eq!(all.checked_add(Work(0)), Some(all));
    assert_eq!(all.checked_add(Work(1)), None);
}
