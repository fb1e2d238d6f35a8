//! Custom jobs: asked for, accepted or refused, mined; the target follows the tag.

use std::sync::Arc;

use radpool_ledger::Owner;
use radpool_mining::{
    ChannelOwner, CloseReason, Command, CustomGrant, CustomJob, DECLARED_TEMPLATES, Event, Settings,
};
use radpool_units::{Exponent, Target, sha256d};
use radpool_wire::message::*;

use crate::harness::*;

/// REQUIRES_WORK_SELECTION and REQUIRES_VERSION_ROLLING, as published declarator clients set them.
pub(crate) const SELECTING: u32 = 6;
/// The height that the custom jobs of the tests push.
pub(crate) const HEIGHT: u32 = 0x165;

pub(crate) fn tag_output(of: ChannelOwner, epoch: u32, exponent: Exponent) -> Vec<u8> {
    let owner = Owner { msp_key: [7; 32], commitment: of.commitment, epoch, rail: of.rail };
    owner.tag(exponent).to_output().to_vec()
}

pub(crate) fn payout_output(sats: u64) -> Vec<u8> {
    [&sats.to_le_bytes()[..], &[0x22, 0x51, 0x20], &[0xaa; 32]].concat()
}

pub(crate) fn commitment_output() -> Vec<u8> {
    [&[0; 8][..], &[0x26, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &[0xcc; 32]].concat()
}

/// Outputs with their count in front.
pub(crate) fn counted(outputs: &[Vec<u8>]) -> Vec<u8> {
    [&[outputs.len() as u8][..], &outputs.concat()].concat()
}

/// A good job on the block's tip with the tag of an owner in epoch 3.
pub(crate) fn custom(
    channel_id: u32,
    of: ChannelOwner,
    exponent: Exponent,
    block: u8,
) -> SetCustomMiningJob {
    let outputs = [payout_output(5_000_000_000), tag_output(of, 3, exponent), commitment_output()];
    SetCustomMiningJob {
        channel_id,
        request_id: 900,
        token: vec![0x70; 32],
        version: 0x2000_0004,
        prev_hash: [block; 32],
        min_ntime: tip(1, block).min_ntime + 5,
        nbits: REGTEST_NBITS,
        coinbase_tx_version: 2,
        coinbase_prefix: [&[0x02, 0x65, 0x01, 4][..], b"mine", &[12]].concat(),
        coinbase_tx_input_n_sequence: 0xffff_fffd,
        coinbase_tx_outputs: counted(&outputs),
        coinbase_tx_locktime: 356,
        merkle_path: vec![[0x31; 32], [0x32; 32]],
    }
}

pub(crate) fn grant(of: ChannelOwner, exponent: Exponent) -> CustomGrant {
    CustomGrant {
        template_id: DECLARED_TEMPLATES + 5,
        owner: of,
        epoch: 3,
        exponent,
        price: 777,
        height: HEIGHT,
        target: Target::from_le_bytes([0; 32]),
    }
}

impl Client {
    /// Sends a custom job and returns what the pool is asked, if it is asked.
    pub(crate) fn ask(&mut self, job: &SetCustomMiningJob) -> Result<Arc<CustomJob>, String> {
        let before = self.events.len();
        let replies = self.send(&Message::SetCustomMiningJob(job.clone()));
        match (&replies[..], &self.events[before..]) {
            ([], [Event::CustomJobRequested(asked)]) => Ok(Arc::clone(asked)),
            ([Message::SetCustomMiningJobError(error)], []) => {
                assert_eq!((error.channel_id, error.request_id), (job.channel_id, job.request_id));
                Err(String::from_utf8(error.error_code.clone()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Accepts a custom job and lets the client mine it when it succeeds.
    pub(crate) fn accept(
        &mut self,
        job: &SetCustomMiningJob,
        asked: &CustomJob,
        grant: CustomGrant,
    ) -> Vec<Message<'static>> {
        let (channel, request) = (job.channel_id, asked.request);
        let command = Command::AcceptCustomJob { channel, request, grant: Box::new(grant) };
        let replies = self.command(command);
        if let Some(Message::SetCustomMiningJobSuccess(success)) = replies.last() {
            assert_eq!((success.channel_id, success.request_id), (channel, job.request_id));
            self.take_custom(job, success.job_id);
        }
        replies
    }

    fn take_custom(&mut self, job: &SetCustomMiningJob, id: u32) {
        let channel = self.channels.get_mut(&job.channel_id).unwrap();
        let script_len =
            job.coinbase_prefix.len() + channel.prefix.len() + usize::from(channel.rollable);
        let mut prefix = job.coinbase_tx_version.to_le_bytes().to_vec();
        prefix.push(1);
        prefix.extend([0; 32]);
        prefix.extend([0xff; 4]);
        prefix.push(script_len as u8);
        prefix.extend(&job.coinbase_prefix);
        let mut suffix = job.coinbase_tx_input_n_sequence.to_le_bytes().to_vec();
        suffix.extend(&job.coinbase_tx_outputs);
        suffix.extend(job.coinbase_tx_locktime.to_le_bytes());
        channel.tip = Some((job.prev_hash, job.min_ntime, job.nbits));
        channel.job = Some(id);
        let kind = JobKind::Coinbase { prefix, suffix, path: job.merkle_path.clone() };
        let known = ClientJob {
            addressee: job.channel_id,
            id,
            min_ntime: Some(job.min_ntime),
            version: job.version,
            kind,
        };
        assert_eq!(u32::from(known.tag().exponent.get()), channel.exponent(), "the target follows");
        assert!(self.jobs.insert(id, known).is_none(), "job ids are unique on a connection");
    }

    /// Has a good custom job set; returns what the client is sent.
    pub(crate) fn set_custom(
        &mut self,
        channel: u32,
        exponent: Exponent,
        block: u8,
    ) -> Vec<Message<'static>> {
        let job = custom(channel, owner(1), exponent, block);
        let asked = self.ask(&job).unwrap();
        self.accept(&job, &asked, grant(owner(1), exponent))
    }
}

/// A client that selects its work, with one channel at exponent 8.
pub(crate) fn select(pool: &mut Pool) -> (Client, u32) {
    let mut client = pool.set_up(SELECTING);
    let (id, replies) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    assert_eq!(names(&replies), ["OpenExtendedMiningChannel.Success"]);
    (client, id)
}

#[test]
fn a_custom_job_is_asked_for_whole_then_mined() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let job = custom(id, owner(1), z(8), 1);
    let asked = client.ask(&job).unwrap();
    assert_eq!((asked.exponent, asked.extranonce_len, asked.output_count), (z(8), 12, 3));
    let uncounted = SetCustomMiningJob {
        coinbase_tx_outputs: job.coinbase_tx_outputs[1..].to_vec(),
        ..job.clone()
    };
    assert_eq!(asked.message, uncounted);
    let replies = client.accept(&job, &asked, grant(owner(2), z(8)));
    assert_eq!(names(&replies), ["SetCustomMiningJob.Error"], "another owner's tag");
    let asked = client.ask(&job).unwrap();
    let replies = client.accept(&job, &asked, grant(owner(1), z(8)));
    assert_eq!(names(&replies), ["SetCustomMiningJob.Success"]);
    let share = client.mine(id);
    let hash = client.hash(&share);
    assert_eq!(client.verdict(&share), None);
    let record = &client.shares[0];
    assert_eq!((record.hash, record.job), (hash, share.job));
    assert_eq!((record.template_id, record.price), (DECLARED_TEMPLATES + 5, 777));
    assert_eq!((record.account, record.exponent, record.body.height), (1, z(8), HEIGHT));
    // Known before, so not a second time, whatever job it names.
    assert_eq!(names(&client.set_custom(id, z(8), 1)), ["SetCustomMiningJob.Success"]);
    for job in [share.job, client.channels[&id].job.unwrap()] {
        let again = MinedShare { job, ..share.clone() };
        assert_eq!(client.verdict(&again).as_deref(), Some("duplicate-share"));
    }
}

#[test]
fn the_target_follows_the_tag_and_older_jobs_keep_their_weight() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    client.set_custom(id, z(8), 1);
    let before = client.mine(id);
    let replies = client.set_custom(id, z(5), 1);
    assert_eq!(names(&replies), ["SetTarget", "SetCustomMiningJob.Success"]);
    let Message::SetTarget(set) = &replies[0] else { panic!() };
    assert_eq!((set.channel_id, set.maximum_target), (id, z(5).target().to_le_bytes()));
    let moved = Event::ExponentChanged { channel: id, exponent: z(5) };
    assert_eq!(format!("{:?}", client.events.last().unwrap()), format!("{moved:?}"));
    let after = client.mine(id);
    assert_eq!([client.verdict(&before), client.verdict(&after)], [None, None]);
    assert_eq!([client.shares[0].exponent, client.shares[1].exponent], [z(8), z(5)]);
    // What meets the channel's target but not the older job's tag earns nothing.
    let mut weak = client.draft(id);
    weak.job = before.job;
    client.grind(&mut weak, 5, 8);
    assert_eq!(client.verdict(&weak).as_deref(), Some("difficulty-too-low"));
    // Beyond the channel's bounds, too: the tag was given by the pool.
    assert_eq!(names(&client.set_custom(id, z(2), 1))[0], "SetTarget");
    let easy = client.mine(id);
    assert_eq!(client.verdict(&easy), None);
}

#[test]
fn who_selects_the_work_gets_none_of_the_pools() {
    let mut pool = Pool::new(Settings { group_jobs: true, ..settings() });
    let (mut client, id) = select(&mut pool);
    let (other, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    assert_ne!(client.channels[&id].group, client.channels[&other].group);
    for step in 2..6u64 {
        pool.shared.publish_template(template(step), Some(tip(step, step as u8))).unwrap();
        assert_eq!(client.work(), []);
        pool.shared.publish_template(template(step + 50), None).unwrap();
        assert_eq!(client.work(), []);
        pool.shared.activate_template(tip(step + 50, step as u8 + 50)).unwrap();
        assert_eq!(client.work(), []);
    }
    assert_eq!(client.command(Command::SetOwner { channel: id, owner: owner(2) }), []);
    assert_eq!(
        names(&client.command(Command::SetExtranoncePrefix { channel: id })),
        ["SetExtranoncePrefix"]
    );
    // A group is nobody who could mine.
    let group = client.channels[&id].group;
    assert_eq!(client.ask(&custom(group, owner(1), z(8), 55)).unwrap_err(), "invalid-channel-id");
}

#[test]
fn a_new_tip_makes_custom_jobs_stale_and_a_late_one_is_refused() {
    let mut pool = Pool::new(settings());
    let (mut client, id) = select(&mut pool);
    client.set_custom(id, z(8), 1);
    let old = client.mine(id);
    let (late, early) = (custom(id, owner(1), z(8), 1), custom(id, owner(1), z(8), 2));
    let asked_late = client.ask(&late).unwrap();
    let asked_early = client.ask(&early).unwrap();
    // Another template on the same tip changes nothing for them.
    pool.shared.publish_template(template(2), Some(tip(2, 1))).unwrap();
    client.work();
    pool.shared.publish_template(template(3), Some(tip(3, 2))).unwrap();
    // The pool had decided before the connection was told of the tip.
    let replies = client.accept(&late, &asked_late, grant(owner(1), z(8)));
    let error_code = b"stale-chain-tip".to_vec();
    let error = SetCustomMiningJobError { channel_id: id, request_id: 900, error_code };
    assert_eq!(replies, [Message::SetCustomMiningJobError(error)]);
    let Some(Event::CustomJobFailed { channel, request, code }) = client.events.last() else {
        panic!()
    };
    assert_eq!((*channel, *request, *code), (id, asked_late.request, "stale-chain-tip"));
    assert_eq!(client.verdict(&old).as_deref(), Some("stale-share"));
    assert_eq!(
        names(&client.accept(&early, &asked_early, grant(owner(1), z(8)))),
        ["SetCustomMiningJob.Success"]
    );
    let share = client.mine(id);
    assert_eq!(client.verdict(&share), None);
    // A share of the old tip is stale as long as its job is remembered.
    client.pass(60_000);
    client.set_custom(id, z(8), 2);
    assert_eq!(client.verdict(&old).as_deref(), Some("invalid-job-id"));
}

/// What is wrong in form is refused at once; the pool hears nothing of it.
#[test]
fn malformed_jobs_are_refused_before_anybody_is_asked() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let good = custom(id, owner(1), z(8), 1);
    let outputs =
        |bytes: &[u8]| SetCustomMiningJob { coinbase_tx_outputs: bytes.to_vec(), ..good.clone() };
    let whole = &good.coinbase_tx_outputs;
    let prefix = |len: usize| {
        let mut coinbase_prefix = good.coinbase_prefix.clone();
        coinbase_prefix.resize(len, 0x4f);
        SetCustomMiningJob { coinbase_prefix, ..good.clone() }
    };
    let path = |len| SetCustomMiningJob { merkle_path: vec![[8; 32]; len], ..good.clone() };
    let nbits = |nbits| SetCustomMiningJob { nbits, ..good.clone() };
    let (wrong_outputs, wrong_prefix) = ("invalid-coinbase-tx-outputs", "invalid-coinbase-prefix");
    let cases = [
        (outputs(&[]), wrong_outputs),
        (outputs(&whole[1..]), wrong_outputs),
        (outputs(&whole[..whole.len() - 1]), wrong_outputs),
        (outputs(&[whole, &[0][..]].concat()), wrong_outputs),
        (outputs(&[&[4], &whole[1..]].concat()), wrong_outputs),
        (outputs(&[&[2], &whole[1..]].concat()), wrong_outputs),
        // The same count in a longer form.
        (outputs(&[&[0xfd, 3, 0], &whole[1..]].concat()), wrong_outputs),
        (outputs(&[0xff; 9]), wrong_outputs),
        (prefix(89), wrong_prefix),
        (prefix(255), wrong_prefix),
        (path(33), "invalid-merkle-path"),
        (path(120), "invalid-merkle-path"),
        (nbits(0), "invalid-nbits"),
        (nbits(0x1d80_0000), "invalid-nbits"),
        (nbits(u32::MAX), "invalid-nbits"),
        (SetCustomMiningJob { channel_id: 99, ..good.clone() }, "invalid-channel-id"),
    ];
    for (job, code) in cases {
        assert_eq!(client.ask(&job).unwrap_err(), code, "{job:?}");
    }
    for job in [prefix(88), path(32), path(0), outputs(&[0])] {
        let asked = client.ask(&job).unwrap();
        let refuse =
            Command::RefuseCustomJob { channel: id, request: asked.request, code: "no".into() };
        assert_eq!(names(&client.command(refuse)), ["SetCustomMiningJob.Error"]);
    }
    assert_eq!(client.closed, None);
}

/// What the pool accepted and no verifier would is refused all the same.
#[test]
fn a_job_that_the_ledger_could_not_prove_is_not_set() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let good = custom(id, owner(1), z(8), 1);
    let with = |outputs: &[Vec<u8>]| SetCustomMiningJob {
        coinbase_tx_outputs: counted(outputs),
        ..good.clone()
    };
    let (pay, tag) = (payout_output(5_000_000_000), tag_output(owner(1), 3, z(8)));
    let mut dear = tag.clone();
    dear[0] = 1;
    let mut version_2 = tag.clone();
    version_2[8 + 1 + 6] = 0x20;
    let outputs = "invalid-coinbase-tx-outputs";
    let cases = [
        (with(&[]), outputs),
        (with(&[pay.clone(), commitment_output()]), outputs),
        (with(&[pay.clone(), tag.clone(), tag.clone()]), outputs),
        (with(&[tag.clone(), pay.clone(), tag_output(owner(2), 3, z(8))]), outputs),
        (with(&[pay.clone(), tag.clone(), version_2]), outputs),
        (with(&[pay.clone(), tag_output(owner(1), 3, z(7))]), outputs),
        (with(&[pay.clone(), tag_output(owner(1), 2, z(8))]), outputs),
        (with(&[pay.clone(), tag_output(owner(2), 3, z(8))]), outputs),
        (with(&[pay.clone(), dear]), outputs),
        (
            SetCustomMiningJob { coinbase_prefix: vec![0x02, 0x66, 0x01, 12], ..good.clone() },
            "invalid-coinbase-prefix",
        ),
        (SetCustomMiningJob { coinbase_prefix: vec![], ..good.clone() }, "invalid-coinbase-prefix"),
    ];
    for (job, code) in cases {
        let asked = client.ask(&job).unwrap();
        let replies = client.accept(&job, &asked, grant(owner(1), z(8)));
        let [Message::SetCustomMiningJobError(error)] = &replies[..] else { panic!("{job:?}") };
        assert_eq!(error.error_code, code.as_bytes(), "{job:?}");
        let Some(Event::CustomJobFailed { code: told, .. }) = client.events.last() else {
            panic!()
        };
        assert_eq!(*told, code);
    }
    let asked = client.ask(&good).unwrap();
    let easy = CustomGrant { target: Target::from_le_bytes([0xff; 32]), ..grant(owner(1), z(8)) };
    let replies = client.accept(&good, &asked, easy);
    let [Message::SetCustomMiningJobError(error)] = &replies[..] else { panic!() };
    assert_eq!(error.error_code, b"invalid-nbits");
    // The tag may stand anywhere among the outputs.
    for order in [[&tag, &pay], [&pay, &tag]] {
        let job = with(&order.map(Clone::clone));
        let asked = client.ask(&job).unwrap();
        assert_eq!(
            names(&client.accept(&job, &asked, grant(owner(1), z(8)))),
            ["SetCustomMiningJob.Success"]
        );
        let share = client.mine(id);
        assert_eq!(client.verdict(&share), None);
    }
}

#[test]
fn requests_are_answered_once_and_end_with_their_channel() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let job = custom(id, owner(1), z(8), 1);
    let asked: Vec<_> = (0..4).map(|_| client.ask(&job).unwrap()).collect();
    assert_eq!(client.ask(&job).unwrap_err(), "custom-job-capacity-exhausted");
    let refuse =
        |channel, request| Command::RefuseCustomJob { channel, request, code: "x\ny".into() };
    let replies = client.command(refuse(id, asked[1].request));
    let error =
        SetCustomMiningJobError { channel_id: id, request_id: 900, error_code: b"x?y".to_vec() };
    assert_eq!(replies, [Message::SetCustomMiningJobError(error)]);
    // Neither again, nor for another channel, nor what was never asked.
    for (channel, request) in [(id, asked[1].request), (id + 1, asked[0].request), (id, 12_345)] {
        assert_eq!(client.command(refuse(channel, request)), []);
        let grant = Box::new(grant(owner(1), z(8)));
        assert_eq!(client.command(Command::AcceptCustomJob { channel, request, grant }), []);
    }
    client.ask(&job).unwrap();
    client.command(Command::CloseChannel { channel: id, reason: String::new() });
    assert_eq!(client.command(refuse(id, asked[0].request)), []);
    let grant = Box::new(grant(owner(1), z(8)));
    let accept = Command::AcceptCustomJob { channel: id, request: asked[2].request, grant };
    assert_eq!(client.command(accept), []);
    assert_eq!(client.ask(&job).unwrap_err(), "invalid-channel-id");
}

