//! What peers may send, and what the mint must not give away.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use radpool_ecash::{
    AmountKey, Claim, Dleq, KeysetId, KeysetKeys, MintSeed, Point, PointError, Scalar, WalletSeed,
    blind, hash_to_curve, unblind, verify_proof_dleq,
};
use zeroize::Zeroizing;

/// Deterministic bytes that look random: SplitMix64.
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// attack: A4. Of 100,000 random strings none makes anything panic; those that are read are points,
/// which means that they start with 02 or 03 and are written back as they were.
#[test]
fn random_strings_are_points_or_refused() {
    let mut random = Bytes(4);
    let (mut read, mut off_the_curve) = (0, 0);
    let mut bytes = [0; 33];
    for round in 0..100_000 {
        random.fill(&mut bytes);
        if round % 2 == 0 {
            bytes[0] = 2 + bytes[0] % 2;
        }
        match Point::from_bytes(&bytes) {
            Ok(point) => {
                assert!(matches!(bytes[0], 2 | 3));
                assert_eq!(point.to_bytes(), bytes);
                read += 1;
            }
            Err(PointError::Form(form)) => assert!(form == bytes[0] && !matches!(form, 2 | 3)),
            Err(PointError::NotOnCurve) => off_the_curve += 1,
            Err(PointError::Length(_)) => panic!("33 bytes have the right length"),
        }
        let mut tail = vec![8, 1, 2, 3, 4, 5, 6, 7, 8, 33];
        tail.extend_from_slice(&bytes);
        assert_eq!(Claim::from_tail(&tail).is_ok(), Point::from_bytes(&bytes).is_ok());
    }
    // Every second x has a point: 25,000 and a bit, give or take five standard deviations.
    assert!((24_000..26_500).contains(&read), "{read}");
    assert!((24_000..26_500).contains(&off_the_curve), "{off_the_curve}");
}

/// attack: A4. Uncompressed, hybrid, x-only, the identity, and x from the field's prime on.
#[test]
fn other_forms_of_points_are_refused() {
    let generator = Point::generator_times(&Scalar::from_be_bytes(&one()).unwrap()).to_bytes();
    for form in (0..=u8::MAX).filter(|form| !matches!(form, 2 | 3)) {
        let mut bytes = generator;
        bytes[0] = form;
        assert_eq!(Point::from_bytes(&bytes), Err(PointError::Form(form)));
    }
    for len in (0..=70).filter(|len| *len != 33) {
        let mut bytes = [&generator[..], &generator[..], &generator[..]].concat();
        bytes.truncate(len);
        for form in [0, 2, 3, 4, 6, 7] {
            if let Some(first) = bytes.first_mut() {
                *first = form;
            }
            assert_eq!(Point::from_bytes(&bytes), Err(PointError::Length(len)));
        }
    }
    let mut prime = [0xff; 33];
    prime[28] = 0xfe;
    prime[31..].copy_from_slice(&[0xfc, 0x2f]);
    for (form, last) in [(2, 0x2f), (3, 0x2f), (2, 0x30), (3, 0xff)] {
        (prime[0], prime[32]) = (form, last);
        assert_eq!(Point::from_bytes(&prime), Err(PointError::NotOnCurve));
    }
    assert_eq!(Point::from_bytes(&[0; 33]), Err(PointError::Form(0)));
}

fn one() -> [u8; 32] {
    let mut one = [0; 32];
    one[31] = 1;
    one
}

fn scalar(byte: u8) -> Scalar {
    Scalar::from_be_bytes(&[byte; 32]).unwrap()
}

/// attack: A5. Nothing on the way to a signature draws randomness: two of the same message are the
/// same bytes, and those of other messages and other keys share no nonce.
/// spec: WT-9
#[test]
fn signatures_are_the_same_each_time() {
    let (key, other) = (AmountKey::new(scalar(7)), AmountKey::new(scalar(8)));
    let mut commitments = std::collections::HashSet::new();
    for message in 0u32..200 {
        let blinded = hash_to_curve(&message.to_le_bytes());
        for (byte, key) in [(7, &key), (8, &other)] {
            let signature = key.sign(&blinded);
            assert_eq!(signature, key.sign(&blinded));
            assert_eq!(signature, AmountKey::new(scalar(byte)).sign(&blinded));
            // A nonce that served twice would show as two equal challenges or responses.
            assert!(commitments.insert(signature.dleq.e));
            assert!(commitments.insert(signature.dleq.s));
        }
    }
}

