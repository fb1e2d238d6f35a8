//! Conversations with the client machine, message by message.

#![expect(clippy::unwrap_used, reason = "a test: the panic is the report")]

use std::sync::Arc;

use radpool_miner::{
    ChannelKind, Client, ClientExtension, ClientSettings, Courier, Ended, Exchange, Share,
    client::{Event, Outbox},
    desk::{Attachment, Desk},
};
use radpool_units::{Exponent, Target, merkle_root_from_path, sha256d};
use radpool_wire::{
    frame::{FrameHeader, Frames},
    message::{
        CloseChannel, Message, NewExtendedMiningJob, NewMiningJob,
        OpenExtendedMiningChannelSuccess, OpenMiningChannelError, OpenStandardMiningChannelSuccess,
        Reconnect, RequestExtensionsSuccess, SetExtranoncePrefix, SetGroupChannel, SetNewPrevHash,
        SetTarget, SetupConnectionError, SetupConnectionSuccess, SubmitSharesError,
        SubmitSharesExtended, SubmitSharesSuccess,
    },
};

const CHANNEL: u32 = 5;
const GROUP: u32 = 9;

fn settings(kind: ChannelKind) -> ClientSettings {
    ClientSettings {
        kind,
        user_identity: "alice".into(),
        nominal_hash_rate: 1e6,
        max_target: Target::MAX,
        min_extranonce_size: 8,
        flags: 0,
        host: "localhost".into(),
        port: 1,
        vendor: "test".into(),
        hardware: String::new(),
        firmware: String::new(),
        device_id: String::new(),
        extensions: Vec::new(),
        carrier: None,
    }
}

/// An extension that carries the shares; its numbers mean nothing.
const CARRIER: u16 = 0x4777;

fn carried() -> ClientSettings {
    let carrier = ClientExtension {
        extension_type: CARRIER,
        open: Exchange { request: 10, success: 11, error: 12 },
        open_tail: b"please".to_vec(),
        share: Exchange { request: 13, success: 14, error: 15 },
        renewing_codes: vec!["torn".into()],
        lapsing_codes: vec!["outdated".into()],
    };
    ClientSettings { carrier: Some(carrier), ..settings(ChannelKind::Extended) }
}

fn z(zeros: u32) -> Exponent {
    Exponent::new(zeros).unwrap()
}

struct Conversation {
    client: Client,
    out: Outbox,
    now_us: u64,
}

impl Conversation {
    fn start(settings: ClientSettings) -> Self {
        let mut out = Outbox::default();
        let client = Client::new(settings, 0, &mut out);
        Self { client, out, now_us: 0 }
    }

    fn open(kind: ChannelKind) -> Self {
        let mut talk = Self::start(settings(kind));
        assert_eq!(talk.sent(), [0x00]);
        talk.hear(&Message::SetupConnectionSuccess(SetupConnectionSuccess {
            used_version: 2,
            flags: 0,
        }));
        let target = z(4).target().to_le_bytes();
        match kind {
            ChannelKind::Standard => {
                assert_eq!(talk.sent(), [0x10]);
                talk.hear(&Message::OpenStandardMiningChannelSuccess(
                    OpenStandardMiningChannelSuccess {
                        request_id: 1,
                        channel_id: CHANNEL,
                        target,
                        extranonce_prefix: vec![7; 12],
                        group_channel_id: GROUP,
                    },
                ));
            }
            ChannelKind::Extended => {
                assert_eq!(talk.sent(), [0x13]);
                talk.hear(&Message::OpenExtendedMiningChannelSuccess(
                    OpenExtendedMiningChannelSuccess {
                        request_id: 1,
                        channel_id: CHANNEL,
                        target,
                        extranonce_size: 8,
                        extranonce_prefix: vec![7; 4],
                        group_channel_id: GROUP,
                    },
                ));
            }
        }
        assert!(matches!(talk.events()[..], [Event::Opened { .. }, Event::TargetChanged(_)]));
        talk
    }

    fn hear(&mut self, message: &Message<'_>) {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        let header = FrameHeader::of_frame(&frame).unwrap();
        self.client.handle_frame(header, &mut frame[6..], self.now_us, &mut self.out);
    }

    /// Hears a message of the carrier whose first fields are those of `core`.
    fn hear_carrier(&mut self, msg_type: u8, core: &Message<'_>, tail: &[u8]) {
        let mut frame = Vec::new();
        core.encode(&mut frame).unwrap();
        let mut payload = frame.split_off(6);
        payload.extend_from_slice(tail);
        self.hear_raw(msg_type, &mut payload);
    }

