//! The vectors of the pages 05 to 08 of `spec/`, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{fs, path::PathBuf};

use radpool_ecash::{
    Dleq, KeysetId, KeysetKeys, MintSeed, Point, Scalar, SignedOutput, WalletSeed, blind,
    denominate, hash_to_curve, unblind, verify_proof_dleq,
};
use radpool_ledger::{Node, SumTree};
use radpool_units::{Work, tagged_hash};
use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr::Signature};
use serde_json::Value;
use zeroize::Zeroizing;

const MESSAGES: &str = "05-ecash-messages.json";
const TOKENS: &str = "06-work-tokens.json";
const EPOCHS: &str = "07-ecash-epochs.json";
const RECOVERY: &str = "08-wallet-recovery.json";

/// Runs `check` on the inputs of each case of a group, and on what is expected, null for an error.
fn each(file: &str, group: &str, mut check: impl FnMut(&str, &Value, &Value)) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors").join(file);
    let vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let cases = vectors[group].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        check(case["id"].as_str().unwrap(), &case["inputs"], &case["expected"]);
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn point(value: &Value) -> Point {
    Point::from_bytes(&bytes(value)).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn small(value: &Value) -> u8 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn decimal<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
    text(value).parse().unwrap()
}

fn dleq(value: &Value) -> Option<Dleq> {
    Some(Dleq { e: bytes(&value["e"]).try_into().ok()?, s: bytes(&value["s"]).try_into().ok()? })
}

fn seed(value: &Value) -> MintSeed {
    MintSeed::new(Zeroizing::new(array(value)))
}

fn wallet(value: &Value) -> WalletSeed {
    WalletSeed::new(Zeroizing::new(array(value)))
}

/// How many keys a keyset has whose first key has the exponent `z0`.
fn count(unit: &str, z0: u8) -> u8 {
    if unit == "sat" { 64 } else { (120 - z0 + 1).min(64) }
}

fn keyset(inputs: &Value) -> KeysetKeys {
    let (unit, z0) = (text(&inputs["unit"]), small(&inputs["z0"]));
    let number = decimal(&inputs["number"]);
    KeysetKeys::derive(&seed(&inputs["seed"]), unit, number, 0, count(unit, z0)).unwrap()
}

/// spec: WT-3, WT-4, WT-5, WT-6
#[test]
fn keysets_follow_from_the_seed() {
    each(TOKENS, "keysets", |id, inputs, expected| {
        let keys = keyset(inputs);
        let rows = expected["keys"].as_array().unwrap();
        assert_eq!(keys.keys().len(), rows.len(), "{id}");
        for ((amount, key), row) in keys.keys().iter().zip(rows) {
            assert_eq!(*amount, decimal::<u64>(&row["amount"]), "{id}");
            assert_eq!(key.public(), &point(&row["A"]), "{id}");
        }
        let first = Scalar::from_be_bytes(&bytes(&expected["first_secret"])).unwrap();
        assert_eq!(&Point::generator_times(&first), keys.keys()[0].1.public(), "{id}");
        assert_eq!(keys.id().to_string(), text(&expected["id"]), "{id}");
        assert_eq!(bytes(&expected["keyset_short"]), keys.id().as_bytes()[..8], "{id}");
    });
}

/// spec: WT-5
#[test]
fn ids_cover_unit_fee_and_expiry() {
    each(TOKENS, "keyset_ids", |id, inputs, expected| {
        let rows = inputs["keys"].as_array().unwrap();
        let keys: Vec<_> =
            rows.iter().map(|row| (row["amount"].as_u64().unwrap(), point(&row["A"]))).collect();
        let fee = inputs["input_fee_ppk"].as_u64().unwrap();
        let expiry = inputs["final_expiry"].as_u64();
        let found = KeysetId::of(&keys, text(&inputs["unit"]), fee, expiry).unwrap();
        assert_eq!(found.to_string(), text(&expected["id"]), "{id}");
    });
}

/// spec: WT-2
#[test]
fn secrets_have_their_point() {
    each(TOKENS, "curve_points", |id, inputs, expected| {
        assert_eq!(hash_to_curve(&bytes(&inputs["message"])), point(&expected["Y"]), "{id}");
    });
}

/// spec: WT-7, WT-8, WT-9, WT-10
#[test]
fn tokens_are_blinded_signed_proved_and_unblinded() {
    each(TOKENS, "tokens", |id, inputs, expected| {
        let keys = keyset(inputs);
        let key = keys.key(1 << (small(&inputs["z"]) - small(&inputs["z0"]))).unwrap();
        assert_eq!(key.public(), &point(&expected["A"]), "{id}");
        let secret = text(&inputs["secret"]).as_bytes();
        let factor = Scalar::from_be_bytes(&bytes(&inputs["r"])).unwrap();
        let blinded = blind(secret, &factor).unwrap();
        assert_eq!(blinded, point(&expected["B_"]), "{id}");
        let signed = key.sign(&blinded);
        assert_eq!(signed.point[..], bytes(&expected["C_"]), "{id}");
        assert_eq!(Some(signed.dleq), dleq(expected), "{id}");
        assert_eq!(key.sign(&blinded), signed, "{id}");
        let signature = Point::from_bytes(&signed.point).unwrap();
        assert!(signed.dleq.proves(key.public(), &blinded, &signature), "{id}");
        let token = unblind(&signature, &factor, key.public()).unwrap();
        assert_eq!(token, point(&expected["C"]), "{id}");
        assert!(key.verify(secret, &token), "{id}");
        assert!(verify_proof_dleq(secret, &token, &factor, &signed.dleq, key.public()), "{id}");
    });
}

