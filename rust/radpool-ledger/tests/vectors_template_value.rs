//! The vectors of `spec/09-template-value.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ledger::{Claim, Weight, split_reward};
use radpool_units::{Sats, Value};
use serde_json::Value as Json;

const FILE: &str = "09-template-value.json";

fn byte(value: &Json) -> u8 {
    u8::try_from(number(value)).unwrap()
}

/// Reads a displayed hash.
fn displayed(value: &Json) -> [u8; 32] {
    let mut hash = array(value);
    hash.reverse();
    hash
}

/// spec: TV-10, SB-27
#[test]
fn shares_are_worth_their_price_times_a_power_of_two() {
    for (id, case) in cases(FILE, "values") {
        let inputs = &case["inputs"];
        let weight = Weight::new(1, byte(&inputs["scale"]), byte(&inputs["base"])).unwrap();
        let value = weight.value(decimal(&inputs["price"]), exponent(&inputs["exponent"]));
        let due = case.get("expected").map(|expected| Value(decimal(&expected["value"])));
        assert_eq!(value, due, "{id}");
    }
}

/// spec: TV-7, TV-10, EA-10
#[test]
fn blocks_are_split_by_values() {
    for (id, case) in cases(FILE, "payments") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let miners = list(&inputs["miners"]).iter().zip(list(&expected["values"]));
        let claims: Vec<_> = miners
            .map(|(miner, value)| Claim {
                commitment: array(&miner["commitment"]),
                rail: rail(&miner["rail"]),
                weight: decimal(value),
            })
            .collect();
        let sats = Sats(inputs["sats"].as_u64().unwrap());
        let parts = split_reward(sats, &claims, &displayed(&inputs["block"])).unwrap().unwrap();
        let parts: Vec<_> = parts.iter().map(|part| part.0).collect();
        let due: Vec<_> =
            list(&expected["parts"]).iter().map(|part| part.as_u64().unwrap()).collect();
        assert_eq!(parts, due, "{id}");
    }
}

/// spec: TV-13
#[test]
fn fees_are_split_by_the_weights_of_slices() {
    for (id, case) in cases(FILE, "slices") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let owners = list(&inputs["owners"]).iter().zip(list(&expected["weights"]));
        let claims: Vec<_> = owners
            .map(|(owner, weight)| Claim {
                commitment: array(&owner["commitment"]),
                rail: rail(&owner["rail"]),
                weight: decimal(weight),
            })
            .collect();
        let sats = Sats(inputs["fees_sats"].as_u64().unwrap());
        let parts = split_reward(sats, &claims, &displayed(&inputs["block"])).unwrap().unwrap();
        let due: Vec<_> =
            list(&expected["parts"]).iter().map(|part| part.as_u64().unwrap()).collect();
        assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), due, "{id}");
    }
}
