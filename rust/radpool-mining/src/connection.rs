//! One client: what it may send in which state, and what becomes of it.
//!
//! States: fresh (only SetupConnection is taken) → set up (RequestExtensions may follow directly) →
//! running; or set up → refused (a required extension is missing, only a better RequestExtensions
//! is taken). A closed connection does nothing more.
//!
//! Invariants: ids of channels and groups come from one counter and job ids from another, neither
//! ever goes back; channels, groups and jobs stand in the order of their ids; every channel is in
//! one group; what is open here counts in `Counters::channels_open()` until the connection is
//! dropped. Bounds: `Limits`, each with its reaction.

use core::sync::atomic::AtomicUsize;
use std::{collections::BTreeMap, sync::Arc};

use radpool_units::Now;
use radpool_wire::{
    frame::{FrameHeader, HEADER_LEN},
    message::Message,
};

use crate::{
    CloseReason, Command, CustomJob, Event, Outbox, Shared, Work,
    bucket::{Bucket, Grant},
    channel::Channel,
    counters::count,
    group::Group,
    job::Jobs,
    open::PendingOpen,
};

/// Names a connection for as long as the engine runs: slot in the low half, generation above.
pub type ConnectionId = u64;

/// Extension of the negotiation itself.
pub(crate) const EXTENSION_NEGOTIATION: u16 = 0x0001;

const MSG_SETUP_CONNECTION: u8 = 0x00;
const MSG_REQUEST_EXTENSIONS: u8 = 0x00;
const MSG_SET_CUSTOM_MINING_JOB: u8 = 0x22;

/// Core messages of clients, after SetupConnection: open standard and extended, update, close,
/// submit standard and extended, custom job. All others are ignored.
const CLIENT_MESSAGES: [u8; 7] = [0x10, 0x13, 0x16, 0x18, 0x1a, 0x1b, 0x22];

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Fresh,
    SetUp,
    ExtensionsRefused,
    Running,
}

/// The server's side of one connection; see the module's head.
#[derive(Debug)]
pub struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) phase: Phase,
    pub(crate) closed: bool,
    pub(crate) standard_jobs: bool,
    /// Whether the client makes its own jobs.
    pub(crate) work_selection: bool,
    /// Negotiated extensions.
    pub(crate) extensions: Box<[u16]>,
    /// What the channels have been sent.
    pub(crate) work: Arc<Work>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) groups: Vec<Group>,
    pub(crate) jobs: Jobs,
    pub(crate) pending: Vec<PendingOpen>,
    /// Custom jobs that the pool has not decided about yet.
    pub(crate) custom_jobs: Vec<Arc<CustomJob>>,
    next_id: u32,
    pub(crate) next_job: u32,
    pub(crate) next_request: u32,
    /// Whether its channels, requests and shares are bounded elsewhere.
    pub(crate) is_trusted: bool,
    submits: Bucket,
    requests: Bucket,
    repeats: Bucket,
    /// When the phase ends badly; `u64::MAX` while a channel is open.
    pub(crate) phase_deadline_ms: u64,
    /// No channel has a deadline before this.
    pub(crate) channel_wake_ms: u64,
    /// Bytes handed up and not yet taken; made with the first of them.
    pub(crate) held: Option<Arc<AtomicUsize>>,
    /// Workers by name.
    pub(crate) workers: BTreeMap<Box<[u8]>, u32>,
}

impl Connection {
    /// Starts a connection whose handshake is done.
    #[must_use]
    pub fn new(id: ConnectionId, shared: Arc<Shared>, now: Now) -> Self {
        let limits = &shared.settings.limits;
        Self {
            id,
            phase: Phase::Fresh,
            closed: false,
            standard_jobs: false,
            work_selection: false,
            extensions: Box::default(),
            work: Arc::default(),
            channels: Vec::new(),
            groups: Vec::new(),
            jobs: Jobs::default(),
            pending: Vec::new(),
            custom_jobs: Vec::new(),
            next_id: 1,
            next_job: 1,
            next_request: 1,
            is_trusted: false,
            submits: Bucket::full(limits.submits_burst, now.mono_ms),
            requests: Bucket::full(limits.requests_burst, now.mono_ms),
            repeats: Bucket::full(limits.requests_burst, now.mono_ms),
            phase_deadline_ms: now.mono_ms + limits.setup_deadline_ms,
            channel_wake_ms: u64::MAX,
            held: None,
            workers: BTreeMap::new(),
            shared,
        }
    }