    fn hear_raw(&mut self, msg_type: u8, payload: &mut [u8]) {
        let payload_len = u32::try_from(payload.len()).unwrap();
        let header =
            FrameHeader { extension_type: CARRIER, channel_msg: false, msg_type, payload_len };
        self.client.handle_frame(header, payload, self.now_us, &mut self.out);
    }

    /// Opens a channel by the carrier's message; the pool says `tail` behind the core's fields.
    fn open_carried(tail: &[u8]) -> Self {
        let mut talk = Self::start(carried());
        talk.hear(&Message::SetupConnectionSuccess(SetupConnectionSuccess {
            used_version: 2,
            flags: 0,
        }));
        talk.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
            request_id: 1,
            supported_extensions: vec![CARRIER],
        }));
        talk.out = Outbox::default();
        let success = Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
            request_id: 1,
            channel_id: CHANNEL,
            target: z(4).target().to_le_bytes(),
            extranonce_size: 8,
            extranonce_prefix: vec![7; 4],
            group_channel_id: GROUP,
        });
        talk.hear_carrier(11, &success, tail);
        talk
    }

    fn share(&mut self, nonce: u32) -> Share {
        let assignment = self.client.channel().unwrap().active().unwrap().clone();
        Share { assignment, version: 1, ntime: 1_000, nonce, extranonce: [9; 32] }
    }

    /// The types of the messages that were sent since the last look.
    fn sent(&mut self) -> Vec<u8> {
        let frames = std::mem::take(&mut self.out.frames);
        Frames::new(&frames).map(|(header, _)| header.msg_type).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.events)
    }

    fn ended(&mut self) -> Ended {
        match self.events().pop() {
            Some(Event::Ended(ended)) => ended,
            other => panic!("expected an end, got {other:?}"),
        }
    }

    fn future_job(&mut self, to: u32, job_id: u32) {
        self.hear(&Message::NewExtendedMiningJob(extended_job(to, job_id, None)));
    }

    fn tip(&mut self, to: u32, job_id: u32, prev: u8) {
        self.hear(&Message::SetNewPrevHash(SetNewPrevHash {
            channel_id: to,
            job_id,
            prev_hash: [prev; 32],
            min_ntime: 1_000,
            nbits: 0x1d00_ffff,
        }));
    }
}

fn extended_job(channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> NewExtendedMiningJob {
    NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: vec![[1; 32], [2; 32]],
        coinbase_tx_prefix: vec![3; 50],
        coinbase_tx_suffix: vec![4; 70],
    }
}

fn assigned(events: &[Event]) -> std::sync::Arc<radpool_miner::Assignment> {
    match events {
        [Event::Assigned { assignment, .. }] => assignment.clone(),
        other => panic!("expected one assignment, got {other:?}"),
    }
}

#[test]
fn standard_channel_mines_its_own_jobs_and_its_groups() {
    let mut talk = Conversation::open(ChannelKind::Standard);
    talk.hear(&Message::NewMiningJob(NewMiningJob {
        channel_id: CHANNEL,
        job_id: 1,
        min_ntime: None,
        version: 0x2000_0000,
        merkle_root: [8; 32],
    }));
    assert!(talk.events().is_empty());
    talk.tip(CHANNEL, 1, 0xaa);
    let job = assigned(&talk.events());
    assert_eq!((job.job_id, job.prev_hash, job.min_ntime), (1, [0xaa; 32], 1_000));
    assert_eq!(job.merkle_root(&[]).0, [8; 32]);
    talk.future_job(GROUP, 2);
    talk.tip(GROUP, 2, 0xbb);
    let job = assigned(&talk.events());
    let coinbase = [&[3; 50][..], &[7; 12], &[4; 70]].concat();
    assert_eq!(
        job.merkle_root(&[]),
        merkle_root_from_path(sha256d(&coinbase), &[[1; 32], [2; 32]])
    );
    let share = Share {
        assignment: job,
        version: 0x2000_0000,
        ntime: 1_000,
        nonce: 3,
        extranonce: [0; 32],
    };
    assert_eq!(talk.client.submit(&share, 0, &mut talk.out), Some(0));
    assert_eq!(talk.sent(), [0x1a]);
}

