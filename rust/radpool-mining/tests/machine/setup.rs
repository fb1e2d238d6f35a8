//! SetupConnection and what may come before and after it.

use radpool_mining::{CloseReason, Event};
use radpool_wire::{frame::FrameHeader, message::*};

use crate::harness::*;

fn refusal(flags: u32, change: impl FnOnce(&mut SetupConnection)) -> SetupConnectionError {
    let mut client = Pool::new(settings()).connect(START);
    let Message::SetupConnection(mut message) = setup(flags) else { unreachable!() };
    change(&mut message);
    let replies = client.send(&Message::SetupConnection(message));
    assert_eq!(client.closed, Some(CloseReason::SetupRefused));
    match &replies[..] {
        [Message::SetupConnectionError(error)] => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_supported_flag_is_accepted() {
    for flags in [0, 1, 2, 4, 5, 6] {
        let client = Pool::new(settings()).set_up(flags);
        let [Event::SetUp { flags: told, vendor, .. }] = &client.events[..] else { panic!() };
        assert_eq!((*told, &vendor[..]), (flags, &b"vendor"[..]));
        assert_eq!(client.connection.next_deadline(), Some(START.mono_ms + 20_000));
    }
}

#[test]
fn the_error_names_all_unsupported_flags_undefined_ones_too() {
    for bit in 0..32 {
        if ![0, 1, 2].contains(&bit) {
            let error = refusal(1 << bit | 1, |_| ());
            assert_eq!(
                (error.flags, &error.error_code[..]),
                (1 << bit, &b"unsupported-feature-flags"[..])
            );
        }
    }
    // Who selects the work cannot have standard jobs.
    assert_eq!(refusal(3, |_| ()).flags, 1);
    assert_eq!(refusal(u32::MAX, |_| ()).flags, !6);
}

#[test]
fn work_selection_is_a_setting_and_asks_for_extended_channels() {
    let success = SetupConnectionSuccess { used_version: 2, flags: 2 };
    let mut client = Pool::new(settings()).connect(START);
    assert_eq!(client.send(&setup(6)), [Message::SetupConnectionSuccess(success)]);
    let replies = client.send(&open_standard(RATE_Z8, [0xff; 32]));
    let error_code = b"standard-channels-not-supported-for-custom-work".to_vec();
    let error = OpenMiningChannelError { request_id: 78, error_code };
    assert_eq!(replies, [Message::OpenMiningChannelError(error)]);

    let without = radpool_mining::Settings { work_selection: false, ..settings() };
    let mut client = Pool::new(without).connect(START);
    let error_code = b"unsupported-feature-flags".to_vec();
    let error = SetupConnectionError { flags: 2, error_code };
    assert_eq!(client.send(&setup(2)), [Message::SetupConnectionError(error)]);
}

#[test]
fn other_protocols_and_versions_are_refused_with_an_answer() {
    for protocol in [
        Protocol::JobDeclaration,
        Protocol::TemplateDistribution,
        Protocol::Unknown(3),
        Protocol::Unknown(255),
    ] {
        let error = refusal(u32::MAX, |message| message.protocol = protocol);
        assert_eq!((error.flags, &error.error_code[..]), (0, &b"unsupported-protocol"[..]));
    }
    for versions in [(0, 1), (3, 3), (3, 1), (3, u16::MAX)] {
        let error = refusal(0, |message| (message.min_version, message.max_version) = versions);
        assert_eq!((error.flags, &error.error_code[..]), (0, &b"protocol-version-mismatch"[..]));
    }
    for versions in [(0, 2), (2, 9), (0, u16::MAX)] {
        let mut client = Pool::new(settings()).connect(START);
        let Message::SetupConnection(mut message) = setup(0) else { unreachable!() };
        (message.min_version, message.max_version) = versions;
        let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
        let replies = client.send(&Message::SetupConnection(message));
        assert_eq!(replies, [Message::SetupConnectionSuccess(success)]);
    }
}

#[test]
fn without_version_rolling_the_server_requires_fixed_versions() {
    let fixed = || radpool_mining::Settings { version_rolling: false, ..settings() };
    let mut client = Pool::new(fixed()).connect(START);
    let success = SetupConnectionSuccess { used_version: 2, flags: 1 };
    assert_eq!(client.send(&setup(1)), [Message::SetupConnectionSuccess(success)]);
    let mut client = Pool::new(fixed()).connect(START);
    let replies = client.send(&setup(5));
    assert!(matches!(&replies[..], [Message::SetupConnectionError(error)] if error.flags == 4));
}

#[test]
fn nothing_else_may_come_first() {
    for message in [
        open_extended(1.0, [0xff; 32], 0),
        Message::RequestExtensions(RequestExtensions {
            request_id: 1,
            requested_extensions: vec![2],
        }),
    ] {
        let mut client = Pool::new(settings()).connect(START);
        assert_eq!(client.send(&message), []);
        assert_eq!(client.closed, Some(CloseReason::SetupMissing));
        assert!(matches!(
            client.events[..],
            [Event::Disconnected { reason: CloseReason::SetupMissing }]
        ));
        assert_eq!(client.connection.next_deadline(), None);
        // A closed machine does nothing more.
        assert_eq!(client.send(&setup(0)), []);
        assert_eq!(client.events.len(), 1);
    }
}

#[test]
fn a_second_setup_and_messages_of_servers_are_ignored() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    assert_eq!(client.send(&setup(u32::MAX)), []);
    let target = SetTarget { channel_id: 1, maximum_target: [0; 32] };
    assert_eq!(client.send(&Message::SetTarget(target)), []);
    let unknown =
        FrameHeader { extension_type: 0, channel_msg: false, msg_type: 0xee, payload_len: 3 };
    assert_eq!(client.send_frame(&[&unknown.to_bytes()[..], &[1, 2, 3]].concat()), []);
    assert_eq!(client.closed, None);
    let ignored = &pool.shared.counters.frames_ignored;
    assert_eq!(ignored.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn setup_and_first_channel_have_deadlines() {
    let mut pool = Pool::new(settings());
    let mut client = pool.connect(START);
    assert_eq!(client.connection.next_deadline(), Some(START.mono_ms + 5_000));
    client.pass(4_999);
    client.deadline();
    assert_eq!(client.closed, None);
    client.pass(1);
    client.deadline();
    assert_eq!(client.closed, Some(CloseReason::SetupTimeout));

    let mut client = pool.set_up(0);
    client.pass(19_999);
    client.deadline();
    assert_eq!(client.closed, None);
    client.pass(1);
    client.deadline();
    assert_eq!(client.closed, Some(CloseReason::ChannelTimeout));

    // A client that waits for the pool's answer is not to blame.
    let mut client = pool.set_up(0);
    client.send(&open_extended(1.0, [0xff; 32], 0));
    client.pass(25_000);
    client.deadline();
    assert_eq!(
        (client.closed, client.connection.next_deadline()),
        (None, Some(client.now.mono_ms + 20_000))
    );
}

#[test]
fn a_malformed_message_closes() {
    let mut client = Pool::new(settings()).set_up(0);
    let header =
        FrameHeader { extension_type: 0, channel_msg: false, msg_type: 0x10, payload_len: 7 };
    assert_eq!(client.send_frame(&[&header.to_bytes()[..], &[9; 7]].concat()), []);
    assert_eq!(client.closed, Some(CloseReason::MalformedMessage));
}
