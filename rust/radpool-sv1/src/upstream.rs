//! One SV2 connection to a pool, with an extended channel for each device. A machine without IO.
//!
//! Theory of operation. After the set-up a *probe* channel is opened under the translator's own
//! name: a pool works once there is a job on it, and it tells how long an extranonce the pool grants.
//!
//! ```text
//! SetUp ── Success ──> Extending ── answer or 5 s ──> Probing ── first job ──> Ready (told once)
//!   └──── no extensions wanted ─────────────────────────^  └── refused, and allowed to be ──^
//! ```
//!
//! Each channel has at most one *member*, a device, or all of them where they are aggregated: then the
//! probe channel is the only one, their parts of the extranonce keep them apart, and the pool is told
//! the sum of their hash rates, once a second at most. Where extension 0x0002 is agreed on, each share
//! names its device.
//!
//! An extension may carry the shares ([`ClientExtension`]): its messages open channels and submit,
//! and whatever else it says is told as it came.
//!
//! A channel whose member left stays open for `linger_ms`, and the next member of the same user takes it over with the job it has: firmware that
//! looks in, leaves and comes back costs no channel. One channel is always kept. A member whose channel is refused or closed is
//! told, and nobody else is.
//!
//! Of the bytes of extranonce 12 are asked for, and where the pool refuses that, 8.
//!
//! What ends the connection: a refusal of the set-up, a message that breaks the protocol, a deadline
//! before Ready, and silence: a share that waits for its answer longer than three times the longest
//! wait so far, and 30 s at least, while nothing at all was heard. Some pools answer once for ten
//! shares, so before the first answer it is 120 s.
//!
//! Bounds: `channels_max` channels and requests; frames of `PAYLOAD_LEN_MAX` bytes; what a
//! [`Channel`] keeps. Times are milliseconds of a clock that never goes back.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use radpool_miner::{
    Carries, ClientExtension, Ended, Said,
    assignment::{Assignment, ChannelKind, Coinbase, EXTRANONCE_LEN_MAX, Share},
    channel::Channel,
    client::printable,
};
use radpool_units::{Target, sha256d};
use radpool_wire::{
    DecodeError,
    frame::FrameHeader,
    message::{
        CloseChannel, Message, NewExtendedMiningJob, OpenExtendedMiningChannel,
        OpenExtendedMiningChannelSuccess, Protocol, RequestExtensions, SetupConnection,
        SubmitSharesError, SubmitSharesExtended, SubmitSharesSuccess, UpdateChannel,
    },
    tlv::{Tlv, WORKER_IDENTITY_EXTENSION, WORKER_IDENTITY_FIELD, WORKER_IDENTITY_LEN_MAX},
};

use crate::{EXTRANONCE2_LEN, job::EXTRANONCE1_LEN, request::write_hex};

/// How long the pool may take for each answer before it is ready, and for each channel.
const ANSWER_MS_MAX: u64 = 30_000;
/// A pool that does not know the negotiation of extensions ignores it: then it goes on without.
const EXTENSIONS_MS_MAX: u64 = 5_000;
/// The least time for which a share may wait in silence.
const SILENCE_MS_MIN: u64 = 30_000;
/// The same before the pool has ever answered a share.
const SILENCE_MS_FIRST: u64 = 120_000;
/// How many times the longest wait so far a share may wait in silence.
const SILENCE_WAITS: u64 = 3;
/// How often channels are looked through for what is late: there may be thousands.
const LOOK_MS: u64 = 1_000;
/// The pool is told of another sum of hash rates at most this often,
const RATE_PAUSE_MS: u64 = 1_000;
/// and when it has changed by a tenth.
const RATE_STEP: f32 = 10.0;
/// SetupConnection.Success flag: the version field must not be rolled. Source: SV2, 5.3.1.
const REQUIRES_FIXED_VERSION: u32 = 1;
const PROTOCOL_VERSION: u16 = 2;
/// Bytes of a long name's hash that stand at its end.
const NAME_HASH_LEN: usize = 4;
/// Bytes of extranonce to ask for: both parts of a device's, whole.
const SIZE_WANTED: u16 = (EXTRANONCE1_LEN + EXTRANONCE2_LEN) as u16;
/// And where that is refused: what every pool of SV1 leaves its devices.
const SIZE_LEAST: u16 = 8;

