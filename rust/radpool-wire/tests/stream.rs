//! The stream of sealed frames: cut anywhere, altered anywhere, announced too long.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use kept::kept_in;
use proptest::prelude::*;
use radpool_wire::{
    frame::{FrameHeader, HEADER_LEN, PAYLOAD_LEN_MAX},
    keys::AuthoritySecretKey,
    message::{Message, SubmitSharesExtended, SubmitSharesSuccess},
    noise::*,
    reader::{FrameReader, Input, ReadError},
};
use stratum_core::codec_sv2;

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: forwards to the system's allocator; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often and how much `act` allocates.
fn allocated(act: impl FnOnce()) -> (usize, usize) {
    let before = (ALLOCATIONS.get(), BYTES.get());
    act();
    (ALLOCATIONS.get() - before.0, BYTES.get() - before.1)
}

/// The client's sealer and the server's opener.
fn connect() -> (Sealer, Opener) {
    let authority = AuthoritySecretKey::from_bytes([1; 32]).unwrap();
    let key = StaticKey::from_bytes([2; 32]).unwrap();
    let certificate = Certificate::sign(&authority, &key, 0, u32::MAX, [3; 32]);
    let (initiator, act1) = Initiator::new([4; 32], [5; 32]).unwrap();
    let server = ServerIdentity::new(key, certificate);
    let (act2, _, opener) = Responder::respond(&server, &act1, [6; 32], [7; 32]).unwrap();
    (initiator.finish(&act2, None, 0).unwrap().0, opener)
}

fn header(payload_len: usize) -> FrameHeader {
    let payload_len = payload_len as u32;
    FrameHeader { extension_type: 0x4e45, channel_msg: true, msg_type: 0x1b, payload_len }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&header(payload.len()).to_bytes(), payload].concat()
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn seal(sealer: &mut Sealer, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal_frames(&frames.concat(), &mut out).unwrap();
    out
}

/// Feeds `sealed` in pieces of the given lengths, over and over, and collects the plain frames.
fn read_in_pieces(
    opener: &mut Opener,
    sealed: &[u8],
    lengths: &[usize],
) -> Result<Vec<Vec<u8>>, ReadError<()>> {
    let mut reader = FrameReader::new();
    let (mut frames, mut rest) = (Vec::new(), sealed);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at(rest.len().min(*length));
        rest = tail;
        let mut piece = piece.to_vec();
        reader.feed(
            &mut piece,
            opener,
            |_| Ok(()),
            |header, payload| {
                frames.push([&header.to_bytes(), &*payload].concat());
            },
        )?;
    }
    assert!(!reader.is_inside_frame(), "{reader:?}");
    assert_eq!(reader.allocated(), 0);
    Ok(frames)
}

#[test]
fn frames_survive_any_cut_of_the_stream() {
    let frames: Vec<_> =
        [0, 1, 33, 0, 0, 500, 65_519, 65_520, 140_000].map(|length| frame(&payload(length))).into();
    for lengths in
        [&[1][..], &[2], &[21], &[22], &[23], &[1000], &[65_536], &[1 << 20], &[1, 30, 7]]
    {
        let (mut sealer, mut opener) = connect();
        let sealed = seal(&mut sealer, &frames);
        assert_eq!(read_in_pieces(&mut opener, &sealed, lengths).unwrap(), frames);
    }
}

#[test]
fn a_stream_cut_at_any_byte_gives_the_whole_frames_before_it() {
    let frames: Vec<_> = [33, 0, 70].map(|length| frame(&payload(length))).into();
    let (mut sealer, _) = connect();
    let sealed = seal(&mut sealer, &frames);
    let ends: Vec<_> = frames
        .iter()
        .scan(0, |end, frame| {
            *end += SEALED_HEADER_LEN + sealed_payload_len(frame.len() - HEADER_LEN);
            Some(*end)
        })
        .collect();
    for length in 0..=sealed.len() {
        let (_, mut opener) = connect();
        let mut reader = FrameReader::new();
        let mut count = 0;
        let mut start = sealed[..length].to_vec();
        reader.feed::<()>(&mut start, &mut opener, |_| Ok(()), |_, _| count += 1).unwrap();
        assert_eq!(count, ends.iter().filter(|end| **end <= length).count(), "{length}");
        assert_eq!(reader.is_inside_frame(), length != 0 && !ends.contains(&length), "{length}");
        let mut rest = sealed[length..].to_vec();
        reader.feed::<()>(&mut rest, &mut opener, |_| Ok(()), |_, _| count += 1).unwrap();
        assert_eq!(count, frames.len());
    }
}

