//! The client's side of one connection, without IO: frames in, frames and events out.
//!
//! ```text
//! SetUp ── SetupConnection.Success ──> Extending ── answer or 5 s ──> Opening ── …Success ──> Open
//!   └───────── no extensions wanted ────────────────────────────────────^
//! ```
//!
//! An extension may carry the channel's shares ([`ClientExtension`]): then it must be agreed on, its
//! own messages open the channel and submit shares, and its other messages are handed up as
//! [`Event::Frame`].
//!
//! One client opens one channel. A refusal, a message that breaks the protocol, a deadline and the
//! end of the channel all end the client: [`Event::Ended`] is then the last thing it says, and the
//! connection is to be closed. The machine reads no clock: `now_us` is any clock that never goes
//! back, in microseconds.
//!
//! Bounds: 16 future jobs; as many unanswered shares as the caller submits (it asks
//! [`Client::unanswered`] first); one frame of at most [`PAYLOAD_LEN_MAX`] bytes.

use std::sync::Arc;

use radpool_units::Target;
use radpool_wire::{
    DecodeError,
    frame::FrameHeader,
    message::{
        CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
        OpenStandardMiningChannel, Protocol, RequestExtensions, SetupConnection, SubmitSharesError,
        SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess,
    },
};

use crate::{
    assignment::{Assignment, ChannelKind, Coinbase, EXTRANONCE_LEN_MAX, Share},
    channel::Channel,
    courier::Carries,
    ended::Ended,
    extension::{ClientExtension, Said},
    submission::Mismatch,
};

/// The largest payload that is read. A job of 32 merkle nodes with two coinbase parts of 65 535
/// bytes needs 132 kB.
pub const PAYLOAD_LEN_MAX: u32 = 1 << 18;

/// How long the pool may take for each answer before the channel is open.
const ANSWER_US_MAX: u64 = 30_000_000;
/// A pool that does not know the negotiation of extensions ignores it: then it goes on without.
const EXTENSIONS_US_MAX: u64 = 5_000_000;
/// SetupConnection.Success flag: the version field must not be rolled. Source: SV2, 5.3.1.
const REQUIRES_FIXED_VERSION: u32 = 1;
/// The only version of SV2.
const PROTOCOL_VERSION: u16 = 2;
const REQUEST_ID: u32 = 1;

/// What a client says about itself and asks for.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub kind: ChannelKind,
    /// Who is to be paid; the pool decides what it means.
    pub user_identity: String,
    /// Expected hashes per second, from which the pool chooses the first target.
    pub nominal_hash_rate: f32,
    /// The easiest target that the client wants.
    pub max_target: Target,
    /// The fewest bytes of extranonce that the client wants to roll on an extended channel.
    pub min_extranonce_size: u16,
    /// SetupConnection flags.
    pub flags: u32,
    pub host: String,
    pub port: u16,
    pub vendor: String,
    pub hardware: String,
    pub firmware: String,
    pub device_id: String,
    /// Extensions to ask for; with none the negotiation is left out.
    pub extensions: Vec<u16>,
    /// The extension that opens the channel, an extended one, and carries its shares.
    pub carrier: Option<ClientExtension>,
}

impl ClientSettings {
    /// All extensions to ask for.
    fn wanted(&self) -> Vec<u16> {
        let mut wanted = self.extensions.clone();
        if let Some(carrier) = &self.carrier
            && !wanted.contains(&carrier.extension_type)
        {
            wanted.push(carrier.extension_type);
        }
        wanted
    }
}

/// What happened on the connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// The pool agreed on these of the extensions.
    Extensions(Vec<u16>),
    /// The channel is open; `tail` is what the extension that opened it says more.
    Opened { channel_id: u32, group_id: u32, rollable: usize, tail: Vec<u8> },
    /// The pool asks for another target from the next job on.
    TargetChanged(Target),
    /// This is to be mined from now on.
    Assigned { assignment: Arc<Assignment>, new_tip: bool },
    /// Shares were accepted; `waited_us` holds how long each was under way.
    Accepted { count: u32, hashes: u64, waited_us: Vec<u64> },
    /// A share was refused.
    Rejected { sequence: u32, code: String },
    /// A message of the extension that carries the shares, answers to shares included.
    Frame { msg_type: u8, channel_msg: bool, payload: Vec<u8> },
    /// An answer to shares does not fit what was sent.
    Mismatched(Mismatch),
    /// Nothing more comes.
    Ended(Ended),
}

