//! Negotiation, worker names, attachments, frames of extensions.

use radpool_mining::{CloseReason, Command, Event, Settings};
use radpool_wire::{
    frame::FrameHeader,
    message::*,
    tlv::{Tlv, WORKER_IDENTITY_EXTENSION, WORKER_IDENTITY_FIELD},
};

use crate::harness::*;

fn request(extensions: &[u16]) -> Message<'static> {
    let requested_extensions = extensions.to_vec();
    Message::RequestExtensions(RequestExtensions { request_id: 5, requested_extensions })
}

fn requiring(extension: u16) -> Pool {
    Pool::new(Settings { required_extensions: vec![extension], ..settings() })
}

pub(crate) fn negotiated(pool: &mut Pool) -> (Client, u32) {
    let mut client = pool.set_up(0);
    client.send(&request(&[2, 0x4e45]));
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    (client, id)
}

pub(crate) fn tlv(extension_type: u16, field: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    Tlv { extension_type, field, value }.encode(&mut bytes).unwrap();
    bytes
}

pub(crate) fn worker_name(name: &[u8]) -> Vec<u8> {
    tlv(WORKER_IDENTITY_EXTENSION, WORKER_IDENTITY_FIELD, name)
}

#[test]
fn success_lists_what_both_sides_know() {
    let mut client = Pool::new(settings()).set_up(0);
    let success = RequestExtensionsSuccess { request_id: 5, supported_extensions: vec![2, 0x4e45] };
    let replies = client.send(&request(&[0x4e45, 7, 2, 2]));
    assert_eq!(replies, [Message::RequestExtensionsSuccess(success)]);
    let Some(Event::ExtensionsNegotiated { extensions }) = client.events.last() else { panic!() };
    assert_eq!(extensions, &[2, 0x4e45]);
    // It must directly follow the set-up: a second one is ignored.
    assert_eq!(client.send(&request(&[2])), []);
}

#[test]
fn nothing_in_common_is_an_error_and_the_client_goes_on() {
    for requested in [&[7, 8][..], &[]] {
        let mut client = Pool::new(settings()).set_up(0);
        let error = RequestExtensionsError {
            request_id: 5,
            unsupported_extensions: requested.to_vec(),
            required_extensions: vec![],
        };
        assert_eq!(client.send(&request(requested)), [Message::RequestExtensionsError(error)]);
        client.open(&open_extended(1.0, [0xff; 32], 0), owner(1));
        assert_eq!(client.closed, None);
    }
}

#[test]
fn a_request_that_does_not_follow_the_setup_is_ignored() {
    let mut client = Pool::new(settings()).set_up(0);
    client.open(&open_extended(1.0, [0xff; 32], 0), owner(1));
    assert_eq!(client.send(&request(&[2])), []);
}

#[test]
fn required_extensions_are_named_and_a_retry_is_awaited() {
    let mut pool = requiring(2);
    let mut client = pool.set_up(0);
    let error = RequestExtensionsError {
        request_id: 5,
        unsupported_extensions: vec![9],
        required_extensions: vec![2],
    };
    assert_eq!(
        client.send(&request(&[0x4e45, 9])),
        [Message::RequestExtensionsError(error.clone())]
    );
    assert_eq!(
        (client.closed, client.connection.next_deadline()),
        (None, Some(START.mono_ms + 3_000))
    );
    // Another bad request wins no time.
    client.pass(1_000);
    client.send(&request(&[0x4e45, 9]));
    assert_eq!(client.connection.next_deadline(), Some(START.mono_ms + 3_000));
    assert_eq!(names(&client.send(&request(&[2]))), ["RequestExtensions.Success"]);
    assert_eq!(client.connection.next_deadline(), Some(client.now.mono_ms + 20_000));

    let mut client = pool.set_up(0);
    client.send(&request(&[9]));
    client.pass(2_999);
    client.deadline();
    assert_eq!(client.closed, None);
    client.pass(1);
    client.deadline();
    assert_eq!(client.closed, Some(CloseReason::ExtensionRequired));

    for first in [None, Some(request(&[9]))] {
        let mut client = pool.set_up(0);
        first.map(|message| client.send(&message));
        client.send(&open_extended(1.0, [0xff; 32], 0));
        assert_eq!(client.closed, Some(CloseReason::ExtensionRequired));
    }
}

