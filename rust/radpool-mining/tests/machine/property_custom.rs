//! Properties of custom jobs: whatever becomes a job can be proved, nothing credits twice, and no
//! order of events leaves a channel with work that does not count.

use std::collections::HashSet;

use proptest::prelude::*;
use radpool_ledger::{Owner, Rail, check_coinbase};
use radpool_mining::{Command, Limits, Settings, ShareRecord};
use radpool_units::Exponent;
use radpool_wire::{frame::FrameHeader, message::*};

use crate::{
    custom::{
        HEIGHT, commitment_output, counted, custom, grant, payout_output, select, tag_output,
    },
    harness::*,
};

/// Rates and hardness that a test can reach.
fn easy() -> Settings {
    let limits =
        Limits { requests_burst: 10_000, channel_deadline_ms: u64::MAX / 2, ..settings().limits };
    Settings { exponent_min: z(2), exponent_max: z(8), limits, ..settings() }
}

/// Checks a share as a verifier of the ledger does.
fn assert_provable(record: &ShareRecord) {
    let extranonce = &record.extranonce[..record.extranonce_len.into()];
    let tag = record.owner.tag(record.exponent);
    let mut coinbase = vec![];
    record.body.write_coinbase(extranonce, &tag.to_output(), &mut coinbase);
    let at = (record.body.coinbase_prefix.len(), extranonce.len());
    check_coinbase(&coinbase, at, record.body.height, &tag.to_script()).unwrap();
    assert!(record.exponent.is_met_by(&record.hash));
    record.body.encode().unwrap();
}

/// An output of a hostile or odd job.
#[derive(Clone, Debug)]
enum Piece {
    Payout(u64),
    Tag {
        account: u64,
        epoch: u32,
        exponent: u32,
    },
    Commitment,
    Script(Vec<u8>),
    /// Something that begins like a tag.
    AlmostTag(usize, u8),
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Payout(sats) => payout_output(*sats),
            Self::Tag { account, epoch, exponent } => {
                tag_output(owner(*account), *epoch, z(*exponent))
            }
            Self::Commitment => commitment_output(),
            Self::Script(script) => [&[1; 8][..], &[script.len() as u8], script].concat(),
            Self::AlmostTag(at, byte) => {
                let mut tag = tag_output(owner(1), 3, z(5));
                tag[9 + at % 40] ^= byte;
                tag
            }
        }
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        2 => any::<u64>().prop_map(Piece::Payout),
        4 => (1..3u64, 3..5u32, 5..7u32)
            .prop_map(|(account, epoch, exponent)| Piece::Tag { account, epoch, exponent }),
        1 => Just(Piece::Commitment),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Piece::Script),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Piece::AlmostTag(at, byte)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_job_is_set_if_and_only_if_its_shares_can_be_proved(
        pieces in prop::collection::vec(piece(), 0..6),
        prefix in prop_oneof![
            3 => prop::collection::vec(any::<u8>(), 0..85).prop_map(|text| {
                [&[0x02, 0x65, 0x01][..], &text].concat()
            }),
            1 => prop::collection::vec(any::<u8>(), 0..95),
        ],
    ) {
        let (mut client, id) = select(&mut Pool::new(easy()));
        let outputs: Vec<_> = pieces.iter().map(Piece::bytes).collect();
        let job = SetCustomMiningJob {
            coinbase_tx_outputs: counted(&outputs),
            coinbase_prefix: prefix.clone(),
            ..custom(id, owner(1), z(5), 1)
        };
        let expected = tag_output(owner(1), 3, z(5));
        let is_tag = |output: &&Vec<u8>| output[9..].starts_with(b"\x6a\x26RADP");
        let provable = outputs.iter().filter(is_tag).collect::<Vec<_>>() == [&expected]
            && prefix.starts_with(&[0x02, 0x65, 0x01])
            && prefix.len() <= 88;
        let set = client.ask(&job).is_ok_and(|asked| {
            let replies = client.accept(&job, &asked, grant(owner(1), z(5)));
            replies.iter().any(|reply| matches!(reply, Message::SetCustomMiningJobSuccess(_)))
        });
        prop_assert_eq!(set, provable);
        if set {
            let share = client.mine(id);
            prop_assert_eq!(client.verdict(&share), None);
            assert_provable(&client.shares[0]);
        }
    }

    #[test]
    fn no_bytes_of_a_custom_job_make_the_machine_panic(
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<usize>()),
        decide in any::<bool>(),
    ) {
        let (mut client, id) = select(&mut Pool::new(easy()));
        let mut frame = vec![];
        Message::SetCustomMiningJob(custom(id, owner(1), z(5), 1)).encode(&mut frame).unwrap();
        let mut payload = frame.split_off(6);
        for (at, byte) in edits {
            let at = at % payload.len();
            payload[at] = byte;
        }
        if let Some(cut) = cut {
            payload.truncate(cut % (payload.len() + 1));
        }
        let header = FrameHeader {
            extension_type: 0,
            channel_msg: true,
            msg_type: 0x22,
            payload_len: payload.len() as u32,
        };
        client.send_frame(&[&header.to_bytes()[..], &payload].concat());
        if decide {
            for request in 0..4 {
                let grant = Box::new(grant(owner(1), z(5)));
                client.command(Command::AcceptCustomJob { channel: id, request, grant });
            }
        }
    }
}

