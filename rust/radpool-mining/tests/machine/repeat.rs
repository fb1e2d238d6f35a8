//! Shares that come again with something for an extension: handed up, never counted.

use radpool_mining::{CloseReason, Command, Event, Reject, RepeatedShare};
use radpool_wire::message::*;

use crate::{
    extension::{negotiated, share_frame, tlv, worker_name},
    harness::*,
};

fn repeats(client: &Client) -> Vec<&RepeatedShare> {
    let events = client.events.iter();
    let repeated = events.filter_map(|event| match event {
        Event::RepeatedShare(share) => Some(&**share),
        _ => None,
    });
    repeated.collect()
}

/// attack: A2
#[test]
fn a_repeat_is_handed_up_and_counted_nowhere() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let mut share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    let hash = client.hash(&share);
    let events = client.events.len();

    share.sequence = 40;
    assert_eq!(client.send_frame(&share_frame(&share, b"another")), []);
    share.sequence = 41;
    let mine = [tlv(EXTENSION, 1, b"a"), tlv(EXTENSION, 2, b"b")];
    let tail = [&mine[0][..], &worker_name(b"rig"), &tlv(0x0999, 1, b"z"), &mine[1]].concat();
    assert_eq!(client.send_with_tail(&share.message(), &tail), []);

    let [by_message, by_tlvs] = repeats(&client)[..] else { panic!() };
    assert_eq!((by_message.channel, by_message.sequence), (id, 40));
    assert_eq!((by_message.extension_type, by_message.msg_type), (EXTENSION, EXTENSION_SHARE));
    assert_eq!(by_message.error_type, Some(EXTENSION_SHARE_ERROR));
    assert_eq!(by_message.data[..], *b"another");
    assert_eq!((by_message.hash, by_message.exponent), (hash, z(8)));
    assert_eq!((by_message.account, by_message.epoch, by_message.height), (1, 3, 101));
    assert_eq!((by_tlvs.sequence, by_tlvs.msg_type, by_tlvs.error_type), (41, 0x1b, None));
    assert_eq!((by_tlvs.extension_type, &by_tlvs.data[..]), (EXTENSION, &mine.concat()[..]));

    // Not a share, not a refusal, not work, and no worker either.
    let counters = &pool.shared.counters;
    let read = |counter: &core::sync::atomic::AtomicU64| {
        counter.load(core::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!((client.shares.len(), read(&counters.shares_accepted)), (1, 1));
    assert_eq!(read(&counters.shares_repeated), 2);
    assert!(Reject::ALL.iter().all(|reject| counters.rejected(*reject) == 0));
    assert_eq!(client.events.len(), events + 2);
    client.pass(20_000);
    client.deadline();
    let report = client.events.iter().rev().find_map(|event| match event {
        Event::ChannelReport(report) => Some(*report),
        _ => None,
    });
    assert_eq!(report.unwrap().accepted, 1);
}

#[test]
fn the_extension_refuses_a_repeat_by_the_message_that_fits() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let code = || "stale-keyset".to_owned();
    let by = Some((EXTENSION, EXTENSION_SHARE_ERROR));
    let reject = |by| Command::RejectShare { channel: id, sequence: 40, code: code(), by };
    assert_eq!(client.command(reject(by)), []);
    assert_eq!(error_code(&client.by_extension), Some(code()));
    assert_eq!(error_code(&client.command(reject(None))), Some(code()));
    // Nothing may be sent about a channel that is closed.
    client.send(&Message::CloseChannel(CloseChannel { channel_id: id, reason_code: vec![] }));
    assert_eq!(client.command(reject(None)), []);
    assert_eq!((client.command(reject(by)), client.by_extension.len()), (vec![], 1));
}

/// attack: A16
#[test]
fn only_a_share_that_is_valid_in_full_is_a_repeat() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    type Spoil = fn(&mut MinedShare);
    let cases: [(&str, Spoil); 6] = [
        ("invalid-channel-id", |share| share.channel += 40),
        ("invalid-job-id", |share| share.job += 40),
        ("bad-extranonce-size", |share| share.extranonce.push(0)),
        ("invalid-share", |share| share.ntime -= 1),
        ("invalid-non-rollable-version-bit", |share| share.version ^= 1),
        ("difficulty-too-low", |share| share.nonce = 0),
    ];
    for (code, spoil) in cases {
        let mut bad = share.clone();
        spoil(&mut bad);
        if code == "difficulty-too-low" {
            client.grind(&mut bad, 0, 8);
        }
        client.by_extension.clear();
        client.send_frame(&share_frame(&bad, b"another"));
        assert_eq!(error_code(&client.by_extension).as_deref(), Some(code));
    }
    assert!(repeats(&client).is_empty());
}

