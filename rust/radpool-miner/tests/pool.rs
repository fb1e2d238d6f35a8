//! The whole miner against a small pool on loopback: encryption, real proofs, lost connections.

#![expect(clippy::unwrap_used, reason = "a test: the panic is the report")]

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::{JoinHandle, spawn},
    time::{Duration, Instant},
};

use radpool_miner::{
    ChannelKind, ClientExtension, Exchange, Miner, MinerSettings, State, Stats,
    desk::{Attachment, CarrierFrame, News},
    header::Header,
};
use radpool_units::{Exponent, Hash256, merkle_root_from_path, sha256d};
use radpool_wire::{
    frame::FrameHeader,
    keys::{AuthorityPublicKey, AuthoritySecretKey},
    message::{
        Message, NewExtendedMiningJob, OpenExtendedMiningChannelSuccess,
        OpenStandardMiningChannelSuccess, Reconnect, RequestExtensionsSuccess, SetNewPrevHash,
        SetupConnectionSuccess, SubmitSharesError, SubmitSharesSuccess,
    },
    noise::{ACT1_LEN, Certificate, Opener, Responder, Sealer, ServerIdentity, StaticKey},
    reader::FrameReader,
};

const PREV: [u8; 32] = [0xab; 32];
const PREFIX: [u8; 4] = [1, 2, 3, 4];
/// An extension that carries the shares; its numbers mean nothing.
const CARRIER: u16 = 0x4777;

fn authority(byte: u8) -> AuthoritySecretKey {
    AuthoritySecretKey::from_bytes([byte; 32]).unwrap()
}

fn identity(valid_from: u32) -> ServerIdentity {
    let key = StaticKey::from_bytes([7; 32]).unwrap();
    let certificate = Certificate::sign(&authority(5), &key, valid_from, u32::MAX, [1; 32]);
    ServerIdentity::new(key, certificate)
}

/// The pool's end of one connection.
struct Peer {
    stream: TcpStream,
    sealer: Sealer,
    opener: Opener,
    reader: FrameReader,
    channel: u32,
    accepted: u32,
    /// Nonce and extranonce of shares whose attachment was refused.
    refused: HashSet<(u32, Vec<u8>)>,
    /// How long it thinks before it answers to a carried share.
    pause: Duration,
}

