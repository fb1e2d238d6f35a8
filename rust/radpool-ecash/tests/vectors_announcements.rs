//! The announcements and updates in the vectors of `spec/05-ecash-messages.md`, which Python reads
//! too: what names a keyset and what a mint signs.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ecash::{KeysetId, Point};
use radpool_identity::verify;
use radpool_units::tagged_hash;

const FILE: &str = "05-ecash-messages.json";
const SIGNATURE_LEN: usize = 64;
const KEY_ROW_LEN: usize = 1 + 1 + 33;

/// The id that an announcement states, and the one that its keys and terms have.
fn ids(payload: &[u8]) -> (Vec<u8>, KeysetId) {
    let stated = payload[1..34].to_vec();
    let unit_end = 35 + usize::from(payload[34]);
    let unit = std::str::from_utf8(&payload[35..unit_end]).unwrap();
    // Policy, epoch, height and block stand between the unit and z0.
    let z0_at = unit_end + 1 + 4 + 4 + 32;
    let (z0, count) = (payload[z0_at], usize::from(payload[z0_at + 1]));
    let (rows, terms) = payload[z0_at + 2..].split_at(KEY_ROW_LEN * count);
    let fee = u32::from_le_bytes(terms[..4].try_into().unwrap());
    let expiry = u64::from_le_bytes(terms[4..12].try_into().unwrap());
    let key = |row: &[u8]| (1 << (row[0] - z0), Point::from_bytes(&row[2..]).unwrap());
    let keys: Vec<_> = rows.chunks(KEY_ROW_LEN).map(key).collect();
    (stated, KeysetId::of(&keys, unit, fee.into(), Some(expiry)).unwrap())
}

/// spec: EW-30
/// attack: A6. An announcement is refused whose keys are not those of its id, or that somebody else
/// has signed.
#[test]
fn announcements_and_updates_are_signed_and_named_by_their_keys() {
    for (id, case) in cases(FILE, "signatures") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let payload = bytes(&inputs["payload"]);
        let announces = text(&inputs["message"]) == "EcashKeysetAnnounce";
        let tag = if announces { "radpool/keyset" } else { "radpool/epoch-update" };
        let (unsigned, signature) = payload.split_at(payload.len() - SIGNATURE_LEN);
        let digest = tagged_hash(tag, &[unsigned]);
        let key = array(&inputs["msp_key"]);
        let signed = verify(&key, &digest, signature.try_into().unwrap()).is_ok();
        let named = !announces || {
            let (stated, computed) = ids(&payload);
            stated == computed.as_bytes()
        };
        assert_eq!(signed && named, !expected.is_null(), "{id}");
        if !expected.is_null() {
            assert_eq!(digest, array(&expected["digest"]), "{id}");
        }
    }
}
