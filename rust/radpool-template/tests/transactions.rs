//! What is a transaction, and what its ids and weight are: the same as for rust-bitcoin.

use proptest::prelude::*;
use radpool_template::{Transaction, TransactionError, parse_all};
use stratum_core::bitcoin::{
    self, Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Txid, Witness, absolute::LockTime,
    consensus, hashes::Hash, transaction::Version,
};

fn script() -> impl Strategy<Value = ScriptBuf> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 250..260),
    ]
    .prop_map(ScriptBuf::from)
}

fn input() -> impl Strategy<Value = TxIn> {
    let witness = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..4);
    (any::<[u8; 32]>(), any::<u32>(), script(), any::<u32>(), witness).prop_map(
        |(txid, vout, script_sig, sequence, witness)| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array(txid), vout },
            script_sig,
            sequence: Sequence(sequence),
            witness: Witness::from_slice(&witness),
        },
    )
}

fn output() -> impl Strategy<Value = TxOut> {
    (0..21_000_000u64, script())
        .prop_map(|(sats, script_pubkey)| TxOut { value: Amount::from_sat(sats), script_pubkey })
}

prop_compose! {
    fn transaction()(
        version in any::<i32>(),
        input in prop::collection::vec(input(), 1..5),
        output in prop::collection::vec(output(), 1..5),
        locktime in any::<u32>(),
    ) -> bitcoin::Transaction {
        let lock_time = LockTime::from_consensus(locktime);
        bitcoin::Transaction { version: Version(version), lock_time, input, output }
    }
}

proptest! {
    #[test]
    fn ids_and_weight_are_rust_bitcoins(theirs in transaction()) {
        let raw = consensus::serialize(&theirs);
        let ours = Transaction::parse(&raw).unwrap();
        prop_assert_eq!(ours.raw(), &raw[..]);
        prop_assert_eq!(ours.txid().0, theirs.compute_txid().to_byte_array());
        prop_assert_eq!(ours.wtxid().0, theirs.compute_wtxid().to_byte_array());
        prop_assert_eq!(ours.weight() as u64, theirs.weight().to_wu());
    }

    #[test]
    fn every_cut_and_every_byte_more_is_refused(theirs in transaction()) {
        let raw = consensus::serialize(&theirs);
        for len in 0..raw.len() {
            prop_assert!(Transaction::parse(&raw[..len]).is_err());
        }
        let more = [&raw[..], &[0]].concat();
        prop_assert_eq!(Transaction::parse(&more).unwrap_err(), TransactionError::Trailing(1));
    }

    #[test]
    fn what_is_spoiled_is_one_for_both_or_for_none(
        theirs in transaction(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut raw = consensus::serialize(&theirs);
        let at = at.index(raw.len());
        raw[at] = byte;
        let ours = Transaction::parse(&raw);
        let theirs: Result<bitcoin::Transaction, _> = consensus::deserialize(&raw);
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.wtxid().0, theirs.compute_wtxid().to_byte_array());
            }
            // Core reads an amount above 21 million, and no inputs and no outputs; rust-bitcoin not.
            (Ok(ours), Err(_)) => prop_assert_eq!(ours.raw(), &raw[..]),
            (Err(_), Ok(_)) => prop_assert!(false, "refused here alone: {:?}", ours),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn noise_is_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(ours) = Transaction::parse(&bytes) {
            prop_assert_eq!(ours.raw(), &bytes[..]);
        }
    }
}

#[test]
fn announced_lengths_take_no_memory() {
    // Inputs, then outputs, by the million, and nothing behind them.
    let inputs = hex::decode("01000000fe00000002").unwrap();
    assert_eq!(Transaction::parse(&inputs).unwrap_err(), TransactionError::Truncated);
    let excessive = hex::decode("01000000fe01000002").unwrap();
    assert_eq!(Transaction::parse(&excessive).unwrap_err(), TransactionError::Excessive);
    let long_form = hex::decode("01000000fdfc00").unwrap();
    assert_eq!(Transaction::parse(&long_form).unwrap_err(), TransactionError::LongForm);
}

#[test]
fn the_mark_of_a_witness_needs_one() {
    let body = format!("01{}ffffffff00ffffffff01{}00", "00".repeat(32), "00".repeat(8));
    let with = |flag: &str, witness: &str| {
        let raw = hex::decode(format!("01000000{flag}{body}{witness}00000000")).unwrap();
        Transaction::parse(&raw).map(|transaction| transaction.weight())
    };
    assert!(with("", "").is_ok());
    assert!(with("0001", "0100").is_ok());
    assert_eq!(with("0001", "00").unwrap_err(), TransactionError::NoWitness);
    assert_eq!(with("0002", "").unwrap_err(), TransactionError::UnknownFlag);
    assert_eq!(with("0003", "0100").unwrap_err(), TransactionError::UnknownFlag);
}

#[test]
fn nothing_to_parse_is_nothing_parsed() {
    assert!(parse_all::<Vec<u8>>(&[]).unwrap().is_empty());
}
