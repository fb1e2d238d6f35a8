//! Opening, updating, closing; owners and prefixes.

use radpool_mining::{ChannelGrant, CloseReason, Command, Event, Settings};
use radpool_wire::{frame::FrameHeader, message::*};

use crate::harness::*;

fn open_error(client: &mut Client, open: &Message<'_>) -> String {
    match &client.send(open)[..] {
        [Message::OpenMiningChannelError(error)] => {
            String::from_utf8(error.error_code.clone()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_extended_channel_opens_with_prefix_size_and_target() {
    let mut client = Pool::new(settings()).set_up(0);
    for (asked, size) in [(0, 8), (8, 8), (9, 9), (16, 16)] {
        let (id, replies) = client.open(&open_extended(RATE_Z8, [0xff; 32], asked), owner(5));
        assert_eq!(
            names(&replies),
            ["OpenExtendedMiningChannel.Success", "NewExtendedMiningJob", "SetNewPrevHash"]
        );
        let channel = &client.channels[&id];
        assert_eq!((channel.rollable, channel.prefix.len(), channel.exponent()), (size, 4, 8));
        let Message::NewExtendedMiningJob(job) = &replies[1] else { panic!() };
        assert!(job.channel_id == id && job.min_ntime.is_none() && job.version_rolling_allowed);
    }
    let prefixes: std::collections::BTreeSet<_> =
        client.channels.values().map(|channel| channel.prefix.clone()).collect();
    assert_eq!(prefixes.len(), 4);
    let opened = client.events.iter().filter(|event| matches!(event, Event::ChannelOpened { .. }));
    assert_eq!(opened.count(), 4);
    assert_eq!(
        open_error(&mut client, &open_extended(1.0, [0xff; 32], 17)),
        "min-extranonce-size-too-large"
    );
}

#[test]
fn a_standard_channel_gets_its_whole_extranonce_and_a_header_job() {
    for flags in [0, 1] {
        let mut client = Pool::new(settings()).set_up(flags);
        let (id, replies) = client.open(&open_standard(RATE_Z8, [0xff; 32]), owner(5));
        assert_eq!(
            names(&replies),
            ["OpenStandardMiningChannel.Success", "NewMiningJob", "SetNewPrevHash"]
        );
        let prefix = &client.channels[&id].prefix;
        assert_eq!((prefix.len(), &prefix[4..]), (12, &[0; 8][..]));
    }
}

#[test]
fn requests_are_refused_by_code() {
    let mut client = Pool::new(settings()).set_up(0);
    for rate in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE] {
        for open in [open_extended(rate, [0xff; 32], 0), open_standard(rate, [0xff; 32])] {
            assert_eq!(open_error(&mut client, &open), "invalid-nominal-hashrate");
        }
    }
    let too_small = z(61).target().to_le_bytes();
    for target in [[0; 32], too_small] {
        for open in [open_extended(1.0, target, 0), open_standard(1.0, target)] {
            assert_eq!(open_error(&mut client, &open), "max-target-out-of-range");
        }
    }
    let mut client = Pool::new(settings()).set_up(1);
    assert_eq!(
        open_error(&mut client, &open_extended(1.0, [0xff; 32], 0)),
        "extended-channels-not-supported-for-standard-jobs"
    );
}

#[test]
fn the_first_step_follows_hash_rate_hint_and_max_target() {
    let mut client = Pool::new(settings()).set_up(0);
    for (rate, max_target, exponent) in [
        (0.0, [0xff; 32], 4),
        (-0.0, [0xff; 32], 4),
        (f32::MIN_POSITIVE, [0xff; 32], 4),
        (RATE_Z8, [0xff; 32], 8),
        (RATE_Z8, z(12).target().to_le_bytes(), 12),
        (f32::MAX, [0xff; 32], 60),
        (1.0, z(60).target().to_le_bytes(), 60),
    ] {
        let (id, _) = client.open(&open_extended(rate, max_target, 0), owner(1));
        assert_eq!(client.channels[&id].exponent(), exponent, "{rate}");
    }
    let hinted = |hint, max_target| {
        let mut client = Pool::new(settings()).set_up(0);
        client.send(&open_extended(RATE_Z8, max_target, 0));
        client.command(Command::OpenChannel {
            request: 1,
            grant: ChannelGrant { exponent: Some(z(hint)), ..ChannelGrant::to(owner(1)) },
        });
        client.channels.values().next().unwrap().exponent()
    };
    assert_eq!([3, 4, 20, 60, 61].map(|hint| hinted(hint, [0xff; 32])), [4, 4, 20, 60, 60]);
    assert_eq!(hinted(6, z(9).target().to_le_bytes()), 9);
}

#[test]
fn channels_of_a_connection_are_bounded() {
    let mut client = Pool::new(settings()).set_up(0);
    for _ in 0..7 {
        client.open(&open_extended(1.0, [0xff; 32], 0), owner(1));
    }
    // The eighth only waits for its answer, and counts.
    assert_eq!(client.send(&open_extended(1.0, [0xff; 32], 0)), []);
    assert_eq!(
        open_error(&mut client, &open_extended(1.0, [0xff; 32], 0)),
        "channel-capacity-exhausted"
    );
    let replies =
        client.command(Command::RefuseChannel { request: 8, code: "unknown-user\n".into() });
    let error = OpenMiningChannelError { request_id: 77, error_code: b"unknown-user?".to_vec() };
    assert_eq!(replies, [Message::OpenMiningChannelError(error)]);
    client.open(&open_extended(1.0, [0xff; 32], 0), owner(1));
    assert_eq!(client.connection.channel_count(), 8);
}

#[test]
fn without_prefixes_no_channel_opens() {
    let mut pool = Pool::new(settings());
    while pool.shared.prefixes.take().is_some() {}
    let mut client = pool.set_up(0);
    client.send(&open_extended(1.0, [0xff; 32], 0));
    let open = Command::OpenChannel { request: 1, grant: ChannelGrant::to(owner(1)) };
    let replies = client.command(open);
    assert_eq!(names(&replies), ["OpenMiningChannel.Error"]);
    assert!(matches!(client.events.last(), Some(Event::ChannelFailed { request: 1, .. })));
}

#[test]
fn a_channel_opened_before_any_template_gets_its_job_later() {
    let mut pool = Pool::idle(settings());
    let mut client = pool.set_up(0);
    let (id, replies) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    assert_eq!(replies.len(), 1);
    assert_eq!(client.work(), []);
    pool.shared.publish_template(template(1), Some(tip(1, 1))).unwrap();
    assert_eq!(names(&client.work()), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
}

fn update(channel_id: u32, nominal_hash_rate: f32, maximum_target: [u8; 32]) -> Message<'static> {
    Message::UpdateChannel(UpdateChannel { channel_id, nominal_hash_rate, maximum_target })
}

#[test]
fn updates_are_honoured_or_refused_by_code() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    for (message, code) in [
        (update(99, 1.0, [0xff; 32]), "invalid-channel-id"),
        (update(id, f32::NAN, [0xff; 32]), "invalid-nominal-hashrate"),
        (update(id, -1.0, [0xff; 32]), "invalid-nominal-hashrate"),
        (update(id, f32::INFINITY, [0xff; 32]), "invalid-nominal-hashrate"),
        (update(id, 1.0, [0; 32]), "max-target-out-of-range"),
        (update(id, 1.0, z(61).target().to_le_bytes()), "max-target-out-of-range"),
    ] {
        match &client.send(&message)[..] {
            [Message::UpdateChannelError(error)] => assert_eq!(error.error_code, code.as_bytes()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.channels[&id].exponent(), 8);
    // Nothing changes: no answer.
    assert_eq!(client.send(&update(id, RATE_Z8, z(8).target().to_le_bytes())), []);
    // A smaller target is reflected at once, with a job that carries it.
    let replies = client.send(&update(id, RATE_Z8, z(10).target().to_le_bytes()));
    assert_eq!(names(&replies), ["SetTarget", "NewExtendedMiningJob"]);
    assert_eq!(client.channels[&id].exponent(), 10);
    let share = client.mine(id);
    assert_eq!((client.verdict(&share), client.shares[0].exponent), (None, z(10)));
    // So is another hash rate, within the bounds.
    client.send(&update(id, RATE_Z8 * 16.0, z(10).target().to_le_bytes()));
    assert_eq!(client.channels[&id].exponent(), 12);
    // A declaration that hardly differs changes nothing, also when it repeats.
    for factor in [16.0 * 1.41, 16.0 / 1.41] {
        assert_eq!(client.send(&update(id, RATE_Z8 * factor, z(10).target().to_le_bytes())), []);
    }
    client.send(&update(id, 0.0, z(10).target().to_le_bytes()));
    assert_eq!(client.channels[&id].exponent(), 10);
}

#[test]
fn both_sides_close_channels_and_groups() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let open = open_extended(RATE_Z8, [0xff; 32], 0);
    let ids: Vec<u32> = (0..3).map(|_| client.open(&open, owner(1)).0).collect();
    let (other, _) = client.open(&open, owner(2));
    let group = client.channels[&ids[0]].group;
    assert!(ids.iter().all(|id| client.channels[id].group == group));
    let close =
        |id| Message::CloseChannel(CloseChannel { channel_id: id, reason_code: b"bye".to_vec() });
    // Unknown ids are met with silence.
    assert_eq!(client.send(&close(99)), []);
    let share = client.mine(ids[0]);
    assert_eq!(client.send(&close(ids[0])), []);
    assert_eq!(client.verdict(&share).as_deref(), Some("invalid-channel-id"));
    let share = client.mine(ids[1]);
    assert_eq!(client.send(&close(group)), []);
    assert_eq!(client.verdict(&share).as_deref(), Some("invalid-channel-id"));
    assert_eq!(client.connection.channel_count(), 1);
    assert_eq!(pool.shared.counters.channels_open(), 1);
    // An acknowledgement that comes too late is dropped.
    let late = Command::Acknowledge { channel: ids[1], last_sequence: 1, count: 1, sum: 256 };
    assert_eq!(client.command(late), []);
    let replies = client.command(Command::CloseChannel { channel: other, reason: "full".into() });
    let message = CloseChannel { channel_id: other, reason_code: b"full".to_vec() };
    assert_eq!(replies, [Message::CloseChannel(message)]);
    assert_eq!(client.command(Command::CloseChannel { channel: other, reason: "full".into() }), []);
    // Without a channel the deadline runs again.
    assert_eq!(client.connection.next_deadline(), Some(client.now.mono_ms + 20_000));
    let closed = client.events.iter().filter(|event| matches!(event, Event::ChannelClosed { .. }));
    assert_eq!(closed.count(), 4);
}

#[test]
fn dropping_a_connection_closes_its_channels() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    client.open(&open_extended(1.0, [0xff; 32], 0), owner(1));
    client.connection.handle_disconnect(CloseReason::PeerClosed, client.now, &mut client.out);
    client.connection.handle_disconnect(CloseReason::PeerClosed, client.now, &mut client.out);
    assert!(matches!(
        client.out.events[..],
        [Event::Disconnected { reason: CloseReason::PeerClosed }]
    ));
    assert_eq!(pool.shared.counters.channels_open(), 1);
    drop(client);
    assert_eq!(pool.shared.counters.channels_open(), 0);
}

#[test]
fn a_new_owner_gets_the_shares_of_later_jobs() {
    let mut client = Pool::new(settings()).set_up(0);
    let (id, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let old = client.mine(id);
    let replies = client.command(Command::SetOwner { channel: id, owner: owner(2) });
    assert_eq!(names(&replies), ["NewExtendedMiningJob"]);
    let new = client.mine(id);
    assert_eq!((client.verdict(&old), client.verdict(&new)), (None, None));
    let accounts: Vec<u64> = client.shares.iter().map(|share| share.account).collect();
    assert_eq!(accounts, [1, 2]);
    assert_eq!(client.shares[1].owner.commitment, [2; 32]);
    assert_eq!(client.command(Command::SetOwner { channel: id, owner: owner(2) }), []);
}

#[test]
fn a_new_prefix_holds_for_later_jobs_alone() {
    for standard in [false, true] {
        let mut client = Pool::new(settings()).set_up(0);
        let open = if standard {
            open_standard(RATE_Z8, [0xff; 32])
        } else {
            open_extended(RATE_Z8, [0xff; 32], 0)
        };
        let (id, _) = client.open(&open, owner(1));
        let old = client.mine(id);
        let before = client.channels[&id].prefix.clone();
        let replies = client.command(Command::SetExtranoncePrefix { channel: id });
        assert_eq!(names(&replies)[0], "SetExtranoncePrefix");
        assert_eq!(replies.len(), 2);
        assert_ne!(client.channels[&id].prefix, before);
        let new = client.mine(id);
        assert_eq!((client.verdict(&old), client.verdict(&new)), (None, None));
        assert_ne!(client.shares[0].extranonce, client.shares[1].extranonce);
    }
}

#[test]
fn reconnect_and_disconnect_leave_as_commanded() {
    let mut client = Pool::new(settings()).set_up(0);
    let replies = client.command(Command::Reconnect { host: "other".into(), port: 4444 });
    let message = Reconnect { new_host: b"other".to_vec(), new_port: 4444 };
    assert_eq!(replies, [Message::Reconnect(message)]);
    client.command(Command::Disconnect { reason: CloseReason::Requested });
    assert_eq!(client.closed, Some(CloseReason::Requested));
}

#[test]
fn custom_jobs_are_for_clients_that_select_their_work() {
    let mut client = Pool::new(settings()).set_up(0);
    let error = SetCustomMiningJobError {
        channel_id: 3,
        request_id: 4,
        error_code: b"jd-not-supported".to_vec(),
    };
    // Channel, request, then fields that are all zero or empty: token, version, previous hash,
    // min_ntime, nBits, coinbase version, prefix, sequence, outputs, lock time, merkle path.
    let mut payload = [[3, 0, 0, 0], [4, 0, 0, 0]].concat();
    payload.resize(8 + 1 + 4 + 32 + 4 + 4 + 4 + 1 + 4 + 2 + 4 + 1, 0);
    let header = FrameHeader {
        extension_type: 0,
        channel_msg: true,
        msg_type: 0x22,
        payload_len: payload.len() as u32,
    };
    let replies = client.send_frame(&[&header.to_bytes()[..], &payload].concat());
    assert_eq!(replies, [Message::SetCustomMiningJobError(error)]);
}

#[test]
fn channels_that_share_nothing_share_no_group() {
    let mut client = Pool::new(Settings { group_jobs: false, ..settings() }).set_up(0);
    let open = open_extended(RATE_Z8, [0xff; 32], 0);
    let (first, _) = client.open(&open, owner(1));
    let (second, _) = client.open(&open, owner(1));
    assert_ne!(client.channels[&first].group, client.channels[&second].group);
}