#[test]
fn a_new_tip_does_not_end_the_time_of_a_share_that_came_before_it() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    let late = client.mine(id);
    let mut miss = client.draft(id);
    client.grind(&mut miss, 0, 8);
    assert_eq!(client.verdict(&share), None);
    pool.shared.publish_template(template(2), Some(tip(2, 2))).unwrap();
    client.work();
    let by_tlv = tlv(EXTENSION, 1, b"x");
    client.send_frame(&share_frame(&share, b"another"));
    client.send_with_tail(&share.message(), &by_tlv);
    assert_eq!(repeats(&client).len(), 2);
    // Whatever was not counted in time stays stale, and does not become known by trying.
    let mut longer = share.clone();
    longer.extranonce.push(0);
    for bad in [&late, &miss, &longer, &late] {
        client.by_extension.clear();
        client.send_frame(&share_frame(bad, b"another"));
        assert_eq!(error_code(&client.by_extension).as_deref(), Some("stale-share"));
    }
    assert_eq!(client.verdict(&share).as_deref(), Some("stale-share"), "it brings nothing");
    assert_eq!((client.shares.len(), repeats(&client).len()), (1, 2));
    // Until the job is forgotten.
    client.pass(settings().job_stale_ms - 1);
    client.send_frame(&share_frame(&share, b"another"));
    assert_eq!(repeats(&client).len(), 3);
    client.pass(1);
    client.by_extension.clear();
    client.send_frame(&share_frame(&share, b"another"));
    assert_eq!(error_code(&client.by_extension).as_deref(), Some("invalid-job-id"));
    assert_eq!((client.shares.len(), repeats(&client).len()), (1, 3));
}

#[test]
fn a_repeat_that_brings_nothing_is_a_duplicate() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    for tail in [vec![], worker_name(b"rig"), tlv(0x0999, 1, b"not negotiated")] {
        let replies = client.send_with_tail(&share.message(), &tail);
        assert_eq!(error_code(&replies).as_deref(), Some("duplicate-share"));
    }
    assert!(repeats(&client).is_empty());
    let mut plain = pool.set_up(0);
    let (id, _) = plain.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    let share = plain.mine(id);
    assert_eq!(plain.verdict(&share), None);
    let replies = plain.send_with_tail(&share.message(), &tlv(EXTENSION, 1, b"x"));
    assert_eq!(error_code(&replies).as_deref(), Some("duplicate-share"));
}

#[test]
fn a_share_brought_twice_counts_once_whichever_way_comes_first() {
    for message_first in [false, true] {
        let mut pool = Pool::new(settings());
        let (mut client, id) = negotiated(&mut pool);
        let share = client.mine(id);
        let by_tlv = tlv(EXTENSION, 1, b"x");
        for by_message in [message_first, !message_first, message_first] {
            if by_message {
                client.send_frame(&share_frame(&share, b"x"));
            } else {
                client.send_with_tail(&share.message(), &by_tlv);
            }
        }
        assert_eq!((client.shares.len(), repeats(&client).len()), (1, 2));
    }
}

/// attack: A15
#[test]
fn repeats_are_bounded_by_a_rate_of_their_own_and_refused_above_it() {
    let mut settings = settings();
    (settings.limits.requests_per_second, settings.limits.requests_burst) = (1, 5);
    let mut pool = Pool::new(settings);
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    for _ in 0..7 {
        client.send_frame(&share_frame(&share, b"x"));
    }
    assert_eq!(repeats(&client).len(), 5);
    let codes: Vec<_> =
        client.by_extension.iter().map(|one| error_code(core::slice::from_ref(one))).collect();
    assert_eq!(codes, vec![Some("submit-rate-exceeded".to_owned()); 2]);
    // Requests have tokens of their own, and so have shares.
    client.send(&Message::CloseChannel(CloseChannel { channel_id: 99, reason_code: vec![] }));
    let fresh = client.mine(id);
    assert_eq!((client.verdict(&fresh), client.closed), (None, None));
    client.pass(3_000);
    client.send_frame(&share_frame(&share, b"x"));
    assert_eq!(repeats(&client).len(), 6);
}

#[test]
fn what_repeats_bring_counts_as_waiting_until_it_is_taken() {
    let mut settings = settings();
    settings.limits.extension_bytes_pending = 20;
    let mut pool = Pool::new(settings);
    let (mut client, id) = negotiated(&mut pool);
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    client.send_frame(&share_frame(&share, &[0; 10]));
    // The TLVs of other extensions are held for a moment, too, but not at the same time.
    client.send_with_tail(&share.message(), &tlv(EXTENSION, 1, &[0; 5]));
    assert_eq!((repeats(&client).len(), client.closed), (2, None));
    client.events.clear();
    client.send_frame(&share_frame(&share, &[0; 20]));
    assert_eq!((repeats(&client).len(), client.closed), (1, None));
    client.send_frame(&share_frame(&share, &[0; 1]));
    assert_eq!((repeats(&client).len(), client.closed), (1, Some(CloseReason::ExtensionBytes)));
}

#[test]
fn a_repeat_of_another_channels_share_has_another_hash() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = negotiated(&mut pool);
    let (other, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(2));
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    let mut moved = share;
    moved.channel = other;
    client.send_frame(&share_frame(&moved, b"x"));
    assert!(repeats(&client).is_empty());
}