impl Peer {
    fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().unwrap();
        let mut act1 = [0; ACT1_LEN];
        stream.read_exact(&mut act1).unwrap();
        let (act2, sealer, opener) =
            Responder::respond(&identity(0), &act1, [9; 32], [8; 32]).unwrap();
        stream.write_all(&act2).unwrap();
        Self {
            stream,
            sealer,
            opener,
            reader: FrameReader::new(),
            channel: 0,
            accepted: 0,
            refused: HashSet::new(),
            pause: Duration::ZERO,
        }
    }

    fn send(&mut self, message: &Message<'_>) {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        message.encode(&mut frame).unwrap();
        self.sealer.seal_frame(&frame, &mut sealed).unwrap();
        // The miner may have gone already, which is what some tests want.
        let _ = self.stream.write_all(&sealed);
    }

    /// Serves until the miner leaves or `shares` were accepted.
    fn serve(&mut self, shares: u32) {
        let mut scratch = vec![0; 4096];
        while self.accepted < shares {
            let length = self.stream.read(&mut scratch).unwrap_or(0);
            if length == 0 {
                return;
            }
            let mut frames = Vec::new();
            let keep = |header, payload: &mut [u8]| frames.push((header, payload.to_vec()));
            let cap = |_: &_| Ok::<(), &str>(());
            self.reader.feed(&mut scratch[..length], &mut self.opener, cap, keep).unwrap();
            for (header, mut payload) in frames {
                match header.extension_type {
                    CARRIER => self.answer_carried(header.msg_type, &mut payload),
                    _ => self.answer(Message::decode(header, &mut payload).unwrap()),
                }
            }
        }
    }

    fn answer(&mut self, message: Message<'_>) {
        let target = Exponent::new(8).unwrap().target().to_le_bytes();
        match message {
            Message::SetupConnection(_) => {
                let success = SetupConnectionSuccess { used_version: 2, flags: 0 };
                self.send(&Message::SetupConnectionSuccess(success));
            }
            Message::OpenStandardMiningChannel(open) => {
                self.channel = 3;
                self.send(&Message::OpenStandardMiningChannelSuccess(
                    OpenStandardMiningChannelSuccess {
                        request_id: open.request_id,
                        channel_id: 3,
                        target,
                        extranonce_prefix: [&PREFIX[..], &[0; 8]].concat(),
                        group_channel_id: 1,
                    },
                ));
                self.work();
            }
            Message::OpenExtendedMiningChannel(open) => {
                self.channel = 4;
                self.send(&Message::OpenExtendedMiningChannelSuccess(
                    OpenExtendedMiningChannelSuccess {
                        request_id: open.request_id,
                        channel_id: 4,
                        target,
                        extranonce_size: 8,
                        extranonce_prefix: PREFIX.to_vec(),
                        group_channel_id: 1,
                    },
                ));
                self.work();
            }
            Message::SubmitSharesStandard(share) => self.judge(
                &[0; 8],
                (share.version, share.ntime, share.nonce),
                share.sequence_number,
            ),
            Message::SubmitSharesExtended(share) => self.judge(
                share.extranonce,
                (share.version, share.ntime, share.nonce),
                share.sequence_number,
            ),
            Message::RequestExtensions(request) => {
                self.send(&Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
                    request_id: request.request_id,
                    supported_extensions: request.requested_extensions,
                }));
            }
            Message::CloseChannel(close) => assert_eq!(close.channel_id, self.channel),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message of the carrier: the fields of `core`, then `tail`.
    fn send_carried(&mut self, msg_type: u8, core: &Message<'_>, tail: &[u8]) {
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        core.encode(&mut frame).unwrap();
        frame.extend_from_slice(tail);
        let payload_len = u32::try_from(frame.len() - 6).unwrap();
        let header =
            FrameHeader { extension_type: CARRIER, channel_msg: true, msg_type, payload_len };
        frame[..6].copy_from_slice(&header.to_bytes());
        self.sealer.seal_frame(&frame, &mut sealed).unwrap();
        let _ = self.stream.write_all(&sealed);
    }

    /// Opens channels; refuses a share whose attachment says a code, and accepts any other.
    fn answer_carried(&mut self, msg_type: u8, payload: &mut [u8]) {
        let core = |msg_type| FrameHeader {
            extension_type: 0,
            channel_msg: false,
            msg_type,
            payload_len: u32::try_from(payload.len()).unwrap(),
        };
        if msg_type == 10 {
            assert!(payload.ends_with(b"please"));
            self.channel = 4;
            let success = OpenExtendedMiningChannelSuccess {
                request_id: 1,
                channel_id: 4,
                target: Exponent::new(8).unwrap().target().to_le_bytes(),
                extranonce_size: 8,
                extranonce_prefix: PREFIX.to_vec(),
                group_channel_id: 1,
            };
            let success = Message::OpenExtendedMiningChannelSuccess(success);
            self.send_carried(11, &success, b"welcome");
            return self.work();
        }
        if msg_type == 99 {
            let core = Message::SetTarget(radpool_wire::message::SetTarget {
                channel_id: 0,
                maximum_target: [0; 32],
            });
            return self.send_carried(99, &core, payload);
        }
        assert_eq!(msg_type, 13);
        let Message::SubmitSharesExtended(share) = Message::decode(core(0x1b), payload).unwrap()
        else {
            panic!("no share")
        };
        std::thread::sleep(self.pause);
        let (channel_id, sequence_number) = (share.channel_id, share.sequence_number);
        let proof = (share.nonce, share.extranonce.to_vec());
        if share.tail != b"good" {
            self.refused.insert(proof);
            let error_code = share.tail.to_vec();
            let error = SubmitSharesError { channel_id, sequence_number, error_code };
            return self.send_carried(15, &Message::SubmitSharesError(error), &[]);
        }
        self.accepted += 1;
        // It counted when it came first.
        let count = u32::from(!self.refused.contains(&proof));
        let success = SubmitSharesSuccess {
            channel_id,
            last_sequence_number: sequence_number,
            new_submits_accepted_count: count,
            new_shares_sum: u64::from(count) * 256,
        };
        self.send_carried(14, &Message::SubmitSharesSuccess(success), b"receipt");
    }

    fn work(&mut self) {
        self.send(&Message::NewExtendedMiningJob(NewExtendedMiningJob {
            channel_id: 1,
            job_id: 11,
            min_ntime: None,
            version: 0x2000_0000,
            version_rolling_allowed: true,
            merkle_path: vec![[6; 32]],
            coinbase_tx_prefix: vec![1; 60],
            coinbase_tx_suffix: vec![2; 60],
        }));
        self.send(&Message::SetNewPrevHash(SetNewPrevHash {
            channel_id: 1,
            job_id: 11,
            prev_hash: PREV,
            min_ntime: 1_000_000,
            nbits: 0x1d00_ffff,
        }));
    }

    /// Computes the proof from the message alone; a bad one fails the test.
    fn judge(&mut self, rolled: &[u8], fields: (u32, u32, u32), sequence: u32) {
        let coinbase = [&[1; 60][..], &PREFIX, rolled, &[2; 60]].concat();
        let (version, ntime, nonce) = fields;
        let header = Header {
            version,
            prev_hash: PREV,
            merkle_root: merkle_root_from_path(sha256d(&coinbase), &[[6; 32]]).0,
            ntime,
            nbits: 0x1d00_ffff,
        };
        let hash: Hash256 = sha256d(&header.to_bytes(nonce));
        assert!(Exponent::new(8).unwrap().is_met_by(&hash), "share {sequence} is no proof");
        assert!((1_000_000..1_000_060).contains(&ntime));
        self.accepted += 1;
        if self.accepted == 3 {
            self.send(&Message::SubmitSharesError(SubmitSharesError {
                channel_id: self.channel,
                sequence_number: sequence,
                error_code: b"stale-share".to_vec(),
            }));
            return;
        }
        self.send(&Message::SubmitSharesSuccess(SubmitSharesSuccess {
            channel_id: self.channel,
            last_sequence_number: sequence,
            new_submits_accepted_count: 1,
            new_shares_sum: 256,
        }));
    }
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn start(port: u16, kind: ChannelKind, trusted: AuthorityPublicKey) -> Miner {
    Miner::start(MinerSettings {
        host: "127.0.0.1".into(),
        port,
        authority: Some(trusted),
        user: "alice".into(),
        kind,
        threads: 2,
        hash_rate_limit: Some(20_000),
        carrier: None,
        sv1: false,
    })
    .unwrap()
}