#[test]
fn workers_are_named_once_and_counted_up_to_the_limit() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let names = [&b"rig-1"[..], b"rig-2", b"rig-1", b"rig-3", &[0xff; 32], b""];
    for name in names {
        client.pass(10_000);
        let share = client.mine(id);
        assert_eq!(client.send_with_tail(&share.message(), &worker_name(name)), []);
    }
    let workers: Vec<u32> = client.shares.iter().map(|share| share.worker).collect();
    assert_eq!(workers, [1, 2, 1, 0, 0, 0]);
    assert!(client.shares.iter().all(|share| share.attachment.is_none()));
    let named: Vec<_> = client
        .events
        .iter()
        .filter_map(|event| match event {
            Event::WorkerNamed { worker, name, .. } => Some((*worker, name.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(named, [(1, b"rig-1".to_vec()), (2, b"rig-2".to_vec())]);
}

#[test]
fn malformed_tails_cost_the_share_only_where_they_mean_something() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    let too_long = worker_name(&[b'x'; 33]);
    let cut = &worker_name(b"rig")[..7];
    for tail in [&too_long[..], cut, &[1]] {
        let replies = client.send_with_tail(&share.message(), tail);
        assert_eq!(error_code(&replies).as_deref(), Some("invalid-share"));
    }
    let longest = worker_name(&[b'x'; 32]);
    assert_eq!(client.send_with_tail(&share.message(), &longest), []);
    assert_eq!((client.shares.len(), client.shares[0].worker), (1, 1));

    let mut client = pool.set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let share = client.mine(id);
    assert_eq!(client.send_with_tail(&share.message(), &too_long), []);
    assert_eq!((client.shares.len(), client.shares[0].worker), (1, 0));
}

#[test]
fn tlvs_of_negotiated_extensions_are_attached_untouched() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    let ours = [tlv(0x4e45, 1, &[0xab; 33]), tlv(0x4e45, 2, &[])];
    let tail =
        [&ours[0][..], &tlv(0x0999, 1, b"nobody's"), &worker_name(b"rig"), &ours[1]].concat();
    assert_eq!(client.send_with_tail(&share.message(), &tail), []);
    let record = &client.shares[0];
    let attachment = record.attachment.as_ref().unwrap();
    assert_eq!((attachment.extension_type, attachment.msg_type, record.worker), (0x4e45, 0x1b, 1));
    assert_eq!(attachment.error_type, None);
    assert_eq!(attachment.bytes[..], ours.concat());
}

/// The frame of an extension's own share message: the fields of SubmitSharesExtended and a rest.
pub(crate) fn share_frame(share: &MinedShare, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    share.message().encode(&mut frame).unwrap();
    frame.extend_from_slice(rest);
    let header = FrameHeader {
        extension_type: 0x4e45,
        channel_msg: true,
        msg_type: 0,
        payload_len: (frame.len() - 6) as u32,
    };
    frame[..6].copy_from_slice(&header.to_bytes());
    frame
}

#[test]
fn an_extensions_share_message_is_a_share_with_an_attachment() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    let mut bad = share.clone();
    bad.job = 99;
    assert_eq!(client.send_frame(&share_frame(&bad, b"blinded")), []);
    // The extension's own message says so, with the fields of the core's.
    assert_eq!(error_code(&client.by_extension).as_deref(), Some("invalid-job-id"));
    let [Message::SubmitSharesError(error)] = &client.by_extension[..] else { panic!() };
    assert_eq!((error.channel_id, error.sequence_number), (id, bad.sequence));
    assert_eq!(client.send_frame(&share_frame(&share, b"blinded")), []);
    let attachment = client.shares[0].attachment.as_ref().unwrap();
    assert_eq!((attachment.extension_type, attachment.msg_type), (0x4e45, 0));
    assert_eq!(attachment.error_type, Some(EXTENSION_SHARE_ERROR));
    assert_eq!(attachment.bytes[..], *b"blinded");
    // It is the same share as the core message.
    assert_eq!(client.verdict(&share).as_deref(), Some("duplicate-share"));
    let mut cut = share_frame(&share, b"");
    cut.truncate(20);
    cut[3] = 14;
    client.send_frame(&cut);
    assert_eq!(client.closed, Some(CloseReason::MalformedMessage));
}

#[test]
fn frames_of_negotiated_extensions_go_up_and_answers_go_down() {
    let mut pool = Pool::new(settings());
    let (mut client, _) = negotiated(&mut pool);
    let frame = |extension_type, payload: &[u8]| {
        let payload_len = payload.len() as u32;
        let header = FrameHeader { extension_type, channel_msg: true, msg_type: 3, payload_len };
        [&header.to_bytes()[..], payload].concat()
    };
    let before = client.events.len();
    client.send_frame(&frame(0x4e45, b"hello"));
    let Some(Event::ExtensionFrame { extension_type, msg_type, channel_msg, payload }) =
        client.events.last()
    else {
        panic!()
    };
    assert_eq!(
        (*extension_type, *msg_type, *channel_msg, &payload[..]),
        (0x4e45, 3, true, &b"hello"[..])
    );
    // What was not negotiated is discarded, whatever its channel bit.
    client.send_frame(&frame(0x7fff, b"hello"));
    assert_eq!((client.events.len(), client.closed), (before + 1, None));
    let command = Command::SendExtension {
        extension_type: 0x4e45,
        msg_type: 3,
        channel_msg: true,
        payload: b"hello".to_vec(),
    };
    client.connection.handle_command(command, client.now, &mut client.out);
    assert_eq!(client.out.frames, frame(0x4e45, b"hello"));
}

#[test]
fn waiting_extension_bytes_are_bounded_on_both_sides() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let frame = |len: u32| {
        let header = FrameHeader {
            extension_type: 0x4e45,
            channel_msg: false,
            msg_type: 3,
            payload_len: len,
        };
        [&header.to_bytes()[..], &vec![0; len as usize]].concat()
    };
    client.send_frame(&frame(500));
    client.send_frame(&frame(500));
    assert_eq!(client.closed, None);
    // What is taken makes room again, also for what comes with a share.
    client.events.pop();
    let share = client.mine(id);
    client.send_frame(&share_frame(&share, &[0; 479]));
    assert_eq!(client.shares.len(), 1);
    let share = client.mine(id);
    client.send_frame(&share_frame(&share, &[0; 22]));
    assert_eq!((client.shares.len(), client.closed), (1, Some(CloseReason::ExtensionBytes)));
    // The share was not spent: elsewhere it would still count.
    let hash = client.hash(&share);
    assert_eq!(pool.shared.seen.insert(&[1; 32], &hash), radpool_mining::Seen::New);
}
