//! The vectors of `spec/04-epoch-accounting.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use std::collections::{BTreeMap, BTreeSet};

use case::*;
use radpool_identity::verify;
use radpool_ledger::{Claim, Rail, TemplateBody, Weight, WeightMode, split_reward, verify_batch};
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
        assert!(verify(&key, &digest, &array(&parsed["signature"])).is_ok(), "{id}");
        // Maps are sorted by key, and compact is how they are written.
        assert_eq!(serde_json::to_vec(&parsed["claims"]).unwrap(), claims, "{id}");
        assert_eq!(serde_json::to_vec(&parsed).unwrap(), document, "{id}");
    }
}

type Claimant = ([u8; 32], u8);

/// A share as payments see it.
struct Counted {
    epoch: u32,
    claimant: Claimant,
    sequence: u64,
    rule: Option<Weight>,
    template: [u8; 32],
    slice: (u64, [u8; 32]),
    work: u128,
    value: u128,
}

/// spec: EA-3, EA-8, EA-12, EA-18, EA-25, EA-27, EA-29, SB-18
#[test]
fn exports_are_recomputed_from_their_batches() {
    for (id, case) in cases(FILE, "exports") {
        let files = &case["inputs"]["files"];
        let claims: Value = serde_json::from_slice(&bytes(&case["inputs"]["claims"])).unwrap();
        let shares = read_shares(&id, files, &claims);
        for row in list(&claims["sums"]) {
            let place = (array(&row["commitment"]), rail(&row["rail"]) as u8);
            let own = shares
                .iter()
                .filter(|share| share.epoch == number(&row["epoch"]) && share.claimant == place);
            let sum = own.fold((0_u64, 0_u128, 0_u128), |sum, share| {
                (sum.0 + 1, sum.1 + share.work, sum.2 + share.value)
            });
            let due =
                (row["count"].as_u64().unwrap(), decimal(&row["work"]), decimal(&row["value"]));
            assert_eq!(sum, due, "{id}");
        }
        for payment in list(&claims["settlements"]) {
            if payment["reverses"].is_null() {
                check_payment(&id, &claims, payment, &shares);
            }
        }
    }
}

fn read_shares(id: &str, files: &Value, claims: &Value) -> Vec<Counted> {
    let bodies: BTreeMap<[u8; 32], Vec<u8>> = list(&claims["templates"])
        .iter()
        .map(|row| {
            let digest: [u8; 32] = array(&row["digest"]);
            let body = bytes(&files[format!("templates/{}.bin", hex::encode(digest))]);
            assert_eq!(TemplateBody::digest_of(&body), digest, "{id}");
            (digest, body)
        })
        .collect();
    let mut shares = Vec::new();
    let mut previous = None;
    for row in list(&claims["batches"]) {
        let sequence = row["sequence"].as_u64().unwrap();
        let blob = bytes(&files[format!("batches/{sequence:010}.bin")]);
        let batch = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice));
        let batch = batch.unwrap_or_else(|error| panic!("{id}: {error}")).batch;
        assert_eq!(batch.hash, array(&row["hash"]), "{id}");
        let head = &batch.head;
        assert_eq!(head.link.sequence, sequence, "{id}");
        let before = if sequence == 0 { Some([0; 32]) } else { previous };
        assert!(before.is_none_or(|hash| hash == head.link.previous), "{id}");
        previous = Some(batch.hash);
        for share in &batch.shares {
            let owner = &head.owners[usize::from(share.owner)];
            let template = head.templates[usize::from(share.template)].digest;
            let body = TemplateBody::decode(&bodies[&template]).unwrap();
            shares.push(Counted {
                epoch: owner.epoch.max(head.link.epoch_min),
                claimant: (owner.commitment, owner.rail as u8),
                sequence,
                rule: head.weight,
                template,
                slice: (head.link.time_ms / 60_000, body.prev_hash),
                work: share.exponent.work().0,
                value: head.value_of(share).unwrap().0,
            });
        }
    }
    shares
}