/// attack: A7. A proof for one key convinces nobody of another, whatever is altered.
#[test]
fn a_proof_holds_for_its_key_and_message_alone() {
    let (key, other) = (AmountKey::new(scalar(7)), AmountKey::new(scalar(8)));
    let (blinded, another) = (hash_to_curve(b"a"), hash_to_curve(b"b"));
    let signed = key.sign(&blinded);
    let signature = Point::from_bytes(&signed.point).unwrap();
    assert!(signed.dleq.proves(key.public(), &blinded, &signature));
    assert!(!signed.dleq.proves(other.public(), &blinded, &signature));
    assert!(!signed.dleq.proves(key.public(), &another, &signature));
    assert!(!signed.dleq.proves(key.public(), &blinded, &another));
    for bit in 0..256 {
        for half in 0..2 {
            let mut dleq = signed.dleq;
            let bytes = if half == 0 { &mut dleq.e } else { &mut dleq.s };
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!dleq.proves(key.public(), &blinded, &signature));
        }
    }
    for number in [[0; 32], [0xff; 32]] {
        assert!(!Dleq { e: number, ..signed.dleq }.proves(key.public(), &blinded, &signature));
        assert!(!Dleq { s: number, ..signed.dleq }.proves(key.public(), &blinded, &signature));
    }
}

#[test]
fn no_text_of_a_secret_shows_it() {
    let shows = |text: String| text.contains("77") || text.contains("119");
    let seed = MintSeed::new(Zeroizing::new([0x77; 32]));
    assert!(!shows(format!("{seed:?}")));
    let wallet = WalletSeed::new(Zeroizing::new([0x77; 64]));
    assert!(!shows(format!("{wallet:?}")));
    let keys = KeysetKeys::derive(&seed, "work", 1, 0, 3).unwrap();
    assert_eq!(format!("{keys:?}"), format!("KeysetKeys({}, 3 secrets redacted)", keys.id()));
    let key = AmountKey::new(scalar(0x77));
    let public: String = key.public().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(format!("{key:?}"), format!("AmountKey(secret redacted, public Point({public}))"));
    let id = KeysetId::of(&[(1, *key.public())], "work", 0, None).unwrap();
    let output = wallet.output(&id, 0).unwrap();
    assert!(!format!("{output:?}").contains(output.secret.as_str()));
    assert_eq!(format!("{:?}", scalar(0x77)), "Scalar(redacted)");
}

proptest! {
    #[test]
    fn whatever_is_read_as_a_claim_or_an_id_does_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = Claim::from_tail(&bytes);
        let _ = Claim::from_value(&bytes);
        let _ = KeysetId::from_bytes(&bytes);
        prop_assert!(Scalar::from_be_bytes(&bytes).is_err() || bytes.len() == 32);
    }

    /// What is blinded with any factor and signed with any key unblinds to a token of that key.
    #[test]
    fn whoever_blinded_unblinds(secret in any::<[u8; 32]>(), key in 1u8..255, factor in 1u8..255) {
        let (key, factor) = (AmountKey::new(scalar(key)), scalar(factor));
        let blinded = blind(&secret, &factor).unwrap();
        let signed = key.sign(&blinded);
        let signature = Point::from_bytes(&signed.point).unwrap();
        prop_assert!(signed.dleq.proves(key.public(), &blinded, &signature));
        let token = unblind(&signature, &factor, key.public()).unwrap();
        prop_assert!(key.verify(&secret, &token));
        prop_assert!(verify_proof_dleq(&secret, &token, &factor, &signed.dleq, key.public()));
    }
}