/// What the machine wants done: plain frames back to back, and what happened.
#[derive(Debug, Default)]
pub struct Outbox {
    pub frames: Vec<u8>,
    pub events: Vec<Event>,
}

impl Outbox {
    fn send(&mut self, message: &Message<'_>) {
        let start = self.frames.len();
        if let Err(error) = message.encode(&mut self.frames) {
            self.frames.truncate(start);
            self.events.push(Event::Ended(Ended::Unsendable(error.to_string())));
        }
    }
}

#[derive(Debug)]
enum Phase {
    SetUp,
    Extending,
    Opening,
    Open(Box<Channel>),
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Client {
    settings: ClientSettings,
    phase: Phase,
    fixed_version: bool,
    deadline_us: Option<u64>,
}

impl Client {
    /// Starts the conversation: SetupConnection is the first frame in `out`.
    #[must_use]
    pub fn new(settings: ClientSettings, now_us: u64, out: &mut Outbox) -> Self {
        out.send(&Message::SetupConnection(SetupConnection {
            protocol: Protocol::Mining,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: settings.flags,
            endpoint_host: settings.host.clone().into_bytes(),
            endpoint_port: settings.port,
            vendor: settings.vendor.clone().into_bytes(),
            hardware_version: settings.hardware.clone().into_bytes(),
            firmware: settings.firmware.clone().into_bytes(),
            device_id: settings.device_id.clone().into_bytes(),
        }));
        let deadline_us = Some(now_us + ANSWER_US_MAX);
        Self { settings, phase: Phase::SetUp, fixed_version: false, deadline_us }
    }

    /// The channel, once it is open.
    #[must_use]
    pub fn channel(&self) -> Option<&Channel> {
        match &self.phase {
            Phase::Open(channel) => Some(channel),
            _ => None,
        }
    }

    /// How many shares wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.channel().map_or(0, |channel| channel.submissions.len())
    }

    /// Refuses a frame by its header, before its payload is kept.
    ///
    /// # Errors
    /// [`Ended::Oversized`].
    pub fn check_frame(header: &FrameHeader) -> Result<(), Ended> {
        if header.payload_len > PAYLOAD_LEN_MAX {
            return Err(Ended::Oversized { length: header.payload_len });
        }
        Ok(())
    }

