//! The vectors of `spec/02-owner-tag.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_identity::IdentityKey;
use radpool_ledger::{
    Link, OWNER_OUTPUT_LEN, OwnerTag, OwnerTagError, ShareView, Weight, seal, verify_batch,
};
use radpool_units::{Hash256, tagged_hash};

const FILE: &str = "02-owner-tag.json";

/// spec: OT-1
#[test]
fn commitments_hash_name_and_salt() {
    for (id, case) in cases(FILE, "commitments") {
        let name = case["inputs"]["account"].as_str().unwrap().as_bytes();
        let salt: [u8; 16] = array(&case["inputs"]["salt"]);
        let commitment = tagged_hash("radpool/account", &[name, &salt]);
        assert_eq!(commitment, array(&case["expected"]["commitment"]), "{id}");
    }
}

/// spec: OT-3, OT-4, OT-5
#[test]
fn tags_are_written_and_read() {
    for (id, case) in cases(FILE, "tags") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let tag = owner(inputs, array(&inputs["msp_key"])).tag(exponent(&inputs["exponent"]));
        assert_eq!(tag.binding, array(&expected["binding"]), "{id}");
        assert_eq!(tag.to_script(), array(&expected["script"]), "{id}");
        assert_eq!(tag.to_output(), array::<OWNER_OUTPUT_LEN>(&expected["output"]), "{id}");
        assert_eq!(tag.to_output()[..9], [0, 0, 0, 0, 0, 0, 0, 0, 40], "{id}");
        assert_eq!(OwnerTag::from_script(&tag.to_script()), Ok(tag), "{id}");
    }
}

/// spec: OT-6
#[test]
fn other_scripts_are_refused() {
    for (id, case) in cases(FILE, "scripts") {
        let code = match OwnerTag::from_script(&bytes(&case["inputs"]["script"])) {
            Ok(_) => "none",
            Err(OwnerTagError::Shape) => "shape",
            Err(OwnerTagError::Version(_)) => "version",
            Err(OwnerTagError::Rail(_)) => "rail",
            Err(OwnerTagError::Exponent(_)) => "exponent",
        };
        assert_eq!(code, case["expected_error"], "{id}");
    }
}

/// Seals one share in the coinbase of each case: any hash meets z = 0, so what the verifier says is
/// about the coinbase.
///
/// spec: OT-7, OT-11, OT-12, OT-13, OT-14, OT-15
#[test]
fn coinbases_are_taken_apart() {
    for (id, case) in cases(FILE, "coinbases") {
        let inputs = &case["inputs"];
        let key = IdentityKey::from_secret(&array(&inputs["secret_key"])).unwrap();
        assert_eq!(key.public(), &array(&inputs["msp_key"]), "{id}");
        let (owner, body) = (owner(inputs, *key.public()), body(&inputs["body"]));
        let extranonce = bytes(&inputs["extranonce"]);
        let share = ShareView {
            connection: 1,
            channel: 1,
            account: 1,
            owner: &owner,
            body: &body,
            price: 1,
            exponent: exponent(&inputs["exponent"]),
            version: body.version,
            ntime: 0,
            nonce: 0,
            extranonce: &extranonce,
            hash: &Hash256::default(),
        };
        let link = Link { epoch_min: 1, ..Link::default() };
        let sealed = seal(&key, link, Weight::new(1, 32, 0).unwrap(), [share], &[]).unwrap();
        let found = verify_batch(&sealed.blob, |_| Some(&sealed.bodies[0].body));
        let Some(expected) = case.get("expected") else {
            assert_eq!(found.unwrap_err().code(), case["expected_error"], "{id}");
            continue;
        };
        found.unwrap_or_else(|error| panic!("{id}: {error}"));
        let mut coinbase = Vec::new();
        let output = owner.tag(share.exponent).to_output();
        body.write_coinbase(&extranonce, &output, &mut coinbase);
        assert_eq!(coinbase, bytes(&expected["coinbase"]), "{id}");
    }
}
