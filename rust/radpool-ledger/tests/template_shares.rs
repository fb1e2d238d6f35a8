//! Shares of a verified batch, by their templates.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use std::collections::HashMap;

use case::*;
use radpool_ledger::{FINGERPRINT_LEN, verify_batch};

/// spec: CS-10
#[test]
fn each_share_is_below_its_template() {
    let mut templates = 0;
    for (id, case) in cases("03-share-batch.json", "batches") {
        let blob = bytes(&case["expected"]["blob"]);
        let bodies: HashMap<[u8; 32], Vec<u8>> = case["expected"]["bodies"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(digest, body)| (hex::decode(digest).unwrap().try_into().unwrap(), bytes(body)))
            .collect();
        let verified = verify_batch(&blob, |digest| bodies.get(digest).map(Vec::as_slice)).unwrap();
        let sorted = verified.template_shares();
        assert_eq!(sorted.len(), verified.batch.head.templates.len(), "{id}");
        for (index, shares) in sorted.iter().enumerate() {
            assert_eq!(shares.template, verified.batch.head.templates[index], "{id}");
            let own = || {
                let all = verified.batch.shares.iter().zip(&verified.header_hashes);
                all.filter(move |(share, _)| usize::from(share.template) == index)
            };
            let fingerprints: Vec<u8> =
                own().flat_map(|(_, hash)| hash.as_bytes()[..FINGERPRINT_LEN].to_vec()).collect();
            assert_eq!(shares.fingerprints, fingerprints, "{id}");
            assert_eq!(
                Some(shares.exponent_min),
                own().map(|(share, _)| share.exponent).min(),
                "{id}"
            );
        }
        templates = templates.max(sorted.len());
    }
    assert!(templates > 1, "a batch of several templates was looked at");
}