/// Waits for real threads to get somewhere; the limit is only there to fail instead of hanging.
fn wait_for(miner: &Miner, reached: impl Fn(&Stats) -> bool) -> Stats {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let stats = miner.stats();
        if reached(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}, {:?}", miner.events());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn mine(kind: ChannelKind) -> Stats {
    let (listener, port) = listen();
    let pool: JoinHandle<u32> = spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.serve(u32::MAX);
        peer.accepted
    });
    let mut miner = start(port, kind, authority(5).public_key());
    wait_for(&miner, |stats| stats.accepted >= 5);
    miner.stop();
    let stats = miner.stats();
    assert_eq!(u64::from(pool.join().unwrap()), stats.submitted);
    assert_eq!((stats.accepted + 1, stats.lost), (stats.submitted, 0));
    stats
}

#[test]
fn extended_channel_finds_real_proofs_and_leaves_in_order() {
    let stats = mine(ChannelKind::Extended);
    assert_eq!(stats.state, State::Stopped);
    assert_eq!(stats.rejected, [("stale-share".to_string(), 1)].into());
    assert_eq!((stats.mismatches, stats.last_end.as_deref()), (0, Some("stopped")));
    assert_eq!(stats.accepted_hashes, u128::from(stats.accepted) * 256);
    assert!(stats.latency_p99_us.is_some());
}