#[test]
fn an_altered_byte_anywhere_kills_the_connection_for_good() {
    let frames: Vec<_> = [33, 50].map(|length| frame(&payload(length))).into();
    let sealed = seal(&mut connect().0, &frames);
    for index in 0..sealed.len() {
        let (_, mut opener) = connect();
        let mut altered = sealed.clone();
        altered[index] ^= 1;
        let mut count = 0;
        let error = FrameReader::new()
            .feed::<()>(&mut altered, &mut opener, |_| Ok(()), |_, _| count += 1)
            .unwrap_err();
        let (part, before) = match index {
            0..22 => ("header", 0),
            22..71 => ("payload", 0),
            71..93 => ("header", 1),
            _ => ("payload", 1),
        };
        assert_eq!((error, count), (ReadError::Open(OpenError { part }), before), "byte {index}");
        // What would have opened before does not open behind a forgery.
        let mut again = sealed.clone();
        opener.open_header(again.first_chunk_mut().unwrap()).unwrap_err();
        opener.open_payload(&mut again).unwrap_err();
    }
}

#[test]
fn replayed_reordered_and_reflected_frames_do_not_open() {
    let frames: Vec<_> = [33, 50].map(|length| frame(&payload(length))).into();
    let sealed = seal(&mut connect().0, &frames);
    let (first, second) = sealed.split_at(71);
    for stream in [[first, first].concat(), [second, first].concat()] {
        let (_, mut opener) = connect();
        read_in_pieces(&mut opener, &stream, &[1 << 16]).unwrap_err();
    }
    // A frame of the client does not open on the client.
    let (mut sealer, _) = connect();
    let authority = AuthoritySecretKey::from_bytes([1; 32]).unwrap();
    let key = StaticKey::from_bytes([2; 32]).unwrap();
    let certificate = Certificate::sign(&authority, &key, 0, u32::MAX, [3; 32]);
    let (initiator, act1) = Initiator::new([4; 32], [5; 32]).unwrap();
    let server = ServerIdentity::new(key, certificate);
    let (act2, ..) = Responder::respond(&server, &act1, [6; 32], [7; 32]).unwrap();
    let (_, mut client_opener) = initiator.finish(&act2, None, 0).unwrap();
    let sealed = seal(&mut sealer, &frames);
    read_in_pieces(&mut client_opener, &sealed, &[1 << 16]).unwrap_err();
}

#[test]
fn the_cap_is_asked_before_anything_is_kept() {
    // A header of 16 MiB, sealed by a peer that never sends the payload.
    let (mut sealer, mut opener) = connect();
    let whole = frame(&vec![0; PAYLOAD_LEN_MAX]);
    let sealed = seal(&mut sealer, &[whole]);
    let mut reader = FrameReader::new();
    let mut start = sealed[..SEALED_HEADER_LEN + 10].to_vec();
    let mut asked = Vec::new();
    let counts = allocated(|| {
        let error = reader
            .feed(&mut start, &mut opener, |header| Err(header.payload_len), |_, _| panic!())
            .unwrap_err();
        assert_eq!(error, ReadError::Refused(PAYLOAD_LEN_MAX as u32));
    });
    assert_eq!(counts, (0, 0));

    // Allowed, it costs what has arrived.
    let (_, mut opener) = connect();
    let mut reader = FrameReader::new();
    for (index, piece) in sealed[..3000].chunks(100).enumerate() {
        let mut piece = piece.to_vec();
        reader
            .feed::<()>(
                &mut piece,
                &mut opener,
                |header| {
                    asked.push(*header);
                    Ok(())
                },
                |_, _| panic!(),
            )
            .unwrap();
        assert!(reader.allocated() <= 2 * 100 * (index + 1), "{}", reader.allocated());
    }
    assert_eq!(asked, [header(PAYLOAD_LEN_MAX)]);
}

#[test]
fn the_longest_frame_passes() {
    let (mut sealer, mut opener) = connect();
    let whole = frame(&payload(PAYLOAD_LEN_MAX));
    let sealed = seal(&mut sealer, core::slice::from_ref(&whole));
    let read = read_in_pieces(&mut opener, &sealed, &[65_536]).unwrap();
    assert!(read == [whole]);
}

