//! The vectors of `spec/08-wallet-recovery.md` that are arithmetic, which Python reads too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each file of vectors needs only some of the readers")]

mod case;

use case::*;
use radpool_ecash::{Dleq, KeysetId, Point, SignedOutput, WalletSeed};
use serde_json::Value;
use zeroize::Zeroizing;

const FILE: &str = "08-wallet-recovery.json";

fn seed(inputs: &Value) -> (WalletSeed, KeysetId) {
    let keyset = KeysetId::from_bytes(&bytes(&inputs["keyset_id"])).unwrap();
    (WalletSeed::new(Zeroizing::new(array(&inputs["seed"]))), keyset)
}

/// spec: RC-2, RC-3
#[test]
fn outputs_come_of_seed_keyset_and_counter() {
    for (id, case) in cases(FILE, "outputs") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let (seed, keyset) = seed(inputs);
        let counter = number(&inputs["counter"]);
        let output = seed.output(&keyset, counter).unwrap();
        assert_eq!(output.secret.as_str(), text(&expected["secret"]), "{id}");
        assert_eq!(output.blinded, point(&expected["B_"]), "{id}");
        let factor = seed.blinding_factor(&keyset, counter).unwrap();
        assert_eq!(*factor.expose(), array(&expected["r"]), "{id}");
    }
}

fn unblinded(inputs: &Value) -> Option<Point> {
    let (seed, keyset) = seed(inputs);
    let e = bytes(&inputs["e"]).try_into().ok()?;
    let s = bytes(&inputs["s"]).try_into().ok()?;
    let public = bytes(inputs["A"].is_string().then_some(&inputs["A"])?);
    let signed = SignedOutput {
        counter: number(&inputs["counter"]),
        signature: Point::from_bytes(&bytes(&inputs["C_"])).ok()?,
        dleq: Dleq { e, s },
        public: Point::from_bytes(&public).ok()?,
    };
    seed.unblind(&keyset, &signed)
}

/// attack: A7. A wallet keeps nothing that the announced key did not provably sign.
/// spec: RC-12
#[test]
fn only_proved_receipts_become_tokens() {
    for (id, case) in cases(FILE, "receipts") {
        let expected = case["expected"]["C"].is_string().then(|| point(&case["expected"]["C"]));
        assert_eq!(unblinded(&case["inputs"]), expected, "{id}");
    }
}
