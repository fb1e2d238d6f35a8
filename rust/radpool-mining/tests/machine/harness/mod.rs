//! A pool without sockets, and a client that follows the protocol by the messages it gets.

use std::{collections::BTreeMap, sync::Arc};

use radpool_ledger::{OWNER_SCRIPT_LEN, OwnerTag, Rail};
use radpool_mining::{
    ChannelGrant, ChannelOwner, CloseReason, Command, Connection, Event, Limits, OpenMessage,
    Outbox, SeenLimits, Settings, ShareMessage, ShareRecord, Shared, Template, Tip,
};
use radpool_units::{Exponent, Hash256, Now, Target, merkle_root_from_path, sha256d};
use radpool_wire::{
    frame::{FrameHeader, Frames, HEADER_LEN},
    message::*,
};

pub(crate) const REGTEST_NBITS: u32 = 0x207f_ffff;
pub(crate) const START: Now = Now { mono_ms: 1_000_000, unix_ms: 1_700_000_000_000 };
/// A hash rate that asks for exponent 8 at six shares a minute.
pub(crate) const RATE_Z8: f32 = 25.6;

/// The extension of the tests and its messages.
pub(crate) const EXTENSION: u16 = 0x4e45;
pub(crate) const EXTENSION_SHARE: u8 = 0x00;
pub(crate) const EXTENSION_SHARE_ERROR: u8 = 0x05;
pub(crate) const EXTENSION_OPEN: u8 = 0x50;
pub(crate) const EXTENSION_OPEN_SUCCESS: u8 = 0x51;
pub(crate) const EXTENSION_OPEN_ERROR: u8 = 0x52;

pub(crate) fn z(zeros: u32) -> Exponent {
    Exponent::new(zeros).unwrap()
}

pub(crate) fn owner(account: u64) -> ChannelOwner {
    ChannelOwner { account, commitment: [account as u8; 32], rail: Rail::Account }
}

pub(crate) fn settings() -> Settings {
    Settings {
        msp_key: [7; 32],
        pool_text: b"radpool".to_vec(),
        shares_per_minute: 6,
        exponent_min: z(4),
        exponent_max: z(60),
        version_rolling: true,
        group_jobs: true,
        work_selection: true,
        rollable_fixed: None,
        job_past_ms: 30_000,
        job_stale_ms: 60_000,
        ntime_slack_s: 120,
        report_interval_ms: 10_000,
        supported_extensions: vec![2, 0x4e45],
        required_extensions: vec![],
        share_messages: vec![ShareMessage {
            extension_type: EXTENSION,
            msg_type: EXTENSION_SHARE,
            error_type: EXTENSION_SHARE_ERROR,
        }],
        open_messages: vec![OpenMessage {
            extension_type: EXTENSION,
            msg_type: EXTENSION_OPEN,
            success_type: EXTENSION_OPEN_SUCCESS,
            error_type: EXTENSION_OPEN_ERROR,
        }],
        limits: Limits {
            setup_deadline_ms: 5_000,
            channel_deadline_ms: 20_000,
            extension_retry_ms: 3_000,
            channels: 8,
            workers: 2,
            submits_per_second: 1_000,
            submits_burst: 5_000,
            requests_per_second: 10,
            requests_burst: 100,
            extension_bytes_pending: 1_000,
            custom_jobs_pending: 4,
            custom_jobs_kept: 6,
            setup_frame_bytes: 2_048,
            mining_frame_bytes: 4_096,
            custom_job_frame_bytes: 8_192,
            extension_frame_bytes: 512,
            ignored_frame_bytes: 65_536,
            seen: SeenLimits { tips: 4, shares_expected: 1_000, shares_max: 1_000_000 },
        },
    }
}

