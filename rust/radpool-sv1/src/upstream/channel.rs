//! Channels: asked for, opened, refused, closed.

use std::{collections::VecDeque, sync::Arc};

use radpool_miner::{
    Ended,
    assignment::{ChannelKind, EXTRANONCE_LEN_MAX},
    channel::Channel,
    client::printable,
};
use radpool_units::Target;
use radpool_wire::message::{
    CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
};

use super::{ANSWER_MS_MAX, Phase, Told, Upstream, UpstreamOutbox, member::Pace};
use crate::{EXTRANONCE2_LEN, job::EXTRANONCE1_LEN};

/// Bytes of extranonce to ask for: both parts of a device's, whole.
pub(super) const SIZE_WANTED: u16 = (EXTRANONCE1_LEN + EXTRANONCE2_LEN) as u16;
/// And where that is refused: what every pool of SV1 leaves its devices.
const SIZE_LEAST: u16 = 8;

#[derive(Debug)]
pub(super) struct Opening {
    /// `None` once it has left, and for the probe.
    pub(super) member: Option<u64>,
    pub(super) user: String,
    pub(super) rate: f32,
    pub(super) size: u16,
    pub(super) due_ms: u64,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) channel: Channel,
    pub(super) members: Vec<u64>,
    pub(super) user: String,
    pub(super) pace: Pace,
    /// Whose the shares are that wait for an answer, by number, in their order.
    pub(super) senders: VecDeque<(u32, u64)>,
    /// When the present job came.
    pub(super) since_ms: u64,
    /// When it is closed unless a member takes it.
    pub(super) idle_until_ms: u64,
}

impl Open {
    /// Takes a message in, and tells of the job if there is another one now; says whether there is.
    pub(super) fn take(
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
}

impl Upstream {
    pub(super) fn probe(&mut self, now_ms: u64, out: &mut UpstreamOutbox) {
        self.phase = Phase::Probing;
        self.phase_due_ms = now_ms + ANSWER_MS_MAX;
        self.probe = Some(self.next_request);
        let (user, rate) = (self.settings.user.clone(), self.settings.nominal_hash_rate);
        self.request(None, &user, rate, now_ms, out);
    }

    pub(super) fn request(
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

    pub(super) fn handle_opened(
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
        let Opening { member, user, rate, .. } = opening;
        let open = Open {
            channel,
            members: member.into_iter().collect(),
            user,
            pace: Pace::new(rate),
            senders: VecDeque::new(),
            since_ms: now_ms,
            idle_until_ms,
        };
        self.channels.insert(success.channel_id, Box::new(open));
    }

    /// Gives back a channel that came too late for whoever had asked.
    pub(super) fn handle_unwanted(
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

    pub(super) fn handle_refused(
        &mut self,
        request: u32,
        code: &[u8],
        now_ms: u64,
        out: &mut UpstreamOutbox,
    ) {
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

    pub(super) fn handle_closed(&mut self, close: &CloseChannel, out: &mut UpstreamOutbox) {
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
}
