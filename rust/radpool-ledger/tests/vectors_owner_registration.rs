//! The vectors of `spec/11-owner-registration.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_identity::{IdentityKey, verify};
use radpool_ledger::{Owner, Rail, RunningReceipt};
use radpool_units::{Hash256, tagged_hash};

const FILE: &str = "11-owner-registration.json";

/// spec: OR-3, OR-5
#[test]
fn both_sides_sign_the_registration() {
    for (id, case) in cases(FILE, "registrations") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let [msp, miner] = ["msp_secret", "miner_secret"]
            .map(|name| IdentityKey::from_secret(&array(&inputs[name])).unwrap());
        assert_eq!(*msp.public(), array(&expected["msp_key"]), "{id}");
        assert_eq!(*miner.public(), array(&expected["miner_key"]), "{id}");
        let name = hex::encode(miner.public());
        let salt: [u8; 16] = array(&inputs["salt"]);
        let commitment = tagged_hash("radpool/account", &[name.as_bytes(), &salt]);
        assert_eq!(commitment, array(&expected["commitment"]), "{id}");
        let epoch = number(&inputs["epoch"]).to_le_bytes();
        let number = inputs["number"].as_u64().unwrap().to_le_bytes();
        let signed = tagged_hash(
            "radpool/owner-registration",
            &[msp.public(), miner.public(), &commitment, &[0], &epoch, &number],
        );
        assert_eq!(signed, array(&expected["signed_hash"]), "{id}");
        for (key, signature) in [(msp, "msp_signature"), (miner, "miner_signature")] {
            let signature = array(&expected[signature]);
            assert!(verify(key.public(), &signed, &signature).is_ok(), "{id}");
            assert_eq!(key.sign(&signed), signature, "{id}");
        }
    }
}

/// spec: OR-8, OR-9
#[test]
fn receipts_run_over_the_shares() {
    for (id, case) in cases(FILE, "receipts") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let mut receipt = RunningReceipt::default();
        for share in list(&inputs["shares"]) {
            receipt.add(&Hash256(array(&share[0])), exponent(&share[1]));
        }
        assert_eq!(receipt.count, expected["count"].as_u64().unwrap(), "{id}");
        assert_eq!(receipt.work, decimal(&expected["work"]), "{id}");
        assert_eq!(receipt.root, array(&expected["root"]), "{id}");
        let signed = receipt.signed_hash(inputs["number"].as_u64().unwrap());
        assert_eq!(signed, array(&expected["signed_hash"]), "{id}");
        let key = IdentityKey::from_secret(&array(&inputs["msp_secret"])).unwrap();
        assert_eq!(key.sign(&signed), array(&expected["signature"]), "{id}");
    }
}

/// spec: OR-13
#[test]
fn the_tag_of_a_share_names_one_registration() {
    for (id, case) in cases(FILE, "owners") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let script = bytes(&inputs["script"]);
        let z = exponent(&expected["exponent"]);
        let mut found = Vec::new();
        for entry in list(&inputs["register"]) {
            for epoch in list(&inputs["epochs"]) {
                let owner = Owner {
                    msp_key: array(&inputs["msp_key"]),
                    commitment: array(&entry["commitment"]),
                    epoch: number(epoch),
                    rail: Rail::Account,
                };
                if owner.tag(z).to_script()[..] == script[..] {
                    found.push((&entry["miner_key"], epoch));
                }
            }
        }
        let right = (&expected["miner_key"], &expected["epoch"]);
        let right = if right.0.is_null() { vec![] } else { vec![right] };
        assert_eq!(found, right, "{id}");
    }
}