/// A template of which everything depends on its id.
pub(crate) fn template(id: u64) -> Template {
    let mut pool_outputs = 5_000_000_000u64.to_le_bytes().to_vec();
    pool_outputs.extend([0x22, 0x51, 0x20]);
    pool_outputs.extend([0xaa; 32]);
    let mut template_outputs = vec![0; 8];
    template_outputs.extend([0x26, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
    template_outputs.extend([id as u8; 32]);
    Template {
        id,
        epoch: 3,
        height: 100 + id as u32,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![0x02, 0x65, 0x01],
        coinbase_sequence: 0xffff_fffe,
        pool_outputs,
        pool_output_count: 1,
        template_outputs,
        template_output_count: 1,
        coinbase_locktime: 99,
        merkle_path: (0..3).map(|level| [id as u8 ^ level; 32]).collect(),
        owner_output: None,
        extranonce_head: vec![],
    }
}

/// A tip of which the previous hash depends on `block`; no hash is good enough for its target.
pub(crate) fn tip(template_id: u64, block: u8) -> Tip {
    Tip {
        template_id,
        prev_hash: [block; 32],
        min_ntime: 1_699_999_000,
        nbits: REGTEST_NBITS,
        target: Target::from_le_bytes([0; 32]),
        price: 1_000 + u128::from(block),
    }
}

pub(crate) struct Pool {
    pub(crate) shared: Arc<Shared>,
    connections: u64,
}

impl Pool {
    /// A pool with one template on one tip.
    pub(crate) fn new(settings: Settings) -> Self {
        let pool = Self::idle(settings);
        pool.shared.publish_template(template(1), Some(tip(1, 1))).unwrap();
        pool
    }

    pub(crate) fn idle(settings: Settings) -> Self {
        let shared = Shared::new(settings, [9; 16]).unwrap();
        shared.prefixes.add(0x0100_0000, 0x0101_0000);
        Self { shared: Arc::new(shared), connections: 0 }
    }

    pub(crate) fn connect(&mut self, now: Now) -> Client {
        self.connections += 1;
        let connection = Connection::new(self.connections, Arc::clone(&self.shared), now);
        let own_tags = self.shared.settings.rollable_fixed.is_none();
        Client { own_tags, ..Client::new(connection, now) }
    }

    /// A client that has set up.
    pub(crate) fn set_up(&mut self, flags: u32) -> Client {
        let mut client = self.connect(START);
        let replies = client.send(&setup(flags));
        assert!(matches!(replies[..], [Message::SetupConnectionSuccess(_)]), "{replies:?}");
        client
    }
}

pub(crate) fn setup(flags: u32) -> Message<'static> {
    Message::SetupConnection(SetupConnection {
        protocol: Protocol::Mining,
        min_version: 2,
        max_version: 2,
        flags,
        endpoint_host: b"pool".to_vec(),
        endpoint_port: 3333,
        vendor: b"vendor".to_vec(),
        hardware_version: b"hardware".to_vec(),
        firmware: b"firmware".to_vec(),
        device_id: vec![],
    })
}

pub(crate) fn open_extended(
    rate: f32,
    max_target: [u8; 32],
    min_extranonce_size: u16,
) -> Message<'static> {
    Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
        request_id: 77,
        user_identity: b"alice".to_vec(),
        nominal_hash_rate: rate,
        max_target,
        min_extranonce_size,
    })
}

pub(crate) fn open_standard(rate: f32, max_target: [u8; 32]) -> Message<'static> {
    Message::OpenStandardMiningChannel(OpenStandardMiningChannel {
        request_id: 78,
        user_identity: b"bob".to_vec(),
        nominal_hash_rate: rate,
        max_target,
    })
}

/// A job as the client knows it.
#[derive(Clone, Debug)]
pub(crate) struct ClientJob {
    pub(crate) addressee: u32,
    pub(crate) id: u32,
    pub(crate) min_ntime: Option<u32>,
    pub(crate) version: u32,
    pub(crate) kind: JobKind,
}