#[test]
fn a_bounded_number_of_jobs_is_remembered() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let (other, _) = client.open(&open_extended(RATE_Z8, [0xff; 32], 0), owner(1));
    client.set_custom(other, z(8), 1);
    let shares: Vec<_> = (0..8)
        .map(|_| {
            client.set_custom(id, z(8), 1);
            client.mine(id)
        })
        .collect();
    let verdicts: Vec<_> = shares.iter().map(|share| client.verdict(share)).collect();
    // Six in all, of which the other channel's active one is the oldest.
    let forgotten = Some("invalid-job-id".to_owned());
    let expected: Vec<_> = (0..8).map(|at| (at < 3).then(|| forgotten.clone()).flatten()).collect();
    assert_eq!(verdicts, expected);
    let share = client.mine(other);
    assert_eq!(client.verdict(&share), None);
    // A replaced job counts for its time only.
    client.pass(30_000);
    client.set_custom(id, z(8), 1);
    let late = MinedShare { extranonce: vec![9; 8], ..shares[5].clone() };
    assert_eq!(client.verdict(&late).as_deref(), Some("invalid-job-id"));
}

#[test]
fn a_replaced_prefix_holds_from_the_next_job_on() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    client.set_custom(id, z(8), 1);
    let before = client.mine(id);
    client.command(Command::SetExtranoncePrefix { channel: id });
    client.set_custom(id, z(8), 1);
    let after = client.mine(id);
    assert_eq!([client.verdict(&before), client.verdict(&after)], [None, None]);
    assert_ne!(client.shares[0].extranonce[..4], client.shares[1].extranonce[..4]);
}

