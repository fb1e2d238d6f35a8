//! The handshake: against SRI's noise_sv2 from both sides, and every way in which it can fail.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;

use kept::kept_in;
use proptest::prelude::*;
use radpool_wire::{
    frame::FrameHeader,
    keys::{AuthorityPublicKey, AuthoritySecretKey},
    noise::*,
};
use secp256k1::rand::{SeedableRng, rngs::StdRng};
use stratum_core::noise_sv2::{self, NoiseEngine};

const NOW: u32 = 1_790_000_000;

fn authority(seed: u8) -> AuthoritySecretKey {
    AuthoritySecretKey::from_bytes([seed; 32]).unwrap()
}

fn server(valid_from: u32, not_valid_after: u32) -> ServerIdentity {
    let static_key = StaticKey::from_bytes([2; 32]).unwrap();
    let certificate =
        Certificate::sign(&authority(1), &static_key, valid_from, not_valid_after, [3; 32]);
    ServerIdentity::new(static_key, certificate)
}

type Halves = (Sealer, Opener);

/// Runs a handshake on our own two sides.
fn shake(
    server: &ServerIdentity,
    trusted: Option<&AuthorityPublicKey>,
    unix_s: u32,
) -> Result<(Halves, Halves), HandshakeError> {
    let (initiator, act1) = Initiator::new([4; 32], [5; 32])?;
    let (act2, sealer, opener) = Responder::respond(server, &act1, [6; 32], [7; 32])?;
    Ok((initiator.finish(&act2, trusted, unix_s)?, (sealer, opener)))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let payload_len = payload.len() as u32;
    let header = FrameHeader { extension_type: 0, channel_msg: true, msg_type: 0x1b, payload_len };
    [&header.to_bytes(), payload].concat()
}

/// Seals a frame as the specification says, with SRI's cipher.
fn sri_seal(engine: &mut NoiseEngine, frame: &[u8]) -> Vec<u8> {
    let (header, payload) = frame.split_at(6);
    let mut out = Vec::new();
    for piece in core::iter::once(header).chain(payload.chunks(65_519)) {
        let mut piece = piece.to_vec();
        engine.encrypt(&mut piece).unwrap();
        out.extend_from_slice(&piece);
    }
    out
}

fn sri_open(engine: &mut NoiseEngine, sealed: &[u8]) -> Vec<u8> {
    let (header, payload) = sealed.split_at(SEALED_HEADER_LEN);
    let mut out = Vec::new();
    for piece in core::iter::once(header).chain(payload.chunks(65_535)) {
        let mut piece = piece.to_vec();
        engine.decrypt(&mut piece).unwrap();
        out.extend_from_slice(&piece);
    }
    out
}

fn open(opener: &mut Opener, mut sealed: Vec<u8>) -> Vec<u8> {
    let (header, payload) = sealed.split_first_chunk_mut().unwrap();
    let header = opener.open_header(header).unwrap();
    assert_eq!(sealed_payload_len(header.payload_len as usize), payload.len());
    [&header.to_bytes(), &*opener.open_payload(payload).unwrap()].concat()
}

/// Sends frames of many sizes both ways between our halves and SRI's engine.
fn exchange(sealer: &mut Sealer, opener: &mut Opener, engine: &mut NoiseEngine) {
    for length in [0, 1, 27, 33, 65_518, 65_519, 65_520, 131_038, 131_039, 200_000] {
        let plain = frame(&(0..length).map(|index| index as u8).collect::<Vec<_>>());
        let mut sealed = Vec::new();
        sealer.seal_frame(&plain, &mut sealed).unwrap();
        assert_eq!(sealed.len(), SEALED_HEADER_LEN + sealed_payload_len(length));
        assert_eq!(sri_open(engine, &sealed), plain);
        assert_eq!(open(opener, sri_seal(engine, &plain)), plain);
    }
}

#[test]
fn sri_as_client_accepts_our_server() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let trusted = authority(1).public_key().to_bytes();
        let mut client = noise_sv2::Initiator::from_raw_k_with_rng(trusted, &mut rng).unwrap();
        let act1 = client.step_0().unwrap();
        let (act2, mut sealer, mut opener) =
            Responder::respond(&server(NOW, NOW + 1), &act1, [seed as u8 + 1; 32], [9; 32])
                .unwrap();
        let mut engine = client.step_2_with_now(act2, NOW).unwrap();
        exchange(&mut sealer, &mut opener, &mut engine);
    }
}