#[derive(Clone, Debug)]
pub(crate) enum JobKind {
    Root([u8; 32]),
    Coinbase { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

impl ClientJob {
    pub(crate) fn tag(&self) -> OwnerTag {
        let JobKind::Coinbase { suffix, .. } = &self.kind else { panic!("no coinbase") };
        // Other outputs may have the same letters.
        let start = suffix.windows(6).position(|window| window == b"\x6a\x26RADP").unwrap();
        OwnerTag::from_script(&suffix[start..start + OWNER_SCRIPT_LEN]).unwrap()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ClientChannel {
    pub(crate) id: u32,
    pub(crate) group: u32,
    pub(crate) standard: bool,
    pub(crate) prefix: Vec<u8>,
    pub(crate) rollable: u16,
    pub(crate) target: [u8; 32],
    /// Jobs of the group up to this one were sent before the channel was in it.
    pub(crate) joined_at: u32,
    /// The tip that the channel mines on: previous hash, min_ntime, nBits.
    pub(crate) tip: Option<([u8; 32], u32, u32)>,
    /// The job to be mined.
    pub(crate) job: Option<u32>,
}

impl ClientChannel {
    pub(crate) fn exponent(&self) -> u32 {
        Hash256(self.target).leading_zero_bits()
    }
}

/// A client that checks, at each message, that the pool may send it now.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) out: Outbox,
    pub(crate) now: Now,
    pub(crate) channels: BTreeMap<u32, ClientChannel>,
    pub(crate) jobs: BTreeMap<u32, ClientJob>,
    pub(crate) events: Vec<Event>,
    pub(crate) shares: Vec<ShareRecord>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) sequence: u32,
    /// Whether jobs have the tag of the channel's owner and exponent.
    pub(crate) own_tags: bool,
    /// All frames that came, as extension type and message type.
    pub(crate) order: Vec<(u16, u8)>,
    /// The frames of extensions.
    pub(crate) extension_frames: Vec<(FrameHeader, Vec<u8>)>,
    /// Those that begin with the fields of a core message, as that message.
    pub(crate) by_extension: Vec<Message<'static>>,
}

impl Client {
    fn new(connection: Connection, now: Now) -> Self {
        Self {
            connection,
            out: Outbox::default(),
            now,
            channels: BTreeMap::new(),
            jobs: BTreeMap::new(),
            events: vec![],
            shares: vec![],
            closed: None,
            sequence: 0,
            own_tags: true,
            order: vec![],
            extension_frames: vec![],
            by_extension: vec![],
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_ms += ms;
    }

    pub(crate) fn send(&mut self, message: &Message<'_>) -> Vec<Message<'static>> {
        let mut frame = vec![];
        message.encode(&mut frame).unwrap();
        self.send_frame(&frame)
    }

    /// Sends a message with something behind its last field.
    pub(crate) fn send_with_tail(
        &mut self,
        message: &Message<'_>,
        tail: &[u8],
    ) -> Vec<Message<'static>> {
        let mut frame = vec![];
        message.encode(&mut frame).unwrap();
        frame.extend_from_slice(tail);
        let mut header = FrameHeader::from_bytes(frame.first_chunk().unwrap());
        header.payload_len += tail.len() as u32;
        frame[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        self.send_frame(&frame)
    }

    pub(crate) fn send_frame(&mut self, frame: &[u8]) -> Vec<Message<'static>> {
        let header = FrameHeader::of_frame(frame).unwrap();
        let mut payload = frame[HEADER_LEN..].to_vec();
        self.connection.handle_frame(header, &mut payload, self.now, &mut self.out);
        self.take()
    }

    pub(crate) fn command(&mut self, command: Command) -> Vec<Message<'static>> {
        self.connection.handle_command(command, self.now, &mut self.out);
        self.take()
    }

    pub(crate) fn work(&mut self) -> Vec<Message<'static>> {
        self.connection.handle_work(self.now, &mut self.out);
        self.take()
    }

    pub(crate) fn deadline(&mut self) -> Vec<Message<'static>> {
        self.connection.handle_deadline(self.now, &mut self.out);
        self.take()
    }