    /// When [`Client::handle_deadline`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline_us
    }

    /// Acts when time is up.
    pub fn handle_deadline(&mut self, now_us: u64, out: &mut Outbox) {
        if self.deadline_us.is_none_or(|deadline| now_us < deadline) {
            return;
        }
        match self.phase {
            Phase::SetUp => self.end(Ended::Silent { awaited: "SetupConnection" }, out),
            Phase::Extending => self.handle_agreement(Vec::new(), now_us, out),
            Phase::Opening => self.end(Ended::Silent { awaited: "opening a channel" }, out),
            Phase::Open(_) | Phase::Over => self.deadline_us = None,
        }
    }

    /// Takes in one frame.
    pub fn handle_frame(
        &mut self,
        header: FrameHeader,
        payload: &mut [u8],
        now_us: u64,
        out: &mut Outbox,
    ) {
        if let Some(carrier) = &self.settings.carrier
            && header.extension_type == carrier.extension_type
        {
            let said = carrier.read(header.msg_type, payload);
            return self.handle_carrier(header, said, payload, now_us, out);
        }
        // What is not understood and not core is somebody's extension: ignored, as SV2 3.2 wants.
        let message = match Message::decode(header, payload) {
            Ok(message) => message,
            Err(DecodeError::UnknownMessage { .. }) => return,
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
        };
        match (&mut self.phase, message) {
            (Phase::Over, _) => {}
            (Phase::SetUp, Message::SetupConnectionSuccess(success)) => {
                self.fixed_version = success.flags & REQUIRES_FIXED_VERSION != 0;
                let wanted = self.settings.wanted();
                if wanted.is_empty() {
                    self.open(now_us, out);
                } else {
                    self.request_extensions(wanted, now_us, out);
                }
            }
            (Phase::SetUp, Message::SetupConnectionError(error)) => {
                self.end(Ended::refused("the connection", &error.error_code), out);
            }
            (Phase::Extending, Message::RequestExtensionsSuccess(success)) => {
                self.handle_agreement(success.supported_extensions, now_us, out);
            }
            (Phase::Extending, Message::RequestExtensionsError(error)) => {
                if error.required_extensions.is_empty() {
                    self.handle_agreement(Vec::new(), now_us, out);
                } else {
                    self.end(Ended::ExtensionsRequired(error.required_extensions), out);
                }
            }
            (_, Message::Reconnect(message)) => {
                self.end(Ended::sent_elsewhere(&message.new_host, message.new_port), out);
            }
            (Phase::Opening, message) => self.handle_opening(message, out),
            (Phase::Open(_), message) => self.handle_channel(message, now_us, out),
            // Before the channel is open nothing else means anything to this client.
            (Phase::SetUp | Phase::Extending, _) => {}
        }
    }

    /// Sends a share of a job of this connection; `None` when no channel is open any more.
    pub fn submit(&mut self, share: &Share, now_us: u64, out: &mut Outbox) -> Option<u32> {
        self.submit_attached(share, &[], false, now_us, out)
    }

    /// The same with an attachment: what follows the share's fields in the carrier's message. A share
    /// that the pool has may be sent `again` with another one.
    pub fn submit_attached(
        &mut self,
        share: &Share,
        attachment: &[u8],
        again: bool,
        now_us: u64,
        out: &mut Outbox,
    ) -> Option<u32> {
        let Phase::Open(channel) = &mut self.phase else { return None };
        let job = &share.assignment;
        if job.channel_id != channel.id {
            return None;
        }
        let exponent = job.target.exponent_at_most().filter(|z| z.target() == job.target);
        let sequence_number = channel.submissions.send(now_us, exponent, again);
        let (channel_id, job_id) = (channel.id, job.job_id);
        let (nonce, ntime, version) = (share.nonce, share.ntime, share.version);
        let start = out.frames.len();
        out.send(&match channel.kind {
            ChannelKind::Standard => Message::SubmitSharesStandard(SubmitSharesStandard {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            }),
            ChannelKind::Extended => Message::SubmitSharesExtended(SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce: &share.extranonce[..job.rollable],
                tail: &[],
            }),
        });
        if let Some(carrier) = &self.settings.carrier {
            carrier.rename(&mut out.frames, start, carrier.share.request, true, attachment);
        }
        Some(sequence_number)
    }

    /// Closes the channel from this side, in order.
    pub fn close(&mut self, out: &mut Outbox) {
        if let Phase::Open(channel) = &self.phase {
            out.send(&Message::CloseChannel(CloseChannel {
                channel_id: channel.id,
                reason_code: b"miner-stopped".to_vec(),
            }));
        }
        self.end(Ended::Stopped, out);
    }

    fn end(&mut self, ended: Ended, out: &mut Outbox) {
        self.phase = Phase::Over;
        self.deadline_us = None;
        out.events.push(Event::Ended(ended));
    }

    fn request_extensions(&mut self, wanted: Vec<u16>, now_us: u64, out: &mut Outbox) {
        out.send(&Message::RequestExtensions(RequestExtensions {
            request_id: 1,
            requested_extensions: wanted,
        }));
        self.phase = Phase::Extending;
        self.deadline_us = Some(now_us + EXTENSIONS_US_MAX);
    }

    /// Goes on when the pool speaks what cannot be done without.
    fn handle_agreement(&mut self, agreed: Vec<u16>, now_us: u64, out: &mut Outbox) {
        if let Some(carrier) = &self.settings.carrier
            && !agreed.contains(&carrier.extension_type)
        {
            return self.end(Ended::ExtensionMissing(carrier.extension_type), out);
        }
        out.events.push(Event::Extensions(agreed));
        self.open(now_us, out);
    }

    fn open(&mut self, now_us: u64, out: &mut Outbox) {
        let user_identity = self.settings.user_identity.clone().into_bytes();
        let nominal_hash_rate = self.settings.nominal_hash_rate;
        let max_target = self.settings.max_target.to_le_bytes();
        let start = out.frames.len();
        out.send(&match self.settings.kind {
            ChannelKind::Standard => {
                Message::OpenStandardMiningChannel(OpenStandardMiningChannel {
                    request_id: REQUEST_ID,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                })
            }
            ChannelKind::Extended => {
                Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
                    request_id: REQUEST_ID,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size: self.settings.min_extranonce_size,
                })
            }
        });
        if let Some(carrier) = &self.settings.carrier {
            let tail = &carrier.open_tail;
            carrier.rename(&mut out.frames, start, carrier.open.request, false, tail);
        }
        self.phase = Phase::Opening;
        self.deadline_us = Some(now_us + ANSWER_US_MAX);
    }

    fn handle_opening(&mut self, message: Message<'_>, out: &mut Outbox) {
        let channel = match message {
            Message::OpenStandardMiningChannelSuccess(success) => Channel::new(
                success.channel_id,
                ChannelKind::Standard,
                success.group_channel_id,
                Target::from_le_bytes(success.target),
                0,
                success.extranonce_prefix,
            ),
            Message::OpenExtendedMiningChannelSuccess(success) => extended(success),
            Message::OpenMiningChannelError(error) => {
                return self.end(Ended::refused("the channel", &error.error_code), out);
            }
            // Messages to other channels cannot be meant for a client that has none.
            _ => return,
        };
        self.handle_opened(channel, Vec::new(), out);
    }

    fn handle_opened(&mut self, channel: Channel, tail: Vec<u8>, out: &mut Outbox) {
        if channel.kind != self.settings.kind {
            return self.end(Ended::broken("a channel of another kind than asked for"), out);
        }
        if channel.rollable + channel.extranonce_prefix.len() > EXTRANONCE_LEN_MAX {
            return self.end(Ended::broken("an extranonce of more than 32 bytes"), out);
        }
        self.deadline_us = None;
        out.events.push(Event::Opened {
            channel_id: channel.id,
            group_id: channel.group_id,
            rollable: channel.rollable,
            tail,
        });
        out.events.push(Event::TargetChanged(channel.target));
        self.phase = Phase::Open(Box::new(channel));
    }

    /// Takes in a message of the extension that carries the shares.
    fn handle_carrier(
        &mut self,
        header: FrameHeader,
        said: Result<Said, DecodeError>,
        payload: &[u8],
        now_us: u64,
        out: &mut Outbox,
    ) {
        let said = match said {
            Ok(said) => said,
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
        };
        match (&mut self.phase, said) {
            (Phase::SetUp | Phase::Extending | Phase::Over, _) => return,
            (Phase::Opening, Said::Opened { success, tail }) => {
                return self.handle_opened(extended(success), tail, out);
            }
            (Phase::Opening, Said::OpenRefused(error)) => {
                return self.end(Ended::refused("the channel", &error.error_code), out);
            }
            (Phase::Open(channel), Said::Accepted(success)) if success.channel_id == channel.id => {
                if success.new_submits_accepted_count > 0 {
                    accept(channel, &success, now_us, out);
                } else if let Some((waited_us, hashes)) =
                    channel.submissions.settle(success.last_sequence_number, now_us)
                {
                    let waited_us = vec![waited_us];
                    out.events.push(Event::Accepted { count: 1, hashes, waited_us });
                }
            }
            (Phase::Open(channel), Said::Refused(error)) if error.channel_id == channel.id => {
                return reject(channel, &error, out);
            }
            (Phase::Opening | Phase::Open(_), Said::Other) => {}
            // Answers to what this client has not asked.
            (Phase::Opening | Phase::Open(_), _) => return,
        }
        let FrameHeader { msg_type, channel_msg, .. } = header;
        out.events.push(Event::Frame { msg_type, channel_msg, payload: payload.to_vec() });
    }

    fn handle_channel(&mut self, message: Message<'_>, now_us: u64, out: &mut Outbox) {
        let fixed_version = self.fixed_version;
        let Phase::Open(channel) = &mut self.phase else { return };
        let before = channel.active().cloned();
        let mut new_tip = false;
        match message {
            Message::NewMiningJob(job) if channel.is_addressed(job.channel_id) => {
                channel.handle_job(&job, fixed_version);
            }
            Message::NewExtendedMiningJob(mut job) if channel.is_addressed(job.channel_id) => {
                let coinbase = Coinbase::take(&mut job).into();
                channel.handle_extended_job(&job, coinbase, fixed_version);
            }
            Message::SetNewPrevHash(tip) if channel.is_addressed(tip.channel_id) => {
                new_tip = true;
                if let Err(unknown) = channel.handle_tip(&tip) {
                    return self.end(Ended::UnknownFutureJob(unknown.0), out);
                }
            }
            Message::SetTarget(message) if channel.is_addressed(message.channel_id) => {
                channel.target = Target::from_le_bytes(message.maximum_target);
                out.events.push(Event::TargetChanged(channel.target));
            }
            Message::SetExtranoncePrefix(message) if message.channel_id == channel.id => {
                if message.extranonce_prefix.len() + channel.rollable > EXTRANONCE_LEN_MAX {
                    return self.end(Ended::broken("an extranonce of more than 32 bytes"), out);
                }
                channel.extranonce_prefix = message.extranonce_prefix;
            }
            Message::SetGroupChannel(message) if message.channel_ids.contains(&channel.id) => {
                channel.group_id = message.group_channel_id;
            }
            Message::SubmitSharesSuccess(success) if success.channel_id == channel.id => {
                accept(channel, &success, now_us, out);
            }
            Message::SubmitSharesError(error) if error.channel_id == channel.id => {
                reject(channel, &error, out);
            }
            Message::CloseChannel(close) if channel.is_addressed(close.channel_id) => {
                return self.end(Ended::Closed(printable(&close.reason_code)), out);
            }
            _ => {}
        }
        if let Some(assignment) = channel.active()
            && before.is_none_or(|before| !Arc::ptr_eq(&before, assignment))
        {
            out.events.push(Event::Assigned { assignment: Arc::clone(assignment), new_tip });
        }
    }
}

