//! The vectors of `spec/04-epoch-accounting.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use std::collections::BTreeMap;

use case::*;
use radpool_ledger::{Claim, TemplateBody, is_signed_by, split_reward, verify_batch};
use radpool_units::{Sats, tagged_hash};
use serde_json::Value;

const FILE: &str = "04-epoch-accounting.json";

/// Reads a displayed hash.
fn displayed(value: &Value) -> [u8; 32] {
    let mut hash = array(value);
    hash.reverse();
    hash
}

fn claim(row: &Value) -> Claim {
    Claim {
        commitment: array(&row["commitment"]),
        rail: rail(&row["rail"]),
        weight: decimal(&row["weight"]),
    }
}

/// spec: EA-9, EA-10, EA-11, EA-12
#[test]
fn rewards_are_split_by_largest_remainder() {
    for (id, case) in cases(FILE, "splits") {
        let inputs = &case["inputs"];
        let claims: Vec<_> = list(&inputs["claims"]).iter().map(claim).collect();
        let sats = Sats(inputs["sats"].as_u64().unwrap());
        let parts = split_reward(sats, &claims, &displayed(&inputs["block"])).unwrap();
        let due = case["expected"]["parts"]
            .as_array()
            .map(|parts| parts.iter().map(|part| Sats(part.as_u64().unwrap())).collect::<Vec<_>>());
        assert_eq!(parts, due, "{id}");
        if let Some(parts) = parts {
            assert_eq!(parts.iter().map(|part| part.0).sum::<u64>(), sats.0, "{id}");
        }
    }
}

/// spec: EA-20, CV-7
#[test]
fn claims_are_signed_in_their_canonical_form() {
    for (id, case) in cases(FILE, "exports") {
        let inputs = &case["inputs"];
        let claims = bytes(&inputs["claims"]);
        let digest = tagged_hash("radpool/epoch", &[&claims]);
        assert_eq!(digest, array(&inputs["digest"]), "{id}");
        let document = bytes(&inputs["files"]["epoch.json"]);
        let parsed: Value = serde_json::from_slice(&document).unwrap();
        let key = array(&parsed["claims"]["msp_key"]);
        assert!(is_signed_by(&key, &digest, &array(&parsed["signature"])), "{id}");
        // Maps are sorted by key, and compact is how they are written.
        assert_eq!(serde_json::to_vec(&parsed["claims"]).unwrap(), claims, "{id}");
        assert_eq!(serde_json::to_vec(&parsed).unwrap(), document, "{id}");
    }
}

/// spec: EA-3, EA-8, EA-12, EA-18, SB-18
#[test]
fn exports_are_recomputed_from_their_batches() {
    for (id, case) in cases(FILE, "exports") {
        let files = &case["inputs"]["files"];
        let claims: Value = serde_json::from_slice(&bytes(&case["inputs"]["claims"])).unwrap();
        let body = |digest: &[u8; 32]| {
            let body = bytes(&files[format!("templates/{}.bin", hex::encode(digest))]);
            assert_eq!(TemplateBody::digest_of(&body), *digest, "{id}");
            body
        };
        let mut sums: BTreeMap<(u32, [u8; 32], u8), (u64, u128)> = BTreeMap::new();
        let mut previous = None;
        for row in list(&claims["batches"]) {
            let sequence = row["sequence"].as_u64().unwrap();
            let blob = bytes(&files[format!("batches/{sequence:010}.bin")]);
            let digests = list(&claims["templates"]).iter().map(array);
            let bodies: BTreeMap<_, _> = digests.map(|digest| (digest, body(&digest))).collect();
            let batch = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
            let batch = batch.unwrap_or_else(|error| panic!("{id}: {error}")).batch;
            assert_eq!(batch.hash, array(&row["hash"]), "{id}");
            assert_eq!(batch.head.link.sequence, sequence, "{id}");
            let before = if sequence == 0 { Some([0; 32]) } else { previous };
            assert!(before.is_none_or(|hash| hash == batch.head.link.previous), "{id}");
            previous = Some(batch.hash);
            for share in &batch.shares {
                let owner = &batch.head.owners[usize::from(share.owner)];
                let epoch = owner.epoch.max(batch.head.link.epoch_min);
                let sum = sums.entry((epoch, owner.commitment, owner.rail as u8)).or_default();
                *sum = (sum.0 + 1, sum.1 + share.exponent.work().0);
            }
        }
        for row in list(&claims["sums"]) {
            let place =
                (number(&row["epoch"]), array(&row["commitment"]), rail(&row["rail"]) as u8);
            let due = (row["count"].as_u64().unwrap(), decimal(&row["work"]));
            assert_eq!(sums.get(&place), Some(&due), "{id}");
        }
        for payment in list(&claims["settlements"]) {
            if payment["reverses"].is_null() {
                check_payment(&id, &claims, payment);
            }
        }
    }
}

fn check_payment(id: &str, claims: &Value, payment: &Value) {
    let mut owed: BTreeMap<([u8; 32], u32), u128> = BTreeMap::new();
    for row in list(&claims["sums"]) {
        if list(&payment["epochs"]).contains(&row["epoch"]) {
            let owner = (array(&row["commitment"]), number(&row["rail"]));
            *owed.entry(owner).or_default() += decimal(&row["work"]);
        }
    }
    let claims: Vec<_> = owed
        .iter()
        .map(|((commitment, paid_by), work)| Claim {
            commitment: *commitment,
            rail: rail(&Value::from(*paid_by)),
            weight: *work,
        })
        .collect();
    let amount = payment["value_sats"].as_i64().unwrap() + payment["carry_in"].as_i64().unwrap();
    let amount = Sats(amount.try_into().unwrap());
    let parts = split_reward(amount, &claims, &displayed(&payment["block"])).unwrap().unwrap();
    let found: Vec<_> = owed.keys().zip(parts).filter(|(_, part)| part.0 > 0).collect();
    assert_eq!(found.len(), list(&payment["payouts"]).len(), "{id}");
    for ((owner, part), payout) in found.iter().zip(list(&payment["payouts"])) {
        let due = (array(&payout["commitment"]), number(&payout["rail"]));
        assert_eq!(**owner, due, "{id}");
        assert_eq!(part.0, payout["sats"].as_u64().unwrap(), "{id}");
    }
}
