//! Every message, encoded and decoded both ways, against SRI's crates.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod kept;

mod arbitrary;
mod sri;

use arbitrary::{TailLen, message, share_tail};
use kept::kept_in;
use proptest::prelude::*;
use radpool_wire::{
    DecodeError, EncodeError,
    frame::{FrameHeader, HEADER_LEN},
    message::*,
};
use sri::{sri_frame, to_sri};
use stratum_core::{
    binary_sv2::Seq0255Owned,
    framing_sv2::header::Header,
    mining_sv2 as mining,
    parsers_sv2::{AnyMessage, AnyMessageOwned, MiningOwned},
};

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![0xee; 3];
    message.encode(&mut frame).unwrap();
    frame.split_off(3)
}

fn header_of(frame: &[u8]) -> FrameHeader {
    FrameHeader::of_frame(frame).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept_in("tests/regressions/messages.txt"), ..ProptestConfig::with_cases(2000) })]

    /// Our bytes are SRI's bytes, header and channel bit included; both sides read them alike.
    #[test]
    fn encodes_and_decodes_as_sri_does(message in message(share_tail())) {
        let message = message.borrow();
        let frame = encode(&message);
        let sri = to_sri(&message).unwrap();
        let tail = message.tail_len();
        let mut theirs = sri_frame(sri.clone());
        let without_tail = frame.len() - tail;
        prop_assert_eq!(theirs.len(), without_tail);
        prop_assert_eq!(&theirs[HEADER_LEN..], &frame[HEADER_LEN..without_tail]);
        if tail == 0 {
            prop_assert_eq!(&theirs, &frame);
        }

        let sri_header = Header::from_bytes(&frame).unwrap();
        let mut payload = frame[HEADER_LEN..].to_vec();
        let read: AnyMessage<'_> = (sri_header, payload.as_mut_slice()).try_into().unwrap();
        prop_assert_eq!(sri_frame(read.into_owned()), sri_frame(sri));

        let mut payload = frame[HEADER_LEN..].to_vec();
        prop_assert_eq!(Message::decode(header_of(&frame), &mut payload).unwrap(), message);
        let header = header_of(&theirs);
        let decoded = Message::decode(header, &mut theirs[HEADER_LEN..]).unwrap();
        prop_assert_eq!((decoded.msg_type(), decoded.channel_msg()), (header.msg_type, header.channel_msg));
        prop_assert_eq!(decoded.extension_type(), header.extension_type);
    }

    /// Cut at any byte a message is an error; with bytes behind it, it is the same message.
    #[test]
    fn is_refused_when_cut_and_read_when_extended(
        message in message(Just(Vec::new())), extra in proptest::collection::vec(any::<u8>(), 0..40)
    ) {
        let message = message.borrow();
        let frame = encode(&message);
        let header = header_of(&frame);
        for length in 0..frame.len() - HEADER_LEN {
            let mut payload = frame[HEADER_LEN..HEADER_LEN + length].to_vec();
            let error = Message::decode(header, &mut payload).unwrap_err();
            prop_assert!(
                matches!(error, DecodeError::Truncated { length: found, .. } if found == length),
                "{length} bytes of {frame:?}: {error}"
            );
        }
        let mut payload = frame[HEADER_LEN..].to_vec();
        payload.extend_from_slice(&extra);
        match (Message::decode(header, &mut payload).unwrap(), message) {
            (Message::SubmitSharesExtended(found), Message::SubmitSharesExtended(share)) => {
                prop_assert_eq!(found, SubmitSharesExtended { tail: &extra, ..share });
            }
            (found, message) => prop_assert_eq!(found, message),
        }
    }

    /// Any bytes under any known header give a message or an error, as SRI judges; never a panic.
    #[test]
    fn judges_random_payloads_as_sri_does(
        extension_type in 0u16..2,
        msg_type in 0u8..0x28,
        payload in arbitrary::payload()
    ) {
        judge_as_sri(extension_type, msg_type, &payload)?;
    }

    /// The same for messages with some bytes altered, cut out or put in.
    #[test]
    fn judges_mutated_messages_as_sri_does(
        message in message(share_tail()),
        mutations in proptest::collection::vec(arbitrary::mutation(), 1..4)
    ) {
        let message = message.borrow();
        let mut payload = encode(&message).split_off(HEADER_LEN);
        for mutation in &mutations {
            mutation.apply(&mut payload);
        }
        judge_as_sri(message.extension_type(), message.msg_type(), &payload)?;
    }
}

