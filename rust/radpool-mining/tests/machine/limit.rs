//! Bounds on rates and sizes, each at both sides.

use radpool_mining::{CloseReason, Limits, OpenMessage, Settings, SettingsError, ShareMessage};
use radpool_wire::{frame::FrameHeader, message::*};

use crate::harness::*;

fn with_limits(change: impl FnOnce(&mut Limits)) -> Settings {
    let mut settings = settings();
    change(&mut settings.limits);
    settings
}

#[test]
fn submits_above_rate_and_burst_are_refused_then_cut_off() {
    let limits = |limits: &mut Limits| (limits.submits_per_second, limits.submits_burst) = (1, 5);
    let mut client = Pool::new(with_limits(limits)).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let good = client.mine(id);
    assert_eq!(client.verdict(&good), None);
    for _ in 0..4 {
        assert_eq!(client.verdict(&good).as_deref(), Some("duplicate-share"));
    }
    for _ in 0..5 {
        assert_eq!(client.verdict(&good).as_deref(), Some("submit-rate-exceeded"));
    }
    assert_eq!(client.closed, None);
    client.submit(&good);
    assert_eq!(client.closed, Some(CloseReason::SubmitRate));
}

#[test]
fn requests_above_rate_and_burst_are_cut_off() {
    let limits = |limits: &mut Limits| (limits.requests_per_second, limits.requests_burst) = (1, 3);
    let mut client = Pool::new(with_limits(limits)).set_up(0);
    let close = Message::CloseChannel(CloseChannel { channel_id: 1, reason_code: vec![] });
    for _ in 0..3 {
        client.send(&close);
    }
    assert_eq!(client.closed, None);
    client.pass(1_000);
    client.send(&close);
    assert_eq!(client.closed, None);
    client.send(&close);
    assert_eq!(client.closed, Some(CloseReason::RequestRate));
}

#[test]
fn frames_are_bounded_by_state_and_message() {
    let mut pool = Pool::new(settings());
    let header = |extension_type, msg_type, payload_len| FrameHeader {
        extension_type,
        channel_msg: false,
        msg_type,
        payload_len,
    };
    let check = |client: &Client, extension_type, msg_type, most: u32| {
        let connection = &client.connection;
        assert_eq!(connection.check_frame(&header(extension_type, msg_type, most)), Ok(()));
        let longer = connection.check_frame(&header(extension_type, msg_type, most + 1));
        assert_eq!(longer, Err(CloseReason::FrameTooLarge));
    };
    let client = pool.connect(START);
    check(&client, 0, 0, 2_048);
    for (extension_type, msg_type) in [(0, 0x1b), (0, 1), (1, 0), (0x4e45, 0)] {
        let first = client.connection.check_frame(&header(extension_type, msg_type, 0));
        assert_eq!(first, Err(CloseReason::SetupMissing));
    }
    let mut client = pool.set_up(0);
    for msg_type in [0x10, 0x13, 0x16, 0x18, 0x1a, 0x1b, 0x22] {
        check(&client, 0, msg_type, 4_096);
    }
    check(&client, 1, 0, 4_096);
    // Of what is going to be ignored more is let through, so that it can be ignored.
    check(&client, 0, 0, 65_536);
    check(&client, 0, 0x21, 65_536);
    check(&client, 0x4e45, 0, 65_536);
    let request = RequestExtensions { request_id: 1, requested_extensions: vec![0x4e45] };
    client.send(&Message::RequestExtensions(request));
    check(&client, 0x4e45, 0, 512);
    // Whoever does not ask first is cut off all the same.
    let too_long = header(0x4e45, 0, 513);
    client.send_frame(&[&too_long.to_bytes()[..], &[0; 513]].concat());
    assert_eq!(client.closed, Some(CloseReason::FrameTooLarge));
}

#[test]
fn settings_that_no_pool_can_run_with_are_refused() {
    let check = |change: &dyn Fn(&mut Settings)| {
        let mut changed = settings();
        change(&mut changed);
        changed.check()
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|s| s.pool_text = vec![0; 70]), Ok(()));
    assert_eq!(check(&|s| s.pool_text = vec![0; 71]), Err(SettingsError::PoolText(71)));
    assert_eq!(check(&|s| s.shares_per_minute = 1_000_000), Ok(()));
    for rate in [0, 1_000_001] {
        assert_eq!(
            check(&|s| s.shares_per_minute = rate),
            Err(SettingsError::SharesPerMinute(rate))
        );
    }
    assert_eq!(check(&|s| s.exponent_min = z(60)), Ok(()));
    assert_eq!(
        check(&|s| s.exponent_min = z(61)),
        Err(SettingsError::Exponents { min: 61, max: 60 })
    );
    assert_eq!(check(&|s| s.job_past_ms = 29_999), Err(SettingsError::JobPast(29_999)));
    assert_eq!(
        check(&|s| s.required_extensions = vec![9]),
        Err(SettingsError::RequiredExtension(9))
    );
    let share = |extension_type, msg_type| ShareMessage { extension_type, msg_type, error_type: 1 };
    let open = |extension_type, msg_type| OpenMessage {
        extension_type,
        msg_type,
        success_type: 1,
        error_type: 2,
    };
    let messages = |shares: &[ShareMessage], opens: &[OpenMessage]| {
        check(&|s| (s.share_messages, s.open_messages) = (shares.to_vec(), opens.to_vec()))
    };
    let number = 0x4e45;
    assert_eq!(messages(&[share(number, 1)], &[open(number, 2)]), Ok(()));
    assert_eq!(messages(&[share(9, 1)], &[]), Err(SettingsError::ShareMessage(9, 1)));
    assert_eq!(messages(&[], &[open(9, 1)]), Err(SettingsError::OpenMessage(9, 1)));
    let twice = Err(SettingsError::MessageTwice(number, 1));
    assert_eq!(messages(&[share(number, 1), share(number, 1)], &[]), twice);
    assert_eq!(messages(&[share(number, 1)], &[open(number, 1)]), twice);
    // That number marks TLVs.
    let marked = Err(SettingsError::ShareMessageNumber(number));
    assert_eq!(messages(&[share(number, 0x1b)], &[]), marked);
    assert_eq!(messages(&[], &[open(number, 0x1b)]), Ok(()));
    assert_eq!(check(&|s| s.limits.seen.tips = 2), Ok(()));
    assert_eq!(check(&|s| s.limits.seen.tips = 1), Err(SettingsError::SeenTips(1)));
    assert_eq!(check(&|s| s.limits.channels = 0), Err(SettingsError::ZeroLimit("channels")));
}

#[test]
fn a_connection_stays_small() {
    assert!(
        size_of::<radpool_mining::Connection>() <= 512,
        "{}",
        size_of::<radpool_mining::Connection>()
    );
}
