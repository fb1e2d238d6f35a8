//! Shares and channels that come by messages of an extension.

use std::io::Write;

use radpool_engine::{EngineEvent, EngineSettings};
use radpool_mining::{Command, Event, OpenMessage, ShareMessage};
use radpool_wire::{frame::FrameHeader, message::*};

use crate::harness::{Client, Pool, open, settings, unix_s};

const EXTENSION: u16 = 0x4e45;
const SHARE: u8 = 0x40;
const SHARE_ERROR: u8 = 0x41;
const OPEN: u8 = 0x50;
const OPEN_SUCCESS: u8 = 0x51;

fn extended() -> EngineSettings {
    let mut settings = settings();
    settings.mining.share_messages =
        vec![ShareMessage { extension_type: EXTENSION, msg_type: SHARE, error_type: SHARE_ERROR }];
    settings.mining.open_messages = vec![OpenMessage {
        extension_type: EXTENSION,
        msg_type: OPEN,
        success_type: OPEN_SUCCESS,
        error_type: 0x52,
    }];
    settings
}

/// A client that has negotiated the extension.
fn connect(pool: &Pool) -> Client {
    let mut client = Client::connect(pool);
    client.set_up();
    let requested_extensions = vec![EXTENSION];
    let request = RequestExtensions { request_id: 1, requested_extensions };
    client.send(&Message::RequestExtensions(request));
    let agreed = |message: Message<'_>| {
        matches!(message, Message::RequestExtensionsSuccess(_)).then_some(())
    };
    client.expect(agreed);
    client
}

/// Sends a core message as one of the extension, with something behind its fields.
fn send_as(client: &mut Client, msg_type: u8, message: &Message<'_>, tail: &[u8]) {
    let mut plain = Vec::new();
    message.encode(&mut plain).unwrap();
    plain.extend_from_slice(tail);
    let payload_len = (plain.len() - 6) as u32;
    let channel_msg = message.channel_msg();
    let header = FrameHeader { extension_type: EXTENSION, channel_msg, msg_type, payload_len };
    plain[..6].copy_from_slice(&header.to_bytes());
    let mut sealed = Vec::new();
    client.sealer.seal_frame(&plain, &mut sealed).unwrap();
    client.socket.write_all(&sealed).unwrap();
}

fn submit_as(client: &mut Client, channel_id: u32) {
    client.sequence += 1;
    let extranonce = u64::from(client.sequence).to_be_bytes();
    let share = Message::SubmitSharesExtended(SubmitSharesExtended {
        channel_id,
        sequence_number: client.sequence,
        job_id: client.job,
        nonce: client.sequence,
        ntime: unix_s() - 30,
        version: 0x2000_0000,
        extranonce: &extranonce,
        tail: &[],
    });
    send_as(client, SHARE, &share, b"blinded");
}

#[test]
fn the_engine_answers_an_extensions_shares_only_when_they_are_refused() {
    let mut pool = Pool::start(extended());
    let mut client = connect(&pool);
    client.send(&open(1));
    let channel = pool.opened(&mut client);
    // 1 to 4 by the extension, 5 and 6 by the core.
    (0..4).for_each(|_| submit_as(&mut client, channel));
    client.submit(channel, 2);
    pool.until(|pool| pool.shares.len() == 6);
    let shares = core::mem::take(&mut pool.shares);
    let code = || "stale-keyset".to_owned();
    pool.engine.acknowledge(&shares, &[(1, code()), (5, code())]).unwrap();
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let (header, mut payload) = client.next().unwrap();
        let FrameHeader { extension_type, msg_type, channel_msg, .. } = header;
        assert!(channel_msg);
        let core = match (extension_type, msg_type) {
            (0, 0x1c | 0x1d) => header,
            (EXTENSION, SHARE_ERROR) => FrameHeader { extension_type: 0, msg_type: 0x1d, ..header },
            _ => continue,
        };
        let (sequence, count) = match Message::decode(core, &mut payload).unwrap() {
            Message::SubmitSharesError(error) => (error.sequence_number, 0),
            Message::SubmitSharesSuccess(success) => {
                (success.last_sequence_number, success.new_submits_accepted_count)
            }
            other => panic!("{other:?}"),
        };
        answers.push((extension_type, sequence, count));
    }
    assert_eq!(answers, [(EXTENSION, 2, 0), (0, 6, 0), (0, 5, 1)]);
}

#[test]
fn a_channel_opens_by_the_extensions_messages() {
    let mut pool = Pool::start(extended());
    let mut client = connect(&pool);
    send_as(&mut client, OPEN, &open(1), b"terms");
    let asked = |pool: &Pool| {
        pool.events.iter().find_map(|event| match event {
            EngineEvent::Mining {
                event: Event::ChannelRequested { tail: Some(tail), .. }, ..
            } => Some(tail.bytes.to_vec()),
            _ => None,
        })
    };
    pool.until(|pool| asked(pool).is_some());
    assert_eq!(asked(&pool).unwrap(), b"terms");
    // The harness grants every channel.
    let mut order = Vec::new();
    while order.len() < 3 {
        let (header, _) = client.next().unwrap();
        order.push((header.extension_type, header.msg_type));
    }
    assert_eq!(order, [(EXTENSION, OPEN_SUCCESS), (0, 0x1f), (0, 0x20)]);
}

#[test]
fn a_repeat_comes_after_the_share_it_repeats() {
    let mut pool = Pool::start(extended());
    let mut client = connect(&pool);
    client.send(&open(1));
    let channel = pool.opened(&mut client);
    submit_as(&mut client, channel);
    client.sequence -= 1;
    submit_as(&mut client, channel);
    let repeated = |pool: &Pool| {
        pool.events.iter().find_map(|event| match event {
            EngineEvent::Mining { connection, event: Event::RepeatedShare(share), .. } => {
                Some((*connection, share.hash, share.error_type))
            }
            _ => None,
        })
    };
    pool.until(|pool| repeated(pool).is_some());
    // Whatever order they are drained in, the share is never behind its repeat.
    let (connection, hash, error_type) = repeated(&pool).unwrap();
    assert_eq!(pool.shares.iter().filter(|share| share.hash == hash).count(), 1);
    let by = error_type.map(|error_type| (EXTENSION, error_type));
    let command = Command::RejectShare { channel, sequence: 1, code: "again".into(), by };
    pool.engine.command(connection, command).unwrap();
    loop {
        let (header, _) = client.next().unwrap();
        if (header.extension_type, header.msg_type) == (EXTENSION, SHARE_ERROR) {
            break;
        }
    }
    assert_eq!(pool.metric("shares_accepted_total"), 1);
}
