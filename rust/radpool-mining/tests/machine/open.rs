//! Channels that are opened by a message of an extension.

use radpool_mining::{ChannelGrant, CloseReason, Command, Event, Settings};
use radpool_wire::{frame::FrameHeader, message::*};

use crate::{extension::negotiated, harness::*};

/// The extension's message: the fields of OpenExtendedMiningChannel and a rest.
fn open_frame(open: &Message<'_>, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    open.encode(&mut frame).unwrap();
    frame.extend_from_slice(rest);
    let header = FrameHeader {
        extension_type: EXTENSION,
        channel_msg: false,
        msg_type: EXTENSION_OPEN,
        payload_len: (frame.len() - 6) as u32,
    };
    frame[..6].copy_from_slice(&header.to_bytes());
    frame
}

fn ask() -> Vec<u8> {
    open_frame(&open_extended(RATE_Z8, [0xff; 32], 0), b"terms")
}

fn set_up(pool: &mut Pool) -> Client {
    let mut client = pool.set_up(0);
    let requested_extensions = vec![EXTENSION];
    client.send(&Message::RequestExtensions(RequestExtensions {
        request_id: 5,
        requested_extensions,
    }));
    client.order.clear();
    client
}

/// The number of the last request, and what the extension is told with it.
fn requested(client: &Client) -> (u32, u16, u8, Vec<u8>) {
    let Some(Event::ChannelRequested { request, msg_type, tail, .. }) = client.events.last() else {
        panic!("{:?}", client.events.last())
    };
    let extension_type = tail.as_ref().map_or(0, |tail| tail.extension_type);
    let bytes = tail.as_ref().map_or(vec![], |tail| tail.bytes.to_vec());
    (*request, extension_type, *msg_type, bytes)
}

fn grant(request: u32, tail: &[u8]) -> Command {
    let grant = ChannelGrant { tail: tail.to_vec(), ..ChannelGrant::to(owner(1)) };
    Command::OpenChannel { request, grant }
}

#[test]
fn the_extension_opens_a_channel_and_everything_leaves_in_order() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    assert_eq!(client.send_frame(&ask()), []);
    let (request, extension_type, msg_type, tail) = requested(&client);
    assert_eq!((extension_type, msg_type, &tail[..]), (EXTENSION, EXTENSION_OPEN, &b"terms"[..]));
    // Several commands are carried out in one turn, as the engine does it.
    let hello = Command::SendExtension {
        extension_type: EXTENSION,
        msg_type: 8,
        channel_msg: false,
        payload: b"hello".to_vec(),
    };
    client.connection.handle_command(hello, client.now, &mut client.out);
    client.command(grant(request, b"more terms"));
    let success = (EXTENSION, EXTENSION_OPEN_SUCCESS);
    // Then the first job and its tip.
    assert_eq!(client.order, [(EXTENSION, 8), success, (0, 0x1f), (0, 0x20)]);
    let (header, payload) = client.extension_frames.pop().unwrap();
    assert!(!header.channel_msg);
    assert!(payload.ends_with(b"more terms"));
    let [Message::OpenExtendedMiningChannelSuccess(success)] = &client.by_extension[..] else {
        panic!()
    };
    let id = success.channel_id;
    assert_eq!(success.request_id, 77);
    assert_eq!(payload.len(), 4 + 4 + 32 + 2 + 1 + success.extranonce_prefix.len() + 4 + 10);
    let Some(Event::ChannelOpened { channel, extension_type, .. }) = client.events.last() else {
        panic!()
    };
    assert_eq!((*channel, *extension_type), (id, EXTENSION));
    // From here on it is a channel like any other.
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    client.send(&Message::CloseChannel(CloseChannel { channel_id: id, reason_code: vec![] }));
    assert_eq!(client.connection.channel_count(), 0);
}

#[test]
fn nothing_comes_between_the_success_and_the_frames_before_it() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(2));
    client.send_frame(&ask());
    let (request, ..) = requested(&client);
    // Work that the other channel has not been told of yet.
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    client.order.clear();
    let frames = vec![(9, b"keys".to_vec()), (11, b"state".to_vec())];
    let grant = ChannelGrant { before: frames, ..ChannelGrant::to(owner(1)) };
    client.command(Command::OpenChannel { request, grant });
    assert_eq!(
        client.order,
        [
            (0, 0x1f),
            (EXTENSION, 9),
            (EXTENSION, 11),
            (EXTENSION, EXTENSION_OPEN_SUCCESS),
            (0, 0x1f),
            (0, 0x20),
        ]
    );
    assert_eq!(client.extension_frames[0].1, b"keys");
    assert!(!client.extension_frames[0].0.channel_msg);
}

#[test]
fn core_messages_open_channels_as_ever() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    client.send(&open_extended(RATE_Z8, [0xff; 32], 0));
    let (request, extension_type, msg_type, tail) = requested(&client);
    assert_eq!((extension_type, msg_type, tail), (0, 0x13, vec![]));
    client.command(grant(request, &[]));
    assert!(client.extension_frames.is_empty());
    client.send(&open_standard(RATE_Z8, [0xff; 32]));
    assert_eq!(requested(&client).2, 0x10);
}

