#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use rand_core::OsRng;

use super::*;

const COMMITTEE: [u8; 32] = [0xc0; 32];

fn keys_pair() -> (TransportKey, TransportKey) {
    (TransportKey::generate(&mut OsRng), TransportKey::generate(&mut OsRng))
}

/// Two ends that have shaken hands.
fn open_pair() -> (Link, Link) {
    let (ours, theirs) = keys_pair();
    let (mut dialler, first) = Link::dial(&ours, theirs.public(), &COMMITTEE).unwrap();
    let mut dialled = Link::accept(&theirs, BTreeSet::from([*ours.public()]), &COMMITTEE).unwrap();
    let second = dialled.receive(&first).unwrap();
    let third = dialler.receive(&second.reply).unwrap();
    assert!(third.opened && !second.opened);
    let last = dialled.receive(&third.reply).unwrap();
    assert!(last.opened);
    assert!(last.reply.is_empty());
    (dialler, dialled)
}

#[test]
fn two_members_shake_hands_and_talk() {
    let (mut dialler, mut dialled) = open_pair();
    assert!(dialler.is_open() && dialled.is_open());
    assert_eq!(dialler.handshake_hash(), dialled.handshake_hash());
    assert!(dialler.handshake_hash().is_some());
    let bytes = dialler.send(&[b"one".as_slice(), b"two"]).unwrap();
    let received = dialled.receive(&bytes).unwrap();
    assert_eq!(received.messages, [b"one", b"two"]);
    let bytes = dialled.send(&[b"three"]).unwrap();
    assert_eq!(dialler.receive(&bytes).unwrap().messages, [b"three"]);
    assert!(dialler.send::<&[u8]>(&[]).unwrap().is_empty());
}

#[test]
fn bytes_come_in_any_pieces() {
    let (ours, theirs) = keys_pair();
    let (mut dialler, first) = Link::dial(&ours, theirs.public(), &COMMITTEE).unwrap();
    let mut dialled = Link::accept(&theirs, BTreeSet::from([*ours.public()]), &COMMITTEE).unwrap();
    let one_by_one = |link: &mut Link, bytes: &[u8]| {
        let mut all = Received::default();
        for byte in bytes {
            let received = link.receive(&[*byte]).unwrap();
            all.reply.extend(received.reply);
            all.messages.extend(received.messages);
        }
        all
    };
    let second = one_by_one(&mut dialled, &first).reply;
    let mut third = one_by_one(&mut dialler, &second).reply;
    // What the dialler says first may come together with its last handshake message.
    third.extend(dialler.send(&[b"early"]).unwrap());
    assert_eq!(one_by_one(&mut dialled, &third).messages, [b"early"]);
}

#[test]
fn long_messages_span_frames_and_have_a_bound() {
    let (mut dialler, mut dialled) = open_pair();
    for length in [1, PLAIN_MAX - 4, PLAIN_MAX - 3, 2 * PLAIN_MAX, MESSAGE_MAX] {
        let message: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let bytes = dialler.send(&[&message]).unwrap();
        let frames = (length + 4).div_ceil(PLAIN_MAX);
        assert_eq!(bytes.len(), length + 4 + frames * 20);
        let mut messages = Vec::new();
        for piece in bytes.chunks(100_000) {
            messages.extend(dialled.receive(piece).unwrap().messages);
        }
        assert!(messages == [message], "{length}");
    }
    for length in [0, MESSAGE_MAX + 1] {
        let error = dialler.send(&[vec![1; 3], vec![0; length]]).unwrap_err();
        assert_eq!(error, LinkError::Unsendable(length));
        assert!(error.is_local());
    }
    // Nothing of what was refused was encrypted: the two ends still agree.
    let bytes = dialler.send(&[b"on"]).unwrap();
    assert_eq!(dialled.receive(&bytes).unwrap().messages, [b"on"]);
}

/// Encrypts a plaintext that `send` would not make.
fn encrypt(link: &mut Link, plain: &[u8]) -> Vec<u8> {
    let State::Open(noise) = &mut link.state else { panic!("not open") };
    let mut message = vec![0; plain.len() + TAG_LEN];
    noise.write_message(plain, &mut message).unwrap();
    let length = u32::try_from(message.len()).unwrap();
    [length.to_le_bytes().as_slice(), &message].concat()
}

#[test]
fn announced_lengths_are_refused_before_anything_is_kept() {
    for length in [0, MESSAGE_MAX + 1, u32::MAX as usize] {
        let (mut dialler, mut dialled) = open_pair();
        let bytes = encrypt(&mut dialler, &u32::try_from(length).unwrap().to_le_bytes());
        assert_eq!(dialled.receive(&bytes), Err(LinkError::Message(length)));
        assert_eq!(dialled.receive(&[]), Err(LinkError::Closed));
        assert_eq!(dialled.send(&[b"x"]), Err(LinkError::Closed));
    }
    for length in [0, 1, 15, 16, 65_536, u32::MAX as usize] {
        let (_, mut dialled) = open_pair();
        let bytes = u32::try_from(length).unwrap().to_le_bytes();
        assert_eq!(dialled.receive(&bytes), Err(LinkError::Frame(length)));
    }
    for length in [0, 47, 49, 64, u32::MAX as usize] {
        let (_, theirs) = keys_pair();
        let mut dialled = Link::accept(&theirs, BTreeSet::new(), &COMMITTEE).unwrap();
        let bytes = u32::try_from(length).unwrap().to_le_bytes();
        assert_eq!(dialled.receive(&bytes), Err(LinkError::Frame(length)));
    }
}