/// One thing that can happen to a client that selects its work.
#[derive(Clone, Debug)]
enum Happening {
    Open,
    Close(usize),
    /// A job with this step in its tag, accepted at once.
    Job(usize, u32),
    /// A job that is decided about later, if ever.
    Ask(usize, u32),
    Decide(bool),
    /// The tip moves to this block, or a template comes on the same.
    Tip(u8),
    Exponent(usize, u32),
    Prefix(usize),
    Owner(usize, u64),
    Update(usize, f32, u32),
    Pass(u64),
    Mine(usize),
    /// An earlier share again, on its own or on the channel's current job.
    Replay(usize, bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        1 => Just(Happening::Open),
        1 => (0..4usize).prop_map(Happening::Close),
        5 => (0..4usize, 2..8u32).prop_map(|(c, z)| Happening::Job(c, z)),
        2 => (0..4usize, 2..8u32).prop_map(|(c, z)| Happening::Ask(c, z)),
        2 => any::<bool>().prop_map(Happening::Decide),
        2 => (1..4u8).prop_map(Happening::Tip),
        1 => (0..4usize, 2..9u32).prop_map(|(c, z)| Happening::Exponent(c, z)),
        1 => (0..4usize).prop_map(Happening::Prefix),
        1 => (0..4usize, 1..3u64).prop_map(|(c, o)| Happening::Owner(c, o)),
        1 => (0..4usize, 0.0..20f32, 2..7u32).prop_map(|(c, r, z)| Happening::Update(c, r, z)),
        2 => (0..40_000u64).prop_map(Happening::Pass),
        5 => (0..4usize).prop_map(Happening::Mine),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, current)| Happening::Replay(at, current)),
    ]
}

/// A client, the pool's tip, what waits for a decision, what was mined.
struct Story {
    pool: Pool,
    client: Client,
    block: u8,
    template: u64,
    asked: Vec<(SetCustomMiningJob, std::sync::Arc<radpool_mining::CustomJob>, Exponent)>,
    mined: Vec<MinedShare>,
    /// Channels with a job on the current tip.
    working: HashSet<u32>,
}

impl Story {
    fn channel(&self, index: usize) -> Option<u32> {
        self.client.channels.keys().copied().nth(index % self.client.channels.len().max(1))
    }

    fn ask(&mut self, channel: u32, exponent: Exponent) {
        let job = custom(channel, owner(1), exponent, self.block);
        if let Ok(asked) = self.client.ask(&job) {
            self.asked.push((job, asked, exponent));
        }
    }

    fn decide(&mut self, yes: bool) {
        let Some((job, asked, exponent)) = self.asked.pop() else { return };
        let channel = job.channel_id;
        if !yes {
            let (request, code) = (asked.request, "invalid-mining-job-token".into());
            self.client.command(Command::RefuseCustomJob { channel, request, code });
            return;
        }
        let on_tip = job.prev_hash == [self.block; 32];
        let open = self.client.channels.contains_key(&channel);
        let replies = self.client.accept(&job, &asked, grant(owner(1), exponent));
        let answers = names(&replies);
        match (open, on_tip) {
            (false, _) => assert_eq!(answers, [""; 0]),
            (true, false) => assert_eq!(answers, ["SetCustomMiningJob.Error"]),
            (true, true) => {
                assert_eq!(answers.last(), Some(&"SetCustomMiningJob.Success"));
                self.working.insert(channel);
            }
        }
    }