#[test]
fn standard_channel_finds_real_proofs() {
    assert!(mine(ChannelKind::Standard).accepted >= 5);
}

#[test]
fn miner_comes_back_after_a_lost_connection_and_follows_a_reconnect() {
    let (listener, port) = listen();
    let (elsewhere, elsewhere_port) = listen();
    let pool = spawn(move || {
        Peer::accept(&listener).serve(1);
        let mut second = Peer::accept(&listener);
        second.serve(1);
        let reconnect = Reconnect { new_host: Vec::new(), new_port: elsewhere_port };
        second.send(&Message::Reconnect(reconnect));
        Peer::accept(&elsewhere).serve(u32::MAX);
    });
    let mut miner = start(port, ChannelKind::Extended, authority(5).public_key());
    let stats = wait_for(&miner, |stats| stats.sessions == 3 && stats.accepted >= 2);
    assert_eq!(stats.state, State::Mining);
    miner.stop();
    pool.join().unwrap();
}

#[test]
fn wrong_authority_ends_the_miner_and_names_the_key() {
    let (listener, port) = listen();
    let pool = spawn(move || Peer::accept(&listener).serve(u32::MAX));
    let mut miner = start(port, ChannelKind::Extended, authority(6).public_key());
    let stats = wait_for(&miner, |stats| stats.state == State::Stopped);
    assert!(stats.last_end.unwrap().contains("not signed by the authority"));
    miner.stop();
    pool.join().unwrap();
}

#[test]
fn miner_without_a_pool_stops_at_once() {
    let (listener, port) = listen();
    drop(listener);
    let mut miner = start(port, ChannelKind::Extended, authority(5).public_key());
    wait_for(&miner, |stats| stats.state == State::Waiting);
    let asked = Instant::now();
    miner.stop();
    assert!(asked.elapsed() < Duration::from_secs(2));
}

fn start_carried(port: u16) -> Miner {
    let carrier = ClientExtension {
        extension_type: CARRIER,
        open: Exchange { request: 10, success: 11, error: 12 },
        open_tail: b"please".to_vec(),
        share: Exchange { request: 13, success: 14, error: 15 },
        renewing_codes: vec!["torn".into()],
        lapsing_codes: vec!["outdated".into()],
    };
    Miner::start(MinerSettings {
        host: "127.0.0.1".into(),
        port,
        authority: None,
        user: "alice".into(),
        kind: ChannelKind::Extended,
        threads: 1,
        hash_rate_limit: Some(20_000),
        carrier: Some(carrier),
        sv1: false,
    })
    .unwrap()
}