/// Says whether all parts are well formed and the proof holds.
fn proves(inputs: &Value) -> bool {
    let (Some(dleq), Ok(signature)) = (dleq(inputs), Point::from_bytes(&bytes(&inputs["C_"])))
    else {
        return false;
    };
    dleq.proves(&point(&inputs["A"]), &point(&inputs["B_"]), &signature)
}

/// spec: WT-10
#[test]
fn only_true_proofs_hold() {
    each(TOKENS, "proofs", |id, inputs, expected| {
        assert_eq!(proves(inputs), !expected.is_null(), "{id}");
    });
    each(TOKENS, "carol_proofs", |id, inputs, expected| {
        let factor = Scalar::from_be_bytes(&bytes(&inputs["r"])).unwrap();
        let (secret, token) = (text(&inputs["secret"]).as_bytes(), point(&inputs["C"]));
        let dleq = dleq(inputs).unwrap();
        let holds = verify_proof_dleq(secret, &token, &factor, &dleq, &point(&inputs["A"]));
        assert_eq!(holds, !expected.is_null(), "{id}");
    });
}

/// spec: WT-3, WT-13
#[test]
fn a_share_earns_the_largest_token_and_leaves_the_rest() {
    each(TOKENS, "residues", |id, inputs, expected| {
        let (residue, value) = (decimal(&inputs["residue"]), decimal(&inputs["value"]));
        let token = denominate(residue, value, small(&inputs["z0"])).unwrap();
        assert_eq!(token.exponent.map(u64::from), expected["z"].as_u64(), "{id}");
        assert_eq!(token.residue, decimal::<u128>(&expected["residue"]), "{id}");
    });
    each(TOKENS, "denominations", |id, inputs, expected| {
        let z0 = small(&inputs["z0"]);
        assert_eq!(small(&expected["first"]), z0, "{id}");
        assert_eq!(small(&expected["last"]), z0 + count("work", z0) - 1, "{id}");
    });
}

/// Points in claims are read strictly.
///
/// spec: WT-1, EW-13
/// attack: A4
#[test]
fn blinded_messages_are_points_or_refused() {
    each(MESSAGES, "claims", |id, inputs, expected| {
        let tail = bytes(&inputs["tail"]);
        let blinded = tail.get(10..).filter(|rest| usize::from(tail[9]) == rest.len());
        let read = blinded.and_then(|blinded| Point::from_bytes(blinded).ok());
        assert_eq!(read.is_some(), !expected.is_null(), "{id}");
        if let Some(point) = read {
            assert_eq!(point.to_bytes()[..], bytes(&expected["B_"]), "{id}");
        }
    });
}

/// spec: EW-18
#[test]
fn receipts_chain_to_a_root() {
    each(MESSAGES, "receipts", |id, inputs, expected| {
        let mut root = [0; 32];
        let rows = inputs["claims"].as_array().unwrap();
        for (row, due) in rows.iter().zip(expected["roots"].as_array().unwrap()) {
            let parts = [&root[..], &bytes(&row["B_"]), &[small(&row["z"])]].concat();
            root = tagged_hash("radpool/receipt", &[&parts, &bytes(&row["share_hash"])]);
            assert_eq!(root, array(due), "{id}");
        }
        let head = ["channel_id", "last_sequence_number"]
            .map(|field| u32::try_from(inputs[field].as_u64().unwrap()).unwrap().to_le_bytes());
        let digest = tagged_hash("radpool/receipts", &[&head.concat(), &root]);
        assert_eq!(digest, array(&expected["digest"]), "{id}");
        assert!(is_signed(&expected["msp_key"], &digest, &bytes(&expected["receipt_sig"])), "{id}");
    });
}

fn is_signed(key: &Value, digest: &[u8; 32], signature: &[u8]) -> bool {
    let key = XOnlyPublicKey::from_slice(&bytes(key)).unwrap();
    let signature = Signature::from_slice(signature).unwrap();
    let message = secp256k1::Message::from_digest(*digest);
    SECP256K1.verify_schnorr(&signature, &message, &key).is_ok()
}