fn check_payment(id: &str, claims: &Value, payment: &Value, shares: &[Counted]) {
    let is_void = |share: &Counted| {
        list(&claims["voids"]).iter().any(|void| {
            share.template == array(&void["template"])
                && void["settlement"].as_u64() < payment["id"].as_u64()
                && share.epoch >= number(&void["epoch_min"])
        })
    };
    // A void takes nothing from what says by which rule an epoch is paid.
    let within: Vec<_> = shares
        .iter()
        .filter(|share| list(&payment["epochs"]).contains(&Value::from(share.epoch)))
        .filter(|share| {
            i64::try_from(share.sequence).unwrap() <= payment["sequence"].as_i64().unwrap()
        })
        .collect();
    let rules: BTreeSet<_> = within.iter().map(|share| share.rule).collect();
    let counted: Vec<_> = within.into_iter().filter(|share| !is_void(share)).collect();
    let one = if rules.len() == 1 { rules.into_iter().next().unwrap() } else { None };
    let works = || weights(counted.iter().map(|share| (share.claimant, share.work)));
    let amount = payment["value_sats"].as_i64().unwrap() + payment["carry_in"].as_i64().unwrap();
    let amount = u64::try_from(amount).unwrap();
    let block = displayed(&payment["block"]);
    let mut paid = BTreeMap::new();
    match one.map(|rule| rule.mode) {
        Some(WeightMode::Slice) => {
            let height = list(&claims["blocks"])
                .iter()
                .find(|row| row["hash"] == payment["block"])
                .map(|row| number(&row["height"]))
                .unwrap();
            let subsidy = 5_000_000_000_u64 >> (height / 150);
            let value_sats = payment["value_sats"].as_u64().unwrap();
            let fees = value_sats.saturating_sub(subsidy).min(amount);
            split(fees, &slices(&counted), &block, &mut paid);
            split(amount - fees, &works(), &block, &mut paid);
        }
        Some(WeightMode::Value | WeightMode::Difficulty) => {
            let values = weights(counted.iter().map(|share| (share.claimant, share.value)));
            split(amount, &values, &block, &mut paid);
        }
        None => split(amount, &works(), &block, &mut paid),
    }
    let payouts: BTreeMap<Claimant, u64> = list(&payment["payouts"])
        .iter()
        .map(|row| {
            let claimant = (array(&row["commitment"]), rail(&row["rail"]) as u8);
            (claimant, row["sats"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(paid, payouts, "{id}");
}

fn weights(rows: impl Iterator<Item = (Claimant, u128)>) -> BTreeMap<Claimant, u128> {
    let mut sums = BTreeMap::new();
    for (claimant, weight) in rows {
        *sums.entry(claimant).or_default() += weight;
    }
    sums
}

/// The fee weights of page 09, TV-13.
fn slices(shares: &[&Counted]) -> BTreeMap<Claimant, u128> {
    let mut slices: BTreeMap<_, Vec<&Counted>> = BTreeMap::new();
    for share in shares {
        slices.entry(share.slice).or_default().push(share);
    }
    let mut sums = BTreeMap::new();
    for members in slices.values() {
        let unit = members[0].rule.unwrap().base.work().0;
        let works = weights(members.iter().map(|share| (share.claimant, share.work / unit)));
        let values = weights(members.iter().map(|share| (share.claimant, share.value)));
        let (work, value): (u128, u128) = (works.values().sum(), values.values().sum());
        for (claimant, own) in &works {
            *sums.entry(*claimant).or_default() += match value {
                0 => own << 64,
                _ => ((work * values[claimant]) << 64) / value,
            };
        }
    }
    sums
}

fn split(
    sats: u64,
    weights: &BTreeMap<Claimant, u128>,
    block: &[u8; 32],
    paid: &mut BTreeMap<Claimant, u64>,
) {
    let claims: Vec<_> = weights
        .iter()
        .map(|((commitment, paid_by), weight)| Claim {
            commitment: *commitment,
            rail: Rail::try_from(*paid_by).unwrap(),
            weight: *weight,
        })
        .collect();
    let parts = split_reward(Sats(sats), &claims, block).unwrap().unwrap();
    for (claimant, part) in weights.keys().zip(parts).filter(|(_, part)| part.0 > 0) {
        *paid.entry(*claimant).or_default() += part.0;
    }
}