#[test]
fn a_block_of_a_custom_job_leaves_with_its_template_and_whole_coinbase() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let job = custom(id, owner(1), z(4), 1);
    let asked = client.ask(&job).unwrap();
    let easy = CustomGrant { target: z(6).target(), ..grant(owner(1), z(4)) };
    client.accept(&job, &asked, easy);
    let mut share = client.draft(id);
    client.grind(&mut share, 4, 6);
    assert_eq!((client.verdict(&share), client.out.solutions.len()), (None, 0));
    client.grind(&mut share, 6, 257);
    assert_eq!(client.verdict(&share), None);
    let solution = client.out.solutions.pop().unwrap();
    assert_eq!((solution.template_id, solution.account), (DECLARED_TEMPLATES + 5, 1));
    assert_eq!(sha256d(&solution.header), client.hash(&share));
    let extranonce = [&client.channels[&id].prefix[..], &share.extranonce].concat();
    assert_eq!(solution.extranonce, extranonce);
    let script_at = 4 + 2 + 1 + 36 + 1;
    let script = [&job.coinbase_prefix[..], &extranonce].concat();
    assert_eq!(solution.coinbase_tx[script_at..script_at + script.len()], script);
    let tail = [&[1, 32][..], &[0; 32], &job.coinbase_tx_locktime.to_le_bytes()].concat();
    let expected = [&job.coinbase_tx_outputs[..], &tail].concat();
    assert!(solution.coinbase_tx.ends_with(&expected));
}