/// What a connection says about itself and asks for.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub host: String,
    pub port: u16,
    pub vendor: String,
    pub version: String,
    /// Extensions to ask for; with none the negotiation is left out.
    pub extensions: Vec<u16>,
    /// The name of the probe channel.
    pub user: String,
    /// Whether a pool that refuses the probe channel is of no use.
    pub probe_required: bool,
    /// Hashes a second to declare for the probe channel.
    pub nominal_hash_rate: f32,
    /// How long a channel without a device stays open.
    pub linger_ms: u64,
    pub channels_max: usize,
    /// Whether all devices share one channel.
    pub aggregated: bool,
    /// The extension that opens channels and carries their shares.
    pub carrier: Option<ClientExtension>,
}

impl UpstreamSettings {
    /// All extensions to ask for.
    fn wanted(&self) -> Vec<u16> {
        let mut wanted = self.extensions.clone();
        let carrier = self.carrier.as_ref().map(|carrier| carrier.extension_type);
        wanted.extend(carrier.filter(|carrier| !self.extensions.contains(carrier)));
        wanted
    }
}

/// What there is to tell; `member` is the device it is for.
#[derive(Clone, Debug)]
pub enum Told {
    /// The pool works; `size` bytes of extranonce are left to us, if that is known.
    Ready { size: Option<u16> },
    /// This is to be mined from now on.
    Work { member: u64, assignment: Arc<Assignment>, new_tip: bool, since_ms: u64 },
    /// The pool opens no channel for it.
    Refused { member: u64, code: String },
    /// Its channel is gone.
    Closed { member: u64, reason: String },
    /// Its shares were acknowledged.
    Accepted { member: u64, count: u32, hashes: u64 },
    /// A share of it was refused.
    Rejected { member: u64, sequence: u32, code: String },
    /// The extension that carries the shares has opened a channel, and said this with it.
    Carried { channel: u32, tail: Vec<u8> },
    /// A message of that extension, answers to accepted shares included.
    Frame { msg_type: u8, channel_msg: bool, payload: Vec<u8> },
    /// Nothing more comes; the connection is to be closed.
    Ended(Ended),
}

/// Plain frames back to back, and what there is to tell.
#[derive(Debug, Default)]
pub struct UpstreamOutbox {
    pub frames: Vec<u8>,
    pub told: Vec<Told>,
}

impl UpstreamOutbox {
    fn send(&mut self, message: &Message<'_>) {
        let start = self.frames.len();
        if let Err(error) = message.encode(&mut self.frames) {
            self.frames.truncate(start);
            self.told.push(Told::Ended(Ended::Unsendable(error.to_string())));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SetUp,
    Extending,
    Probing,
    Ready,
    Over,
}

#[derive(Debug)]
struct Opening {
    /// `None` once it has left, and for the probe.
    member: Option<u64>,
    user: String,
    rate: f32,
    size: u16,
    due_ms: u64,
}

#[derive(Debug)]
struct Open {
    channel: Channel,
    members: Vec<u64>,
    user: String,
    /// Whose the shares are that wait for an answer, by number, in their order.
    senders: VecDeque<(u32, u64)>,
    /// When the present job came.
    since_ms: u64,
    /// When it is closed unless a member takes it.
    idle_until_ms: u64,
}

impl Open {
    /// Takes a message in, and tells of the job if there is another one now; says whether there is.
    fn take(
        &mut self,
        new_tip: bool,
        now_ms: u64,
        out: &mut UpstreamOutbox,
        take: &mut impl FnMut(&mut Channel) -> Result<(), Ended>,
    ) -> Result<bool, Ended> {
        let before = self.channel.active().cloned();
        take(&mut self.channel)?;
        let Some(assignment) = self.channel.active() else { return Ok(false) };
        if before.is_some_and(|before| Arc::ptr_eq(&before, assignment)) {
            return Ok(false);
        }
        self.since_ms = now_ms;
        for member in self.members.iter().copied() {
            let assignment = Arc::clone(assignment);
            out.told.push(Told::Work { member, assignment, new_tip, since_ms: now_ms });
        }
        Ok(true)
    }

    /// Whose a share was that is answered by its number.
    fn take_sender(&mut self, sequence: u32) -> Option<u64> {
        let index = self.senders.iter().position(|(number, _)| *number == sequence);
        // A count that has passed it has taken another one in its place.
        let index = index.unwrap_or(0);
        self.senders.remove(index).map(|(_, member)| member)
    }
}

/// The machine; see the module's head.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    phase: Phase,
    fixed_version: bool,
    /// When the phase ends badly.
    phase_due_ms: u64,
    size_asked: u16,
    next_request: u32,
    probe: Option<u32>,
    opening: BTreeMap<u32, Opening>,
    channels: BTreeMap<u32, Open>,
    /// That of the last job.
    coinbase: Option<Arc<Coinbase>>,
    members: HashMap<u64, u32>,
    heard_ms: u64,
    longest_wait_ms: Option<u64>,
    /// Shares of all channels that wait for an answer.
    unanswered: usize,
    /// When all channels are looked through again.
    look_ms: u64,
    /// How the devices of the one channel are named on their shares; `None` when the pool does not
    /// want to know.
    names: Option<HashMap<u64, Vec<u8>>>,
    /// How fast they are.
    rates: HashMap<u64, f32>,
    rate_told: f32,
    /// When the pool is told of another sum.
    rate_due_ms: Option<u64>,
}

impl Upstream {
    /// Starts the conversation: SetupConnection is the first frame in `out`.
    #[must_use]
    pub fn new(settings: UpstreamSettings, now_ms: u64, out: &mut UpstreamOutbox) -> Self {
        out.send(&Message::SetupConnection(SetupConnection {
            protocol: Protocol::Mining,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: 0,
            endpoint_host: settings.host.clone().into_bytes(),
            endpoint_port: settings.port,
            vendor: settings.vendor.clone().into_bytes(),
            hardware_version: Vec::new(),
            firmware: settings.version.clone().into_bytes(),
            device_id: Vec::new(),
        }));
        Self {
            settings,
            phase: Phase::SetUp,
            fixed_version: false,
            phase_due_ms: now_ms + ANSWER_MS_MAX,
            size_asked: SIZE_WANTED,
            next_request: 1,
            probe: None,
            opening: BTreeMap::new(),
            channels: BTreeMap::new(),
            coinbase: None,
            members: HashMap::new(),
            heard_ms: now_ms,
            longest_wait_ms: None,
            unanswered: 0,
            look_ms: now_ms + LOOK_MS,
            names: None,
            rates: HashMap::new(),
            rate_told: 0.0,
            rate_due_ms: None,
        }
    }