    fn mine(&mut self, channel: u32) {
        if !self.working.contains(&channel) {
            return;
        }
        let exponent =
            self.client.jobs[&self.client.channels[&channel].job.unwrap()].tag().exponent;
        let mut share = self.client.draft(channel);
        share.nonce = share.sequence.wrapping_mul(0x0100_0000);
        self.client.grind(&mut share, exponent.get().into(), 257);
        assert_eq!(self.client.verdict(&share), None, "the current job counts");
        assert_eq!(self.client.shares.last().unwrap().exponent, exponent);
        self.mined.push(share);
    }

    fn tip(&mut self, block: u8) {
        self.template += 1;
        let next = tip(self.template, block);
        self.pool.shared.publish_template(template(self.template), Some(next)).unwrap();
        if block != self.block {
            self.working.clear();
        }
        self.block = block;
        assert_eq!(self.client.work(), []);
    }

    fn replay(&mut self, at: usize, on_current_job: bool) {
        if self.mined.is_empty() {
            return;
        }
        let mut share = self.mined[at % self.mined.len()].clone();
        if let Some(channel) = self.client.channels.get(&share.channel)
            && on_current_job
        {
            share.job = channel.job.unwrap_or(share.job);
        }
        self.client.submit(&share);
    }

    fn happen(&mut self, happening: &Happening) {
        let channel = |story: &Self, index: usize| story.channel(index).unwrap_or(u32::MAX);
        match *happening {
            Happening::Open if self.client.channels.len() < 4 => {
                self.client.open(&open_extended(1.6, [0xff; 32], 0), owner(1));
            }
            Happening::Open => {}
            Happening::Close(index) => {
                let channel = channel(self, index);
                let reason = String::new();
                self.client.command(Command::CloseChannel { channel, reason });
                self.working.remove(&channel);
            }
            Happening::Job(index, exponent) => {
                let before = self.asked.len();
                self.ask(channel(self, index), z(exponent));
                if self.asked.len() > before {
                    self.decide(true);
                }
            }
            Happening::Ask(index, exponent) => self.ask(channel(self, index), z(exponent)),
            Happening::Decide(yes) => self.decide(yes),
            Happening::Tip(block) => self.tip(block),
            Happening::Exponent(index, exponent) => {
                let channel = channel(self, index);
                let command = Command::SetExponent { channel, exponent: z(exponent) };
                assert_eq!(self.client.command(command), []);
            }
            Happening::Prefix(index) => {
                // The client's hash of an earlier job would have the new prefix.
                let channel = channel(self, index);
                self.client.command(Command::SetExtranoncePrefix { channel });
                self.working.remove(&channel);
            }
            Happening::Owner(index, account) => {
                let channel = channel(self, index);
                let command = Command::SetOwner { channel, owner: owner(account) };
                assert_eq!(self.client.command(command), []);
            }
            Happening::Update(index, nominal_hash_rate, zeros) => {
                let channel_id = channel(self, index);
                let maximum_target = z(zeros).target().to_le_bytes();
                let update = UpdateChannel { channel_id, nominal_hash_rate, maximum_target };
                self.client.send(&Message::UpdateChannel(update));
                if let Some(channel) = self.client.channels.get(&channel_id) {
                    assert!(channel.exponent() >= zeros);
                }
            }
            Happening::Pass(ms) => {
                self.client.pass(ms);
                self.client.deadline();
            }
            Happening::Mine(index) => self.mine(channel(self, index)),
            Happening::Replay(at, current) => self.replay(at, current),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// attack: A2
    #[test]
    fn any_order_of_events_credits_each_share_once_and_sends_no_job(
        happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let mut pool = Pool::new(easy());
        let (client, _) = select(&mut pool);
        let (asked, mined, working) = (vec![], vec![], HashSet::new());
        let mut story = Story { pool, client, block: 1, template: 1, asked, mined, working };
        for happening in &happenings {
            story.happen(happening);
            prop_assert_eq!(story.client.closed, None);
        }
        let mut hashes = HashSet::new();
        for record in &story.client.shares {
            prop_assert!(hashes.insert(record.hash), "credited twice");
            assert_provable(record);
            let owner = Owner {
                msp_key: [7; 32],
                commitment: [1; 32],
                epoch: 3,
                rail: Rail::Account,
            };
            prop_assert_eq!((record.owner, record.price, record.body.height), (owner, 777, HEIGHT));
        }
        // A replay on another job is another share, which may be good.
        prop_assert!(hashes.len() >= story.mined.len());
        // Neither NewMiningJob nor NewExtendedMiningJob, SetNewPrevHash or SetGroupChannel.
        let sent = story.client.order.iter().all(|(_, kind)| ![0x15, 0x1f, 0x20, 0x25].contains(kind));
        prop_assert!(sent, "{:?}", story.client.order);
    }
}
