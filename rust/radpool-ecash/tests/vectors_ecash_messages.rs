//! The vectors of `spec/05-ecash-messages.md` and `spec/07-ecash-epochs.md` that the mint's batches
//! write and read, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ecash::{
    CLAIM_LEAF_LEN, Claim, NO_TOKEN, claim_leaf, claims_path, claims_root, extend_root, sign_root,
};
use radpool_identity::{IdentityKey, verify};
use radpool_ledger::{Node, SumTree};
use radpool_units::{Work, tagged_hash};
use serde_json::Value;

const MESSAGES: &str = "05-ecash-messages.json";
const EPOCHS: &str = "07-ecash-epochs.json";

/// attack: A4. Every malformed blinded message has one and the same code.
/// spec: WT-1, EW-13
#[test]
fn claims_are_read_strictly() {
    for (id, case) in cases(MESSAGES, "claims") {
        let tail = Claim::from_tail(&bytes(&case["inputs"]["tail"]));
        let Some(code) = case["expected_error"].as_str() else {
            let claim = tail.unwrap();
            assert_eq!(claim.blinded, point(&case["expected"]["B_"]), "{id}");
            assert_eq!(claim.keyset_short, array(&case["expected"]["keyset_short"]), "{id}");
            // Extension type, field and length take five bytes.
            let value = &bytes(&case["inputs"]["tlv"])[5..];
            assert_eq!(Claim::from_value(value), Ok(claim), "{id}");
            continue;
        };
        assert_eq!(tail.unwrap_err().to_string(), code, "{id}");
    }
}

/// spec: EW-18
#[test]
fn lazy_receipts_are_a_signed_chain() {
    for (id, case) in cases(MESSAGES, "receipts") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let mut root = [0; 32];
        for (claim, expected) in list(&inputs["claims"]).iter().zip(list(&expected["roots"])) {
            let (blinded, hash) = (array(&claim["B_"]), array(&claim["share_hash"]));
            root = extend_root(&root, &blinded, number(&claim["z"]), &hash);
            assert_eq!(root, array(expected), "{id}");
        }
        assert_eq!(root, array(&expected["root"]), "{id}");
        let key = IdentityKey::from_secret(&array(&inputs["msp_secret"])).unwrap();
        let (channel, last) =
            (number(&inputs["channel_id"]), number(&inputs["last_sequence_number"]));
        let signature = sign_root(&key, channel, last, &root);
        assert_eq!(signature, array(&expected["receipt_sig"]), "{id}");
    }
}

/// spec: EW-35
#[test]
fn cash_outs_are_signed_by_the_claim_key() {
    for (id, case) in cases(MESSAGES, "cash_outs") {
        let inputs = &case["inputs"];
        let mut parts = vec![bytes(&inputs["claim_key"]), bytes(&inputs["keyset_id"])];
        for output in list(&inputs["outputs"]) {
            parts.push(number::<u64>(&output["amount"]).to_le_bytes().to_vec());
            parts.push(bytes(&output["B_"]));
        }
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let hash = tagged_hash("radpool/cash-out", &parts);
        let key = parts[0][1..].try_into().unwrap();
        let is_right = case["expected_error"].is_null();
        assert_eq!(verify(key, &hash, &array(&inputs["signature"])).is_ok(), is_right, "{id}");
        assert!(!is_right || hash == array::<32>(&case["expected"]["hash"]), "{id}");
    }
}

fn packed(claim: &Value, z0: u8) -> [u8; CLAIM_LEAF_LEN] {
    let z: u8 = number(&claim["z"]);
    let units = if z == NO_TOKEN { 0 } else { 1u64 << (z - z0) };
    let parts = [bytes(&claim["share_hash"]), bytes(&claim["B_"]), units.to_le_bytes().to_vec()];
    parts.concat().try_into().unwrap()
}

/// spec: ES-21
#[test]
fn claims_of_a_keyset_are_summed_up_in_a_tree() {
    for (id, case) in cases(EPOCHS, "trees") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let z0 = number(&inputs["z0"]);
        let claims = list(&inputs["claims"]).iter().map(|claim| packed(claim, z0));
        // Zeros stand for the share of a token that was given for a residue.
        let given = list(&inputs["cash_outs"]).iter().map(|row| {
            let units = 1u64 << (number::<u8>(&row["z"]) - z0);
            let parts = [vec![0; 32], bytes(&row["B_"]), units.to_le_bytes().to_vec()];
            parts.concat().try_into().unwrap()
        });
        let leaves: Vec<_> = claims.chain(given).collect();
        let root = claims_root(&leaves);
        assert_eq!(root.hash, array(&expected["root"]), "{id}");
        assert_eq!(root.sum.0, number::<u128>(&expected["work"]), "{id}");
        for (index, path) in list(&expected["paths"]).iter().enumerate() {
            let node = |node: &Value| Node {
                hash: array(&node["hash"]),
                sum: Work(number(&node["units"])),
            };
            let path: Vec<_> = list(path).iter().map(node).collect();
            assert_eq!(claims_path(&leaves, index), Some(path.clone()), "{id}");
            let leaf = claim_leaf(&leaves[index]);
            assert_eq!(leaf.hash, array(&list(&expected["leaves"])[index]), "{id}");
            let led = SumTree::default().root_of_path(leaf, index, leaves.len(), &path);
            assert_eq!(led, Some(root), "{id}");
        }
        assert_eq!(claims_path(&leaves, leaves.len()), None, "{id}");
    }
}