#[test]
fn extended_share_carries_the_rolled_bytes_and_the_job() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.future_job(CHANNEL, 1);
    talk.tip(CHANNEL, 1, 0xaa);
    let assignment = assigned(&talk.events());
    let mut extranonce = [0; 32];
    extranonce[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let share = Share { assignment, version: 0x2000_0020, ntime: 1_001, nonce: 77, extranonce };
    talk.client.submit(&share, 0, &mut talk.out);
    let mut frame = std::mem::take(&mut talk.out.frames);
    let header = FrameHeader::of_frame(&frame).unwrap();
    match Message::decode(header, &mut frame[6..]).unwrap() {
        Message::SubmitSharesExtended(sent) => {
            assert_eq!((sent.channel_id, sent.sequence_number, sent.job_id), (CHANNEL, 0, 1));
            assert_eq!((sent.nonce, sent.ntime, sent.version), (77, 1_001, 0x2000_0020));
            assert_eq!(sent.extranonce, [1, 2, 3, 4, 5, 6, 7, 8]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn target_counts_for_waiting_and_later_jobs_not_for_the_active_one() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.future_job(CHANNEL, 1);
    talk.tip(CHANNEL, 1, 0xaa);
    assert_eq!(assigned(&talk.events()).target, z(4).target());
    talk.future_job(GROUP, 2);
    let maximum_target = z(6).target().to_le_bytes();
    talk.hear(&Message::SetTarget(SetTarget { channel_id: GROUP, maximum_target }));
    assert!(matches!(talk.events()[..], [Event::TargetChanged(_)]));
    assert_eq!(talk.client.channel().unwrap().active().unwrap().target, z(4).target());
    talk.tip(GROUP, 2, 0xbb);
    assert_eq!(assigned(&talk.events()).target, z(6).target());
}

#[test]
fn extranonce_prefix_counts_for_later_jobs_only() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.future_job(CHANNEL, 1);
    talk.hear(&Message::SetExtranoncePrefix(SetExtranoncePrefix {
        channel_id: CHANNEL,
        extranonce_prefix: vec![8; 5],
    }));
    talk.tip(CHANNEL, 1, 0xaa);
    assert_eq!(assigned(&talk.events()).extranonce_prefix, [7; 4]);
    talk.hear(&Message::NewExtendedMiningJob(extended_job(CHANNEL, 2, Some(1_005))));
    let job = assigned(&talk.events());
    assert_eq!((job.extranonce_prefix.as_slice(), job.min_ntime), (&[8; 5][..], 1_005));
    talk.hear(&Message::SetExtranoncePrefix(SetExtranoncePrefix {
        channel_id: CHANNEL,
        extranonce_prefix: vec![8; 25],
    }));
    assert!(matches!(talk.ended(), Ended::Broken(_)));
}

#[test]
fn channel_follows_to_another_group() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.hear(&Message::SetGroupChannel(SetGroupChannel {
        group_channel_id: 33,
        channel_ids: vec![4, CHANNEL],
    }));
    talk.future_job(GROUP, 1);
    talk.future_job(33, 2);
    talk.tip(33, 2, 0xaa);
    assert_eq!(assigned(&talk.events()).job_id, 2);
}

#[test]
fn only_future_jobs_of_the_present_tip_can_be_named() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.future_job(CHANNEL, 1);
    talk.future_job(CHANNEL, 2);
    talk.tip(CHANNEL, 2, 0xaa);
    talk.events();
    talk.tip(CHANNEL, 1, 0xbb);
    assert_eq!(talk.ended(), Ended::UnknownFutureJob(1));
}

#[test]
fn answers_are_matched_with_what_was_sent() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.future_job(CHANNEL, 1);
    talk.tip(CHANNEL, 1, 0xaa);
    let assignment = assigned(&talk.events());
    for nonce in 0..3 {
        let assignment = assignment.clone();
        let share = Share { assignment, version: 1, ntime: 1_000, nonce, extranonce: [0; 32] };
        talk.client.submit(&share, 10, &mut talk.out);
    }
    assert_eq!(talk.client.unanswered(), 3);
    talk.now_us = 25;
    talk.hear(&Message::SubmitSharesError(SubmitSharesError {
        channel_id: CHANNEL,
        sequence_number: 1,
        error_code: b"stale\x1b-share".to_vec(),
    }));
    let events = talk.events();
    assert!(matches!(&events[..], [Event::Rejected { code, .. }] if code == "stale?-share"));
    let success = Message::SubmitSharesSuccess(SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number: 2,
        new_submits_accepted_count: 2,
        new_shares_sum: 32,
    });
    talk.hear(&success);
    let events = talk.events();
    assert!(matches!(&events[..], [Event::Accepted { count: 2, hashes: 32, waited_us }]
        if waited_us == &[15, 15]));
    assert_eq!(talk.client.unanswered(), 0);
    talk.hear(&success);
    assert!(matches!(talk.events()[..], [Event::Mismatched(_), Event::Accepted { .. }]));
}