    /// How many channels are open.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How many shares wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    // What devices want

    /// Gives a device a channel: one that lingers under its name, or a new one. A device that has
    /// one, or has asked, gets no other.
    pub fn open(
        &mut self,
        member: u64,
        user: &str,
        rate: f32,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let has_asked = self.opening.values().any(|opening| opening.member == Some(member));
        if self.phase == Phase::Over || has_asked || self.members.contains_key(&member) {
            return;
        }
        let aggregated = self.settings.aggregated;
        let is_free = |open: &Open| aggregated || open.members.is_empty() && open.user == user;
        let free = self.channels.iter_mut().find(|(_, open)| is_free(open));
        if let Some((id, open)) = free {
            open.members.push(member);
            self.members.insert(member, *id);
            if let Some(assignment) = open.channel.active() {
                out.told.push(Told::Work {
                    member,
                    assignment: Arc::clone(assignment),
                    new_tip: true,
                    since_ms: open.since_ms,
                });
            }
            if let Some(names) = &mut self.names {
                names.insert(member, name_tlv(user));
            }
            return self.note_rate(member, Some(rate), now_ms);
        }
        if aggregated {
            let code = "no-channel".into();
            return out.told.push(Told::Refused { member, code });
        }
        if self.channels.len() + self.opening.len() >= self.settings.channels_max {
            let code = "channel-capacity-exhausted".into();
            return out.told.push(Told::Refused { member, code });
        }
        self.request(Some(member), user, rate, now_ms, out);
    }

    /// Lets a device go: its channel lingers for the next of its name.
    pub fn release(&mut self, member: u64, now_ms: u64) {
        for opening in self.opening.values_mut().filter(|opening| opening.member == Some(member)) {
            opening.member = None;
        }
        if let Some(id) = self.members.remove(&member)
            && let Some(open) = self.channels.get_mut(&id)
        {
            open.members.retain(|other| *other != member);
            open.idle_until_ms = now_ms + self.settings.linger_ms;
        }
        if let Some(names) = &mut self.names {
            names.remove(&member);
        }
        self.note_rate(member, None, now_ms);
    }

    /// Tells the pool how fast a device is.
    pub fn update(&mut self, member: u64, rate: f32, now_ms: u64, out: &mut UpstreamOutbox) {
        if self.settings.aggregated {
            return self.note_rate(member, Some(rate), now_ms);
        }
        if let Some(&channel_id) = self.members.get(&member) {
            let maximum_target = Target::MAX.to_le_bytes();
            let update = UpdateChannel { channel_id, nominal_hash_rate: rate, maximum_target };
            out.send(&Message::UpdateChannel(update));
        }
    }