    /// Asks for a channel and has the pool open it; returns its id and what came with it.
    pub(crate) fn open(
        &mut self,
        open: &Message<'_>,
        owner: ChannelOwner,
    ) -> (u32, Vec<Message<'static>>) {
        assert_eq!(self.send(open), []);
        let request = self
            .events
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::ChannelRequested { request, .. } => Some(*request),
                _ => None,
            })
            .expect("a request event");
        let replies =
            self.command(Command::OpenChannel { request, grant: ChannelGrant::to(owner) });
        let id = replies.iter().find_map(|reply| match reply {
            Message::OpenExtendedMiningChannelSuccess(success) => Some(success.channel_id),
            Message::OpenStandardMiningChannelSuccess(success) => Some(success.channel_id),
            _ => None,
        });
        (id.expect("a success"), replies)
    }

    /// Empties the outbox and lets the client's own state follow.
    fn take(&mut self) -> Vec<Message<'static>> {
        let mut messages = vec![];
        let frames = std::mem::take(&mut self.out.frames);
        let mut cut = Frames::new(&frames);
        for (header, payload) in &mut cut {
            let payload = Box::leak(payload.to_vec().into_boxed_slice());
            self.order.push((header.extension_type, header.msg_type));
            if header.extension_type > 1 {
                self.follow_extension(header, payload);
                continue;
            }
            let message = Message::decode(header, payload).unwrap();
            self.follow(&message);
            messages.push(message);
        }
        assert!(cut.rest().is_empty());
        self.events.append(&mut self.out.events);
        self.shares.append(&mut self.out.shares);
        self.closed = self.closed.or(self.out.close.take());
        messages
    }

    /// Reads the extension's answers as what they begin with in core.
    fn follow_extension(&mut self, header: FrameHeader, payload: &mut [u8]) {
        self.extension_frames.push((header, payload.to_vec()));
        let msg_type = match header.msg_type {
            EXTENSION_OPEN_SUCCESS => 0x14,
            EXTENSION_OPEN_ERROR => 0x12,
            EXTENSION_SHARE_ERROR => 0x1d,
            _ => return,
        };
        let core = FrameHeader { extension_type: 0, msg_type, ..header };
        let message =
            Message::decode(core, Box::leak(payload.to_vec().into_boxed_slice())).unwrap();
        assert_eq!(message.channel_msg(), header.channel_msg, "{message:?}");
        self.follow(&message);
        self.by_extension.push(message);
    }

    fn follow(&mut self, message: &Message<'_>) {
        match message {
            Message::OpenExtendedMiningChannelSuccess(success) => {
                let channel = ClientChannel {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    joined_at: self.last_job(),
                    prefix: success.extranonce_prefix.clone(),
                    rollable: success.extranonce_size,
                    target: success.target,
                    ..ClientChannel::default()
                };
                assert!(self.channels.insert(channel.id, channel).is_none());
            }
            Message::OpenStandardMiningChannelSuccess(success) => {
                let channel = ClientChannel {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    standard: true,
                    joined_at: self.last_job(),
                    prefix: success.extranonce_prefix.clone(),
                    target: success.target,
                    ..ClientChannel::default()
                };
                assert!(self.channels.insert(channel.id, channel).is_none());
            }
            Message::NewMiningJob(_) | Message::NewExtendedMiningJob(_) => self.follow_job(message),
            Message::SetNewPrevHash(new) => self.follow_tip(new),
            Message::SetTarget(set) => {
                self.channels.get_mut(&set.channel_id).unwrap().target = set.maximum_target;
            }
            Message::SetExtranoncePrefix(set) => {
                let channel = self.channels.get_mut(&set.channel_id).unwrap();
                channel.prefix = set.extranonce_prefix.clone();
            }
            Message::SetGroupChannel(set) => {
                let joined_at = self.last_job();
                for id in &set.channel_ids {
                    let channel = self.channels.get_mut(id).unwrap();
                    (channel.group, channel.joined_at) = (set.group_channel_id, joined_at);
                }
            }
            Message::CloseChannel(close) => {
                let id = close.channel_id;
                self.channels.retain(|_, channel| channel.id != id && channel.group != id);
            }
            _ => {}
        }
    }

    fn follow_job(&mut self, message: &Message<'_>) {
        match message {
            Message::NewMiningJob(job) => {
                assert!(self.channels[&job.channel_id].standard);
                self.add_job(ClientJob {
                    addressee: job.channel_id,
                    id: job.job_id,
                    min_ntime: job.min_ntime,
                    version: job.version,
                    kind: JobKind::Root(job.merkle_root),
                });
            }
            Message::NewExtendedMiningJob(job) => {
                let only = self.channels.get(&job.channel_id);
                assert!(only.is_none_or(|channel| !channel.standard));
                self.add_job(ClientJob {
                    addressee: job.channel_id,
                    id: job.job_id,
                    min_ntime: job.min_ntime,
                    version: job.version,
                    kind: JobKind::Coinbase {
                        prefix: job.coinbase_tx_prefix.clone(),
                        suffix: job.coinbase_tx_suffix.clone(),
                        path: job.merkle_path.clone(),
                    },
                });
            }
            _ => {}
        }
    }

    fn last_job(&self) -> u32 {
        self.jobs.keys().next_back().copied().unwrap_or(0)
    }

    fn members(&self, addressee: u32) -> Vec<u32> {
        let addressed =
            |channel: &&ClientChannel| channel.id == addressee || channel.group == addressee;
        let members: Vec<u32> =
            self.channels.values().filter(addressed).map(|channel| channel.id).collect();
        assert!(!members.is_empty(), "nobody is addressed by {addressee}");
        members
    }

    fn add_job(&mut self, job: ClientJob) {
        for member in self.members(job.addressee) {
            let channel = self.channels.get_mut(&member).unwrap();
            if let Some(min_ntime) = job.min_ntime {
                let (_, tip_ntime, _) = channel.tip.expect("an active job needs a tip");
                assert!(min_ntime >= tip_ntime);
                channel.job = Some(job.id);
                if let JobKind::Coinbase { .. } = job.kind
                    && self.own_tags
                {
                    assert_eq!(u32::from(job.tag().exponent.get()), channel.exponent());
                }
            }
        }
        assert!(self.jobs.insert(job.id, job).is_none(), "job ids are unique on a connection");
    }

    fn follow_tip(&mut self, new: &SetNewPrevHash) {
        let job = self.jobs.get_mut(&new.job_id).expect("a job that was sent before");
        assert_eq!(job.min_ntime, None, "a future job");
        job.min_ntime = Some(new.min_ntime);
        let job = job.clone();
        for member in self.members(new.channel_id) {
            let channel = self.channels.get_mut(&member).unwrap();
            let by_group = job.addressee == channel.group && job.id > channel.joined_at;
            assert!(job.addressee == member || by_group, "the job was sent to this channel");
            channel.tip = Some((new.prev_hash, new.min_ntime, new.nbits));
            channel.job = Some(new.job_id);
            if let JobKind::Coinbase { .. } = job.kind
                && self.own_tags
            {
                assert_eq!(u32::from(job.tag().exponent.get()), channel.exponent());
            }
        }
    }

    /// Hashes a header as a miner does, from the messages alone.
    pub(crate) fn hash(&self, share: &MinedShare) -> Hash256 {
        let channel = &self.channels[&share.channel];
        let job = &self.jobs[&share.job];
        let (prev_hash, _, nbits) = share.tip;
        let root = match &job.kind {
            JobKind::Root(root) => *root,
            JobKind::Coinbase { prefix, suffix, path } => {
                let coinbase = [prefix, &channel.prefix[..], &share.extranonce, suffix].concat();
                merkle_root_from_path(sha256d(&coinbase), path).0
            }
        };
        let mut header = vec![];
        header.extend(share.version.to_le_bytes());
        header.extend(prev_hash);
        header.extend(root);
        header.extend(share.ntime.to_le_bytes());
        header.extend(nbits.to_le_bytes());
        header.extend(share.nonce.to_le_bytes());
        sha256d(&header)
    }

    /// Starts a share on the channel's current job.
    pub(crate) fn draft(&mut self, channel: u32) -> MinedShare {
        let (known, job) = {
            let known = &self.channels[&channel];
            (known.clone(), &self.jobs[&known.job.expect("a job to mine")])
        };
        self.sequence += 1;
        MinedShare {
            channel,
            sequence: self.sequence,
            job: job.id,
            version: job.version,
            ntime: job.min_ntime.unwrap(),
            nonce: 0,
            extranonce: vec![0x11; known.rollable.into()],
            tip: known.tip.unwrap(),
            standard: known.standard,
        }
    }

    /// Finds a nonce with at least `least` and less than `below` leading zero bits.
    pub(crate) fn grind(&self, share: &mut MinedShare, least: u32, below: u32) {
        for _ in 0..10_000_000u32 {
            let zeros = self.hash(share).leading_zero_bits();
            if zeros >= least && zeros < below {
                return;
            }
            share.nonce = share.nonce.wrapping_add(1);
        }
        panic!("no nonce between 2^{least} and 2^{below}");
    }

    /// Mines a good share on the channel's current job.
    pub(crate) fn mine(&mut self, channel: u32) -> MinedShare {
        let mut share = self.draft(channel);
        share.nonce = self.sequence.wrapping_mul(0x0100_0000);
        self.grind(&mut share, self.channels[&channel].exponent(), 257);
        share
    }

    pub(crate) fn submit(&mut self, share: &MinedShare) -> Vec<Message<'static>> {
        self.send(&share.message())
    }

    /// Submits and returns the error code, or `None` for an accepted share.
    pub(crate) fn verdict(&mut self, share: &MinedShare) -> Option<String> {
        let before = self.shares.len();
        let replies = self.submit(share);
        let code = error_code(&replies);
        assert_eq!(code.is_none(), self.shares.len() == before + 1, "{replies:?}");
        code
    }
}