#[test]
fn we_as_client_accept_sri_as_server() {
    let secret = authority(1);
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut server = noise_sv2::Responder::from_authority_kp_with_rng(
            &secret.public_key().to_bytes(),
            &secret.to_bytes(),
            core::time::Duration::from_secs(60),
            &mut rng,
        )
        .unwrap();
        let (initiator, act1) = Initiator::new([seed as u8 + 1; 32], [8; 32]).unwrap();
        let (act2, mut engine) = server.step_1_with_now_rng(act1, NOW, &mut rng).unwrap();
        let (mut sealer, mut opener) =
            initiator.finish(&act2, Some(&secret.public_key()), NOW).unwrap();
        exchange(&mut sealer, &mut opener, &mut engine);
    }
}

#[test]
fn sri_as_client_refuses_what_we_refuse() {
    let cases = [
        (1, NOW - 10, true),
        (1, NOW - 11, false),
        (1, NOW + 110, true),
        (1, NOW + 111, false),
        (2, NOW, false),
    ];
    for (seed, unix_s, accepted) in cases {
        let trusted = authority(seed).public_key();
        let server = server(NOW, NOW + 100);
        assert_eq!(shake(&server, Some(&trusted), unix_s).is_ok(), accepted, "{unix_s}");
        let mut rng = StdRng::seed_from_u64(1);
        let mut sri =
            noise_sv2::Initiator::from_raw_k_with_rng(trusted.to_bytes(), &mut rng).unwrap();
        let act1 = sri.step_0().unwrap();
        let (act2, ..) = Responder::respond(&server, &act1, [6; 32], [7; 32]).unwrap();
        assert_eq!(sri.step_2_with_now(act2, unix_s).is_ok(), accepted, "{unix_s}");
    }
}

#[test]
fn a_clock_that_is_behind_is_told_by_how_much_and_what_to_do() {
    let trusted = authority(1).public_key();
    let server = server(NOW, NOW + 100);
    shake(&server, Some(&trusted), NOW - CLOCK_TOLERANCE_S).unwrap();
    let error = shake(&server, Some(&trusted), NOW - 3600).unwrap_err();
    let expected =
        HandshakeError::ClockSkew { valid_from: NOW, unix_s: NOW - 3600, behind_s: 3600 };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "the server's certificate is valid from Unix second 1790000000, this machine's clock says \
         1789996400, 3600 s earlier: set the clock (timedatectl set-ntp true) or, if it is right, \
         tell the pool's operator"
    );
    shake(&server, Some(&trusted), 0).unwrap_err();
}

#[test]
fn an_expired_certificate_says_since_when_and_who_must_act() {
    let trusted = authority(1).public_key();
    let server = server(NOW, NOW + 100);
    shake(&server, Some(&trusted), NOW + 100 + CLOCK_TOLERANCE_S).unwrap();
    let error = shake(&server, Some(&trusted), NOW + 111).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server's certificate expired at Unix second 1790000100, this machine's clock says \
         1790000111, 11 s later: if the clock is right, the pool's operator must renew the \
         certificate (radpool certify)"
    );
    shake(&server, Some(&trusted), u32::MAX).unwrap_err();
}

#[test]
fn another_authority_is_named_with_the_key_that_the_server_showed() {
    let trusted = authority(9).public_key();
    let server = server(NOW, NOW + 100);
    // The wrong authority is reported even outside the validity, which nobody vouched for.
    let error = shake(&server, Some(&trusted), 0).unwrap_err();
    let shown = server.static_key().x_only_public_key();
    assert_eq!(
        error,
        HandshakeError::WrongAuthority { expected: trusted, server_static_key: shown }
    );
    let text = error.to_string();
    assert!(text.contains(&trusted.to_string()) && text.contains(&hex::encode(shown)), "{text}");
}

#[test]
fn a_certificate_for_another_server_is_refused() {
    let certificate = *server(NOW, NOW + 100).certificate();
    let impostor = ServerIdentity::new(StaticKey::from_bytes([0x55; 32]).unwrap(), certificate);
    let error = shake(&impostor, Some(&authority(1).public_key()), NOW).unwrap_err();
    assert!(matches!(error, HandshakeError::WrongAuthority { .. }), "{error}");
    shake(&impostor, None, NOW).unwrap();
}

