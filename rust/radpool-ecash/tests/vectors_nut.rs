//! The vectors of the NUTs, which Python reads too: `tests/vectors/nuts`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ecash::{
    AmountKey, Dleq, KeysetId, KeysetIdError, Scalar, WalletSeed, blind, dleq_challenge,
    hash_to_curve, verify_proof_dleq,
};
use serde_json::Value;
use zeroize::Zeroizing;

const NUT_00: &str = "tests/vectors/nuts/nut-00.json";
const NUT_02: &str = "tests/vectors/nuts/nut-02.json";
const NUT_12: &str = "tests/vectors/nuts/nut-12.json";
const NUT_13: &str = "tests/vectors/nuts/nut-13.json";

fn scalar(value: &Value) -> Scalar {
    Scalar::from_be_bytes(&bytes(value)).unwrap()
}

fn dleq(case: &Value) -> Dleq {
    Dleq { e: array(&case["e"]), s: array(&case["s"]) }
}

#[test]
fn messages_are_hashed_to_the_curve() {
    for (id, case) in read(NUT_00, "hash_to_curve") {
        let message = bytes(&case["inputs"]["message"]);
        assert_eq!(hash_to_curve(&message), point(&case["expected"]["Y"]), "{id}");
    }
}

#[test]
fn messages_are_blinded() {
    for (id, case) in read(NUT_00, "blinded_messages") {
        let inputs = &case["inputs"];
        let blinded = blind(&bytes(&inputs["x"]), &scalar(&inputs["r"]));
        assert_eq!(blinded, Some(point(&case["expected"]["B_"])), "{id}");
    }
}

#[test]
fn blinded_messages_are_signed() {
    for (id, case) in read(NUT_00, "blind_signatures") {
        let (key, blinded) =
            (AmountKey::new(scalar(&case["inputs"]["k"])), point(&case["inputs"]["B_"]));
        let expected: [u8; 33] = array(&case["expected"]["C_"]);
        assert_eq!(key.sign(&blinded).point, expected, "{id}");
        assert_eq!(key.sign_unproved(&blinded), expected, "{id}");
    }
}

#[test]
fn keysets_have_ids_of_version_2() {
    for (id, case) in read(NUT_02, "version_2") {
        let inputs = &case["inputs"];
        let keys = amounts(&inputs["keys"]);
        let fee = number(&inputs["input_fee_ppk"]);
        let expiry = inputs["final_expiry"].as_u64();
        let computed = KeysetId::of(&keys, text(&inputs["unit"]), fee, expiry).unwrap();
        let expected = bytes(&case["expected"]["id"]);
        assert_eq!(computed.as_bytes().as_slice(), expected, "{id}");
        assert_eq!(KeysetId::from_bytes(&expected), Ok(computed), "{id}");
    }
}

/// attack: A27. The deprecated version, and any that is not known, is refused by its first byte.
#[test]
fn ids_of_other_versions_are_refused() {
    for (id, case) in read(NUT_02, "version_1") {
        let old = bytes(&case["expected"]["id"]);
        assert_eq!(KeysetId::from_bytes(&old), Err(KeysetIdError::Version(0)), "{id}");
    }
    for (_, case) in read(NUT_02, "version_2") {
        let mut id = bytes(&case["expected"]["id"]);
        for version in (0..=u8::MAX).filter(|version| *version != 1) {
            id[0] = version;
            assert_eq!(KeysetId::from_bytes(&id), Err(KeysetIdError::Version(version)));
        }
        id[0] = 1;
        for len in 1..33 {
            assert_eq!(KeysetId::from_bytes(&id[..len]), Err(KeysetIdError::Length(len)));
        }
        id.push(0);
        assert_eq!(KeysetId::from_bytes(&id), Err(KeysetIdError::Length(34)));
    }
    assert_eq!(KeysetId::from_bytes(&[]), Err(KeysetIdError::Empty));
}

#[test]
fn challenges_hash_four_points() {
    for (id, case) in read(NUT_12, "challenges") {
        let [r1, r2, key, signature] =
            ["R1", "R2", "K", "C_"].map(|name| point(&case["inputs"][name]));
        let challenge = dleq_challenge(&r1, &r2, &key, &signature);
        assert_eq!(challenge, array(&case["expected"]["e"]), "{id}");
    }
}

/// attack: A5. The nonce is the NUT's HMAC, so the whole proof is as its vector has it.
#[test]
fn proofs_are_deterministic() {
    for (id, case) in read(NUT_12, "deterministic") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let key = AmountKey::new(scalar(&inputs["a"]));
        assert_eq!(*key.public(), point(&inputs["A"]), "{id}");
        let signature = key.sign(&point(&inputs["B_"]));
        assert_eq!(signature.point, array(&expected["C_"]), "{id}");
        assert_eq!(signature.dleq, dleq(expected), "{id}");
        let (blinded, point) = (point(&inputs["B_"]), point(&expected["C_"]));
        assert!(signature.dleq.proves(key.public(), &blinded, &point), "{id}");
    }
}

#[test]
fn proofs_are_verified_by_who_blinded() {
    for (id, case) in read(NUT_12, "blind_signatures") {
        let inputs = &case["inputs"];
        let [public, blinded, signature] = ["A", "B_", "C_"].map(|name| point(&inputs[name]));
        assert!(dleq(inputs).proves(&public, &blinded, &signature), "{id}");
    }
}

#[test]
fn proofs_are_verified_by_who_receives() {
    for (id, case) in read(NUT_12, "proofs") {
        let inputs = &case["inputs"];
        let (secret, factor) = (text(&inputs["secret"]).as_bytes(), scalar(&inputs["r"]));
        let [public, signature] = ["A", "C"].map(|name| point(&inputs[name]));
        let proof = dleq(inputs);
        assert!(verify_proof_dleq(secret, &signature, &factor, &proof, &public), "{id}");
        assert!(!verify_proof_dleq(b"other", &signature, &factor, &proof, &public), "{id}");
    }
}

#[test]
fn secrets_are_derived_from_the_seed() {
    for (id, case) in read(NUT_13, "version_2") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let seed = WalletSeed::new(Zeroizing::new(array(&inputs["seed"])));
        let keyset = KeysetId::from_bytes(&bytes(&inputs["keyset_id"])).unwrap();
        let counter = number(&inputs["counter"]);
        assert_eq!(seed.secret(&keyset, counter).as_str(), text(&expected["secret"]), "{id}");
        let factor = seed.blinding_factor(&keyset, counter).unwrap();
        assert_eq!(*factor.expose(), array(&expected["r"]), "{id}");
    }
    for (id, case) in read(NUT_13, "version_1") {
        let old = KeysetId::from_bytes(&bytes(&case["inputs"]["keyset_id"]));
        assert_eq!(old, Err(KeysetIdError::Version(0)), "{id}");
    }
}