#[test]
fn every_end_says_why() {
    let code = b"unknown-user".to_vec();
    let mut talk = Conversation::start(settings(ChannelKind::Standard));
    talk.hear(&Message::SetupConnectionError(SetupConnectionError {
        flags: 0,
        error_code: code.clone(),
    }));
    assert!(matches!(talk.ended(), Ended::Refused { what: "the connection", .. }));

    let mut talk = Conversation::start(settings(ChannelKind::Standard));
    talk.hear(&Message::SetupConnectionSuccess(SetupConnectionSuccess {
        used_version: 2,
        flags: 0,
    }));
    talk.hear(&Message::OpenMiningChannelError(OpenMiningChannelError {
        request_id: 1,
        error_code: code.clone(),
    }));
    let ended = talk.ended();
    assert!(ended.is_lasting());
    assert_eq!(ended.to_string(), "the pool refused the channel: unknown-user");

    for to in [CHANNEL, GROUP] {
        let mut talk = Conversation::open(ChannelKind::Extended);
        talk.hear(&Message::CloseChannel(CloseChannel {
            channel_id: to,
            reason_code: code.clone(),
        }));
        assert_eq!(talk.ended(), Ended::Closed("unknown-user".into()));
    }

    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.hear(&Message::Reconnect(Reconnect { new_host: b"there".to_vec(), new_port: 7 }));
    assert_eq!(talk.ended(), Ended::SentElsewhere { host: "there".into(), port: 7 });

    let mut talk = Conversation::open(ChannelKind::Extended);
    talk.client.close(&mut talk.out);
    assert_eq!(talk.sent(), [0x18]);
    assert_eq!(talk.ended(), Ended::Stopped);
}

#[test]
fn silence_has_a_deadline_until_the_channel_is_open() {
    let mut talk = Conversation::start(settings(ChannelKind::Standard));
    let deadline = talk.client.next_deadline().unwrap();
    talk.client.handle_deadline(deadline - 1, &mut talk.out);
    assert!(talk.events().is_empty());
    talk.client.handle_deadline(deadline, &mut talk.out);
    assert_eq!(talk.ended(), Ended::Silent { awaited: "SetupConnection" });
    assert_eq!(Conversation::open(ChannelKind::Standard).client.next_deadline(), None);
}

#[test]
fn extensions_are_asked_for_and_may_be_passed_over_in_silence() {
    let wanted = ClientSettings { extensions: vec![2, 0x4444], ..settings(ChannelKind::Extended) };
    let success =
        Message::SetupConnectionSuccess(SetupConnectionSuccess { used_version: 2, flags: 0 });
    let mut talk = Conversation::start(wanted.clone());
    talk.hear(&success);
    assert_eq!(talk.sent(), [0x00, 0x00]);
    talk.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![2],
    }));
    assert!(matches!(&talk.events()[..], [Event::Extensions(agreed)] if agreed == &[2]));
    assert_eq!(talk.sent(), [0x13]);

    let mut silent = Conversation::start(wanted);
    silent.hear(&success);
    silent.sent();
    let deadline = silent.client.next_deadline().unwrap();
    silent.client.handle_deadline(deadline, &mut silent.out);
    assert_eq!(silent.sent(), [0x13]);
}

#[test]
fn unknown_messages_are_ignored_and_broken_ones_end_the_session() {
    let mut talk = Conversation::open(ChannelKind::Extended);
    let unknown =
        FrameHeader { extension_type: 0x1234, channel_msg: true, msg_type: 0, payload_len: 3 };
    talk.client.handle_frame(unknown, &mut [1, 2, 3], 0, &mut talk.out);
    assert!(talk.events().is_empty());
    let broken =
        FrameHeader { extension_type: 0, channel_msg: true, msg_type: 0x20, payload_len: 3 };
    talk.client.handle_frame(broken, &mut [1, 2, 3], 0, &mut talk.out);
    assert!(matches!(talk.ended(), Ended::Malformed(_)));
}