#[test]
fn strangers_are_told_nothing() {
    let (stranger, theirs) = keys_pair();
    let member = TransportKey::generate(&mut OsRng);
    let accept = || Link::accept(&theirs, BTreeSet::from([*member.public()]), &COMMITTEE).unwrap();

    // One who knows whom it dials, but is on no list: no byte after the third message.
    let (mut dialler, first) = Link::dial(&stranger, theirs.public(), &COMMITTEE).unwrap();
    let mut dialled = accept();
    let second = dialled.receive(&first).unwrap().reply;
    assert_eq!(dialled.remote(), None);
    let third = dialler.receive(&second).unwrap().reply;
    assert_eq!(dialled.receive(&third), Err(LinkError::Stranger(*stranger.public())));
    assert!(!dialled.is_open());

    // One who does not know whom it dials, or is of another committee: no byte at all.
    let (_, first) = Link::dial(&member, stranger.public(), &COMMITTEE).unwrap();
    assert_eq!(accept().receive(&first), Err(LinkError::Handshake(1)));
    let (_, first) = Link::dial(&member, theirs.public(), &[0; 32]).unwrap();
    assert_eq!(accept().receive(&first), Err(LinkError::Handshake(1)));

    // One who answers without being the one that was dialled.
    let (mut dialler, _) = Link::dial(&member, theirs.public(), &COMMITTEE).unwrap();
    let mut answer = vec![48, 0, 0, 0];
    answer.extend([9; 48]);
    assert_eq!(dialler.receive(&answer), Err(LinkError::Handshake(2)));
}

#[test]
fn a_dialled_key_of_low_order_is_refused() {
    let (ours, _) = keys_pair();
    let refused = Link::dial(&ours, &[0; 32], &COMMITTEE).unwrap_err();
    assert!(matches!(refused, LinkError::Keys(_)), "{refused}");
    assert!(refused.is_local());
}

#[test]
fn changed_lost_and_repeated_bytes_close_the_link() {
    let (mut dialler, mut dialled) = open_pair();
    let bytes = dialler.send(&[b"message"]).unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(dialled.receive(&changed), Err(LinkError::Decrypt));
    assert_eq!(dialled.receive(&bytes), Err(LinkError::Closed));

    let (mut dialler, mut dialled) = open_pair();
    dialler.send(&[b"lost"]).unwrap();
    let bytes = dialler.send(&[b"message"]).unwrap();
    assert_eq!(dialled.receive(&bytes), Err(LinkError::Decrypt));

    let (mut dialler, mut dialled) = open_pair();
    let bytes = dialler.send(&[b"message"]).unwrap();
    dialled.receive(&bytes).unwrap();
    assert_eq!(dialled.receive(&bytes), Err(LinkError::Decrypt));
}

#[test]
fn nothing_is_sent_before_the_handshake_is_over() {
    let (ours, theirs) = keys_pair();
    let (mut dialler, _) = Link::dial(&ours, theirs.public(), &COMMITTEE).unwrap();
    assert_eq!(dialler.send(&[b"x"]), Err(LinkError::NotOpen));
    assert!(format!("{dialler:?}").starts_with("Link(shaking hands"));
}

#[test]
fn keys_are_replaced_after_65536_messages() {
    let (mut dialler, mut dialled) = open_pair();
    let mut undisturbed = 0;
    for number in 1..=u32::try_from(REKEY_AFTER).unwrap() + 2 {
        let bytes = dialler.send(&[number.to_le_bytes()]).unwrap();
        let received = dialled.receive(&bytes).unwrap();
        assert_eq!(received.messages, [number.to_le_bytes()]);
        undisturbed += 1;
    }
    assert_eq!(undisturbed, 65_538);
    // The other direction has its own count and key.
    let bytes = dialled.send(&[b"back"]).unwrap();
    assert_eq!(dialler.receive(&bytes).unwrap().messages, [b"back"]);
    // A sender that does not replace its key is not understood.
    let (mut dialler, mut dialled) = open_pair();
    for _ in 0..REKEY_AFTER {
        let bytes = encrypt(&mut dialler, &[1, 0, 0, 0, 7]);
        dialled.receive(&bytes).unwrap();
    }
    let bytes = encrypt(&mut dialler, &[1, 0, 0, 0, 7]);
    assert_eq!(dialled.receive(&bytes), Err(LinkError::Decrypt));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_answered(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        fitting in any::<bool>(),
        stage in 0..4,
    ) {
        let (ours, theirs) = keys_pair();
        let mut link = match stage {
            0 => Link::accept(&theirs, BTreeSet::from([*ours.public()]), &COMMITTEE).unwrap(),
            1 => Link::dial(&ours, theirs.public(), &COMMITTEE).unwrap().0,
            2 => open_pair().0,
            _ => open_pair().1,
        };
        for piece in pieces {
            let mut bytes = piece;
            if fitting {
                let length: u32 = if stage < 2 { 48 } else { 196 };
                let head = length.to_le_bytes();
                let fits = bytes.len().min(4);
                bytes[..fits].copy_from_slice(&head[..fits]);
            }
            if link.receive(&bytes).is_err() {
                prop_assert_eq!(link.receive(&bytes), Err(LinkError::Closed));
                break;
            }
            prop_assert!(link.frame.len() < LENGTH_LEN + NOISE_MAX);
        }
    }

    #[test]
    fn plaintexts_of_a_member_are_answered(plain in proptest::collection::vec(any::<u8>(), 1..300)) {
        let (mut dialler, mut dialled) = open_pair();
        let bytes = encrypt(&mut dialler, &plain);
        if let Ok(received) = dialled.receive(&bytes) {
            prop_assert!(received.messages.iter().all(|message| !message.is_empty()));
        }
    }
}

mod vectors;