    /// Takes in how fast a device of the one channel is, or that it has left.
    fn note_rate(&mut self, member: u64, rate: Option<f32>, now_ms: u64) {
        if !self.settings.aggregated {
            return;
        }
        match rate {
            Some(rate) => self.rates.insert(member, rate),
            None => self.rates.remove(&member),
        };
        self.rate_due_ms.get_or_insert(now_ms + RATE_PAUSE_MS);
    }

    fn tell_rate(&mut self, out: &mut UpstreamOutbox) {
        self.rate_due_ms = None;
        let rate: f32 = self.rates.values().sum();
        let step = (rate - self.rate_told).abs() * RATE_STEP;
        if step <= self.rate_told {
            return;
        }
        self.rate_told = rate;
        let maximum_target = Target::MAX.to_le_bytes();
        for channel_id in self.channels.keys().copied() {
            let update = UpdateChannel { channel_id, nominal_hash_rate: rate, maximum_target };
            out.send(&Message::UpdateChannel(update));
        }
    }

    /// Sends a share of a device; false when its channel is gone.
    pub fn submit(
        &mut self,
        share: &Share,
        member: u64,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) -> bool {
        self.send_share(share, member, &[], now_ms * 1000, out).is_some()
    }

    fn send_share(
        &mut self,
        share: &Share,
        member: u64,
        attachment: &[u8],
        now_us: u64,
        out: &mut UpstreamOutbox,
    ) -> Option<u32> {
        let job = &share.assignment;
        let open = self.channels.get_mut(&job.channel_id)?;
        let exponent = job.target.exponent_at_most().filter(|z| z.target() == job.target);
        let sequence_number = open.channel.submissions.send(now_us, exponent);
        open.senders.push_back((sequence_number, member));
        self.unanswered += 1;
        let start = out.frames.len();
        let name = self.names.as_ref().and_then(|names| names.get(&member));
        out.send(&Message::SubmitSharesExtended(SubmitSharesExtended {
            channel_id: job.channel_id,
            sequence_number,
            job_id: job.job_id,
            nonce: share.nonce,
            ntime: share.ntime,
            version: share.version,
            extranonce: &share.extranonce[..job.rollable],
            tail: name.map_or(&[], Vec::as_slice),
        }));
        if let Some(carrier) = &self.settings.carrier {
            carrier.rename(&mut out.frames, start, carrier.share.request, true, attachment);
        }
        Some(sequence_number)
    }

    /// Leaves in order.
    pub fn leave(&mut self, out: &mut UpstreamOutbox) {
        for id in self.channels.keys() {
            let reason_code = b"translator-stopped".to_vec();
            out.send(&Message::CloseChannel(CloseChannel { channel_id: *id, reason_code }));
        }
        self.end(Ended::Stopped, out);
    }

    // Time

    /// When [`Upstream::handle_deadline`] is to be called next; `u64::MAX` for never.
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        if self.phase == Phase::Over {
            return u64::MAX;
        }
        let phase = if self.phase == Phase::Ready { u64::MAX } else { self.phase_due_ms };
        self.rate_due_ms.into_iter().fold(phase.min(self.look_ms), u64::min)
    }

    /// Acts when time is up.
    pub fn handle_deadline(&mut self, now_ms: u64, out: &mut UpstreamOutbox) {
        if self.phase == Phase::Over {
            return;
        }
        self.look_ms = now_ms + LOOK_MS;
        if self.phase != Phase::Ready && now_ms >= self.phase_due_ms {
            return match self.phase {
                Phase::Extending => self.handle_agreement(&[], now_ms, out),
                Phase::SetUp => self.end(Ended::Silent { awaited: "SetupConnection" }, out),
                _ => self.end(Ended::Silent { awaited: "a channel with a job" }, out),
            };
        }
        if self.silent_at().is_some_and(|at_ms| now_ms >= at_ms) {
            let silent = "the pool fell silent: shares wait for an answer and nothing is heard";
            return self.end(Ended::Disconnected(silent.into()), out);
        }
        let late: Vec<u32> = self
            .opening
            .iter()
            .filter(|(_, opening)| now_ms >= opening.due_ms)
            .map(|(id, _)| *id)
            .collect();
        for request in late {
            if let Some(Opening { member: Some(member), .. }) = self.opening.remove(&request) {
                let code = "no answer within 30 s".into();
                out.told.push(Told::Refused { member, code });
            }
        }
        if self.rate_due_ms.is_some_and(|due_ms| now_ms >= due_ms) {
            self.tell_rate(out);
        }
        let is_old = |open: &Open| self.is_idle(open) && now_ms >= open.idle_until_ms;
        let old = self.channels.iter().filter(|(_, open)| is_old(open));
        let mut old: Vec<u32> = old.map(|(id, _)| *id).collect();
        if old.len() == self.channels.len() && self.opening.is_empty() {
            // Pools close a connection that has had no channel for some minutes.
            old.pop();
        }
        for channel_id in old {
            if let Some(open) = self.channels.remove(&channel_id) {
                self.unanswered -= open.channel.submissions.len();
            }
            let reason_code = b"device-left".to_vec();
            out.send(&Message::CloseChannel(CloseChannel { channel_id, reason_code }));
        }
    }

