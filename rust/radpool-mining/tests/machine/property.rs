//! Properties: nothing credits twice, and no order of events confuses a channel.

use std::collections::HashSet;

use proptest::prelude::*;
use radpool_mining::{Command, Event};
use radpool_wire::message::*;

use crate::{
    extension::{share_frame, tlv},
    harness::*,
};

/// One way to submit a valid share again.
#[derive(Clone, Debug)]
enum Replay {
    Same,
    Sequence(u32),
    Nonce(u32),
    Ntime(i32),
    Version(u32),
    Extranonce(usize, u8),
    Length(usize),
    /// On the other connection's channel and current job.
    OtherConnection,
    CurrentJob,
    OtherJob(u32),
    AsStandard,
    Tail(Vec<u8>),
    /// With something for an extension: by TLV, or by its own message.
    Attached {
        by_message: bool,
    },
    /// The tip goes away and comes back.
    TipThereAndBack,
    NewTemplate,
    Reopen,
    Retarget(u32),
}

fn replay() -> impl Strategy<Value = Replay> {
    prop_oneof![
        3 => Just(Replay::Same),
        1 => any::<u32>().prop_map(Replay::Sequence),
        1 => any::<u32>().prop_map(Replay::Nonce),
        1 => (-100..200i32).prop_map(Replay::Ntime),
        1 => any::<u32>().prop_map(Replay::Version),
        1 => (0..8usize, any::<u8>()).prop_map(|(at, byte)| Replay::Extranonce(at, byte)),
        1 => (0..33usize).prop_map(Replay::Length),
        2 => Just(Replay::OtherConnection),
        2 => Just(Replay::CurrentJob),
        1 => (0..20u32).prop_map(Replay::OtherJob),
        1 => Just(Replay::AsStandard),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Replay::Tail),
        3 => any::<bool>().prop_map(|by_message| Replay::Attached { by_message }),
        2 => Just(Replay::TipThereAndBack),
        1 => Just(Replay::NewTemplate),
        1 => Just(Replay::Reopen),
        1 => (4..8u32).prop_map(Replay::Retarget),
    ]
}