/// Adds up the news of one session until they tell enough.
fn hear(miner: &Miner, enough: impl Fn(&News) -> bool) -> News {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut all = News::default();
    while !enough(&all) {
        let news = miner.take();
        all.session = news.session;
        all.opened = all.opened.or(news.opened);
        all.submitted.extend(news.submitted);
        all.refused.extend(news.refused);
        all.frames.extend(news.frames);
        all.withdrawn.extend(news.withdrawn);
        all.dropped += news.dropped;
        all.ended = all.ended.or(news.ended);
        assert!(Instant::now() < deadline, "{all:?}, {:?}", miner.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    all
}

fn attachments(first: u64, data: &[&str]) -> Vec<Attachment> {
    let numbered = (first..).zip(data);
    numbered.map(|(id, data)| Attachment { id, data: data.as_bytes().to_vec() }).collect()
}

#[test]
fn only_shares_with_an_attachment_leave_the_miner() {
    let (listener, port) = listen();
    let pool = spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.serve(u32::MAX);
        peer.accepted
    });
    let mut miner = start_carried(port);
    let news = hear(&miner, |news| news.opened.is_some());
    assert_eq!(news.opened, Some((4, b"welcome".to_vec())));
    wait_for(&miner, |stats| stats.waiting >= 3);
    assert_eq!(miner.stats().submitted, 0);
    assert!(miner.give(news.session, 1, attachments(7, &["good"; 3])));
    let news = hear(&miner, |news| news.frames.len() == 3);
    let sent: Vec<_> =
        news.submitted.iter().map(|share| (share.attachment, share.sequence)).collect();
    assert_eq!(sent, [(7, 0), (8, 1), (9, 2)]);
    for share in &news.submitted {
        assert_eq!(share.exponent, Some(8));
        assert!(Exponent::new(8).unwrap().is_met_by(&Hash256(share.hash)));
    }
    assert!(news.frames.iter().all(|frame| frame.payload.ends_with(b"receipt")));
    // The queue of those that wait is bounded, and the newest stay in it.
    let news = hear(&miner, |news| news.dropped > 0);
    assert!(news.submitted.is_empty() && miner.stats().waiting <= 256);
    miner.stop();
    assert_eq!(pool.join().unwrap(), 3);
    assert_eq!(miner.stats().submitted, 3);
}

#[test]
fn share_refused_for_its_attachment_goes_out_again_with_another() {
    let (listener, port) = listen();
    let pool = spawn(move || Peer::accept(&listener).serve(u32::MAX));
    let mut miner = start_carried(port);
    let session = hear(&miner, |news| news.opened.is_some()).session;
    assert!(miner.give(session, 1, attachments(0, &["torn"])));
    let torn = hear(&miner, |news| news.refused.len() == 1);
    assert!(torn.refused[0].again && torn.refused[0].code == "torn");
    assert!(miner.give(session, 1, attachments(1, &["good"])));
    let good = hear(&miner, |news| news.frames.len() == 1);
    assert_eq!(torn.submitted[0].hash, good.submitted[0].hash);
    assert!(torn.submitted[0].sequence < good.submitted[0].sequence);
    // What a lapsed lot had left is of no use: the share waits for the next lot.
    assert!(miner.give(session, 2, attachments(2, &["outdated"])));
    let outdated = hear(&miner, |news| news.refused.len() == 1);
    assert!(!miner.give(session, 2, attachments(3, &["good"])));
    assert!(miner.give(session, 3, attachments(4, &["good"])));
    let good = hear(&miner, |news| news.frames.len() == 1);
    assert_eq!(outdated.submitted[0].hash, good.submitted[0].hash);
    // Any other code means the share itself.
    assert!(miner.give(session, 3, attachments(5, &["stale-share"])));
    let news = hear(&miner, |news| news.refused.len() == 1);
    assert!(matches!(&news.refused[..], [refused] if !refused.again));
    assert_eq!(miner.stats().rejected, [("stale-share".to_string(), 1)].into());
    assert_eq!(miner.stats().resent, 2);
    let counts = |stats: &Stats| (stats.accepted, stats.unanswered, stats.mismatches);
    wait_for(&miner, |stats| counts(stats) == (2, 0, 0));
    miner.stop();
    pool.join().unwrap();
}