#[test]
fn refusals_of_machine_and_pool_are_the_extensions_message() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    let cases = [
        (open_extended(f32::NAN, [0xff; 32], 0), "invalid-nominal-hashrate"),
        (open_extended(1.0, [0; 32], 0), "max-target-out-of-range"),
        (open_extended(1.0, [0xff; 32], 17), "min-extranonce-size-too-large"),
    ];
    for (open, expected) in cases {
        assert_eq!(client.send_frame(&open_frame(&open, b"")), []);
        assert_eq!(refusal(&mut client), (77, expected.into()));
    }
    client.send_frame(&ask());
    let (request, ..) = requested(&client);
    client.command(Command::RefuseChannel { request, code: "unsupported-policy".into() });
    assert_eq!(refusal(&mut client), (77, "unsupported-policy".into()));
    // Nothing of it is left: it cannot be granted any more.
    assert_eq!(client.command(grant(request, b"")), []);
    assert_eq!(client.connection.channel_count(), 0);

    let mut standard_jobs = pool.set_up(1);
    let request = RequestExtensions { request_id: 5, requested_extensions: vec![EXTENSION] };
    standard_jobs.send(&Message::RequestExtensions(request));
    standard_jobs.send_frame(&ask());
    let expected = "extended-channels-not-supported-for-standard-jobs";
    assert_eq!(refusal(&mut standard_jobs), (77, expected.into()));
}

fn refusal(client: &mut Client) -> (u32, String) {
    let Some(Message::OpenMiningChannelError(error)) = client.by_extension.pop() else { panic!() };
    assert!(client.by_extension.is_empty());
    (error.request_id, String::from_utf8(error.error_code).unwrap())
}

#[test]
fn no_prefix_left_is_told_by_the_extensions_message() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    while pool.shared.prefixes.take().is_some() {}
    client.send_frame(&ask());
    let (request, ..) = requested(&client);
    client.command(grant(request, b""));
    assert_eq!(refusal(&mut client), (77, "channel-capacity-exhausted".into()));
    assert!(matches!(client.events.last(), Some(Event::ChannelFailed { .. })));
}

#[test]
fn channels_of_both_kinds_count_together() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    for number in 0..settings().limits.channels {
        let asked = open_extended(1.0, [0xff; 32], 0);
        if number % 2 == 0 {
            client.send_frame(&open_frame(&asked, b""));
        } else {
            client.send(&asked);
        }
        if number < 4 {
            let (request, ..) = requested(&client);
            client.command(grant(request, b""));
        }
    }
    client.by_extension.clear();
    client.send_frame(&ask());
    assert_eq!(refusal(&mut client), (77, "channel-capacity-exhausted".into()));
    let replies = client.send(&open_extended(1.0, [0xff; 32], 0));
    assert_eq!(names(&replies), ["OpenMiningChannel.Error"]);
}

#[test]
fn open_messages_keep_to_the_rate_of_requests() {
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    // One token went to RequestExtensions.
    let burst = settings().limits.requests_burst - 1;
    let refused = open_frame(&open_extended(f32::NAN, [0xff; 32], 0), b"");
    for _ in 0..burst {
        client.send_frame(&refused);
    }
    assert_eq!(client.closed, None);
    client.send_frame(&refused);
    assert_eq!(client.closed, Some(CloseReason::RequestRate));
}

#[test]
fn what_follows_the_fields_counts_as_waiting_until_it_is_taken() {
    let mut settings = settings();
    settings.limits.extension_bytes_pending = 10;
    let mut pool = Pool::new(settings);
    let mut client = set_up(&mut pool);
    client.send_frame(&ask());
    client.send_frame(&ask());
    assert_eq!(client.closed, None);
    let requests = |client: &Client| {
        let events = client.events.iter();
        events.filter(|event| matches!(event, Event::ChannelRequested { .. })).count()
    };
    assert_eq!(requests(&client), 2);
    client.events.clear();
    client.send_frame(&ask());
    client.send_frame(&ask());
    client.send_frame(&open_frame(&open_extended(1.0, [0xff; 32], 0), b"x"));
    assert_eq!((requests(&client), client.closed), (2, Some(CloseReason::ExtensionBytes)));
}

#[test]
fn a_malformed_open_message_closes_the_connection() {
    let frame = open_frame(&open_extended(1.0, [0xff; 32], 0), b"");
    // Every cut through the core fields.
    for length in 6..frame.len() {
        let mut pool = Pool::new(settings());
        let mut client = set_up(&mut pool);
        let mut cut = frame[..length].to_vec();
        cut[3] = (length - 6) as u8;
        client.send_frame(&cut);
        assert_eq!(client.closed, Some(CloseReason::MalformedMessage), "{length} bytes");
    }
    // An identity that is longer than the payload.
    let mut pool = Pool::new(settings());
    let mut client = set_up(&mut pool);
    let mut long = frame;
    long[6 + 4] = 0xff;
    client.send_frame(&long);
    assert_eq!(client.closed, Some(CloseReason::MalformedMessage));
}

#[test]
fn without_negotiation_the_message_means_nothing() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let before = client.events.len();
    assert_eq!(client.send_frame(&ask()), []);
    assert_eq!((client.events.len(), client.closed), (before, None));
}

#[test]
fn a_connection_that_must_negotiate_cannot_open_before() {
    let required_extensions = vec![EXTENSION];
    let mut pool = Pool::new(Settings { required_extensions, ..settings() });
    let mut client = pool.set_up(0);
    client.send_frame(&ask());
    assert_eq!(client.events.len(), 1, "set up, and nothing else");
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
}