fn open_easy(client: &mut Client) -> u32 {
    client.open(&open_extended(0.0, [0xff; 32], 0), owner(1)).0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// attack: A2
    #[test]
    fn any_replay_of_a_share_credits_at_most_once(replays in prop::collection::vec(replay(), 1..24)) {
        let mut pool = Pool::new(settings());
        let mut clients = [pool.set_up(0), pool.set_up(0)];
        let mut channels = clients.each_mut().map(|client| {
            let requested_extensions = vec![EXTENSION];
            let request = RequestExtensions { request_id: 1, requested_extensions };
            client.send(&Message::RequestExtensions(request));
            open_easy(client)
        });
        let original = clients[0].mine(channels[0]);
        prop_assert_eq!(clients[0].verdict(&original), None);
        let mut block = 1;
        for replay in replays {
            let mut share = original.clone();
            (share.channel, share.tip) = (channels[0], original.tip);
            let mut client = &mut clients[0];
            let mut tail = vec![];
            match replay {
                Replay::Same => {}
                Replay::Sequence(sequence) => share.sequence = sequence,
                Replay::Nonce(nonce) => share.nonce = nonce,
                Replay::Ntime(seconds) => share.ntime = share.ntime.wrapping_add_signed(seconds),
                Replay::Version(version) => share.version = version,
                Replay::Extranonce(at, byte) => share.extranonce[at] = byte,
                Replay::Length(length) => share.extranonce.resize(length.min(32), 0),
                Replay::OtherConnection => {
                    client = &mut clients[1];
                    share.channel = channels[1];
                    share.job = client.channels[&channels[1]].job.unwrap();
                }
                Replay::CurrentJob => share.job = client.channels[&channels[0]].job.unwrap(),
                Replay::OtherJob(job) => share.job = job,
                Replay::AsStandard => share.standard = true,
                Replay::Tail(bytes) => tail = bytes,
                Replay::Attached { by_message: false } => tail = tlv(EXTENSION, 1, b"claim"),
                Replay::Attached { by_message: true } => {
                    client.send_frame(&share_frame(&share, b"claim"));
                    continue;
                }
                Replay::TipThereAndBack => {
                    for next in [block + 1, 1] {
                        let id = u64::from(next);
                        pool.shared.publish_template(template(id), Some(tip(id, next))).unwrap();
                        for client in &mut clients {
                            client.work();
                        }
                    }
                    block = block % 2 + 1;
                    continue;
                }
                Replay::NewTemplate => {
                    pool.shared.publish_template(template(1), Some(tip(1, 1))).unwrap();
                    for client in &mut clients {
                        client.work();
                    }
                    continue;
                }
                Replay::Reopen => {
                    let reason = String::new();
                    client.command(Command::CloseChannel { channel: channels[0], reason });
                    channels[0] = open_easy(client);
                    continue;
                }
                Replay::Retarget(exponent) => {
                    client.command(Command::SetExponent { channel: channels[0], exponent: z(exponent) });
                    continue;
                }
            }
            client.send_with_tail(&share.message(), &tail);
            prop_assert_eq!(client.closed, None);
        }
        let mut hashes = HashSet::new();
        for record in clients.iter().flat_map(|client| &client.shares) {
            prop_assert!(hashes.insert(record.hash), "credited twice");
            prop_assert!(record.exponent.is_met_by(&record.hash));
        }
        // What is handed up as a repeat was credited before, as what it says.
        for client in &clients {
            for event in &client.events {
                let Event::RepeatedShare(repeat) = event else { continue };
                let record = client.shares.iter().find(|share| share.hash == repeat.hash).unwrap();
                let of_record = (record.account, record.owner.epoch, record.exponent);
                prop_assert_eq!((repeat.account, repeat.epoch, repeat.exponent), of_record);
                prop_assert_eq!(repeat.height, record.body.height);
                prop_assert_eq!(repeat.extension_type, EXTENSION);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_machine_panic(
        frames in prop::collection::vec(
            (
                prop_oneof![Just(0u16), Just(1), Just(2), Just(0x4e45), any::<u16>()],
                any::<bool>(),
                prop_oneof![0..0x26u8, any::<u8>()],
                prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..120),
            ),
            0..40,
        ),
        negotiate in any::<bool>(),
    ) {
        let mut pool = Pool::new(settings());
        let mut client = pool.set_up(0);
        if negotiate {
            let requested_extensions = vec![2, 0x4e45];
            let request = RequestExtensions { request_id: 1, requested_extensions };
            client.send(&Message::RequestExtensions(request));
        }
        open_easy(&mut client);
        for (extension_type, channel_msg, msg_type, payload) in frames {
            let header = radpool_wire::frame::FrameHeader {
                extension_type: extension_type & 0x7fff,
                channel_msg,
                msg_type,
                payload_len: payload.len() as u32,
            };
            client.send_frame(&[&header.to_bytes()[..], &payload].concat());
        }
        prop_assert!(client.shares.is_empty());
    }
}

/// One thing that can happen to a connection.
#[derive(Clone, Debug)]
enum Happening {
    OpenExtended(u64, u16),
    OpenStandard(u64),
    Close(usize),
    Exponent(usize, u32),
    Owner(usize, u64),
    Prefix(usize),
    Update(usize, f32, u32),
    Template,
    Tip,
    Future,
    Activate,
    Pass(u64),
    Mine(usize),
    /// Work changes but the connection is not told yet.
    Quiet(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1..3u64, prop_oneof![Just(0u16), Just(9)]).prop_map(|(o, n)| Happening::OpenExtended(o, n)),
        2 => (1..3u64).prop_map(Happening::OpenStandard),
        1 => (0..8usize).prop_map(Happening::Close),
        2 => (0..8usize, 4..8u32).prop_map(|(c, z)| Happening::Exponent(c, z)),
        1 => (0..8usize, 1..3u64).prop_map(|(c, o)| Happening::Owner(c, o)),
        1 => (0..8usize).prop_map(Happening::Prefix),
        1 => (0..8usize, 0.0..20f32, 4..7u32).prop_map(|(c, r, z)| Happening::Update(c, r, z)),
        2 => Just(Happening::Template),
        2 => Just(Happening::Tip),
        2 => Just(Happening::Future),
        2 => Just(Happening::Activate),
        2 => (0..40_000u64).prop_map(Happening::Pass),
        4 => (0..8usize).prop_map(Happening::Mine),
        1 => any::<bool>().prop_map(Happening::Quiet),
    ]
}

/// Publishes or activates a template; `ids` are the last template's and the last block's.
fn change_work(pool: &Pool, ids: &mut (u64, u8), happening: &Happening) {
    match happening {
        Happening::Template => {
            ids.0 += 1;
            let tip = tip(ids.0, ids.1);
            pool.shared.publish_template(template(ids.0), Some(tip)).unwrap();
        }
        Happening::Tip => {
            *ids = (ids.0 + 1, ids.1.wrapping_add(1));
            let tip = tip(ids.0, ids.1);
            pool.shared.publish_template(template(ids.0), Some(tip)).unwrap();
        }
        Happening::Future => {
            ids.0 += 1;
            pool.shared.publish_template(template(ids.0), None).unwrap();
        }
        Happening::Activate => {
            if let Some(future) = &pool.shared.current_work().future {
                ids.1 = ids.1.wrapping_add(1);
                pool.shared.activate_template(tip(future.id, ids.1)).unwrap();
            }
        }
        _ => {}
    }
}

fn happen(pool: &Pool, client: &mut Client, ids: &mut (u64, u8), happening: &Happening) {
    let channel = |client: &Client, index: usize| {
        client.channels.keys().copied().nth(index % client.channels.len().max(1))
    };
    match *happening {
        Happening::OpenExtended(account, min) if client.channels.len() < 8 => {
            client.open(&open_extended(1.6, [0xff; 32], min), owner(account));
        }
        Happening::OpenStandard(account) if client.channels.len() < 8 => {
            client.open(&open_standard(1.6, [0xff; 32]), owner(account));
        }
        Happening::OpenExtended(..) | Happening::OpenStandard(_) => {}
        Happening::Close(index) => {
            if let Some(channel) = channel(client, index) {
                client.command(Command::CloseChannel { channel, reason: String::new() });
            }
        }
        Happening::Exponent(index, exponent) => {
            if let Some(channel) = channel(client, index) {
                client.command(Command::SetExponent { channel, exponent: z(exponent) });
            }
        }
        Happening::Owner(index, account) => {
            if let Some(channel) = channel(client, index) {
                client.command(Command::SetOwner { channel, owner: owner(account) });
            }
        }
        Happening::Prefix(index) => {
            if let Some(channel) = channel(client, index) {
                client.command(Command::SetExtranoncePrefix { channel });
            }
        }
        Happening::Update(index, nominal_hash_rate, zeros) => {
            if let Some(channel_id) = channel(client, index) {
                let maximum_target = z(zeros).target().to_le_bytes();
                let update = UpdateChannel { channel_id, nominal_hash_rate, maximum_target };
                client.send(&Message::UpdateChannel(update));
                assert!(client.channels[&channel_id].exponent() >= zeros);
            }
        }
        Happening::Template | Happening::Tip | Happening::Future | Happening::Activate => {
            change_work(pool, ids, happening);
        }
        Happening::Pass(ms) => {
            client.pass(ms);
            client.deadline();
        }
        Happening::Mine(index) => {
            if let Some(id) = channel(client, index) {
                let share = client.mine(id);
                let before = client.shares.len();
                client.submit(&share);
                let expected = client.hash(&share);
                assert_eq!(client.shares.len(), before + 1, "the share is good");
                assert_eq!(client.shares[before].hash, expected);
            }
        }
        Happening::Quiet(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The harness checks at each message that it may come now; and whatever has happened, each
    /// channel's current job earns.
    #[test]
    fn any_order_of_events_leaves_every_channel_mining(
        happenings in prop::collection::vec(happening(), 1..60),
        group_jobs in any::<bool>(),
    ) {
        let mut pool = Pool::new(radpool_mining::Settings {
            group_jobs,
            // Shares of one instant make vardiff ask for more than a test can mine.
            exponent_max: z(8),
            limits: radpool_mining::Limits { channel_deadline_ms: u64::MAX / 2, requests_burst: 1_000, ..settings().limits },
            ..settings()
        });
        let mut client = pool.set_up(0);
        let mut ids = (1, 1);
        let mut quiet = false;
        for happening in &happenings {
            if let Happening::Quiet(now) = happening {
                quiet = *now;
            }
            happen(&pool, &mut client, &mut ids, happening);
            if !quiet {
                client.work();
            }
            prop_assert_eq!(client.closed, None);
        }
        client.work();
        for id in client.channels.keys().copied().collect::<Vec<_>>() {
            happen(&pool, &mut client, &mut ids, &Happening::Mine(id as usize));
            let share = client.mine(id);
            let owner = client.channels[&id].clone();
            let before = client.shares.len();
            client.submit(&share);
            prop_assert_eq!(client.shares.len(), before + 1);
            prop_assert!(u32::from(client.shares[before].exponent.get()) <= 20 && owner.id == id);
        }
    }
}