/// Reads a payload by both; both must refuse it or find the same message.
fn judge_as_sri(extension_type: u16, msg_type: u8, payload: &[u8]) -> Result<(), TestCaseError> {
    let payload_len = payload.len() as u32;
    let header = FrameHeader { extension_type, channel_msg: false, msg_type, payload_len };
    let (mut ours, mut theirs) = (payload.to_vec(), payload.to_vec());
    let sri_header = Header::from_bytes(&header.to_bytes()).unwrap();
    let sri: Result<AnyMessage<'_>, _> = (sri_header, theirs.as_mut_slice()).try_into();
    match Message::decode(header, &mut ours) {
        // SRI refuses protocols that it does not know; a server must answer them.
        Ok(Message::SetupConnection(SetupConnection {
            protocol: Protocol::Unknown(number),
            ..
        })) => {
            prop_assert_eq!(Some(&number), payload.first());
            prop_assert!(sri.is_err());
        }
        Ok(message) => {
            let back = to_sri(&message).map(sri_frame);
            prop_assert_eq!(back, sri.ok().map(|it| sri_frame(it.into_owned())));
        }
        Err(DecodeError::UnknownMessage { .. }) => prop_assert!(
            sri.is_err() || matches!((extension_type, msg_type), (0, 0x03)),
            "SRI knows {extension_type:#x}/{msg_type:#x}"
        ),
        Err(_) => prop_assert!(sri.is_err()),
    }
    Ok(())
}

#[test]
fn an_unknown_protocol_is_read_and_written() {
    let setup = SetupConnection {
        protocol: Protocol::Unknown(0xfe),
        min_version: 2,
        max_version: 2,
        flags: 7,
        endpoint_host: b"pool.example".to_vec(),
        endpoint_port: 3333,
        vendor: Vec::new(),
        hardware_version: Vec::new(),
        firmware: Vec::new(),
        device_id: b"\xff\x00 not utf-8".to_vec(),
    };
    let message = Message::SetupConnection(setup);
    let mut frame = encode(&message);
    assert_eq!(frame[HEADER_LEN], 0xfe);
    let header = header_of(&frame);
    assert_eq!(Message::decode(header, &mut frame[HEADER_LEN..]).unwrap(), message);
}