#[test]
fn oversized_frames_are_refused_by_their_header() {
    let header = |payload_len| FrameHeader {
        extension_type: 0,
        channel_msg: false,
        msg_type: 1,
        payload_len,
    };
    let most = radpool_miner::client::PAYLOAD_LEN_MAX;
    assert_eq!(Client::check_frame(&header(most)), Ok(()));
    assert_eq!(Client::check_frame(&header(most + 1)), Err(Ended::Oversized { length: most + 1 }));
}

#[test]
fn carrier_must_be_agreed_on() {
    let success =
        Message::SetupConnectionSuccess(SetupConnectionSuccess { used_version: 2, flags: 0 });
    let mut talk = Conversation::start(carried());
    talk.hear(&success);
    assert_eq!(talk.sent(), [0x00, 0x00]);
    talk.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![2],
    }));
    let ended = talk.ended();
    assert_eq!(ended, Ended::ExtensionMissing(CARRIER));
    assert!(ended.is_lasting() && ended.to_string().contains("4777"));

    let mut silent = Conversation::start(carried());
    silent.hear(&success);
    let deadline = silent.client.next_deadline().unwrap();
    silent.client.handle_deadline(deadline, &mut silent.out);
    assert_eq!(silent.ended(), Ended::ExtensionMissing(CARRIER));
}

#[test]
fn carrier_opens_the_channel_with_a_tail_each_way() {
    let mut talk = Conversation::start(carried());
    talk.hear(&Message::SetupConnectionSuccess(SetupConnectionSuccess {
        used_version: 2,
        flags: 0,
    }));
    talk.sent();
    talk.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![CARRIER],
    }));
    let frame = std::mem::take(&mut talk.out.frames);
    let header = FrameHeader::of_frame(&frame).unwrap();
    assert_eq!((header.extension_type, header.msg_type), (CARRIER, 10));
    assert!(!header.channel_msg && frame.ends_with(b"please"));
    talk.events();
    talk.hear_raw(99, &mut [1, 2]);
    assert!(matches!(&talk.events()[..], [Event::Frame { msg_type: 99, payload, .. }]
        if payload == &[1, 2]));

    let mut talk = Conversation::open_carried(b"welcome");
    assert!(matches!(&talk.events()[..], [Event::Opened { tail, .. }, Event::TargetChanged(_)]
        if tail == b"welcome"));

    let mut refused = Conversation::start(carried());
    refused.hear(&Message::SetupConnectionSuccess(SetupConnectionSuccess {
        used_version: 2,
        flags: 0,
    }));
    refused.hear(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
        request_id: 1,
        supported_extensions: vec![CARRIER],
    }));
    refused.events();
    let error_code = b"not-today".to_vec();
    let error = OpenMiningChannelError { request_id: 1, error_code };
    refused.hear_carrier(12, &Message::OpenMiningChannelError(error), &[]);
    assert!(matches!(refused.ended(), Ended::Refused { code, .. } if code == "not-today"));
}

#[test]
fn carried_share_has_its_attachment_behind_the_core_fields() {
    let mut talk = Conversation::open_carried(&[]);
    talk.future_job(GROUP, 1);
    talk.tip(GROUP, 1, 0xaa);
    talk.sent();
    let share = talk.share(77);
    assert_eq!(talk.client.submit_attached(&share, b"token", false, 0, &mut talk.out), Some(0));
    let mut frame = std::mem::take(&mut talk.out.frames);
    let header = FrameHeader::of_frame(&frame).unwrap();
    assert_eq!((header.extension_type, header.msg_type), (CARRIER, 13));
    assert!(header.channel_msg);
    let core = FrameHeader { extension_type: 0, msg_type: 0x1b, ..header };
    assert_eq!(
        Message::decode(core, &mut frame[6..]).unwrap(),
        Message::SubmitSharesExtended(SubmitSharesExtended {
            channel_id: CHANNEL,
            sequence_number: 0,
            job_id: 1,
            nonce: 77,
            ntime: 1_000,
            version: 1,
            extranonce: &[9; 8],
            tail: b"token",
        })
    );
}

