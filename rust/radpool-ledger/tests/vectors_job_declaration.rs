//! The vectors of `spec/10-job-declaration.md`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_units::tagged_hash;

const FILE: &str = "10-job-declaration.json";

fn output(script: &[u8]) -> Vec<u8> {
    let mut written = vec![0; 8];
    written.push(script.len().try_into().unwrap());
    written.extend_from_slice(script);
    written
}

/// spec: JD-2, JD-24
#[test]
fn tokens_come_with_the_pools_outputs() {
    for (id, case) in cases(FILE, "token_outputs") {
        let inputs = &case["inputs"];
        let msp_key: [u8; 32] = array(&inputs["msp_key"]);
        let tag = owner(inputs, msp_key).tag(exponent(&inputs["exponent"]));
        let mut outputs = vec![output(&bytes(&inputs["payout_script"])), tag.to_output().to_vec()];
        if inputs["hidden"].as_bool().unwrap() {
            let rail = [u8::try_from(number(&inputs["rail"])).unwrap()];
            let commitment: [u8; 32] = array(&inputs["commitment"]);
            let hash = tagged_hash("radpool/hidden", &[&msp_key, &commitment, &rail]);
            outputs.push(output(&[b"\x6a\x24RADH".as_slice(), hash.as_slice()].concat()));
        }
        let mut written = vec![outputs.len().try_into().unwrap()];
        written.extend(outputs.concat());
        assert_eq!(written, bytes(&case["expected"]["coinbase_tx_outputs"]), "{id}");
    }
}

/// spec: JD-26
#[test]
fn lots_are_drawn_by_block_and_token() {
    for (id, case) in cases(FILE, "challenges") {
        let block_hash: [u8; 32] = array(&case["inputs"]["block_hash"]);
        let token: [u8; 32] = array(&case["inputs"]["token"]);
        let hash = tagged_hash("radpool/challenge", &[&block_hash, &token]);
        assert_eq!(hash, array(&case["expected"]["hash"]), "{id}");
        assert_eq!(hash[0].is_multiple_of(64), case["expected"]["challenged"], "{id}");
    }
}
