//! The conversation with a pool: channels as devices come and go, refusals, silence.

use radpool_miner::{Carries as _, ClientExtension, Ended, Exchange, assignment::Share};
use radpool_sv1::{Told, Upstream, UpstreamOutbox, UpstreamSettings};
use radpool_units::Target;
use radpool_wire::{
    frame::{FrameHeader, HEADER_LEN},
    message::{
        CloseChannel, Message, NewExtendedMiningJob, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, RequestExtensionsError, RequestExtensionsSuccess,
        SetExtranoncePrefix, SetNewPrevHash, SetTarget, SetupConnectionSuccess, SubmitSharesError,
        SubmitSharesSuccess,
    },
    tlv::Tlvs,
};

fn settings() -> UpstreamSettings {
    UpstreamSettings {
        host: "pool".into(),
        port: 3333,
        vendor: "radpool".into(),
        version: "0".into(),
        extensions: vec![],
        user: "us".into(),
        probe_required: true,
        nominal_hash_rate: 1e12,
        linger_ms: 60_000,
        channels_max: 4,
        aggregated: false,
        carrier: None,
    }
}

struct Rig {
    machine: Upstream,
    out: UpstreamOutbox,
    now_ms: u64,
}

impl Rig {
    fn new(settings: UpstreamSettings) -> Self {
        let mut out = UpstreamOutbox::default();
        let machine = Upstream::new(settings, 1_000, &mut out);
        Self { machine, out, now_ms: 1_000 }
    }

    /// A pool that has a job on the probe channel, number 1.
    fn ready() -> Self {
        let mut rig = Self::new(settings());
        rig.set_up();
        rig.grant(1, 1, 12);
        rig.job(1, 1);
        assert!(matches!(rig.told()[..], [Told::Ready { size: Some(12) }]));
        rig.sent();
        rig
    }

    fn hear(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        let header = FrameHeader::of_frame(&frame).unwrap();
        self.machine.handle_frame(header, &mut frame[HEADER_LEN..], self.now_ms, &mut self.out);
    }

    fn set_up(&mut self) {
        let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
        self.hear(&Message::SetupConnectionSuccess(success));
    }

    fn grant(&mut self, request_id: u32, channel_id: u32, extranonce_size: u16) {
        self.hear(&Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
            request_id,
            channel_id,
            target: [0xff; 32],
            extranonce_size,
            extranonce_prefix: vec![channel_id as u8; 4],
            group_channel_id: 100,
        }));
    }

    /// A future job and its tip, for a channel or the group.
    fn job(&mut self, channel_id: u32, job_id: u32) {
        self.hear(&Message::NewExtendedMiningJob(NewExtendedMiningJob {
            channel_id,
            job_id,
            min_ntime: None,
            version: 0x2000_0000,
            version_rolling_allowed: true,
            merkle_path: vec![],
            coinbase_tx_prefix: vec![1],
            coinbase_tx_suffix: vec![2],
        }));
        self.hear(&Message::SetNewPrevHash(SetNewPrevHash {
            channel_id,
            job_id,
            prev_hash: [job_id as u8; 32],
            min_ntime: 5,
            nbits: 0x207f_ffff,
        }));
    }

    fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.out.told)
    }

    /// Message types of the frames that were sent.
    fn sent(&mut self) -> Vec<u8> {
        let frames = std::mem::take(&mut self.out.frames);
        let (mut rest, mut types) = (&frames[..], vec![]);
        while !rest.is_empty() {
            let header = FrameHeader::from_bytes(rest.first_chunk().unwrap());
            types.push(header.msg_type);
            rest = &rest[HEADER_LEN + header.payload_len as usize..];
        }
        types
    }

    fn open(&mut self, member: u64, user: &str) {
        self.machine.open(member, user, 1e12, self.now_ms, &mut self.out);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.machine.handle_deadline(self.now_ms, &mut self.out);
    }

    fn share(&mut self, told: &Told) -> bool {
        let Told::Work { assignment, .. } = told else { panic!("{told:?}") };
        let share = Share {
            assignment: assignment.clone(),
            version: 0x2000_0000,
            ntime: 5,
            nonce: 1,
            extranonce: [3; 32],
        };
        self.machine.submit(&share, 10, self.now_ms, &mut self.out)
    }

    fn ended(&mut self) -> Option<Ended> {
        self.told().into_iter().find_map(|told| match told {
            Told::Ended(ended) => Some(ended),
            _ => None,
        })
    }
}

