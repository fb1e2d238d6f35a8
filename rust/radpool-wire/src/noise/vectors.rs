//! The transcripts in `spec/vectors/01-noise.json`: read, recomputed and compared.
//!
//! With `RADPOOL_WRITE_VECTORS=1` in the environment the file is written anew from [`cases`].

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};

use super::{symmetric::sha256, *};
use crate::{
    frame::FrameHeader,
    keys::{AuthorityPublicKey, AuthoritySecretKey},
};

const VALID_FROM: u32 = 1_790_000_000;
const NOT_VALID_AFTER: u32 = 1_790_086_400;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec/vectors/01-noise.json")
}

/// Secrets that look random and can be recomputed: the hash of their name.
fn secret(name: &str) -> [u8; 32] {
    sha256(&[b"radpool vector ", name.as_bytes()])
}

fn authority() -> AuthoritySecretKey {
    AuthoritySecretKey::from_bytes(secret("authority")).unwrap()
}

fn server() -> ServerIdentity {
    let static_key = StaticKey::from_bytes(secret("static")).unwrap();
    let aux = secret("certificate aux");
    let certificate =
        Certificate::sign(&authority(), &static_key, VALID_FROM, NOT_VALID_AFTER, aux);
    ServerIdentity::new(static_key, certificate)
}

/// One whole handshake, and a few frames in each direction.
fn handshake(id: &str) -> Value {
    let name = |part: &str| secret(&format!("{id} {part}"));
    let (server, authority) = (server(), authority().public_key());
    let (initiator, act1) =
        Initiator::new(name("initiator secret"), name("initiator aux")).unwrap();
    let (act2, mut server_sealer, server_opener) =
        Responder::respond(&server, &act1, name("responder secret"), name("responder aux"))
            .unwrap();
    let (mut client_sealer, client_opener) =
        initiator.finish(&act2, Some(&authority), VALID_FROM).unwrap();
    assert_eq!(client_sealer.key(), server_opener.key());
    assert_eq!(server_sealer.key(), client_opener.key());
    let keys = [client_sealer.key(), server_sealer.key()].map(hex::encode);
    json!({
        "id": id,
        "inputs": {
            "authority_secret": hex::encode(secret("authority")),
            "static_secret": hex::encode(secret("static")),
            "certificate_aux": hex::encode(secret("certificate aux")),
            "valid_from": VALID_FROM,
            "not_valid_after": NOT_VALID_AFTER,
            "initiator_secret": hex::encode(name("initiator secret")),
            "initiator_aux": hex::encode(name("initiator aux")),
            "responder_secret": hex::encode(name("responder secret")),
            "responder_aux": hex::encode(name("responder aux")),
        },
        "expected": {
            "static_x_only": hex::encode(server.static_key().x_only_public_key()),
            "static_elligator_swift": hex::encode(server.static_key().elligator_swift()),
            "certificate": hex::encode(server.certificate().to_bytes()),
            "act1": hex::encode(act1),
            "act2": hex::encode(act2),
            "key_client_to_server": keys[0],
            "key_server_to_client": keys[1],
            "client_to_server": frames(&mut client_sealer),
            "server_to_client": frames(&mut server_sealer),
        },
    })
}

/// Frames sealed one after another: a share, an empty payload, and one of three chunks, given by
/// the hash of its sealed form. Byte i of a payload is i mod 251.
fn frames(sealer: &mut Sealer) -> Vec<Value> {
    let lengths = [33, 0, 1, 2 * PLAIN_CHUNK_LEN_MAX + 1, 5];
    let seal = |payload_len: usize| {
        let header = FrameHeader {
            extension_type: 0,
            channel_msg: true,
            msg_type: 0x1b,
            payload_len: payload_len as u32,
        };
        let mut plain = header.to_bytes().to_vec();
        plain.extend((0..payload_len).map(|index| (index % 251) as u8));
        let mut sealed = Vec::new();
        sealer.seal_frame(&plain, &mut sealed).unwrap();
        let mut case = json!({
            "payload_len": payload_len,
            "sealed_len": sealed.len(),
            "sealed_sha256": hex::encode(sha256(&[&sealed])),
        });
        if payload_len < 100 {
            case["plain"] = hex::encode(&plain).into();
            case["sealed"] = hex::encode(&sealed).into();
        }
        case
    };
    lengths.map(seal).into()
}

/// One judgement of a certificate.
fn judgement(
    id: &str,
    trusted: &AuthorityPublicKey,
    certificate: &Certificate,
    unix_s: u32,
) -> Value {
    let static_x_only = server().static_key().x_only_public_key();
    let mut case = json!({
        "id": id,
        "inputs": {
            "authority_public_key": trusted.to_string(),
            "static_x_only": hex::encode(static_x_only),
            "certificate": hex::encode(certificate.to_bytes()),
            "unix_s": unix_s,
        },
    });
    let error = match certificate.verify(trusted, &static_x_only, unix_s) {
        Ok(()) => {
            case["expected"] = "valid".into();
            return case;
        }
        Err(HandshakeError::ClockSkew { .. }) => "clock-skew",
        Err(HandshakeError::Expired { .. }) => "expired",
        Err(HandshakeError::WrongAuthority { .. }) => "wrong-authority",
        Err(HandshakeError::Version { .. }) => "version",
        Err(other) => panic!("{id}: {other}"),
    };
    case["expected_error"] = error.into();
    case
}