#[test]
fn whole_frames_are_opened_without_an_allocation() {
    let frames: Vec<_> = (0..100).map(|_| frame(&payload(33))).collect();
    let (mut sealer, mut opener) = connect();
    let mut sealed = Vec::with_capacity(100 * 71);
    let plain = frames.concat();
    let counts = allocated(|| sealer.seal_frames(&plain, &mut sealed).unwrap());
    assert_eq!(counts, (0, 0));
    let mut reader = FrameReader::new();
    let mut count = 0;
    let counts = allocated(|| {
        reader.feed::<()>(&mut sealed, &mut opener, |_| Ok(()), |_, _| count += 1).unwrap();
    });
    assert_eq!((counts, count), ((0, 0), 100));
}

#[test]
fn a_share_is_decoded_and_acknowledged_without_an_allocation() {
    let share = SubmitSharesExtended {
        channel_id: 1,
        sequence_number: 2,
        job_id: 3,
        nonce: 4,
        ntime: 5,
        version: 6,
        extranonce: &[7; 16],
        tail: b"\x02\x00\x01\x03\x00rig",
    };
    let mut frame = Vec::new();
    Message::SubmitSharesExtended(share).encode(&mut frame).unwrap();
    let header = FrameHeader::of_frame(&frame).unwrap();
    let success = SubmitSharesSuccess {
        channel_id: 1,
        last_sequence_number: 2,
        new_submits_accepted_count: 3,
        new_shares_sum: 4,
    };
    let mut out = Vec::with_capacity(100);
    let counts = allocated(|| {
        let message = Message::decode(header, &mut frame[HEADER_LEN..]).unwrap();
        assert_eq!(message, Message::SubmitSharesExtended(share));
        Message::SubmitSharesSuccess(success).encode(&mut out).unwrap();
    });
    assert_eq!(counts, (0, 0));
}

/// The memory to decode a payload is bounded by its length, whatever counts it claims.
#[test]
fn decoding_allocates_in_proportion_to_the_payload() {
    for (extension_type, msg_type) in (0..0x28).map(|it| (0, it)).chain((0..3).map(|it| (1, it))) {
        for fill in [0, 1, 2, 0x7f, 0xff] {
            for length in [0, 10, 200, 4096, 131_074, 262_150] {
                let mut payload = vec![fill; length];
                let header = FrameHeader { extension_type, msg_type, ..header(length) };
                let (_, bytes) = allocated(|| drop(Message::decode(header, &mut payload)));
                assert!(
                    bytes <= 1024 + 8 * length,
                    "{extension_type:#x}/{msg_type:#x}: {bytes} for {length} times {fill:#x}"
                );
            }
        }
    }
}

#[test]
fn an_idle_connection_costs_120_bytes() {
    assert_eq!(size_of::<Sealer>() + size_of::<Opener>() + size_of::<FrameReader>(), 120);
    // Also after a frame that came in pieces.
    let (mut sealer, mut opener) = connect();
    let mut sealed = seal(&mut sealer, &[frame(&payload(5000))]);
    let mut reader = FrameReader::new();
    let (first, second) = sealed.split_at_mut(3000);
    reader.feed::<()>(first, &mut opener, |_| Ok(()), |_, _| ()).unwrap();
    assert!(reader.is_inside_frame() && reader.allocated() >= 2978);
    reader.feed::<()>(second, &mut opener, |_| Ok(()), |_, _| ()).unwrap();
    assert!(!reader.is_inside_frame());
    assert_eq!(reader.allocated(), 0);
}

#[test]
fn the_caller_may_stop_between_frames() {
    let (mut sealer, mut opener) = connect();
    let mut sealed = seal(&mut sealer, &[frame(b"one"), frame(b"two")]);
    let mut reader = FrameReader::new();
    let mut input = Input::new(&mut sealed);
    let allow = |_: &FrameHeader| Ok::<_, ()>(());
    let (header, payload) = reader.next_frame(&mut input, &mut opener, allow).unwrap().unwrap();
    assert_eq!((header.payload_len, &*payload), (3, &b"one"[..]));
    assert_eq!(input.len(), SEALED_HEADER_LEN + sealed_payload_len(3));
    let (_, payload) = reader.next_frame(&mut input, &mut opener, allow).unwrap().unwrap();
    assert_eq!(payload, b"two");
    assert!(input.is_empty());
    assert_eq!(reader.next_frame(&mut input, &mut opener, allow).unwrap(), None);
}