#[test]
fn answer_to_a_fresh_share_is_not_taken_for_one_that_is_sent_again() {
    let mut talk = Conversation::open_carried(&[]);
    talk.future_job(GROUP, 1);
    talk.tip(GROUP, 1, 0xaa);
    let hard = talk.share(1);
    talk.client.submit_attached(&hard, b"token", false, 0, &mut talk.out);
    let error_code = b"torn".to_vec();
    let refusal = SubmitSharesError { channel_id: CHANNEL, sequence_number: 0, error_code };
    talk.hear_carrier(15, &Message::SubmitSharesError(refusal), &[]);
    // The pool asks for less from here on, so the two are worth 16 and 4 hashes.
    let maximum_target = z(2).target().to_le_bytes();
    talk.hear(&Message::SetTarget(SetTarget { channel_id: CHANNEL, maximum_target }));
    talk.future_job(GROUP, 2);
    talk.tip(GROUP, 2, 0xbb);
    let easy = talk.share(2);
    talk.client.submit_attached(&hard, b"other", true, 0, &mut talk.out);
    talk.client.submit_attached(&easy, b"token", false, 0, &mut talk.out);
    talk.events();
    let answer = |last: u32, count: u32| SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number: last,
        new_submits_accepted_count: count,
        new_shares_sum: u64::from(count) * 4,
    };
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(answer(2, 1)), &[]);
    let events = talk.events();
    assert!(
        matches!(events[..], [Event::Accepted { count: 1, hashes: 4, .. }, Event::Frame { .. }]),
        "{events:?}"
    );
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(answer(1, 0)), &[]);
    let events = talk.events();
    assert!(
        matches!(events[..], [Event::Accepted { count: 1, hashes: 16, .. }, Event::Frame { .. }]),
        "{events:?}"
    );
    assert_eq!(talk.client.unanswered(), 0);
}

#[test]
fn attachment_whose_share_has_no_channel_any_more_is_given_back() {
    let mut talk = Conversation::open_carried(&[]);
    talk.future_job(GROUP, 1);
    talk.tip(GROUP, 1, 0xaa);
    let mut share = talk.share(1);
    Arc::make_mut(&mut share.assignment).channel_id = CHANNEL + 1;
    let desk = Arc::new(Desk::new().unwrap());
    desk.open(1);
    let mut courier = Courier::new(Arc::clone(&desk), carried().carrier.unwrap());
    courier.take_in(share, ());
    assert!(desk.give(1, 1, vec![Attachment { id: 7, data: b"token".to_vec() }]));
    assert_eq!(courier.send(&mut talk.client, 1, 0, &mut talk.out), 0);
    let news = desk.take();
    assert_eq!((news.withdrawn, news.submitted), (vec![7], vec![]));
}

#[test]
fn carried_answers_settle_shares_and_are_handed_up() {
    let mut talk = Conversation::open_carried(&[]);
    talk.future_job(GROUP, 1);
    talk.tip(GROUP, 1, 0xaa);
    for nonce in 0..4 {
        let share = talk.share(nonce);
        talk.client.submit_attached(&share, b"token", false, 0, &mut talk.out);
    }
    talk.events();
    let answer = |last: u32, count: u32| SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number: last,
        new_submits_accepted_count: count,
        new_shares_sum: u64::from(count) * 16,
    };
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(answer(1, 2)), b"receipts");
    assert!(matches!(&talk.events()[..], [
        Event::Accepted { count: 2, hashes: 32, .. },
        Event::Frame { msg_type: 14, payload, .. },
    ] if payload.ends_with(b"receipts")));
    let refusal =
        SubmitSharesError { channel_id: CHANNEL, sequence_number: 2, error_code: b"torn".to_vec() };
    talk.hear_carrier(15, &Message::SubmitSharesError(refusal), &[]);
    assert!(matches!(&talk.events()[..], [Event::Rejected { sequence: 2, code }]
        if code == "torn"));
    // A share that the pool counted when it came first is answered alone.
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(answer(3, 0)), &[]);
    assert!(matches!(
        talk.events()[..],
        [Event::Accepted { count: 1, hashes: 16, .. }, Event::Frame { .. },]
    ));
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(answer(3, 0)), &[]);
    assert!(matches!(talk.events()[..], [Event::Frame { .. }]));
    assert_eq!(talk.client.unanswered(), 0);
    let other = SubmitSharesSuccess { channel_id: CHANNEL + 1, ..answer(0, 1) };
    talk.hear_carrier(14, &Message::SubmitSharesSuccess(other), &[]);
    assert!(talk.events().is_empty());
    talk.hear_raw(14, &mut [1, 2, 3]);
    assert!(matches!(talk.ended(), Ended::Malformed(_)));
}