#[test]
fn hash_rates_that_are_no_numbers_are_read_for_the_caller_to_judge() {
    for rate in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0] {
        let open = OpenExtendedMiningChannel {
            request_id: 1,
            user_identity: b"a".to_vec(),
            nominal_hash_rate: rate,
            max_target: [0xff; 32],
            min_extranonce_size: 8,
        };
        let mut frame = encode(&Message::OpenExtendedMiningChannel(open));
        let header = header_of(&frame);
        match Message::decode(header, &mut frame[HEADER_LEN..]).unwrap() {
            Message::OpenExtendedMiningChannel(open) => {
                assert_eq!(open.nominal_hash_rate.to_bits(), rate.to_bits());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_custom_job_is_read_as_sri_writes_it() {
    let sri = mining::SetCustomMiningJobOwned {
        channel_id: 7,
        request_id: 8,
        token: vec![1, 2, 3].try_into().unwrap(),
        version: 0x2000_0000,
        prev_hash: [9; 32].into(),
        min_ntime: 10,
        nbits: 0x207f_ffff,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![4; 8].try_into().unwrap(),
        coinbase_tx_input_n_sequence: u32::MAX,
        coinbase_tx_outputs: vec![5; 300].try_into().unwrap(),
        coinbase_tx_locktime: 11,
        merkle_path: Seq0255Owned::new(vec![[6; 32].into(); 12]).unwrap(),
    };
    let frame = sri_frame(AnyMessageOwned::Mining(MiningOwned::SetCustomMiningJob(sri)));
    let header = header_of(&frame);
    assert!(header.channel_msg);
    let expected = Message::SetCustomMiningJob(SetCustomMiningJob {
        channel_id: 7,
        request_id: 8,
        token: vec![1, 2, 3],
        version: 0x2000_0000,
        prev_hash: [9; 32],
        min_ntime: 10,
        nbits: 0x207f_ffff,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![4; 8],
        coinbase_tx_input_n_sequence: u32::MAX,
        coinbase_tx_outputs: vec![5; 300],
        coinbase_tx_locktime: 11,
        merkle_path: vec![[6; 32]; 12],
    });
    assert_eq!(Message::decode(header, &mut frame[HEADER_LEN..].to_vec()).unwrap(), expected);
    for end in HEADER_LEN..frame.len() {
        Message::decode(header, &mut frame[HEADER_LEN..end].to_vec()).unwrap_err();
    }
    assert_eq!(encode(&expected), frame);
}

/// At both sides of the bound of each field that has one: the longest is written, one more is
/// refused by name and leaves nothing behind.
#[test]
fn fields_that_do_not_fit_are_refused_by_name() {
    let extended = |prefix: usize, suffix: usize, path: usize| {
        Message::NewExtendedMiningJob(NewExtendedMiningJob {
            channel_id: 1,
            job_id: 2,
            min_ntime: None,
            version: 3,
            version_rolling_allowed: true,
            merkle_path: vec![[0; 32]; path],
            coinbase_tx_prefix: vec![0; prefix],
            coinbase_tx_suffix: vec![0; suffix],
        })
    };
    let share = |extranonce: &'static [u8], tail: &'static [u8]| {
        Message::SubmitSharesExtended(SubmitSharesExtended {
            channel_id: 1,
            sequence_number: 2,
            job_id: 3,
            nonce: 4,
            ntime: 5,
            version: 6,
            extranonce,
            tail,
        })
    };
    let close = |length| {
        Message::CloseChannel(CloseChannel { channel_id: 1, reason_code: vec![b'a'; length] })
    };
    let refuse = |length| {
        let error_code = vec![b'a'; length];
        Message::SubmitSharesError(SubmitSharesError {
            channel_id: 1,
            sequence_number: 2,
            error_code,
        })
    };
    let prefix = |length| {
        let extranonce_prefix = vec![0; length];
        Message::SetExtranoncePrefix(SetExtranoncePrefix { channel_id: 1, extranonce_prefix })
    };
    let group = |count| {
        let channel_ids = vec![1; count];
        Message::SetGroupChannel(SetGroupChannel { group_channel_id: 1, channel_ids })
    };
    let custom = |token: usize, prefix: usize, outputs: usize, path: usize| {
        Message::SetCustomMiningJob(SetCustomMiningJob {
            channel_id: 1,
            request_id: 2,
            token: vec![3; token],
            version: 4,
            prev_hash: [5; 32],
            min_ntime: 6,
            nbits: 7,
            coinbase_tx_version: 8,
            coinbase_prefix: vec![9; prefix],
            coinbase_tx_input_n_sequence: 10,
            coinbase_tx_outputs: vec![11; outputs],
            coinbase_tx_locktime: 12,
            merkle_path: vec![[13; 32]; path],
        })
    };
    static LONG: [u8; 65_536] = [0; 65_536];
    let cases = [
        (extended(65_535, 65_535, 255), extended(65_536, 0, 0), "coinbase_tx_prefix"),
        (extended(0, 65_535, 0), extended(0, 65_536, 0), "coinbase_tx_suffix"),
        (extended(0, 0, 255), extended(0, 0, 256), "merkle_path"),
        (share(&LONG[..32], &LONG[..65_535]), share(&LONG[..33], &[]), "extranonce"),
        (share(&[], &LONG[..65_535]), share(&[], &LONG), "tail"),
        (close(255), close(256), "reason_code"),
        (refuse(255), refuse(256), "error_code"),
        (prefix(32), prefix(33), "extranonce_prefix"),
        (group(65_535), group(65_536), "channel_ids"),
        (custom(255, 255, 65_535, 255), custom(256, 0, 0, 0), "token"),
        (custom(0, 255, 0, 0), custom(0, 256, 0, 0), "coinbase_prefix"),
        (custom(0, 0, 65_535, 0), custom(0, 0, 65_536, 0), "coinbase_tx_outputs"),
        (custom(0, 0, 0, 255), custom(0, 0, 0, 256), "merkle_path"),
    ];
    for (fits, too_long, field) in cases {
        let frame = encode(&fits);
        let header = header_of(&frame);
        assert_eq!(Message::decode(header, &mut frame[HEADER_LEN..].to_vec()).unwrap(), fits);
        let mut out = vec![1, 2];
        let error = EncodeError::TooLong { message: too_long.name(), field };
        assert_eq!(too_long.encode(&mut out).unwrap_err(), error);
        assert_eq!(out, [1, 2]);
    }
}

#[test]
fn an_extranonce_of_more_than_32_bytes_is_refused() {
    let header =
        FrameHeader { extension_type: 0, channel_msg: true, msg_type: 0x1b, payload_len: 58 };
    let mut payload = [0; 58];
    payload[24] = 32;
    Message::decode(header, &mut payload).unwrap();
    payload[24] = 33;
    let error = Message::decode(header, &mut payload).unwrap_err();
    assert_eq!(error.to_string(), "SubmitSharesExtended: the extranonce has more than 32 bytes");
}

#[test]
fn unknown_messages_are_named() {
    for (extension_type, msg_type) in [(0, 0x03), (0, 0x1e), (0, 0xff), (1, 3), (2, 0), (0x4e45, 0)]
    {
        let header = FrameHeader { extension_type, channel_msg: true, msg_type, payload_len: 0 };
        let error = DecodeError::UnknownMessage { extension_type, msg_type };
        assert_eq!(Message::decode(header, &mut []).unwrap_err(), error);
    }
}