const SETUP: u8 = 0x00;
const OPEN: u8 = 0x13;
const UPDATE: u8 = 0x16;
const CLOSE: u8 = 0x18;
const SUBMIT: u8 = 0x1b;

#[test]
fn a_pool_works_once_there_is_a_job_on_the_probe_channel() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.sent(), [SETUP]);
    rig.set_up();
    assert_eq!(rig.sent(), [OPEN]);
    rig.grant(1, 1, 12);
    assert!(rig.told().is_empty());
    rig.job(1, 1);
    assert!(matches!(rig.told()[..], [Told::Ready { size: Some(12) }]));
    rig.job(1, 2);
    assert!(rig.told().is_empty(), "ready is told once");
}

#[test]
fn pools_that_grant_less_are_asked_for_less() {
    let mut rig = Rig::new(settings());
    rig.set_up();
    let error_code = b"min-extranonce-size-too-large".to_vec();
    rig.hear(&Message::OpenMiningChannelError(OpenMiningChannelError {
        request_id: 1,
        error_code,
    }));
    assert_eq!(rig.sent(), [SETUP, OPEN, OPEN]);
    rig.grant(2, 1, 8);
    rig.job(100, 1);
    assert!(matches!(rig.told()[..], [Told::Ready { size: Some(8) }]));
}

#[test]
fn refused_probe_ends_the_pool_where_it_is_required_and_not_otherwise() {
    for (probe_required, ends) in [(true, true), (false, false)] {
        let mut rig = Rig::new(UpstreamSettings { probe_required, ..settings() });
        rig.set_up();
        for request_id in [1, 2] {
            let error_code = b"unknown-user".to_vec();
            rig.hear(&Message::OpenMiningChannelError(OpenMiningChannelError {
                request_id,
                error_code,
            }));
        }
        let told = rig.told();
        assert_eq!(matches!(told[..], [Told::Ended(Ended::Refused { .. })]), ends, "{told:?}");
        assert_eq!(matches!(told[..], [Told::Ready { size: None }]), !ends, "{told:?}");
    }
}

#[test]
fn lingering_channels_are_taken_over_by_the_next_of_their_name() {
    let mut rig = Rig::ready();
    rig.open(10, "us");
    assert!(matches!(rig.told()[..], [Told::Work { member: 10, new_tip: true, .. }]));
    assert!(rig.sent().is_empty(), "no channel was opened for it");
    // Probe and leave, a hundred times.
    for member in 11..111 {
        rig.machine.release(member - 1, rig.now_ms);
        rig.open(member, "us");
        assert!(matches!(rig.told()[..], [Told::Work { .. }]));
    }
    assert!(rig.sent().is_empty());
    rig.open(200, "us");
    rig.open(200, "us");
    rig.open(201, "them");
    assert_eq!(rig.sent(), [OPEN, OPEN]);
    rig.grant(2, 2, 12);
    rig.machine.release(110, rig.now_ms);
    rig.pass(59_999);
    assert!(rig.sent().is_empty());
    rig.pass(1);
    assert_eq!((rig.sent(), rig.machine.channels()), (vec![CLOSE], 1));
    // Without any channel the pool would close the connection.
    rig.machine.release(200, rig.now_ms);
    (0..10).for_each(|_| rig.pass(60_000));
    assert_eq!((rig.sent(), rig.machine.channels()), (vec![], 1));
}