/// Reads the id that an announcement states, and the one that its keys and terms have.
fn ids(payload: &[u8]) -> (Vec<u8>, KeysetId) {
    let stated = payload[1..34].to_vec();
    let unit_end = 35 + usize::from(payload[34]);
    let unit = std::str::from_utf8(&payload[35..unit_end]).unwrap();
    // Policy, epoch, height and block stand between the unit and z0.
    let z0_at = unit_end + 1 + 4 + 4 + 32;
    let (z0, keys) = (payload[z0_at], usize::from(payload[z0_at + 1]));
    let rows = &payload[z0_at + 2..][..35 * keys];
    let terms = &payload[z0_at + 2 + 35 * keys..];
    let fee = u32::from_le_bytes(terms[..4].try_into().unwrap());
    let expiry = u64::from_le_bytes(terms[4..12].try_into().unwrap());
    let key = |row: &[u8]| (1 << (row[0] - z0), Point::from_bytes(&row[2..]).unwrap());
    let keys: Vec<_> = rows.chunks(35).map(key).collect();
    (stated, KeysetId::of(&keys, unit, fee.into(), Some(expiry)).unwrap())
}

/// spec: EW-30
#[test]
fn announcements_and_updates_are_signed_and_named_by_their_keys() {
    each(MESSAGES, "signatures", |id, inputs, expected| {
        let payload = bytes(&inputs["payload"]);
        let announces = text(&inputs["message"]) == "EcashKeysetAnnounce";
        let tag = if announces { "radpool/keyset" } else { "radpool/epoch-update" };
        let (unsigned, signature) = payload.split_at(payload.len() - 64);
        let digest = tagged_hash(tag, &[unsigned]);
        let signed = is_signed(&inputs["msp_key"], &digest, signature);
        let named = !announces || {
            let (stated, computed) = ids(&payload);
            stated == computed.as_bytes()
        };
        assert_eq!(signed && named, !expected.is_null(), "{id}");
        if !expected.is_null() {
            assert_eq!(digest, array(&expected["digest"]), "{id}");
        }
    });
}

/// spec: ES-21
#[test]
fn claims_are_summed_in_a_tree() {
    let tree = SumTree::default();
    each(EPOCHS, "trees", |id, inputs, expected| {
        let z0 = small(&inputs["z0"]);
        let leaves: Vec<_> = inputs["claims"]
            .as_array()
            .unwrap()
            .iter()
            .map(|claim| {
                let units = 1u64 << (small(&claim["z"]) - z0);
                let parts = [bytes(&claim["share_hash"]), bytes(&claim["B_"])].concat();
                let hash = tagged_hash("radpool/claim", &[&parts, &units.to_le_bytes()]);
                Node { hash, work: Work(units.into()) }
            })
            .collect();
        for (leaf, due) in leaves.iter().zip(expected["leaves"].as_array().unwrap()) {
            assert_eq!(leaf.hash, array(due), "{id}");
        }
        let nothing = Node { hash: [0; 32], work: Work(0) };
        let root = tree.root(leaves.clone()).unwrap_or(nothing);
        assert_eq!(root.hash, array(&expected["root"]), "{id}");
        assert_eq!(root.work, Work(decimal(&expected["work"])), "{id}");
        for (index, due) in expected["paths"].as_array().unwrap().iter().enumerate() {
            let path = tree.prove(&leaves, index).unwrap();
            let due: Vec<_> = due
                .as_array()
                .unwrap()
                .iter()
                .map(|row| Node { hash: array(&row["hash"]), work: Work(decimal(&row["units"])) })
                .collect();
            assert_eq!(path, due, "{id} {index}");
        }
    });
}

/// spec: RC-2, RC-3
#[test]
fn outputs_follow_from_the_seed() {
    each(RECOVERY, "outputs", |id, inputs, expected| {
        let keyset = KeysetId::from_bytes(&bytes(&inputs["keyset_id"])).unwrap();
        let (seed, counter) = (wallet(&inputs["seed"]), decimal(&inputs["counter"]));
        let output = seed.output(&keyset, counter).unwrap();
        assert_eq!(output.secret.as_str(), text(&expected["secret"]), "{id}");
        assert_eq!(output.blinded, point(&expected["B_"]), "{id}");
        let factor = seed.blinding_factor(&keyset, counter).unwrap();
        assert_eq!(factor.expose()[..], bytes(&expected["r"]), "{id}");
    });
}

/// spec: RC-12
/// attack: A7
#[test]
fn receipts_are_checked_against_the_announced_key() {
    each(RECOVERY, "receipts", |id, inputs, expected| {
        let keyset = KeysetId::from_bytes(&bytes(&inputs["keyset_id"])).unwrap();
        let token = (!inputs["A"].is_null()).then(|| dleq(inputs)).flatten().and_then(|dleq| {
            let signed = SignedOutput {
                counter: inputs["counter"].as_u64().unwrap(),
                signature: point(&inputs["C_"]),
                dleq,
                public: point(&inputs["A"]),
            };
            wallet(&inputs["seed"]).unblind(&keyset, &signed)
        });
        assert_eq!(token.is_some(), !expected.is_null(), "{id}");
        if let Some(token) = token {
            assert_eq!(token, point(&expected["C"]), "{id}");
        }
    });
}