    /// The id given at the start.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Bounds neither channels nor rates of this client, because whoever drives it bounds them: the
    /// pool's own translator, behind which each device has bounds of its own.
    pub fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Whether neither is bounded.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// How many channels are open.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Says whether a frame with this header may come now, before its payload is kept.
    ///
    /// # Errors
    /// The reason for which to close the connection: too long for its state and type, or nothing
    /// that may come before SetupConnection.
    pub fn check_frame(&self, header: &FrameHeader) -> Result<(), CloseReason> {
        let limits = &self.shared.settings.limits;
        let core = header.extension_type == 0;
        let bytes_max = if self.phase == Phase::Fresh {
            if !core || header.msg_type != MSG_SETUP_CONNECTION {
                return Err(CloseReason::SetupMissing);
            }
            limits.setup_frame_bytes
        } else if core && header.msg_type == MSG_SET_CUSTOM_MINING_JOB && self.work_selection {
            limits.custom_job_frame_bytes
        } else if (core && CLIENT_MESSAGES.contains(&header.msg_type))
            || header.extension_type == EXTENSION_NEGOTIATION
        {
            limits.mining_frame_bytes
        } else if self.extensions.contains(&header.extension_type) {
            limits.extension_frame_bytes
        } else {
            limits.ignored_frame_bytes
        };
        if header.payload_len <= bytes_max { Ok(()) } else { Err(CloseReason::FrameTooLarge) }
    }

    /// Takes a whole frame. The payload is scratch: it may be altered.
    pub fn handle_frame(
        &mut self,
        header: FrameHeader,
        payload: &mut [u8],
        now: Now,
        out: &mut Outbox,
    ) {
        if self.closed {
            return;
        }
        if let Err(reason) = self.check_frame(&header) {
            return self.close(reason, now, out);
        }
        let known = match header.extension_type {
            0 if self.phase == Phase::Fresh => true,
            0 => CLIENT_MESSAGES.contains(&header.msg_type),
            EXTENSION_NEGOTIATION => header.msg_type == MSG_REQUEST_EXTENSIONS,
            _ => return self.on_extension_frame(header, payload, now, out),
        };
        if !known {
            return self.ignore();
        }
        match Message::decode(header, payload) {
            Ok(message) => self.on_message(message, now, out),
            Err(_) => self.close(CloseReason::MalformedMessage, now, out),
        }
    }

    /// Brings all channels to what is to be worked on now; to be called after each change of it.
    pub fn handle_work(&mut self, now: Now, out: &mut Outbox) {
        if !self.closed {
            self.follow_work(now, out);
        }
    }

    /// Carries out a decision of the pool.
    pub fn handle_command(&mut self, command: Command, now: Now, out: &mut Outbox) {
        if self.closed {
            return;
        }
        match command {
            Command::OpenChannel { request, grant } => {
                self.open_channel(request, grant, now, out);
            }
            Command::RefuseChannel { request, code } => {
                self.refuse_channel(request, wire_text(&code), out);
            }
            Command::Acknowledge { channel, last_sequence, count, sum } => {
                self.acknowledge(channel, last_sequence, count, sum, out);
            }
            Command::RejectShare { channel, sequence, code, by } => {
                // Nothing may be sent about a channel that is closed.
                if self.channel_index(channel).is_some() {
                    self.send_submit_error(channel, sequence, wire_text(&code), by, out);
                }
            }
            Command::CloseChannel { channel, reason } => {
                self.close_by_pool(channel, &reason, now, out);
            }
            Command::AcceptCustomJob { channel, request, grant } => {
                self.accept_custom_job(channel, request, &grant, now, out);
            }
            Command::RefuseCustomJob { channel, request, code } => {
                self.refuse_custom_job(channel, request, wire_text(&code), out);
            }
            Command::SetOwner { channel, owner } => self.set_owner(channel, owner, now, out),
            Command::SetExponent { channel, exponent } => {
                self.set_exponent(channel, exponent, now, out);
            }
            Command::SetExtranoncePrefix { channel } => self.set_prefix(channel, now, out),
            Command::SendExtension { extension_type, msg_type, channel_msg, payload } => {
                send_extension(extension_type, msg_type, channel_msg, &payload, out);
            }
            Command::Reconnect { host, port } => self.send_reconnect(&host, port, out),
            Command::Disconnect { reason } => self.close(reason, now, out),
        }
    }

    /// Ends the connection for a reason outside of the machine, unless it has ended already.
    pub fn handle_disconnect(&mut self, reason: CloseReason, now: Now, out: &mut Outbox) {
        if !self.closed {
            self.close(reason, now, out);
        }
    }

    fn on_message(&mut self, message: Message<'_>, now: Now, out: &mut Outbox) {
        match (self.phase, message) {
            (Phase::Fresh, Message::SetupConnection(setup)) => self.on_setup(setup, now, out),
            (Phase::SetUp | Phase::ExtensionsRefused, Message::RequestExtensions(request)) => {
                self.on_request_extensions(&request, now, out);
            }
            // It must directly follow the set-up.
            (_, Message::RequestExtensions(_)) => self.ignore(),
            (Phase::SetUp, _) if !self.shared.settings.required_extensions.is_empty() => {
                self.close(CloseReason::ExtensionRequired, now, out);
            }
            (Phase::ExtensionsRefused, _) => self.close(CloseReason::ExtensionRequired, now, out),
            (_, message) => {
                self.phase = Phase::Running;
                self.on_mining_message(message, now, out);
            }
        }
    }

