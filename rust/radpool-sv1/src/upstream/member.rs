//! What devices want: a channel, another pace, a share sent.

use std::sync::Arc;

use radpool_miner::assignment::Share;
use radpool_units::Target;
use radpool_wire::message::{Message, SubmitSharesExtended, UpdateChannel};

use super::{Phase, Told, Upstream, UpstreamOutbox, channel::Open, name::name_tlv};

/// The pool is told of another sum of hash rates at most this often,
const RATE_PAUSE_MS: u64 = 1_000;
/// and when it has changed by a tenth.
const RATE_STEP: f32 = 10.0;
/// The pool is told of another rate of one device at most this often,
const PACE_PAUSE_MS: u64 = 30_000;
/// when it has changed by this factor, which is less than a step of the ladder,
const PACE_FACTOR: f32 = 1.4;
/// and of so many devices a second: the others wait their turn.
pub(super) const PACES_PER_LOOK: u32 = 500;

/// What the pool knows of how fast a device is.
#[derive(Debug)]
pub(super) struct Pace {
    told: f32,
    /// When it may be told of another one: the first is told at once.
    again_ms: u64,
    /// What it is to be told.
    wanted: f32,
}

impl Pace {
    pub(super) const fn new(told: f32) -> Self {
        Self { told, again_ms: 0, wanted: told }
    }

    fn is_news(&self) -> bool {
        let (low, high) = (self.told.min(self.wanted), self.told.max(self.wanted));
        low < high && high >= low * PACE_FACTOR
    }
}

impl Upstream {
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
        if let Some(&channel_id) = self.members.get(&member)
            && let Some(open) = self.channels.get_mut(&channel_id)
        {
            open.pace.wanted = rate;
            if !self.tell_pace(channel_id, now_ms, out) {
                self.paces.insert(channel_id);
            }
        }
    }

    /// Tells the pool of a device's pace, if it is news; false when it is not time for it yet.
    fn tell_pace(&mut self, channel_id: u32, now_ms: u64, out: &mut UpstreamOutbox) -> bool {
        let Some(open) = self.channels.get_mut(&channel_id) else { return true };
        if !open.pace.is_news() {
            return true;
        }
        if now_ms < open.pace.again_ms || self.paces_left == 0 {
            return false;
        }
        self.paces_left -= 1;
        open.pace.told = open.pace.wanted;
        open.pace.again_ms = now_ms + PACE_PAUSE_MS;
        let (nominal_hash_rate, maximum_target) = (open.pace.told, Target::MAX.to_le_bytes());
        let update = UpdateChannel { channel_id, nominal_hash_rate, maximum_target };
        out.send(&Message::UpdateChannel(update));
        true
    }

    /// Tells the pool of paces that had to wait.
    pub(super) fn tell_paces(&mut self, now_ms: u64, out: &mut UpstreamOutbox) {
        self.paces_left = PACES_PER_LOOK;
        let mut waiting = core::mem::take(&mut self.paces);
        waiting.retain(|channel_id| !self.tell_pace(*channel_id, now_ms, out));
        self.paces = waiting;
    }

    /// Takes in how fast a device of the one channel is, or that it has left.
    pub(super) fn note_rate(&mut self, member: u64, rate: Option<f32>, now_ms: u64) {
        if !self.settings.aggregated {
            return;
        }
        match rate {
            Some(rate) => self.rates.insert(member, rate),
            None => self.rates.remove(&member),
        };
        self.rate_due_ms.get_or_insert(now_ms + RATE_PAUSE_MS);
    }

    pub(super) fn tell_rate(&mut self, out: &mut UpstreamOutbox) {
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
        self.send_share(share, member, &[], false, now_ms * 1000, out).is_some()
    }

    pub(super) fn send_share(
        &mut self,
        share: &Share,
        member: u64,
        attachment: &[u8],
        again: bool,
        now_us: u64,
        out: &mut UpstreamOutbox,
    ) -> Option<u32> {
        let job = &share.assignment;
        let open = self.channels.get_mut(&job.channel_id)?;
        let exponent = job.target.exponent_at_most().filter(|z| z.target() == job.target);
        let sequence_number = open.channel.submissions.send(now_us, exponent, again);
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
}