    fn is_idle(&self, open: &Open) -> bool {
        open.members.is_empty() && !self.settings.aggregated
    }

    /// When the pool counts as silent, if a share waits.
    fn silent_at(&self) -> Option<u64> {
        let waits = self.channels.values().filter_map(|open| open.channel.submissions.oldest_us());
        let oldest_ms = waits.min()? / 1000;
        let patience = self
            .longest_wait_ms
            .map_or(SILENCE_MS_FIRST, |wait| (wait * SILENCE_WAITS).max(SILENCE_MS_MIN));
        Some(oldest_ms.max(self.heard_ms) + patience)
    }

    // What the pool says

    /// Takes in one frame.
    pub fn handle_frame(
        &mut self,
        header: FrameHeader,
        payload: &mut [u8],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        if self.phase == Phase::Over {
            return;
        }
        self.heard_ms = now_ms;
        if let Some(carrier) = &self.settings.carrier
            && header.extension_type == carrier.extension_type
        {
            let said = carrier.read(header.msg_type, payload);
            return self.handle_carrier(header, said, payload, now_ms, out);
        }
        // What is not understood and not core is somebody's extension: ignored, as SV2 3.2 wants.
        let message = match Message::decode(header, payload) {
            Ok(message) => message,
            Err(DecodeError::UnknownMessage { .. }) => return,
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
        };
        match (self.phase, message) {
            (Phase::SetUp, Message::SetupConnectionSuccess(success)) => {
                self.fixed_version = success.flags & REQUIRES_FIXED_VERSION != 0;
                let requested_extensions = self.settings.wanted();
                if requested_extensions.is_empty() {
                    self.probe(now_ms, out);
                } else {
                    let request = RequestExtensions { request_id: 1, requested_extensions };
                    out.send(&Message::RequestExtensions(request));
                    self.phase = Phase::Extending;
                    self.phase_due_ms = now_ms + EXTENSIONS_MS_MAX;
                }
            }
            (Phase::SetUp, Message::SetupConnectionError(error)) => {
                self.end(Ended::refused("the connection", &error.error_code), out);
            }
            (Phase::Extending, Message::RequestExtensionsSuccess(success)) => {
                self.handle_agreement(&success.supported_extensions, now_ms, out);
            }
            (Phase::Extending, Message::RequestExtensionsError(error)) => {
                match error.required_extensions.is_empty() {
                    true => self.handle_agreement(&[], now_ms, out),
                    false => self.end(Ended::ExtensionsRequired(error.required_extensions), out),
                }
            }
            (_, Message::Reconnect(message)) => {
                self.end(Ended::sent_elsewhere(&message.new_host, message.new_port), out);
            }
            (Phase::Probing | Phase::Ready, message) => self.handle_mining(message, now_ms, out),
            // Before there are channels nothing else means anything.
            _ => {}
        }
    }

    /// Goes on when the pool speaks what cannot be done without.
    fn handle_agreement(&mut self, agreed: &[u16], now_ms: u64, out: &mut UpstreamOutbox) {
        let names = self.settings.aggregated && self.settings.carrier.is_none();
        if names && agreed.contains(&WORKER_IDENTITY_EXTENSION) {
            self.names = Some(HashMap::new());
        }
        match &self.settings.carrier {
            Some(carrier) if !agreed.contains(&carrier.extension_type) => {
                self.end(Ended::ExtensionMissing(carrier.extension_type), out);
            }
            _ => self.probe(now_ms, out),
        }
    }

