//! The vectors of `spec/06-work-tokens.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ecash::{
    AmountKey, Claim, ClaimError, ClaimSlot, ClaimedShare, Dleq, KeysetId, KeysetKeys, MintSeed,
    Point, Scalar, SlotState, Token, blind, denominate, dleq_challenge, hash_to_curve,
    largest_exponent, unblind, verify_proof_dleq,
};
use radpool_units::{Exponent, Hash256};
use serde_json::Value;
use zeroize::Zeroizing;

const FILE: &str = "06-work-tokens.json";

fn keys(inputs: &Value) -> KeysetKeys {
    let seed = MintSeed::new(Zeroizing::new(array(&inputs["seed"])));
    let z0: u8 = number(&inputs["z0"]);
    let count = match text(&inputs["unit"]) {
        "sat" => 64,
        _ => largest_exponent(z0) - z0 + 1,
    };
    KeysetKeys::derive(&seed, text(&inputs["unit"]), number(&inputs["number"]), 0, count).unwrap()
}

/// spec: WT-3, WT-4, WT-5, WT-6
#[test]
fn keysets_come_of_the_seed() {
    for (id, case) in cases(FILE, "keysets") {
        let (keys, expected) = (keys(&case["inputs"]), &case["expected"]);
        assert_eq!(keys.id().as_bytes(), &array(&expected["id"]), "{id}");
        assert_eq!(keys.id().as_bytes()[..8], array::<8>(&expected["keyset_short"]), "{id}");
        let first =
            AmountKey::new(Scalar::from_be_bytes(&bytes(&expected["first_secret"])).unwrap());
        assert_eq!(keys.keys()[0].1.public(), first.public(), "{id}");
        assert_eq!(keys.keys().len(), list(&expected["keys"]).len(), "{id}");
        for ((amount, key), expected) in keys.keys().iter().zip(list(&expected["keys"])) {
            assert_eq!(*amount, number::<u64>(&expected["amount"]), "{id}");
            assert_eq!(*key.public(), point(&expected["A"]), "{id}");
        }
    }
}

/// spec: WT-5
#[test]
fn ids_cover_keys_and_terms() {
    for (id, case) in cases(FILE, "keyset_ids") {
        let inputs = &case["inputs"];
        let keys = list(&inputs["keys"]).iter();
        let keys: Vec<_> = keys.map(|key| (number(&key["amount"]), point(&key["A"]))).collect();
        let fee = number(&inputs["input_fee_ppk"]);
        let expiry = inputs["final_expiry"].as_u64();
        let computed = KeysetId::of(&keys, text(&inputs["unit"]), fee, expiry).unwrap();
        assert_eq!(computed.as_bytes(), &array(&case["expected"]["id"]), "{id}");
    }
}

/// spec: WT-3
#[test]
fn denominations_end_at_63_steps_or_at_the_ladder() {
    for (id, case) in cases(FILE, "denominations") {
        let z0 = number(&case["inputs"]["z0"]);
        assert_eq!(z0, number::<u8>(&case["expected"]["first"]), "{id}");
        assert_eq!(largest_exponent(z0), number::<u8>(&case["expected"]["last"]), "{id}");
    }
}

/// spec: WT-2
#[test]
fn messages_are_hashed_to_the_curve() {
    for (id, case) in cases(FILE, "curve_points") {
        let found = hash_to_curve(&bytes(&case["inputs"]["message"]));
        assert_eq!(found, point(&case["expected"]["Y"]), "{id}");
    }
}

/// spec: WT-7, WT-8, WT-9
#[test]
fn tokens_are_blinded_signed_unblinded_and_verified() {
    for (id, case) in cases(FILE, "tokens") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let keys = keys(inputs);
        let (z, z0): (u8, u8) = (number(&inputs["z"]), number(&inputs["z0"]));
        let key = keys.key(1 << (z - z0)).unwrap();
        let secret = text(&inputs["secret"]).as_bytes();
        let factor = Scalar::from_be_bytes(&bytes(&inputs["r"])).unwrap();
        assert_eq!(hash_to_curve(secret), point(&expected["Y"]), "{id}");
        let blinded = blind(secret, &factor).unwrap();
        assert_eq!(blinded, point(&expected["B_"]), "{id}");
        assert_eq!(*key.public(), point(&expected["A"]), "{id}");
        let signed = key.sign(&blinded);
        assert_eq!(signed.point, array(&expected["C_"]), "{id}");
        assert_eq!(
            signed.dleq,
            Dleq { e: array(&expected["e"]), s: array(&expected["s"]) },
            "{id}"
        );
        let signature = Point::from_bytes(&signed.point).unwrap();
        assert!(signed.dleq.proves(key.public(), &blinded, &signature), "{id}");
        let unblinded = unblind(&signature, &factor, key.public()).unwrap();
        assert_eq!(unblinded, point(&expected["C"]), "{id}");
        assert!(key.verify(secret, &unblinded), "{id}");
        assert!(!key.verify(b"other", &unblinded), "{id}");
        assert!(!key.verify(secret, &signature), "{id}");
    }
}

