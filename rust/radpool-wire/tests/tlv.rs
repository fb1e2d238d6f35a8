//! The fields behind a message's last field.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;

use kept::kept_in;
use proptest::prelude::*;
use radpool_wire::tlv::{Tlv, TlvError, Tlvs, WORKER_IDENTITY_LEN_MAX};
use stratum_core::parsers_sv2 as sri;

fn worker(name: &[u8]) -> Tlv<'_> {
    Tlv { extension_type: 2, field: 1, value: name }
}

fn encode(fields: &[Tlv<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        field.encode(&mut out).unwrap();
    }
    out
}

#[test]
fn a_worker_name_is_little_endian() {
    let bytes = encode(&[worker(b"rig-7")]);
    assert_eq!(bytes, b"\x02\x00\x01\x05\x00rig-7");
    let read: Vec<_> = Tlvs::new(&bytes).collect();
    assert_eq!(read, [Ok(worker(b"rig-7"))]);
    assert!(read[0].unwrap().is_worker_identity());
    assert!(!Tlv { field: 2, ..worker(b"") }.is_worker_identity());
    assert_eq!(Tlvs::new(&[]).next(), None);
}

#[test]
fn a_worker_name_has_at_most_32_bytes() {
    let longest = [b'a'; WORKER_IDENTITY_LEN_MAX];
    assert_eq!(Tlvs::new(&encode(&[worker(&longest)])).next(), Some(Ok(worker(&longest))));
    let bytes = encode(&[worker(&[b'a'; 33]), worker(b"unread")]);
    let mut fields = Tlvs::new(&bytes);
    let error = fields.next().unwrap().unwrap_err();
    assert_eq!(
        error,
        TlvError::TooLong { extension_type: 2, field: 1, length: 33, length_max: 32 }
    );
    assert_eq!(error.to_string(), "TLV 0x0002/0x01: 33 bytes, the extension allows 32");
    assert_eq!(fields.next(), None);
    // Other fields are bounded by their length field alone.
    let long = [7; 65_535];
    let other = Tlv { extension_type: 0x4e45, field: 0, value: &long };
    assert_eq!(Tlvs::new(&encode(&[other])).next(), Some(Ok(other)));
    let too_long = [7; 65_536];
    let mut out = vec![1];
    Tlv { value: &too_long, ..other }.encode(&mut out).unwrap_err();
    assert_eq!(out, [1]);
}

#[test]
fn a_tail_cut_at_any_byte_is_an_error_once() {
    let fields = [worker(b"rig-7"), Tlv { extension_type: 0x4e45, field: 9, value: b"" }];
    let bytes = encode(&fields);
    for length in 0..bytes.len() {
        let mut read = Tlvs::new(&bytes[..length]);
        if length >= 10 {
            assert_eq!(read.next(), Some(Ok(fields[0])));
        }
        match read.next() {
            None => assert!(length == 0 || length == 10, "{length}"),
            Some(Err(TlvError::Truncated { offset, needed, have })) => {
                assert!(offset + have == length && needed > have);
            }
            other => panic!("{length}: {other:?}"),
        }
        assert_eq!(read.next(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept_in("tests/regressions/tlv.txt"), ..ProptestConfig::default() })]

    /// SRI's crates read what we write and write what we read.
    #[test]
    fn agrees_with_sri(
        extension_type in any::<u16>(), field in any::<u8>(),
        value in proptest::collection::vec(any::<u8>(), 0..33)
    ) {
        let ours = Tlv { extension_type, field, value: &value };
        let theirs = sri::Tlv::new(extension_type, field, value.clone());
        let bytes = encode(&[ours]);
        prop_assert_eq!(&theirs.encode().unwrap(), &bytes);
        prop_assert_eq!(sri::Tlv::decode(&bytes).unwrap(), theirs);
    }

    /// Random tails end, and what is read before an error adds up to the tail.
    #[test]
    fn random_tails_end(tail in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..300)) {
        let mut length = 0;
        for field in Tlvs::new(&tail) {
            match field {
                Ok(field) => length += 5 + field.value.len(),
                Err(_) => length = tail.len(),
            }
        }
        prop_assert_eq!(length, tail.len());
    }
}