    /// Takes in a message of the extension that carries the shares.
    fn handle_carrier(
        &mut self,
        header: FrameHeader,
        said: Result<Said, DecodeError>,
        payload: &[u8],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        if !matches!(self.phase, Phase::Probing | Phase::Ready) {
            return;
        }
        match said {
            Err(error) => return self.end(Ended::Malformed(error.to_string()), out),
            Ok(Said::Opened { success, tail }) => {
                out.told.push(Told::Carried { channel: success.channel_id, tail });
                return self.handle_opened(success, now_ms, out);
            }
            Ok(Said::OpenRefused(error)) => {
                return self.handle_refused(error.request_id, &error.error_code, now_ms, out);
            }
            Ok(Said::Refused(error)) => return self.handle_rejected(&error, out),
            Ok(Said::Accepted(success)) if success.new_submits_accepted_count == 0 => {
                self.handle_settled(&success, now_ms, out);
            }
            Ok(Said::Accepted(success)) => self.handle_accepted(&success, now_ms, out),
            Ok(Said::Other) => {}
        }
        let FrameHeader { msg_type, channel_msg, .. } = header;
        out.told.push(Told::Frame { msg_type, channel_msg, payload: payload.to_vec() });
    }

    fn handle_mining(&mut self, message: Message<'_>, now_ms: u64, out: &mut UpstreamOutbox) {
        let fixed_version = self.fixed_version;
        match message {
            Message::OpenExtendedMiningChannelSuccess(success) => {
                self.handle_opened(success, now_ms, out);
            }
            Message::OpenMiningChannelError(error) => {
                self.handle_refused(error.request_id, &error.error_code, now_ms, out);
            }
            Message::NewExtendedMiningJob(mut job) => {
                let coinbase = self.share_coinbase(&mut job);
                self.each(job.channel_id, false, now_ms, out, |channel| {
                    channel.handle_extended_job(&job, Arc::clone(&coinbase), fixed_version);
                    Ok(())
                });
            }
            Message::SetNewPrevHash(tip) => {
                self.each(tip.channel_id, true, now_ms, out, |channel| {
                    channel.handle_tip(&tip).map_err(|unknown| Ended::UnknownFutureJob(unknown.0))
                });
            }
            Message::SetTarget(message) => {
                self.each(message.channel_id, false, now_ms, out, |channel| {
                    channel.target = Target::from_le_bytes(message.maximum_target);
                    Ok(())
                });
            }
            Message::SetExtranoncePrefix(message) => {
                self.each(message.channel_id, false, now_ms, out, |channel| {
                    if message.extranonce_prefix.len() + channel.rollable > EXTRANONCE_LEN_MAX {
                        return Err(Ended::broken("an extranonce of more than 32 bytes"));
                    }
                    channel.extranonce_prefix.clone_from(&message.extranonce_prefix);
                    Ok(())
                });
            }
            Message::SetGroupChannel(message) => {
                for id in &message.channel_ids {
                    if let Some(open) = self.channels.get_mut(id) {
                        open.channel.group_id = message.group_channel_id;
                    }
                }
            }
            Message::SubmitSharesSuccess(success) => self.handle_accepted(&success, now_ms, out),
            Message::SubmitSharesError(error) => self.handle_rejected(&error, out),
            Message::CloseChannel(close) => self.handle_closed(&close, out),
            _ => {}
        }
    }

    /// The coinbase of a job: that of the last one where it is the same, for a pool sends it to
    /// thousands of channels one by one.
    fn share_coinbase(&mut self, job: &mut NewExtendedMiningJob) -> Arc<Coinbase> {
        match &self.coinbase {
            Some(last) if last.is_of(job) => Arc::clone(last),
            _ => Arc::clone(self.coinbase.insert(Coinbase::take(job).into())),
        }
    }

    /// Lets each channel that a message is for take it in, and tells of the jobs that follow.
    fn each(
        &mut self,
        channel_id: u32,
        new_tip: bool,
        now_ms: u64,
        out: &mut UpstreamOutbox,
        mut take: impl FnMut(&mut Channel) -> Result<(), Ended>,
    ) {
        // Most messages are for one of thousands of channels; the number of a group is none of theirs.
        let taken = match self.channels.get_mut(&channel_id) {
            Some(open) => open.take(new_tip, now_ms, out, &mut take),
            None => {
                let channels = self.channels.values_mut();
                let mut members = channels.filter(|open| open.channel.is_addressed(channel_id));
                members.try_fold(false, |any, open| {
                    Ok(open.take(new_tip, now_ms, out, &mut take)? || any)
                })
            }
        };
        match taken {
            Err(ended) => self.end(ended, out),
            Ok(true) if self.phase == Phase::Probing => self.become_ready(out),
            Ok(_) => {}
        }
    }