    fn on_mining_message(&mut self, message: Message<'_>, now: Now, out: &mut Outbox) {
        match message {
            Message::SubmitSharesStandard(share) => self.on_standard_share(&share, now, out),
            Message::SubmitSharesExtended(share) => self.on_extended_share(&share, now, out),
            message => {
                if self.request_is_granted(now, out) {
                    self.on_request(message, now, out);
                }
            }
        }
    }

    fn on_request(&mut self, message: Message<'_>, now: Now, out: &mut Outbox) {
        match message {
            Message::OpenStandardMiningChannel(open) => self.on_open_standard(open, out),
            Message::OpenExtendedMiningChannel(open) => self.on_open_extended(open, None, out),
            Message::UpdateChannel(update) => self.on_update(&update, now, out),
            Message::CloseChannel(close) => self.on_close(&close, now, out),
            Message::SetCustomMiningJob(job) => self.on_custom_job(job, out),
            _ => self.ignore(),
        }
    }

    /// Takes a token for a message that makes the pool work; closes the connection without one.
    pub(crate) fn request_is_granted(&mut self, now: Now, out: &mut Outbox) -> bool {
        let limits = &self.shared.settings.limits;
        let (rate, burst) = (limits.requests_per_second, limits.requests_burst);
        let granted = self.is_trusted || self.requests.take(rate, burst, now.mono_ms) == Grant::Yes;
        if !granted {
            self.close(CloseReason::RequestRate, now, out);
        }
        granted
    }

    /// Takes a token for a share that came before.
    pub(crate) fn repeat_is_granted(&mut self, now: Now) -> bool {
        let limits = &self.shared.settings.limits;
        let (rate, burst) = (limits.requests_per_second, limits.requests_burst);
        self.repeats.take(rate, burst, now.mono_ms) == Grant::Yes
    }

    /// Takes a token for a share.
    pub(crate) fn take_submit(&mut self, now: Now) -> Grant {
        let limits = &self.shared.settings.limits;
        match self.is_trusted {
            true => Grant::Yes,
            false => {
                self.submits.take(limits.submits_per_second, limits.submits_burst, now.mono_ms)
            }
        }
    }

    /// Ends the connection once what is in the outbox has been sent.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Now, out: &mut Outbox) {
        self.report_all(now, out);
        self.closed = true;
        out.events.push(Event::Disconnected { reason });
        out.close = Some(reason);
    }

    pub(crate) fn ignore(&self) {
        count(&self.shared.counters.frames_ignored, 1);
    }

    /// The next id of a channel or group.
    pub(crate) fn new_id(&mut self) -> u32 {
        let id = self.next_id;
        // The limits on requests make this take centuries.
        self.next_id = self.next_id.checked_add(1).expect("ids of a connection do not run out");
        id
    }

    pub(crate) fn channel_index(&self, id: u32) -> Option<usize> {
        self.channels.binary_search_by_key(&id, |channel| channel.id).ok()
    }

    pub(crate) fn group_index(&self, id: u32) -> Option<usize> {
        self.groups.binary_search_by_key(&id, |group| group.id).ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        count(&self.shared.counters.channels_closed, self.channels.len() as u64);
    }
}

/// Appends a message as a plain frame.
pub(crate) fn send(message: &Message<'_>, out: &mut Outbox) {
    message.encode(&mut out.frames).expect("the lengths of our own messages are bounded");
}

/// Appends a core message as a frame of an extension, given as extension type and message type, with
/// something behind its fields.
pub(crate) fn send_by(by: (u16, u8), message: &Message<'_>, tail: &[u8], out: &mut Outbox) {
    let start = out.frames.len();
    send(message, out);
    out.frames.extend_from_slice(tail);
    let header = FrameHeader {
        extension_type: by.0,
        channel_msg: message.channel_msg(),
        msg_type: by.1,
        payload_len: (out.frames.len() - start - HEADER_LEN) as u32,
    };
    out.frames[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
}

/// Text of the pool as the wire takes it: at most 255 bytes, printable ASCII.
pub(crate) fn wire_text(text: &str) -> Vec<u8> {
    text.bytes()
        .take(255)
        .map(|byte| if (b' '..=b'~').contains(&byte) { byte } else { b'?' })
        .collect()
}

pub(crate) fn send_extension(
    extension_type: u16,
    msg_type: u8,
    channel_msg: bool,
    payload: &[u8],
    out: &mut Outbox,
) {
    let header =
        FrameHeader { extension_type, channel_msg, msg_type, payload_len: payload.len() as u32 };
    out.frames.extend_from_slice(&header.to_bytes());
    out.frames.extend_from_slice(payload);
}