/// The code of the one SubmitShares.Error among the replies.
pub(crate) fn error_code(replies: &[Message<'_>]) -> Option<String> {
    replies.iter().find_map(|reply| match reply {
        Message::SubmitSharesError(error) => {
            Some(String::from_utf8(error.error_code.clone()).unwrap())
        }
        _ => None,
    })
}

#[derive(Clone, Debug)]
pub(crate) struct MinedShare {
    pub(crate) channel: u32,
    pub(crate) sequence: u32,
    pub(crate) job: u32,
    pub(crate) version: u32,
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    pub(crate) extranonce: Vec<u8>,
    pub(crate) tip: ([u8; 32], u32, u32),
    pub(crate) standard: bool,
}

impl MinedShare {
    pub(crate) fn message(&self) -> Message<'_> {
        if self.standard {
            Message::SubmitSharesStandard(SubmitSharesStandard {
                channel_id: self.channel,
                sequence_number: self.sequence,
                job_id: self.job,
                nonce: self.nonce,
                ntime: self.ntime,
                version: self.version,
            })
        } else {
            Message::SubmitSharesExtended(SubmitSharesExtended {
                channel_id: self.channel,
                sequence_number: self.sequence,
                job_id: self.job,
                nonce: self.nonce,
                ntime: self.ntime,
                version: self.version,
                extranonce: &self.extranonce,
                tail: &[],
            })
        }
    }
}

/// The names of messages, in order.
pub(crate) fn names(messages: &[Message<'_>]) -> Vec<&'static str> {
    messages.iter().map(Message::name).collect()
}