    fn handle_opened(
        &mut self,
        success: OpenExtendedMiningChannelSuccess,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let Some(opening) = self.opening.remove(&success.request_id) else {
            return self.handle_unwanted(&success, out);
        };
        let size = usize::from(success.extranonce_size);
        if size + success.extranonce_prefix.len() > EXTRANONCE_LEN_MAX {
            return self.end(Ended::broken("an extranonce of more than 32 bytes"), out);
        }
        if success.extranonce_size < opening.size {
            return self.end(Ended::broken("fewer bytes of extranonce than were asked for"), out);
        }
        if self.channels.contains_key(&success.channel_id) {
            return self.end(Ended::broken("a channel number twice"), out);
        }
        self.size_asked = opening.size;
        let channel = Channel::new(
            success.channel_id,
            ChannelKind::Extended,
            success.group_channel_id,
            Target::from_le_bytes(success.target),
            size,
            success.extranonce_prefix,
        );
        if let Some(member) = opening.member {
            self.members.insert(member, success.channel_id);
        }
        let idle_until_ms = now_ms + self.settings.linger_ms;
        let Opening { member, user, .. } = opening;
        let open = Open {
            channel,
            members: member.into_iter().collect(),
            user,
            senders: VecDeque::new(),
            since_ms: now_ms,
            idle_until_ms,
        };
        self.channels.insert(success.channel_id, open);
    }

    /// Gives back a channel that came too late for whoever had asked.
    fn handle_unwanted(
        &mut self,
        success: &OpenExtendedMiningChannelSuccess,
        out: &mut UpstreamOutbox,
    ) {
        let was_asked = (1..self.next_request).contains(&success.request_id);
        if !was_asked || self.channels.contains_key(&success.channel_id) {
            return self.end(Ended::broken("a channel that nobody has asked for"), out);
        }
        let (channel_id, reason_code) = (success.channel_id, b"too-late".to_vec());
        out.send(&Message::CloseChannel(CloseChannel { channel_id, reason_code }));
    }

    fn handle_refused(&mut self, request: u32, code: &[u8], now_ms: u64, out: &mut UpstreamOutbox) {
        let Some(opening) = self.opening.remove(&request) else { return };
        let is_probe = self.probe == Some(request);
        if opening.size > SIZE_LEAST {
            // Which code a pool has for this is its own matter: asking for less is tried once.
            self.size_asked = SIZE_LEAST;
            let again = self.next_request;
            self.request(opening.member, &opening.user, opening.rate, now_ms, out);
            if is_probe {
                self.probe = Some(again);
            } else if self.phase == Phase::Ready {
                // For the others nothing is known yet: only a success settles it.
                self.size_asked = SIZE_WANTED;
            }
            return;
        }
        if let Some(member) = opening.member {
            out.told.push(Told::Refused { member, code: printable(code) });
        } else if is_probe && self.settings.probe_required {
            self.end(Ended::refused("the channel", code), out);
        } else if is_probe {
            self.size_asked = SIZE_WANTED;
            self.become_ready(out);
        }
    }

    fn handle_accepted(
        &mut self,
        success: &SubmitSharesSuccess,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let Some(open) = self.channels.get_mut(&success.channel_id) else { return };
        let (count, hashes) = (success.new_submits_accepted_count, success.new_shares_sum);
        let mut longest_us = 0;
        let before = open.channel.submissions.len();
        // A sum of the pool's own is shown as it is: it is the pool's word on what it owes.
        let _ = open.channel.submissions.accept(
            success.last_sequence_number,
            count,
            hashes,
            now_ms * 1000,
            |wait_us| longest_us = longest_us.max(wait_us),
        );
        self.unanswered -= before - open.channel.submissions.len();
        self.longest_wait_ms = self.longest_wait_ms.max(Some(longest_us / 1000));
        let mut counts = BTreeMap::<u64, u32>::new();
        for _ in 0..count {
            let Some((_, member)) = open.senders.pop_front() else { break };
            *counts.entry(member).or_default() += 1;
        }
        for (member, part) in counts {
            // Shares that are answered together were nearly always asked for at one target.
            let hashes = u128::from(hashes) * u128::from(part) / u128::from(count);
            let hashes = u64::try_from(hashes).unwrap_or(u64::MAX);
            out.told.push(Told::Accepted { member, count: part, hashes });
        }
    }

    /// Takes in the answer to one share that the pool had before.
    fn handle_settled(
        &mut self,
        success: &SubmitSharesSuccess,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let Some(open) = self.channels.get_mut(&success.channel_id) else { return };
        let sequence = success.last_sequence_number;
        let settled = open.channel.submissions.settle(sequence, now_ms * 1000);
        self.unanswered -= usize::from(settled.is_some());
        if let (Some((_, hashes)), Some(member)) = (settled, open.take_sender(sequence)) {
            out.told.push(Told::Accepted { member, count: 1, hashes });
        }
    }