/// spec: WT-8
#[test]
fn challenges_hash_four_points() {
    for (id, case) in cases(FILE, "challenges") {
        let points: Vec<_> = list(&case["inputs"]["points"]).iter().map(point).collect();
        let [r1, r2, public, signature] = points[..] else { panic!("{id}") };
        let challenge = dleq_challenge(&r1, &r2, &public, &signature);
        assert_eq!(challenge, array(&case["expected"]["e"]), "{id}");
    }
}

fn proves(inputs: &Value) -> Option<bool> {
    let [public, blinded, signature] =
        ["A", "B_", "C_"].map(|name| Point::from_bytes(&bytes(&inputs[name])).ok());
    let e = bytes(&inputs["e"]).try_into().ok()?;
    let s = bytes(&inputs["s"]).try_into().ok()?;
    Some(Dleq { e, s }.proves(&public?, &blinded?, &signature?))
}

/// attack: A7. A signature by any other key than the announced one has no proof.
/// spec: WT-10
#[test]
fn a_proof_that_is_wrong_in_any_way_proves_nothing() {
    for (id, case) in cases(FILE, "proofs") {
        let is_valid = case["expected"]["valid"] == true;
        assert_eq!(proves(&case["inputs"]) == Some(true), is_valid, "{id}");
    }
}

/// spec: WT-10
#[test]
fn receivers_verify_with_the_blinding_factor() {
    for (id, case) in cases(FILE, "carol_proofs") {
        let inputs = &case["inputs"];
        let secret = text(&inputs["secret"]).as_bytes();
        let factor = Scalar::from_be_bytes(&bytes(&inputs["r"])).unwrap();
        let dleq = Dleq { e: array(&inputs["e"]), s: array(&inputs["s"]) };
        let (signature, public) = (point(&inputs["C"]), point(&inputs["A"]));
        let is_valid = verify_proof_dleq(secret, &signature, &factor, &dleq, &public);
        assert_eq!(is_valid, case["expected"]["valid"] == true, "{id}");
    }
}

/// spec: WT-13
#[test]
fn residues_are_exact() {
    for (id, case) in cases(FILE, "residues") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let (residue, value) = (number(&inputs["residue"]), number(&inputs["value"]));
        let unit_value = number(&inputs["unit_value"]);
        let token = denominate(residue, value, number(&inputs["z0"]), unit_value).unwrap();
        let exponent = (!expected["z"].is_null()).then(|| number(&expected["z"]));
        assert_eq!(token, Token { exponent, residue: number(&expected["residue"]) }, "{id}");
    }
}

/// The vectors number policies; each has an account of its own.
fn short(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// spec: WT-15, WT-16
/// attack: A23
#[test]
fn claims_are_admitted_by_the_rule() {
    for (id, case) in cases(FILE, "claim_rule") {
        let (share, keyset) = (&case["inputs"]["share"], &case["inputs"]["keyset"]);
        let slot = ClaimSlot {
            keyset_short: short(number(&keyset["number"])),
            number: number(&keyset["number"]),
            account: number(&keyset["policy"]),
            epoch: number(&keyset["epoch"]),
            height: (!keyset["height"].is_null()).then(|| number(&keyset["height"])),
            unit_exponent: Exponent::new(32).unwrap(),
            unit_value: 0,
            state: match text(&keyset["state"]) {
                "open" => SlotState::Open,
                "closed" => SlotState::Closed,
                "frozen" | "closed-after-grace" => SlotState::Stale,
                other => panic!("{id}: {other}"),
            },
        };
        let claim =
            Claim { keyset_short: short(number(&share["names"])), blinded: hash_to_curve(b"") };
        let share = ClaimedShare {
            index: 0,
            connection: 1,
            channel: 2,
            sequence: 3,
            account: number(&share["policy"]),
            epoch: number(&share["epoch"]),
            height: number(&share["height"]),
            exponent: Exponent::new(40).unwrap(),
            value: None,
            claimant: [2; 33],
            hash: Hash256::default(),
            by_message: true,
            claim: Ok(claim),
        };
        let mut batch = radpool_ecash::ClaimBatch::read([share], &[slot]).unwrap();
        let outcome: Result<u64, ClaimError> = match batch.statuses()[..] {
            [] => Ok(batch.rows(&[], std::collections::HashMap::new())[0].number),
            [(0, error)] => Err(error),
            _ => panic!("{id}: one share has one outcome"),
        };
        let outcome = outcome.map_err(|error| error.to_string());
        let expected = match case["expected_error"].as_str() {
            Some(code) => Err(code.to_owned()),
            None => Ok(number(&case["expected"]["number"])),
        };
        assert_eq!(outcome, expected, "{id}");
    }
}