#[test]
fn a_block_that_commits_to_no_witness_has_none() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    let (pay, tag) = (payout_output(5_000_000_000), tag_output(owner(1), 3, z(4)));
    let short = [&[0; 8][..], &[0x25, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &[0; 31]].concat();
    let long = [&[0; 8][..], &[0x28, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &[0; 34]].concat();
    let cases = [
        (vec![pay.clone(), tag.clone()], false),
        (vec![pay.clone(), tag.clone(), short], false),
        (vec![pay.clone(), tag.clone(), long.clone()], true),
        (vec![long, tag.clone(), pay.clone()], true),
        (vec![commitment_output(), pay, tag], true),
    ];
    for (outputs, commits) in cases {
        let outputs = counted(&outputs);
        let job =
            SetCustomMiningJob { coinbase_tx_outputs: outputs, ..custom(id, owner(1), z(4), 1) };
        let asked = client.ask(&job).unwrap();
        let easy = CustomGrant { target: z(4).target(), ..grant(owner(1), z(4)) };
        client.accept(&job, &asked, easy);
        let share = client.mine(id);
        assert_eq!(client.verdict(&share), None);
        let coinbase = client.out.solutions.pop().unwrap().coinbase_tx;
        assert_eq!(coinbase[4..6] == [0, 1], commits);
        let JobKind::Coinbase { prefix, suffix, .. } = &client.jobs[&share.job].kind else {
            panic!()
        };
        let plain = [prefix, &client.channels[&id].prefix[..], &share.extranonce, suffix].concat();
        if commits {
            assert_eq!(coinbase.len(), plain.len() + 2 + 34);
        } else {
            assert_eq!(coinbase, plain);
        }
    }
}

#[test]
fn vardiff_asks_for_tags_and_moves_nothing_itself() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    // Without a job nobody can be slow.
    assert_eq!(client.connection.next_deadline(), None);
    client.pass(1_000_000);
    assert_eq!((client.deadline(), client.events.len()), (vec![], 3));
    client.set_custom(id, z(8), 1);
    let wanted = |client: &Client| -> Vec<(u32, Exponent)> {
        let wanted = client.events.iter().filter_map(|event| match event {
            Event::ExponentWanted { channel, exponent } => Some((*channel, *exponent)),
            _ => None,
        });
        wanted.collect()
    };
    // Too fast: as long as no tag follows, it is asked for once.
    for _ in 0..30 {
        client.pass(10);
        let share = client.mine(id);
        assert_eq!(client.submit(&share), []);
    }
    let [(channel, fast)] = wanted(&client)[..] else { panic!("{:?}", wanted(&client)) };
    assert!(channel == id && fast > z(8));
    // An older tag in between changes nothing of it.
    assert_eq!(names(&client.set_custom(id, z(9), 1))[0], "SetTarget");
    client.events.clear();
    // Too slow: a deadline finds out.
    for _ in 0..20 {
        client.pass(100_000);
        assert_eq!(client.deadline(), []);
    }
    let slow = wanted(&client);
    assert!(slow.last().unwrap().1 < z(9), "{slow:?}");
    assert_eq!(client.channels[&id].exponent(), 9);
    client.set_custom(id, slow[0].1, 1);
    assert_eq!(client.channels[&id].exponent(), u32::from(slow[0].1.get()));
    // What the pool itself wants takes the same way.
    client.events.clear();
    assert_eq!(client.command(Command::SetExponent { channel: id, exponent: z(11) }), []);
    assert_eq!(client.command(Command::SetExponent { channel: id, exponent: z(11) }), []);
    assert_eq!(wanted(&client), [(id, z(11))]);
}