impl Carries<()> for Client {
    type Outbox = Outbox;

    fn unanswered(&self) -> usize {
        Self::unanswered(self)
    }

    fn tip(&self) -> Option<[u8; 32]> {
        Some(self.channel()?.active()?.prev_hash)
    }

    fn submit_attached(
        &mut self,
        share: &Share,
        (): &(),
        attachment: &[u8],
        again: bool,
        now_us: u64,
        out: &mut Outbox,
    ) -> Option<u32> {
        Self::submit_attached(self, share, attachment, again, now_us, out)
    }
}

fn extended(success: OpenExtendedMiningChannelSuccess) -> Channel {
    Channel::new(
        success.channel_id,
        ChannelKind::Extended,
        success.group_channel_id,
        Target::from_le_bytes(success.target),
        usize::from(success.extranonce_size),
        success.extranonce_prefix,
    )
}

fn reject(channel: &mut Channel, error: &SubmitSharesError, out: &mut Outbox) {
    if let Err(mismatch) = channel.submissions.reject(error.sequence_number) {
        out.events.push(Event::Mismatched(mismatch));
    }
    let code = printable(&error.error_code);
    out.events.push(Event::Rejected { sequence: error.sequence_number, code });
}

fn accept(channel: &mut Channel, success: &SubmitSharesSuccess, now_us: u64, out: &mut Outbox) {
    let count = success.new_submits_accepted_count;
    let mut waited_us = Vec::new();
    let result = channel.submissions.accept(
        success.last_sequence_number,
        count,
        success.new_shares_sum,
        now_us,
        |_, wait| waited_us.push(wait),
    );
    if let Err(mismatch) = result {
        out.events.push(Event::Mismatched(mismatch));
    }
    out.events.push(Event::Accepted { count, hashes: success.new_shares_sum, waited_us });
}

/// Makes text of a peer's code that cannot play tricks on a terminal or a log.
#[must_use]
pub fn printable(code: &[u8]) -> String {
    code.iter()
        .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' })
        .collect()
}