#[test]
fn only_whole_frames_are_sealed() {
    let (mut sealer, _) = connect();
    let mut out = vec![1];
    let whole = frame(b"abc");
    for bad in [&whole[..0], &whole[..5], &whole[..8], &[&whole[..], &[0]].concat()] {
        let error = sealer.seal_frame(bad, &mut out).unwrap_err();
        assert_eq!(error, SealError::NotAFrame { length: bad.len(), rest: bad.len() });
    }
    let two = [&whole[..], &whole[..7]].concat();
    let error = sealer.seal_frames(&two, &mut out).unwrap_err();
    assert_eq!(error, SealError::NotAFrame { length: 16, rest: 7 });
    assert_eq!(out, [1]);
    sealer.seal_frames(&[], &mut out).unwrap();
    assert_eq!(out, [1]);
}

#[test]
fn headers_round_trip() {
    for (raw, expected) in [
        ([0x45, 0xce, 0x1b, 1, 2, 3], (0x4e45, true, 0x1b, 0x03_0201)),
        ([0, 0, 0, 0xff, 0xff, 0xff], (0, false, 0, 0xff_ffff)),
        ([0xff, 0xff, 0xff, 0, 0, 0], (0x7fff, true, 0xff, 0)),
    ] {
        let header = FrameHeader::from_bytes(&raw);
        let FrameHeader { extension_type, channel_msg, msg_type, payload_len } = header;
        assert_eq!((extension_type, channel_msg, msg_type, payload_len), expected);
        assert_eq!(header.to_bytes(), raw);
    }
}

/// Our halves against SRI's whole codec: its own framing, buffers and state machine.
#[test]
fn sri_codec_reads_and_writes_our_stream() {
    use codec_sv2::{Decrypted, Handshake, NoiseDecoder, NoiseEncoder};
    use stratum_core::{framing_sv2::framing::SerializedFrame, noise_sv2};

    let authority = AuthoritySecretKey::from_bytes([1; 32]).unwrap();
    let key = StaticKey::from_bytes([2; 32]).unwrap();
    let server =
        ServerIdentity::new(key.clone(), Certificate::sign(&authority, &key, 0, u32::MAX, [3; 32]));
    let role = noise_sv2::Initiator::from_raw_k(authority.public_key().to_bytes()).unwrap();
    let (act1, sent) = Handshake::initiator(role).step_0().unwrap();
    let act1 = act1.payload().try_into().unwrap();
    let (act2, mut sealer, mut opener) =
        Responder::respond(&server, act1, [6; 32], [7; 32]).unwrap();
    let (mut encrypt, mut decrypt) = sent.step_2(act2).unwrap().split();
    let (mut encoder, mut decoder) = (NoiseEncoder::new(), NoiseDecoder::new());
    for length in [0, 1, 33, 65_519, 65_520, 140_000] {
        let plain = frame(&payload(length));
        let theirs = SerializedFrame::from_bytes(plain.clone()).unwrap();
        let sealed = encoder.encode_transport(theirs, &mut encrypt).unwrap();
        let read = read_in_pieces(&mut opener, sealed.as_ref(), &[1000]).unwrap();
        assert!(read == [plain.clone()], "{length}");

        let sealed = seal(&mut sealer, core::slice::from_ref(&plain));
        let mut rest = sealed.as_slice();
        loop {
            match decoder.next_transport_frame(decrypt).unwrap() {
                Decrypted::Frame(read, state) => {
                    assert!(read.as_bytes() == plain, "{length}");
                    decrypt = state;
                    break;
                }
                Decrypted::Incomplete(_, state) => {
                    decrypt = state;
                    let writable = decoder.writable();
                    let (piece, tail) = rest.split_at(writable.len());
                    writable.copy_from_slice(piece);
                    rest = tail;
                }
            }
        }
        assert!(rest.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept_in("tests/regressions/stream.txt"), ..ProptestConfig::with_cases(200) })]

    /// Any frames, cut into any pieces, arrive as they were.
    #[test]
    fn any_frames_survive_any_pieces(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..12),
        lengths in proptest::collection::vec(1usize..500, 1..20),
    ) {
        let (mut sealer, mut opener) = connect();
        let frames: Vec<_> = payloads.iter().map(|it| frame(it)).collect();
        let sealed = seal(&mut sealer, &frames);
        prop_assert_eq!(read_in_pieces(&mut opener, &sealed, &lengths).unwrap(), frames);
    }

    /// Random bytes are refused at the first header, whatever comes.
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 22..2000), piece in 1usize..300) {
        let (_, mut opener) = connect();
        let error = read_in_pieces(&mut opener, &bytes, &[piece]).unwrap_err();
        prop_assert_eq!(error, ReadError::Open(OpenError { part: "header" }));
    }
}