    fn handle_rejected(&mut self, error: &SubmitSharesError, out: &mut UpstreamOutbox) {
        let Some(open) = self.channels.get_mut(&error.channel_id) else { return };
        let sequence = error.sequence_number;
        // A refusal of what does not wait is the pool's confusion.
        if open.channel.submissions.reject(sequence).is_err() {
            return;
        }
        self.unanswered -= 1;
        if let Some(member) = open.take_sender(sequence) {
            let code = printable(&error.error_code);
            out.told.push(Told::Rejected { member, sequence, code });
        }
    }

    fn handle_closed(&mut self, close: &CloseChannel, out: &mut UpstreamOutbox) {
        let addressed =
            self.channels.iter().filter(|(_, open)| open.channel.is_addressed(close.channel_id));
        let ids: Vec<u32> = addressed.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(open) = self.channels.remove(&id) else { continue };
            self.unanswered -= open.channel.submissions.len();
            for member in open.members {
                self.members.remove(&member);
                let reason = printable(&close.reason_code);
                out.told.push(Told::Closed { member, reason });
            }
        }
        let needs_it = self.settings.aggregated || self.phase == Phase::Probing;
        if needs_it && self.channels.is_empty() {
            self.end(Ended::Closed(printable(&close.reason_code)), out);
        }
    }

    fn probe(&mut self, now_ms: u64, out: &mut UpstreamOutbox) {
        self.phase = Phase::Probing;
        self.phase_due_ms = now_ms + ANSWER_MS_MAX;
        self.probe = Some(self.next_request);
        let (user, rate) = (self.settings.user.clone(), self.settings.nominal_hash_rate);
        self.request(None, &user, rate, now_ms, out);
    }

    fn request(
        &mut self,
        member: Option<u64>,
        user: &str,
        rate: f32,
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
        let request_id = self.next_request;
        self.next_request = request_id.wrapping_add(1);
        let start = out.frames.len();
        out.send(&Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
            request_id,
            user_identity: user.as_bytes().to_vec(),
            nominal_hash_rate: rate,
            max_target: Target::MAX.to_le_bytes(),
            min_extranonce_size: self.size_asked,
        }));
        if let Some(carrier) = &self.settings.carrier {
            let tail = &carrier.open_tail;
            carrier.rename(&mut out.frames, start, carrier.open.request, false, tail);
        }
        let (user, size, due_ms) = (user.to_owned(), self.size_asked, now_ms + ANSWER_MS_MAX);
        self.opening.insert(request_id, Opening { member, user, rate, size, due_ms });
    }

    fn become_ready(&mut self, out: &mut UpstreamOutbox) {
        self.phase = Phase::Ready;
        let size = self.channels.values().next().map(|open| open.channel.rollable as u16);
        out.told.push(Told::Ready { size });
    }

    fn end(&mut self, ended: Ended, out: &mut UpstreamOutbox) {
        self.phase = Phase::Over;
        out.told.push(Told::Ended(ended));
    }
}

impl Carries<u64> for Upstream {
    type Outbox = UpstreamOutbox;

    fn unanswered(&self) -> usize {
        Self::unanswered(self)
    }

    /// The block that the first channel builds on: a pool has one.
    fn tip(&self) -> Option<[u8; 32]> {
        Some(self.channels.values().next()?.channel.active()?.prev_hash)
    }

    fn submit_attached(
        &mut self,
        share: &Share,
        member: &u64,
        attachment: &[u8],
        now_us: u64,
        out: &mut UpstreamOutbox,
    ) -> Option<u32> {
        self.send_share(share, *member, attachment, now_us, out)
    }
}

/// The field that names a device on its shares: the worker's part of its user name, as far as there
/// is room. A longer one ends in a part of its hash, so that two of them stay two.
fn name_tlv(user: &str) -> Vec<u8> {
    let worker = user.split_once('.').map_or(user, |(_, worker)| worker);
    let mut name = worker.as_bytes().to_vec();
    if name.len() > WORKER_IDENTITY_LEN_MAX {
        let hash = sha256d(&name).0;
        name.truncate(WORKER_IDENTITY_LEN_MAX - 2 * NAME_HASH_LEN);
        write_hex(&hash[..NAME_HASH_LEN], &mut name);
    }
    let tlv = Tlv {
        extension_type: WORKER_IDENTITY_EXTENSION,
        field: WORKER_IDENTITY_FIELD,
        value: &name,
    };
    let mut bytes = Vec::with_capacity(name.len() + 5);
    tlv.encode(&mut bytes).expect("a name of 32 bytes has a length that fits");
    bytes
}