fn certificates() -> Vec<Value> {
    let trusted = authority().public_key();
    let other = AuthoritySecretKey::from_bytes(secret("other authority")).unwrap().public_key();
    let good = *server().certificate();
    let version = Certificate { version: 1, ..good };
    let longer = Certificate { not_valid_after: NOT_VALID_AFTER + 1, ..good };
    let mut signature = good.signature;
    signature[63] ^= 1;
    let forged = Certificate { signature, ..good };
    vec![
        judgement("first-second", &trusted, &good, VALID_FROM),
        judgement("last-second", &trusted, &good, NOT_VALID_AFTER),
        judgement("tolerance-before", &trusted, &good, VALID_FROM - CLOCK_TOLERANCE_S),
        judgement("too-early", &trusted, &good, VALID_FROM - CLOCK_TOLERANCE_S - 1),
        judgement("tolerance-after", &trusted, &good, NOT_VALID_AFTER + CLOCK_TOLERANCE_S),
        judgement("too-late", &trusted, &good, NOT_VALID_AFTER + CLOCK_TOLERANCE_S + 1),
        judgement("other-authority", &other, &good, VALID_FROM),
        judgement("other-authority-and-expired", &other, &good, u32::MAX),
        judgement("unknown-version", &trusted, &version, VALID_FROM),
        judgement("validity-altered", &trusted, &longer, VALID_FROM),
        judgement("signature-altered", &trusted, &forged, VALID_FROM),
    ]
}

fn texts() -> Vec<Value> {
    let pair = |id: &str, bytes: [u8; 32]| {
        let key = AuthoritySecretKey::from_bytes(bytes).unwrap();
        json!({
            "id": id,
            "inputs": { "secret": hex::encode(bytes) },
            "expected": {
                "secret_text": key.to_text().as_str(),
                "public": hex::encode(key.public_key().to_bytes()),
                "public_text": key.public_key().to_string(),
            },
        })
    };
    let mut one = [0; 32];
    one[31] = 1;
    vec![pair("generator", one), pair("random", secret("authority"))]
}

fn cases() -> Value {
    json!({
        "title": "Noise NX handshake, certificates, sealed frames and key texts",
        "generator": "RADPOOL_WRITE_VECTORS=1 cargo test -p radpool-wire transcripts_are",
        "conventions": "bytes are lower-case hex in the order of the wire; secrets and x \
                        coordinates are big-endian numbers; certificates are signed by BIP340 with \
                        the auxiliary randomness given; ElligatorSwift encodings are those of \
                        libsecp256k1's ellswift_create with the auxiliary randomness given (none \
                        for the static key): an implementation that chooses other encodings of \
                        the same keys decodes these and continues from them",
        "handshakes": [handshake("first"), handshake("second")],
        "certificates": certificates(),
        "key_texts": texts(),
    })
}

#[test]
fn transcripts_are_those_of_the_vectors() {
    let cases = cases();
    if env::var_os("RADPOOL_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&cases).unwrap() + "\n";
        fs::write(path(), text).unwrap();
    }
    let file: Value = serde_json::from_slice(&fs::read(path()).unwrap()).unwrap();
    for part in ["handshakes", "certificates", "key_texts"] {
        let (found, expected) = (file[part].as_array().unwrap(), cases[part].as_array().unwrap());
        assert_eq!(found.len(), expected.len(), "{part}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{part} {}", expected["id"]);
        }
    }
}

/// Reads a transcript as a client that has nothing but the vector file.
#[test]
fn recorded_transcripts_are_accepted() {
    let file: Value = serde_json::from_slice(&fs::read(path()).unwrap()).unwrap();
    for case in file["handshakes"].as_array().unwrap() {
        let bytes = |part: &str, key: &str| hex::decode(case[part][key].as_str().unwrap()).unwrap();
        let input = |key: &str| bytes("inputs", key).try_into().unwrap();
        let (initiator, act1) =
            Initiator::new(input("initiator_secret"), input("initiator_aux")).unwrap();
        assert_eq!(act1.to_vec(), bytes("expected", "act1"));
        let authority = AuthoritySecretKey::from_bytes(input("authority_secret")).unwrap();
        let act2 = bytes("expected", "act2");
        let act2 = act2.as_slice().try_into().unwrap();
        let (_, mut opener) =
            initiator.finish(act2, Some(&authority.public_key()), VALID_FROM).unwrap();
        let frame = &case["expected"]["server_to_client"][0];
        let mut sealed = hex::decode(frame["sealed"].as_str().unwrap()).unwrap();
        let plain = hex::decode(frame["plain"].as_str().unwrap()).unwrap();
        let (header, payload) = sealed.split_first_chunk_mut().unwrap();
        assert_eq!(opener.open_header(header).unwrap().to_bytes(), plain[..6]);
        assert_eq!(opener.open_payload(payload).unwrap(), &plain[6..]);
    }
}
