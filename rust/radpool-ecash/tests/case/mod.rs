//! Reads files of vectors.

use std::{fs, path::PathBuf};

use radpool_ecash::Point;
use serde_json::Value;

/// All cases of a group of a file in `spec/vectors`, by id.
pub(crate) fn cases(file: &str, group: &str) -> Vec<(String, Value)> {
    read(&format!("spec/vectors/{file}"), group)
}

/// All cases of a group of a file, which is named from the root of the tree.
pub(crate) fn read(file: &str, group: &str) -> Vec<(String, Value)> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let mut vectors: Value = serde_json::from_str(&text).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("{file:?} has no {group}") };
    assert!(!cases.is_empty(), "{file:?}: {group} is empty");
    cases.into_iter().map(|case| (case["id"].as_str().unwrap().to_owned(), case)).collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn point(value: &Value) -> Point {
    Point::from_bytes(&bytes(value)).unwrap()
}

/// A number, which JSON may have as text, because it may be larger than 2^53.
pub(crate) fn number<N: TryFrom<u128>>(value: &Value) -> N {
    let number = match value {
        Value::String(text) => text.parse().unwrap(),
        _ => value.as_u64().unwrap().into(),
    };
    N::try_from(number).unwrap_or_else(|_| panic!("{number} does not fit"))
}

/// Public keys by amount, as NUT-01 writes them.
pub(crate) fn amounts(value: &Value) -> Vec<(u64, Point)> {
    let keys = value.as_object().unwrap().iter();
    keys.map(|(amount, key)| (amount.parse().unwrap(), point(key))).collect()
}