#[test]
fn a_smaller_largest_target_holds_at_once() {
    let (mut client, id) = select(&mut Pool::new(settings()));
    client.set_custom(id, z(8), 1);
    let share = client.mine(id);
    let maximum_target = z(10).target().to_le_bytes();
    let update = UpdateChannel { channel_id: id, nominal_hash_rate: RATE_Z8, maximum_target };
    let replies = client.send(&Message::UpdateChannel(update));
    let target = SetTarget { channel_id: id, maximum_target };
    assert_eq!(replies, [Message::SetTarget(target)]);
    let wanted = |event: &Event| matches!(event, Event::ExponentWanted { exponent, .. } if *exponent == z(10));
    assert_eq!(client.events.iter().filter(|event| wanted(event)).count(), 1);
    assert_eq!(client.verdict(&share), None);
    // An update that brings nothing new asks for nothing new.
    let update = UpdateChannel { channel_id: id, nominal_hash_rate: RATE_Z8, maximum_target };
    assert_eq!(client.send(&Message::UpdateChannel(update)), []);
    assert_eq!(client.events.iter().filter(|event| wanted(event)).count(), 1);
}

#[test]
fn frames_and_rates_of_custom_jobs_have_bounds() {
    let limits = radpool_mining::Limits { custom_jobs_pending: 1_000, ..settings().limits };
    let mut pool = Pool::new(Settings { limits, ..settings() });
    let (mut client, id) = select(&mut pool);
    let fill = |len: usize| {
        let mut job = custom(id, owner(1), z(8), 1);
        let mut frame = vec![];
        Message::SetCustomMiningJob(job.clone()).encode(&mut frame).unwrap();
        let more = len + 6 - frame.len() - 11;
        let script = [&0u64.to_le_bytes()[..], &[0xfd], &(more as u16).to_le_bytes()].concat();
        job.coinbase_tx_outputs.extend(script);
        job.coinbase_tx_outputs.resize(job.coinbase_tx_outputs.len() + more, 0x6a);
        job.coinbase_tx_outputs[0] += 1;
        job
    };
    client.ask(&fill(8_192)).unwrap();
    let replies = client.send(&Message::SetCustomMiningJob(fill(8_193)));
    assert_eq!((replies, client.closed), (vec![], Some(CloseReason::FrameTooLarge)));

    let mut other = pool.set_up(0);
    let replies = other.send(&Message::SetCustomMiningJob(fill(4_097)));
    assert_eq!((replies, other.closed), (vec![], Some(CloseReason::FrameTooLarge)));

    let (mut client, id) = select(&mut pool);
    let job = custom(id, owner(1), z(8), 1);
    for _ in 0..99 {
        client.ask(&job).unwrap();
    }
    client.send(&Message::SetCustomMiningJob(job));
    assert_eq!(client.closed, Some(CloseReason::RequestRate));
}