#[test]
fn a_device_that_left_before_its_channel_came_leaves_it_to_the_next() {
    let mut rig = Rig::ready();
    rig.open(10, "them");
    rig.machine.release(10, rig.now_ms);
    rig.grant(2, 2, 12);
    rig.job(2, 1);
    assert!(rig.told().is_empty());
    rig.open(11, "them");
    assert!(matches!(rig.told()[..], [Told::Work { member: 11, .. }]));
}

#[test]
fn group_messages_are_for_all_of_its_channels() {
    let mut rig = Rig::ready();
    rig.open(10, "us");
    rig.open(11, "us");
    rig.grant(2, 2, 12);
    rig.told();
    rig.job(100, 7);
    let told = rig.told();
    let members: Vec<u64> = told
        .iter()
        .map(|told| match told {
            Told::Work { member, assignment, new_tip, .. } => {
                assert!(*new_tip && assignment.job_id == 7);
                assert_eq!(assignment.extranonce_prefix, vec![assignment.channel_id as u8; 4]);
                *member
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(members, [10, 11]);
    let maximum_target = [0x0f; 32];
    rig.hear(&Message::SetTarget(SetTarget { channel_id: 100, maximum_target }));
    let extranonce_prefix = vec![9; 6];
    rig.hear(&Message::SetExtranoncePrefix(SetExtranoncePrefix {
        channel_id: 2,
        extranonce_prefix,
    }));
    assert!(rig.told().is_empty(), "both count from the next job on");
    rig.job(100, 8);
    for told in rig.told() {
        let Told::Work { assignment, .. } = told else { panic!("{told:?}") };
        assert_eq!(assignment.target, Target::from_le_bytes(maximum_target));
        let prefix = if assignment.channel_id == 2 { vec![9; 6] } else { vec![1; 4] };
        assert_eq!(assignment.extranonce_prefix, prefix);
    }
}

#[test]
fn one_refused_or_closed_device_is_nobody_elses_matter() {
    let mut rig = Rig::ready();
    rig.open(10, "us");
    rig.open(11, "bad");
    rig.told();
    for request_id in [2, 3] {
        let error_code = b"unknown-\nuser".to_vec();
        rig.hear(&Message::OpenMiningChannelError(OpenMiningChannelError {
            request_id,
            error_code,
        }));
    }
    let told = rig.told();
    assert!(
        matches!(&told[..], [Told::Refused { member: 11, code }] if code == "unknown-?user"),
        "{told:?}"
    );
    rig.open(12, "good");
    rig.grant(4, 4, 12);
    let reason_code = b"bye".to_vec();
    rig.hear(&Message::CloseChannel(CloseChannel { channel_id: 4, reason_code }));
    assert!(matches!(&rig.told()[..], [Told::Closed { member: 12, .. }]));
    rig.job(1, 2);
    assert!(matches!(&rig.told()[..], [Told::Work { member: 10, .. }]));
}

#[test]
fn a_channel_that_comes_too_late_is_given_back() {
    let mut rig = Rig::ready();
    rig.open(10, "them");
    rig.sent();
    rig.pass(30_000);
    assert!(matches!(rig.told()[..], [Told::Refused { member: 10, .. }]));
    rig.grant(2, 2, 12);
    assert_eq!(rig.sent(), [CLOSE]);
    rig.grant(2, 1, 12);
    assert!(rig.ended().is_some(), "the number of an open channel is no late answer");
}

#[test]
fn channels_are_bounded() {
    let mut rig = Rig::ready();
    (10..20).for_each(|member| rig.open(member, "them"));
    let refused = rig.told().len();
    assert_eq!((refused, rig.sent().len()), (7, 3));
}

#[test]
fn answers_reach_the_device_whose_share_it_was() {
    let mut rig = Rig::ready();
    rig.open(10, "us");
    let work = rig.told().pop().unwrap();
    assert!(rig.share(&work) && rig.share(&work));
    assert_eq!((rig.sent(), rig.machine.unanswered()), (vec![SUBMIT, SUBMIT], 2));
    rig.hear(&Message::SubmitSharesSuccess(SubmitSharesSuccess {
        channel_id: 1,
        last_sequence_number: 0,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    }));
    let error_code = b"stale-share".to_vec();
    rig.hear(&Message::SubmitSharesError(SubmitSharesError {
        channel_id: 1,
        sequence_number: 1,
        error_code,
    }));
    let told = rig.told();
    assert!(
        matches!(&told[..], [
        Told::Accepted { member: 10, count: 1, hashes: 1 },
        Told::Rejected { member: 10, sequence: 1, code },
    ] if code == "stale-share"),
        "{told:?}"
    );
    assert_eq!(rig.machine.unanswered(), 0);
}

#[test]
fn shares_of_a_channel_that_is_gone_are_not_sent() {
    let mut rig = Rig::ready();
    rig.open(10, "us");
    let work = rig.told().pop().unwrap();
    let reason_code = vec![];
    rig.hear(&Message::CloseChannel(CloseChannel { channel_id: 1, reason_code }));
    assert!(!rig.share(&work));
    assert!(rig.sent().is_empty());
}

#[test]
fn silence_ends_a_pool_by_its_own_measure() {
    let answer = Message::SubmitSharesSuccess(SubmitSharesSuccess {
        channel_id: 1,
        last_sequence_number: 0,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    });
    // How long the first answer takes, and after how much silence the pool is given up then.
    for (wait_ms, patience_ms) in [(None, 120_000), (Some(5), 30_000), (Some(90_000), 270_000)] {
        let mut rig = Rig::ready();
        rig.open(10, "us");
        let work = rig.told().pop().unwrap();
        if let Some(wait_ms) = wait_ms {
            assert!(rig.share(&work));
            rig.pass(wait_ms);
            rig.hear(&answer);
        }
        rig.pass(1_000_000);
        assert!(rig.ended().is_none(), "nothing waits for an answer");
        assert!(rig.share(&work));
        rig.pass(patience_ms - 1);
        assert!(rig.ended().is_none());
        rig.pass(1);
        assert!(matches!(rig.ended(), Some(Ended::Disconnected(_))), "{wait_ms:?}");
    }
}

#[test]
fn deadlines_before_ready_end_it() {
    let mut rig = Rig::new(settings());
    rig.pass(29_999);
    assert!(rig.ended().is_none());
    rig.pass(1);
    assert!(matches!(rig.ended(), Some(Ended::Silent { .. })));
    let mut rig = Rig::new(settings());
    rig.set_up();
    rig.grant(1, 1, 12);
    rig.pass(30_000);
    assert!(matches!(rig.ended(), Some(Ended::Silent { .. })));
}

#[test]
fn pools_without_the_negotiation_of_extensions_are_plain_pools() {
    let with = UpstreamSettings { extensions: vec![2], ..settings() };
    let mut rig = Rig::new(with.clone());
    rig.set_up();
    assert_eq!(rig.sent(), [SETUP, 0x00]);
    rig.pass(5_000);
    assert_eq!(rig.sent(), [OPEN]);
    let mut rig = Rig::new(with);
    rig.set_up();
    rig.hear(&Message::RequestExtensionsError(RequestExtensionsError {
        request_id: 1,
        unsupported_extensions: vec![2],
        required_extensions: vec![0x4e45],
    }));
    assert_eq!(rig.ended(), Some(Ended::ExtensionsRequired(vec![0x4e45])));
}

#[test]
fn broken_promises_end_it() {
    let grant = |rig: &mut Rig| rig.grant(9, 9, 12);
    let small = |rig: &mut Rig| {
        rig.open(10, "them");
        rig.grant(2, 2, 11);
    };
    let twice = |rig: &mut Rig| {
        rig.open(10, "them");
        rig.grant(2, 1, 12);
    };
    let huge = |rig: &mut Rig| {
        rig.open(10, "them");
        rig.grant(2, 2, 29);
    };
    let tip = |rig: &mut Rig| {
        let message = SetNewPrevHash {
            channel_id: 1,
            job_id: 99,
            prev_hash: [0; 32],
            min_ntime: 0,
            nbits: 0,
        };
        rig.hear(&Message::SetNewPrevHash(message));
    };
    for break_it in [grant, small, twice, huge, tip] {
        let mut rig = Rig::ready();
        break_it(&mut rig);
        assert!(rig.ended().is_some());
        rig.job(1, 5);
        assert!(rig.told().is_empty(), "nothing more is told");
    }
}

/// A carrier whose messages have numbers of their own.
fn carrier() -> ClientExtension {
    ClientExtension {
        extension_type: 0x4777,
        open: Exchange { request: 1, success: 2, error: 3 },
        open_tail: vec![0xab],
        share: Exchange { request: 4, success: 5, error: 6 },
        renewing_codes: vec![],
        lapsing_codes: vec![],
    }
}

#[test]
fn aggregated_devices_share_the_probe_channel_and_the_pool_hears_their_sum() {
    let mut rig = Rig::new(UpstreamSettings { aggregated: true, ..settings() });
    rig.set_up();
    rig.grant(1, 1, 12);
    rig.job(1, 1);
    rig.told();
    rig.sent();
    (10..20).for_each(|member| rig.open(member, "whoever"));
    let told = rig.told();
    assert!(told.len() == 10 && told.iter().all(|told| matches!(told, Told::Work { .. })));
    assert!(rig.sent().is_empty());
    rig.pass(999);
    assert!(rig.sent().is_empty());
    rig.pass(1);
    assert_eq!(rig.sent(), [UPDATE]);
    rig.job(1, 2);
    assert_eq!(rig.told().len(), 10);
    rig.machine.release(10, rig.now_ms);
    rig.machine.update(11, 0.99e12, rig.now_ms, &mut rig.out);
    rig.pass(1_000);
    assert_eq!(rig.sent(), [UPDATE], "a tenth less");
    rig.machine.update(11, 1e12, rig.now_ms, &mut rig.out);
    rig.pass(1_000);
    assert!(rig.sent().is_empty(), "a hundredth is not worth a word");
    (11..20).for_each(|member| rig.machine.release(member, rig.now_ms));
    rig.pass(1_000_000);
    assert_eq!((rig.sent(), rig.machine.channels()), (vec![UPDATE], 1), "it never idles out");
    let reason_code = b"bye".to_vec();
    rig.hear(&Message::CloseChannel(CloseChannel { channel_id: 1, reason_code }));
    assert!(matches!(rig.ended(), Some(Ended::Closed(_))));
}

#[test]
fn a_pool_hears_of_a_pace_at_once_and_of_the_next_ones_half_a_minute_later() {
    let mut rig = Rig::ready();
    rig.open(10, "us.a");
    rig.grant(2, 2, 12);
    rig.sent();
    let update = |rig: &mut Rig, rate: f32| {
        rig.machine.update(10, rate, rig.now_ms, &mut rig.out);
        rig.sent()
    };
    assert!(update(&mut rig, 0.9e12).is_empty(), "that is what it was opened with, nearly");
    assert_eq!(update(&mut rig, 0.5e12), [UPDATE]);
    for rate in [0.25e12, 0.5e12, 2e12, 1e12] {
        assert!(update(&mut rig, rate).is_empty());
    }
    (0..29).for_each(|_| rig.pass(1_000));
    assert!(rig.sent().is_empty());
    rig.pass(1_000);
    assert_eq!(rig.sent(), [UPDATE], "the last one alone");
    rig.pass(20_000);
    assert!(rig.sent().is_empty());
    assert!(update(&mut rig, 1e12).is_empty(), "it knows");
}

#[test]
fn a_pool_hears_of_500_paces_a_second() {
    let mut rig = Rig::new(UpstreamSettings { channels_max: 2_000, ..settings() });
    rig.set_up();
    rig.grant(1, 1, 12);
    rig.job(1, 1);
    for member in 2..1_202u32 {
        rig.open(member.into(), &format!("us.{member}"));
        rig.grant(member, member, 12);
    }
    rig.sent();
    for member in 2..1_202u32 {
        rig.machine.update(member.into(), 1e9, rig.now_ms, &mut rig.out);
    }
    assert_eq!(rig.sent(), [UPDATE; 500]);
    for left in [500, 200, 0] {
        rig.pass(1_000);
        assert_eq!(rig.sent(), vec![UPDATE; left]);
    }
}

#[test]
fn answers_on_a_shared_channel_find_their_device() {
    let mut rig = Rig::new(UpstreamSettings { aggregated: true, ..settings() });
    rig.set_up();
    rig.grant(1, 1, 12);
    rig.job(1, 1);
    rig.open(10, "a");
    let work = rig.told().pop().unwrap();
    let Told::Work { assignment, .. } = work else { panic!("{work:?}") };
    for (nonce, member) in [(1, 10), (2, 11), (3, 10), (4, 12)] {
        let share = Share {
            assignment: assignment.clone(),
            version: 0,
            ntime: 5,
            nonce,
            extranonce: [0; 32],
        };
        assert!(rig.machine.submit(&share, member, rig.now_ms, &mut rig.out));
    }
    let error_code = b"stale-share".to_vec();
    rig.hear(&Message::SubmitSharesError(SubmitSharesError {
        channel_id: 1,
        sequence_number: 1,
        error_code,
    }));
    rig.hear(&Message::SubmitSharesSuccess(SubmitSharesSuccess {
        channel_id: 1,
        last_sequence_number: 3,
        new_submits_accepted_count: 3,
        new_shares_sum: 3,
    }));
    let told = rig.told();
    assert!(
        matches!(
            told[..],
            [
                Told::Rejected { member: 11, .. },
                Told::Accepted { member: 10, count: 2, hashes: 2 },
                Told::Accepted { member: 12, count: 1, hashes: 1 },
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn an_extension_that_carries_shares_speaks_with_its_own_messages() {
    let carried = UpstreamSettings { carrier: Some(carrier()), aggregated: true, ..settings() };
    let mut rig = Rig::new(carried.clone());
    rig.set_up();
    rig.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![0x4777],
    }));
    assert_eq!(rig.sent(), [SETUP, 0x00, 1], "its own opening message");
    rig.hear_carried(
        2,
        &Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
            request_id: 1,
            channel_id: 1,
            target: [0xff; 32],
            extranonce_size: 12,
            extranonce_prefix: vec![1; 4],
            group_channel_id: 100,
        }),
        b"terms",
    );
    rig.job(1, 1);
    rig.open(10, "a");
    let told = rig.told();
    assert!(matches!(&told[0], Told::Carried { channel: 1, tail } if tail == b"terms"), "{told:?}");
    assert!(rig.share(&told[2]));
    assert_eq!(rig.sent(), [4]);
    rig.hear_carried(
        5,
        &Message::SubmitSharesSuccess(SubmitSharesSuccess {
            channel_id: 1,
            last_sequence_number: 0,
            new_submits_accepted_count: 1,
            new_shares_sum: 1,
        }),
        b"signature",
    );
    let told = rig.told();
    assert!(matches!(told[0], Told::Accepted { member: 10, count: 1, .. }), "{told:?}");
    assert!(
        matches!(&told[1], Told::Frame { msg_type: 5, payload, .. } if payload.ends_with(b"signature"))
    );

    let mut without = Rig::new(carried);
    without.set_up();
    without.pass(5_000);
    assert_eq!(without.ended(), Some(Ended::ExtensionMissing(0x4777)));
}

#[test]
fn share_that_is_sent_again_is_answered_apart_from_other_devices() {
    let mut rig =
        Rig::new(UpstreamSettings { carrier: Some(carrier()), aggregated: true, ..settings() });
    rig.set_up();
    rig.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![0x4777],
    }));
    let success = OpenExtendedMiningChannelSuccess {
        request_id: 1,
        channel_id: 1,
        target: [0xff; 32],
        extranonce_size: 12,
        extranonce_prefix: vec![1; 4],
        group_channel_id: 100,
    };
    rig.hear_carried(2, &Message::OpenExtendedMiningChannelSuccess(success), b"");
    rig.job(1, 1);
    rig.open(10, "a");
    let work = rig.told().pop().unwrap();
    let Told::Work { assignment, .. } = work else { panic!("{work:?}") };
    let share = Share { assignment, version: 0, ntime: 5, nonce: 1, extranonce: [0; 32] };
    for (member, again) in [(10, true), (11, false)] {
        rig.machine.submit_attached(&share, &member, b"claim", again, 0, &mut rig.out);
    }
    let mut answer = |sequence: u32, count: u32| {
        let success = SubmitSharesSuccess {
            channel_id: 1,
            last_sequence_number: sequence,
            new_submits_accepted_count: count,
            new_shares_sum: count.into(),
        };
        rig.hear_carried(5, &Message::SubmitSharesSuccess(success), b"");
        (rig.told().swap_remove(0), rig.machine.unanswered())
    };
    let told = answer(1, 1);
    assert!(matches!(told, (Told::Accepted { member: 11, count: 1, .. }, 1)), "{told:?}");
    let told = answer(0, 0);
    assert!(matches!(told, (Told::Accepted { member: 10, count: 1, .. }, 0)), "{told:?}");
}