#[test]
fn a_certificate_of_another_version_is_refused_even_without_an_authority() {
    let good = server(NOW, NOW + 100);
    let certificate = Certificate { version: 1, ..*good.certificate() };
    let other = ServerIdentity::new(good.static_key().clone(), certificate);
    for trusted in [None, Some(&authority(1).public_key())] {
        let error = shake(&other, trusted, NOW).unwrap_err();
        assert_eq!(error, HandshakeError::Version { found: 1, expected: 0 });
    }
}

#[test]
fn each_altered_bit_of_a_certificate_is_noticed() {
    let good = server(NOW, NOW + 100);
    let shown = good.static_key().x_only_public_key();
    let bytes = good.certificate().to_bytes();
    good.certificate().verify(&authority(1).public_key(), &shown, NOW).unwrap();
    assert_eq!(Certificate::from_bytes(&bytes), *good.certificate());
    for bit in 0..8 * CERTIFICATE_LEN {
        let mut altered = bytes;
        altered[bit / 8] ^= 1 << (bit % 8);
        let altered = Certificate::from_bytes(&altered);
        altered.verify(&authority(1).public_key(), &shown, NOW).unwrap_err();
    }
}

#[test]
fn each_altered_byte_of_act_2_ends_the_handshake() {
    let server = server(NOW, NOW + 100);
    let trusted = authority(1).public_key();
    let (_, act1) = Initiator::new([4; 32], [5; 32]).unwrap();
    let (act2, ..) = Responder::respond(&server, &act1, [6; 32], [7; 32]).unwrap();
    for index in 0..ACT2_LEN {
        let mut altered = act2;
        altered[index] ^= 0x40;
        let (initiator, _) = Initiator::new([4; 32], [5; 32]).unwrap();
        let field = if index < 144 { "static key" } else { "certificate" };
        let error = initiator.finish(&altered, Some(&trusted), NOW).unwrap_err();
        assert_eq!(error, HandshakeError::NotAuthentic { field }, "byte {index}");
    }
}

#[test]
fn broken_randomness_is_reported() {
    let order = hex::decode("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let order: [u8; 32] = order.unwrap().try_into().unwrap();
    for secret in [[0; 32], [0xff; 32], order] {
        assert_eq!(Initiator::new(secret, [5; 32]).unwrap_err(), HandshakeError::EphemeralSecret);
        let answer = Responder::respond(&server(0, 1), &[1; 64], secret, [7; 32]);
        assert_eq!(answer.unwrap_err(), HandshakeError::EphemeralSecret);
        StaticKey::from_bytes(secret).unwrap_err();
        AuthoritySecretKey::from_bytes(secret).unwrap_err();
    }
}

#[test]
fn nothing_secret_is_shown() {
    let identity = server(NOW, NOW + 100);
    let (initiator, act1) = Initiator::new([4; 32], [5; 32]).unwrap();
    let (_, sealer, opener) = Responder::respond(&identity, &act1, [6; 32], [7; 32]).unwrap();
    let shown = format!("{identity:?} {initiator:?} {sealer:?} {opener:?} {:?}", authority(1));
    for secret in [[1u8; 32], [2; 32], [4; 32]] {
        assert!(!shown.contains(&hex::encode(secret)), "{shown}");
        assert!(!shown.contains(&format!("{secret:?}")), "{shown}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept_in("tests/regressions/handshake.txt"), ..ProptestConfig::with_cases(64) })]

    /// Every act 1 is answered, every random act 2 refused.
    #[test]
    fn random_acts_never_panic(
        first in any::<[u8; 32]>(), second in any::<[u8; 32]>(), rest in proptest::collection::vec(any::<u8>(), ACT2_LEN)
    ) {
        let mut act1 = [0; ACT1_LEN];
        act1[..32].copy_from_slice(&first);
        act1[32..].copy_from_slice(&second);
        Responder::respond(&server(NOW, NOW + 100), &act1, [6; 32], second).unwrap();
        let (initiator, _) = Initiator::new([4; 32], first).unwrap();
        let act2: &[u8; ACT2_LEN] = rest.as_slice().try_into().unwrap();
        let error = initiator.finish(act2, None, NOW).unwrap_err();
        prop_assert_eq!(error, HandshakeError::NotAuthentic { field: "static key" });
    }
}

/// Encodings with zeros and with numbers above the field's prime decode as well (BIP324).
#[test]
fn degenerate_encodings_are_answered() {
    for act1 in [[0; ACT1_LEN], [0xff; ACT1_LEN]] {
        Responder::respond(&server(NOW, NOW + 100), &act1, [6; 32], [7; 32]).unwrap();
    }
}
