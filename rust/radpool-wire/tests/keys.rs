//! The text forms of keys and certificates.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;

use core::str::FromStr;

use kept::kept_in;
use proptest::prelude::*;
use radpool_wire::{
    keys::{AuthorityPublicKey, AuthoritySecretKey, KeyError},
    noise::{Certificate, StaticKey},
};

/// The pair that SRI's configuration examples carry.
const SRI_PUBLIC: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
const SRI_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

#[test]
fn the_keys_of_sri_configuration_files_are_read_and_written() {
    let secret = AuthoritySecretKey::from_str(SRI_SECRET).unwrap();
    let public = AuthorityPublicKey::from_str(&format!("  {SRI_PUBLIC}\n")).unwrap();
    assert_eq!(secret.public_key(), public);
    assert_eq!(secret.to_text().as_str(), SRI_SECRET);
    assert_eq!(public.to_string(), SRI_PUBLIC);
    assert_eq!(format!("{public:?}"), format!("AuthorityPublicKey({SRI_PUBLIC})"));
    assert_eq!(AuthorityPublicKey::from_bytes(&public.to_bytes()).unwrap(), public);
    assert_eq!(format!("{secret:?}"), "AuthoritySecretKey(redacted)");
}

#[test]
fn a_wrong_character_or_checksum_is_named_without_quoting_the_key() {
    let error = AuthoritySecretKey::from_str(&SRI_SECRET.replace('B', "0")).unwrap_err();
    let kind = "authority secret key";
    assert_eq!(error, KeyError::Character { kind, character: '0', index: 5 });
    let error = AuthoritySecretKey::from_str(&SRI_SECRET.replace('B', "ß")).unwrap_err();
    assert!(matches!(error, KeyError::Character { character: 'ß', index: 5, .. }), "{error}");
    for text in [&SRI_SECRET[1..], &SRI_SECRET.replace('B', "C"), "", "1", "1111"] {
        let error = AuthoritySecretKey::from_str(text).unwrap_err();
        assert_eq!(error, KeyError::Checksum { kind }, "{text}");
        assert!(!error.to_string().contains(&SRI_SECRET[..6]));
    }
}

#[test]
fn a_text_far_too_long_is_refused_unread() {
    let kind = "authority public key";
    for (length, error) in [
        (256, KeyError::Checksum { kind }),
        (257, KeyError::TooLong { kind, length: 257 }),
        (1 << 24, KeyError::TooLong { kind, length: 1 << 24 }),
    ] {
        assert_eq!(AuthorityPublicKey::from_str(&"2".repeat(length)).unwrap_err(), error);
    }
}

#[test]
fn kinds_of_keys_are_not_mixed_up() {
    let error = AuthorityPublicKey::from_str(SRI_SECRET).unwrap_err();
    assert_eq!(
        error.to_string(),
        "authority public key: 32 bytes inside, 34 expected: is it the secret key?"
    );
    let error = AuthoritySecretKey::from_str(SRI_PUBLIC).unwrap_err();
    assert!(error.to_string().ends_with("is it the public key?"), "{error}");

    let static_key = StaticKey::from_bytes([7; 32]).unwrap();
    let text = static_key.to_text();
    assert_eq!(*StaticKey::from_str(&text).unwrap().to_bytes(), [7; 32]);
    let error = AuthorityPublicKey::from_str(&text).unwrap_err();
    assert!(matches!(error, KeyError::Version { expected: 1, found: 2, .. }), "{error}");
    StaticKey::from_str(SRI_SECRET).unwrap_err();
    let error = StaticKey::from_str(SRI_PUBLIC).unwrap_err();
    assert!(matches!(error, KeyError::Version { expected: 2, found: 1, .. }), "{error}");

    let authority = AuthoritySecretKey::from_bytes([8; 32]).unwrap();
    let certificate = Certificate::sign(&authority, &static_key, 1, 2, [9; 32]);
    assert_eq!(Certificate::from_str(&certificate.to_text()).unwrap(), certificate);
    for text in [SRI_PUBLIC, SRI_SECRET, text.as_str()] {
        Certificate::from_str(text).unwrap_err();
    }
    AuthorityPublicKey::from_str(&certificate.to_text()).unwrap_err();
    AuthoritySecretKey::from_str(&certificate.to_text()).unwrap_err();
}

#[test]
fn numbers_that_are_no_keys_are_refused() {
    let text = bs58::encode([0; 32]).with_check().into_string();
    let error = AuthoritySecretKey::from_str(&text).unwrap_err();
    assert_eq!(error, KeyError::OutOfRange { kind: "authority secret key" });
    // No point has x = 5.
    let mut x = [0; 32];
    x[31] = 5;
    let error = AuthorityPublicKey::from_bytes(&x).unwrap_err();
    assert_eq!(error, KeyError::NotAPoint { kind: "authority public key" });
    let text = bs58::encode([&[2, 0][..], &[1; 32]].concat()).with_check().into_string();
    let error = AuthorityPublicKey::from_str(&text).unwrap_err();
    assert!(matches!(error, KeyError::Version { found: 2, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept_in("tests/regressions/keys.txt"), ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_key_or_an_error(text in ".{0,120}") {
        let _ = AuthoritySecretKey::from_str(&text);
        let _ = AuthorityPublicKey::from_str(&text);
        let _ = StaticKey::from_str(&text);
        let _ = Certificate::from_str(&text);
    }

    #[test]
    fn any_checked_bytes_are_a_key_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
        let text = bs58::encode(bytes).with_check().into_string();
        let _ = AuthoritySecretKey::from_str(&text);
        let _ = AuthorityPublicKey::from_str(&text);
        let _ = StaticKey::from_str(&text);
        let _ = Certificate::from_str(&text);
    }

    #[test]
    fn texts_round_trip(secret in any::<[u8; 32]>()) {
        if let Ok(key) = AuthoritySecretKey::from_bytes(secret) {
            prop_assert!(AuthoritySecretKey::from_str(&key.to_text()).unwrap().to_bytes() == key.to_bytes());
            let public = key.public_key();
            prop_assert_eq!(AuthorityPublicKey::from_str(&public.to_string()).unwrap(), public);
        }
    }
}
