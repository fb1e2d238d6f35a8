//! The handshake of other Noise libraries, `tests/vectors/threshold/noise-xk.json`, and the vectors
//! of page 12, `12-federation-transport.json`.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::*;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn key(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn read(file: &str, group: &str) -> Vec<Value> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let mut vectors: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let Value::Array(cases) = vectors[group].take() else { panic!("no {group}") };
    assert!(!cases.is_empty());
    cases
}

/// Both ends with the secrets of a case, and the frames of their handshake.
fn shake(inputs: &Value) -> (Link, Link, Vec<Vec<u8>>) {
    let prologue = prologue(&key(&inputs["committee"]));
    let remote = key(&inputs["dialled_public"]);
    let mut noise = initiator(
        &key(&inputs["dialler_secret"]),
        &remote,
        &prologue,
        Some(&key(&inputs["dialler_ephemeral"])),
    )
    .unwrap();
    let first = write_handshake(&mut noise).unwrap();
    let mut dialler = Link::new(noise, 1, None, Some(remote));
    let dialled_secret = key(&inputs["dialled_secret"]);
    let ephemeral = key(&inputs["dialled_ephemeral"]);
    let noise = responder(&dialled_secret, &prologue, Some(&ephemeral)).unwrap();
    let secret = zeroize::Zeroizing::new(key(&inputs["dialler_secret"]));
    let allowed = BTreeSet::from([*TransportKey::from_secret(secret).public()]);
    let mut dialled = Link::new(noise, 0, Some(allowed), None);
    let second = dialled.receive(&first).unwrap().reply;
    let third = dialler.receive(&second).unwrap().reply;
    assert!(dialled.receive(&third).unwrap().opened);
    (dialler, dialled, vec![first, second, third])
}

fn many(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().unwrap().iter().map(bytes).collect()
}

/// spec: FT-1, FT-2, FT-3, FT-6, FT-7
#[test]
fn links_are_those_of_the_page() {
    for case in read("spec/vectors/12-federation-transport.json", "links") {
        let expected = &case["expected"];
        let (mut dialler, mut dialled, frames) = shake(&case["inputs"]);
        assert_eq!(frames, many(&expected["frames"]), "{}", case["id"]);
        assert_eq!(dialler.handshake_hash(), Some(&key(&expected["handshake_hash"])));
        for send in expected["sends"].as_array().unwrap() {
            let (from, to) = match send["from"].as_str().unwrap() {
                "dialler" => (&mut dialler, &mut dialled),
                _ => (&mut dialled, &mut dialler),
            };
            let messages = many(&send["messages"]);
            let sealed = from.send(&messages).unwrap();
            assert_eq!(sealed, bytes(&send["sealed"]), "{}", case["id"]);
            assert_eq!(to.receive(&sealed).unwrap().messages, messages);
        }
    }
}

/// spec: FT-9
#[test]
fn keys_are_replaced_when_the_page_says() {
    for case in read("spec/vectors/12-federation-transport.json", "replaced_keys") {
        let (mut dialler, mut dialled, _) = shake(&case["inputs"]);
        for _ in 0..case["inputs"]["noise_messages_before"].as_u64().unwrap() {
            dialled.receive(&dialler.send(&[b"x"]).unwrap()).unwrap();
        }
        let message = bytes(&case["expected"]["message"]);
        let sealed = dialler.send(&[&message]).unwrap();
        assert_eq!(sealed, bytes(&case["expected"]["sealed"]), "{}", case["id"]);
        assert_eq!(dialled.receive(&sealed).unwrap().messages, [message]);
    }
}

#[test]
fn handshakes_are_those_of_the_published_vectors() {
    for case in read("tests/vectors/threshold/noise-xk.json", "handshakes") {
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let mut ours = initiator(
            &key(&inputs["init_static"]),
            &key(&inputs["init_remote_static"]),
            &bytes(&inputs["init_prologue"]),
            Some(&key(&inputs["init_ephemeral"])),
        )
        .unwrap();
        let mut theirs = responder(
            &key(&inputs["resp_static"]),
            &bytes(&inputs["resp_prologue"]),
            Some(&key(&inputs["resp_ephemeral"])),
        )
        .unwrap();
        let messages = expected["messages"].as_array().unwrap();
        let (shaken, sent) = messages.split_at(3);
        for (number, message) in shaken.iter().enumerate() {
            let (from, to) =
                if number % 2 == 0 { (&mut ours, &mut theirs) } else { (&mut theirs, &mut ours) };
            let (payload, ciphertext) = (bytes(&message["payload"]), bytes(&message["ciphertext"]));
            let (mut written, mut read) = ([0; 256], [0; 256]);
            let length = from.write_message(&payload, &mut written).unwrap();
            assert_eq!(written[..length], ciphertext, "message {number}");
            let length = to.read_message(&ciphertext, &mut read).unwrap();
            assert_eq!(read[..length], payload, "message {number}");
        }
        assert_eq!(ours.get_handshake_hash(), bytes(&expected["handshake_hash"]));
        let mut ours = ours.into_transport_mode().unwrap();
        let mut theirs = theirs.into_transport_mode().unwrap();
        for (number, message) in sent.iter().enumerate() {
            let (from, to) =
                if number % 2 == 0 { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
            let (payload, ciphertext) = (bytes(&message["payload"]), bytes(&message["ciphertext"]));
            let (mut written, mut read) = ([0; 256], [0; 256]);
            let length = from.write_message(&payload, &mut written).unwrap();
            assert_eq!(written[..length], ciphertext, "transport message {number}");
            let length = to.read_message(&ciphertext, &mut read).unwrap();
            assert_eq!(read[..length], payload, "transport message {number}");
        }
    }
}
