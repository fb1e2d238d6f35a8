//! Who calls at a port that both Stratum versions share: lines and keys, whole and in pieces.

use proptest::{collection::vec, prelude::*, string::string_regex};
use radpool_sv1::{Caller, OPENING_LEN};
use radpool_wire::noise::Initiator;
use serde_json::Value;

/// What is decided when bytes come in these pieces, and after how many of them.
fn decide<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Option<Caller>, usize) {
    let mut heard = Vec::new();
    for piece in pieces {
        heard.extend_from_slice(piece);
        if let Some(caller) = Caller::recognise(&heard) {
            return (Some(caller), heard.len());
        }
    }
    (None, heard.len())
}

fn drip(bytes: &[u8]) -> (Option<Caller>, usize) {
    decide(bytes.chunks(1))
}

#[test]
fn lines_of_real_firmware_are_known_by_their_method() {
    let lines = [
        r#"{"id": 1, "method": "mining.subscribe", "params": ["bitaxe/BM1370/v2.6.0"]}"#,
        r#"{"method":"mining.configure","params":[["version-rolling"],{}],"id":0}"#,
        r#"{"id":1,"jsonrpc":"2.0","method":"mining.subscribe","params":[]}"#,
        r#"{"params": ["NerdMinerV2"], "id": 1, "method": "mining.subscribe"}"#,
        " \t{ \"method\" : \"mining.authorize\" }",
        "\r\n\r\n{\r\n\t\"method\":\"mining.ping\"}",
        r#"{"params":["Grubenlampe \u00fc \u00fc ü ⛏"],"method":"mining.subscribe"}"#,
        r#"{"a":1}{"method":"mining.subscribe"}"#,
        "{}\n{\"id\":1,\"method\":\"mining.subscribe\"}",
    ];
    for line in lines {
        let bytes = format!("{line}\n").into_bytes();
        let (caller, heard) = drip(&bytes);
        assert_eq!(caller, Some(Caller::Sv1), "{line}");
        assert!(heard <= OPENING_LEN, "{line}");
    }
}

#[test]
fn a_method_behind_the_opening_makes_no_difference() {
    let line = format!(r#"{{"params":["{}"],"method":"mining.subscribe"}}"#, "x".repeat(100));
    assert_eq!(drip(line.as_bytes()), (Some(Caller::Sv1), OPENING_LEN));
    // A line that is over and names none is waited with.
    assert_eq!(drip(b"{\"id\":1}\n"), (None, 9));
}

#[test]
fn what_no_line_begins_with_is_known_at_once() {
    let openings: [&[u8]; 14] = [
        b"\x00",
        b"G",
        b"[",
        b"\"method\"",
        b"\x16\x03\x01",
        b"\xef\xbb\xbf{",
        b" \x0c",
        b"{\x00",
        b"{x",
        b"{ {",
        b"{\"\x1f",
        b"{\"\xff",
        b"{\"\xc3\x28",
        b"{\"id\":1,\x00",
    ];
    for opening in openings {
        let (caller, heard) = drip(opening);
        assert_eq!(caller, Some(Caller::Sv2), "{opening:?}");
        assert!(heard <= opening.len());
    }
}

#[test]
fn nothing_is_decided_while_both_are_possible() {
    let openings: [&[u8]; 7] =
        [b"", b" \r\n\t ", b"{", b"{ ", b"{\"", b"{\"id\":1,\"metho", "{\"\u{fc}".as_bytes()];
    for opening in openings {
        assert_eq!(Caller::recognise(opening), None, "{opening:?}");
    }
    // In the middle of a character.
    assert_eq!(Caller::recognise(b"{\"\xe2\x9b"), None);
    assert_eq!(Caller::recognise(&[b' '; OPENING_LEN - 1]), None);
    assert_eq!(Caller::recognise(&[b' '; OPENING_LEN]), Some(Caller::Sv1));
}

/// What an honest client sends first, as its secrets give it.
fn handshake() -> impl Strategy<Value = [u8; OPENING_LEN]> {
    (any::<[u8; 32]>(), any::<[u8; 32]>())
        .prop_filter_map("no secret", |(secret, aux)| Some(Initiator::new(secret, aux).ok()?.1))
}

/// A key that happens to begin like a line.
fn unlucky_key() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = ["{", "{\"", " {\"", "\r\n{ \"", "{}", "{\"id\":1,", "{\"m"];
    (prop::sample::select(beginnings.to_vec()), any::<[u8; OPENING_LEN]>()).prop_map(
        |(beginning, key)| {
            let mut key = key.to_vec();
            key[..beginning.len()].copy_from_slice(beginning.as_bytes());
            key
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-zü]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A request as a device may write it: its parts in any order, blanks anywhere between them.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let blanks = || string_regex("[ \t\r\n]{0,3}").unwrap();
    let parts = ("mining\\.[a-z]{1,12}", vec(value(), 0..3), any::<u32>(), any::<u8>());
    (parts, [blanks(), blanks(), blanks(), blanks()]).prop_map(
        |((method, params, id, order), [ahead, open, between, close])| {
            let mut parts = [
                format!("\"method\":{open}\"{method}\""),
                format!("\"params\":{}", Value::from(params)),
                format!("\"id\":{id}"),
            ];
            parts.rotate_left(usize::from(order % 3));
            let body = parts.join(&format!("{between},{between}"));
            format!("{ahead}{{{open}{body}{close}}}\n").into_bytes()
        },
    )
}

proptest! {
    #[test]
    fn a_handshake_is_never_taken_for_a_line(key in handshake(), size in 1..OPENING_LEN) {
        prop_assert_eq!(Caller::recognise(&key), Some(Caller::Sv2));
        prop_assert_eq!(drip(&key).0, Some(Caller::Sv2));
        prop_assert_eq!(decide(key.chunks(size)).0, Some(Caller::Sv2));
    }

    #[test]
    fn neither_is_one_that_begins_like_a_line(key in unlucky_key(), size in 1..OPENING_LEN) {
        prop_assert_eq!(decide(key.chunks(size)).0, Some(Caller::Sv2));
        prop_assert_eq!(Caller::recognise(&key), Some(Caller::Sv2));
    }

    #[test]
    fn a_request_is_never_taken_for_a_key(line in request(), size in 1..OPENING_LEN) {
        let whole = Caller::recognise(&line);
        prop_assert_eq!(whole, Some(Caller::Sv1));
        prop_assert_eq!(drip(&line).0, whole);
        prop_assert_eq!(decide(line.chunks(size)).0, whole);
    }

    #[test]
    fn any_object_is_a_line_or_not_decided_before_its_end(object in value(), blanks in "[ \t\r\n]{0,9}") {
        prop_assume!(object.is_object());
        let line = format!("{blanks}{object}\n").into_bytes();
        for end in 0..=line.len() {
            let told = Caller::recognise(&line[..end]);
            prop_assert_ne!(told, Some(Caller::Sv2));
            prop_assert!(told.is_some() || end < OPENING_LEN);
        }
    }

    #[test]
    fn an_opening_always_decides_and_a_decision_stands(bytes in vec(any::<u8>(), 0..2 * OPENING_LEN)) {
        let (caller, heard) = drip(&bytes);
        prop_assert!(caller.is_some() || bytes.len() < OPENING_LEN);
        prop_assert!(heard <= OPENING_LEN);
        for end in heard..=bytes.len() {
            prop_assert_eq!(Caller::recognise(&bytes[..end]), caller);
        }
    }
}
