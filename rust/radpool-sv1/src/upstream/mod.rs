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
//! An extension may carry the shares ([`radpool_miner::ClientExtension`]): its messages open channels and submit,
//! and whatever else it says is told as it came.
//!
//! A channel whose member left stays open for `linger_ms`, and the next member of the same user takes
//! it over with the job it has: firmware that looks in, leaves and comes back costs no channel. One
//! channel is always kept. A member whose channel is refused or closed is told, and nobody else is.
//!
//! The pool hears how fast a device is when it has changed, once in 30 s for each and of 500 a second.
//!
//! Of the bytes of extranonce 12 are asked for, and where the pool refuses that, 8.
//!
//! What ends the connection: a refusal of the set-up, a message that breaks the protocol, a deadline
//! before Ready, and silence: a share that waits for its answer longer than three times the longest
//! wait so far, and 30 s at least, while nothing at all was heard. Some pools answer once for ten
//! shares, so before the first answer it is 120 s.
//!
//! Bounds: `channels_max` channels and requests; frames of `PAYLOAD_LEN_MAX` bytes; what a
//! [`radpool_miner::channel::Channel`] keeps. Times are milliseconds of a clock that never goes back.

mod answer;
mod channel;
mod hear;
mod member;
mod name;
mod outbox;
mod settings;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use radpool_miner::{
    Carries, Ended,
    assignment::{Coinbase, Share},
};
use radpool_wire::message::{CloseChannel, Message, Protocol, SetupConnection};

use self::{
    channel::{Open, Opening, SIZE_WANTED},
    member::PACES_PER_LOOK,
};
pub use self::{
    outbox::{Told, UpstreamOutbox},
    settings::UpstreamSettings,
};

/// How long the pool may take for each answer before it is ready, and for each channel.
const ANSWER_MS_MAX: u64 = 30_000;
/// The least time for which a share may wait in silence.
const SILENCE_MS_MIN: u64 = 30_000;
/// The same before the pool has ever answered a share.
const SILENCE_MS_FIRST: u64 = 120_000;
/// How many times the longest wait so far a share may wait in silence.
const SILENCE_WAITS: u64 = 3;
/// How often channels are looked through for what is late: there may be thousands.
const LOOK_MS: u64 = 1_000;
const PROTOCOL_VERSION: u16 = 2;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SetUp,
    Extending,
    Probing,
    Ready,
    Over,
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
    /// In boxes: nodes of the tree are half empty.
    channels: BTreeMap<u32, Box<Open>>,
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
    /// Channels of whose pace the pool is to be told later.
    paces: BTreeSet<u32>,
    /// Of how many it may be told until channels are looked through again.
    paces_left: u32,
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
            paces: BTreeSet::new(),
            paces_left: PACES_PER_LOOK,
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
        self.tell_paces(now_ms, out);
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
        again: bool,
        now_us: u64,
        out: &mut UpstreamOutbox,
    ) -> Option<u32> {
        self.send_share(share, *member, attachment, again, now_us, out)
    }
}