#[test]
fn shares_on_a_shared_channel_name_their_device_where_the_pool_agrees() {
    let long = "us.a-worker-whose-name-is-longer-than-any-field";
    for (agreed, user, name) in [
        (vec![], "us.rig", None),
        (vec![2], "us.rig", Some("rig")),
        (vec![2], "rig", Some("rig")),
        (vec![2], long, Some("a-worker-whose-name-is-l")),
    ] {
        let with = UpstreamSettings { aggregated: true, extensions: vec![2], ..settings() };
        let mut rig = Rig::new(with);
        rig.set_up();
        let success = RequestExtensionsSuccess { request_id: 1, supported_extensions: agreed };
        rig.hear(&Message::RequestExtensionsSuccess(success));
        rig.grant(1, 1, 12);
        rig.job(1, 1);
        rig.open(10, user);
        rig.sent();
        let work = rig.told().pop().unwrap();
        assert!(rig.share(&work));
        let mut frame = std::mem::take(&mut rig.out.frames);
        let header = FrameHeader::of_frame(&frame).unwrap();
        let message = Message::decode(header, &mut frame[HEADER_LEN..]).unwrap();
        let Message::SubmitSharesExtended(share) = message else { panic!("{message:?}") };
        let found = Tlvs::new(share.tail).next().map(|tlv| tlv.unwrap().value);
        assert_eq!(found.is_some(), name.is_some());
        if let (Some(found), Some(name)) = (found, name) {
            assert!(found.starts_with(name.as_bytes()) && found.len() <= 32, "{found:?}");
            assert_eq!(found.len(), if user == long { 32 } else { name.len() });
        }
    }
}

impl Rig {
    /// Hears a message of the carrier: a core message's fields, and a tail.
    fn hear_carried(&mut self, msg_type: u8, message: &Message<'_>, tail: &[u8]) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        frame.extend_from_slice(tail);
        let payload = &mut frame[HEADER_LEN..];
        let header = FrameHeader {
            extension_type: 0x4777,
            channel_msg: true,
            msg_type,
            payload_len: payload.len() as u32,
        };
        self.machine.handle_frame(header, payload, self.now_ms, &mut self.out);
    }
}
