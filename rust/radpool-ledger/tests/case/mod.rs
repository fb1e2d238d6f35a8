//! Reads the files in `spec/vectors`.

use std::{fs, path::PathBuf};

use radpool_ledger::{Owner, Rail, TemplateBody};
use radpool_units::Exponent;
use serde_json::Value;

/// All cases of a group of a file, by id.
pub(crate) fn cases(file: &str, group: &str) -> Vec<(String, Value)> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(file);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let mut vectors: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("{file:?} has no {group}") };
    assert!(!cases.is_empty(), "{file:?}: {group} is empty");
    cases.into_iter().map(|case| (case["id"].as_str().unwrap().to_owned(), case)).collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// A number that JSON has as text, because it may be larger than 2^53.
pub(crate) fn decimal(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

pub(crate) fn rail(value: &Value) -> Rail {
    Rail::try_from(u8::try_from(number(value)).unwrap()).unwrap()
}

pub(crate) fn exponent(value: &Value) -> Exponent {
    Exponent::new(number(value)).unwrap()
}

pub(crate) fn owner(case: &Value, msp_key: [u8; 32]) -> Owner {
    Owner {
        msp_key,
        commitment: array(&case["commitment"]),
        epoch: number(&case["epoch"]),
        rail: rail(&case["rail"]),
    }
}

pub(crate) fn body(case: &Value) -> TemplateBody {
    TemplateBody {
        version: number(&case["version"]),
        prev_hash: array(&case["prev_hash"]),
        nbits: number(&case["nbits"]),
        height: number(&case["height"]),
        coinbase_prefix: bytes(&case["coinbase_prefix"]),
        coinbase_before_tag: bytes(&case["coinbase_before_tag"]),
        coinbase_after_tag: bytes(&case["coinbase_after_tag"]),
        merkle_path: list(&case["merkle_path"]).iter().map(array).collect(),
    }
}