#[test]
fn pool_that_refuses_every_attachment_gets_no_more_than_eight_for_a_share() {
    let (listener, port) = listen();
    let pool = spawn(move || Peer::accept(&listener).serve(u32::MAX));
    let mut miner = start_carried(port);
    let session = hear(&miner, |news| news.opened.is_some()).session;
    let mut sent = Vec::new();
    for number in 0..9 {
        assert!(miner.give(session, 1, attachments(number, &["torn"])));
        let news = hear(&miner, |news| news.refused.len() == 1);
        sent.push((news.submitted[0].hash, news.refused[0].again));
    }
    let (first, _) = sent[0];
    assert!(sent[..8].iter().all(|(hash, _)| *hash == first), "the refused one goes first");
    let again: Vec<bool> = sent.iter().map(|(_, again)| *again).collect();
    assert_eq!(again, [true, true, true, true, true, true, true, false, true]);
    assert_ne!(sent[8].0, first);
    miner.stop();
    pool.join().unwrap();
}

#[test]
fn leaving_miner_still_sends_what_the_pool_has_and_refused() {
    let (listener, port) = listen();
    let pool = spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.serve(u32::MAX);
        peer.accepted
    });
    let mut miner = start_carried(port);
    let session = hear(&miner, |news| news.opened.is_some()).session;
    assert!(miner.give(session, 1, attachments(0, &["outdated"])));
    let refused = hear(&miner, |news| news.refused.len() == 1);
    wait_for(&miner, |stats| stats.waiting > 1);
    miner.leave();
    assert!(miner.give(session, 2, attachments(1, &["good"])));
    let news = hear(&miner, |news| news.ended.is_some());
    assert_eq!((news.submitted.len(), news.frames.len()), (1, 1));
    assert_eq!(news.submitted[0].hash, refused.submitted[0].hash);
    assert!(news.dropped > 0);
    miner.stop();
    assert_eq!(pool.join().unwrap(), 1);
}

#[test]
fn refusal_that_comes_last_keeps_the_leaving_miner() {
    let (listener, port) = listen();
    let pool = spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.pause = Duration::from_millis(100);
        peer.serve(u32::MAX);
        peer.accepted
    });
    let mut miner = start_carried(port);
    let session = hear(&miner, |news| news.opened.is_some()).session;
    assert!(miner.give(session, 1, attachments(0, &["outdated"])));
    hear(&miner, |news| news.submitted.len() == 1);
    miner.leave();
    hear(&miner, |news| news.refused.len() == 1);
    assert!(miner.give(session, 2, attachments(1, &["good"])));
    let news = hear(&miner, |news| news.ended.is_some());
    assert_eq!((news.submitted.len(), news.frames.len()), (1, 1));
    miner.stop();
    assert_eq!(pool.join().unwrap(), 1);
}

#[test]
fn each_session_starts_empty_and_after_the_end_of_the_last_was_taken() {
    let (listener, port) = listen();
    let pool = spawn(move || {
        Peer::accept(&listener).serve(1);
        Peer::accept(&listener).serve(u32::MAX);
    });
    let mut miner = start_carried(port);
    let session = hear(&miner, |news| news.opened.is_some()).session;
    assert_eq!(session, 1);
    let frame = CarrierFrame { msg_type: 99, channel_msg: true, payload: b"ask".to_vec() };
    assert!(miner.send(session, frame.clone()));
    let news = hear(&miner, |news| !news.frames.is_empty());
    assert!(news.frames[0].msg_type == 99 && news.frames[0].payload.ends_with(b"ask"));
    assert!(miner.give(session, 1, attachments(0, &["good"; 20])));
    wait_for(&miner, |stats| stats.last_end.is_some());
    let news = hear(&miner, |news| news.ended.is_some());
    assert!(!news.withdrawn.is_empty());
    assert_eq!(news.submitted.len() + news.withdrawn.len(), 20);
    let next = hear(&miner, |news| news.opened.is_some());
    assert_eq!(next.session, 2);
    assert!(!miner.give(1, 2, attachments(0, &["good"])) && !miner.send(1, frame));
    assert!(miner.give(2, 1, attachments(0, &["good"])));
    let news = hear(&miner, |news| news.frames.len() == 1);
    assert_eq!((news.submitted.len(), news.submitted[0].sequence), (1, 0));
    miner.stop();
    pool.join().unwrap();
}
