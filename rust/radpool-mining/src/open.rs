//! Opening, updating and closing channels.

use radpool_units::Now;
use radpool_wire::{
    error_code,
    message::{
        CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess,
        Reconnect,
    },
};

use crate::{
    ChannelGrant, ChannelKind, Connection, Event, HeldBytes, OpenMessage, OpenTail, Outbox,
    channel::{Bounds, Channel, NewChannel, is_hash_rate},
    connection::{send, send_by, send_extension, wire_text},
    counters::count,
};

const MSG_OPEN_STANDARD: u8 = 0x10;
pub(crate) const MSG_OPEN_EXTENDED: u8 = 0x13;

/// A channel that the pool has not decided about yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingOpen {
    /// Our number for it.
    request: u32,
    /// The client's.
    request_id: u32,
    kind: ChannelKind,
    rollable: u8,
    hash_rate: f32,
    bounds: Bounds,
    /// The message of an extension that asked, whose answers it gets.
    by: Option<OpenMessage>,
}

/// What all requests have.
struct OpenRequest {
    request_id: u32,
    user_identity: Vec<u8>,
    hash_rate: f32,
    max_target: [u8; 32],
    min_extranonce_size: u16,
    kind: ChannelKind,
    msg_type: u8,
    by: Option<OpenMessage>,
    tail: Option<OpenTail>,
}

impl Connection {
    pub(crate) fn on_open_standard(&mut self, open: OpenStandardMiningChannel, out: &mut Outbox) {
        let request = OpenRequest {
            request_id: open.request_id,
            user_identity: open.user_identity,
            hash_rate: open.nominal_hash_rate,
            max_target: open.max_target,
            min_extranonce_size: 0,
            kind: ChannelKind::Standard,
            msg_type: MSG_OPEN_STANDARD,
            by: None,
            tail: None,
        };
        self.on_open(request, out);
    }

    /// Asks the pool for an extended channel, which an extension's message may want instead of the
    /// core one: that message, and what follows the core fields in it.
    pub(crate) fn on_open_extended(
        &mut self,
        open: OpenExtendedMiningChannel,
        by: Option<(OpenMessage, HeldBytes)>,
        out: &mut Outbox,
    ) {
        let (by, tail) = by.unzip();
        let tail = by.zip(tail).map(|(by, bytes)| {
            let extension_type = by.extension_type;
            OpenTail { extension_type, bytes }
        });
        let request = OpenRequest {
            request_id: open.request_id,
            user_identity: open.user_identity,
            hash_rate: open.nominal_hash_rate,
            max_target: open.max_target,
            min_extranonce_size: open.min_extranonce_size,
            kind: ChannelKind::Extended,
            msg_type: by.map_or(MSG_OPEN_EXTENDED, |by| by.msg_type),
            by,
            tail,
        };
        self.on_open(request, out);
    }

    fn on_open(&mut self, open: OpenRequest, out: &mut Outbox) {
        let (bounds, rollable) = match self.check_open(&open) {
            Ok(granted) => granted,
            Err(code) => return send_open_error(open.request_id, code.into(), open.by, out),
        };
        let request = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        self.pending.push(PendingOpen {
            request,
            request_id: open.request_id,
            kind: open.kind,
            rollable,
            hash_rate: open.hash_rate,
            bounds,
            by: open.by,
        });
        out.events.push(Event::ChannelRequested {
            request,
            kind: open.kind,
            user_identity: open.user_identity,
            nominal_hash_rate: open.hash_rate,
            max_target: open.max_target,
            min_extranonce_size: open.min_extranonce_size,
            msg_type: open.msg_type,
            tail: open.tail,
        });
    }

    fn check_open(&self, open: &OpenRequest) -> Result<(Bounds, u8), &'static str> {
        if open.kind == ChannelKind::Standard && self.work_selection {
            return Err(error_code::STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK);
        }
        if open.kind == ChannelKind::Extended && self.standard_jobs {
            return Err(error_code::EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS);
        }
        if !is_hash_rate(open.hash_rate) {
            return Err(error_code::INVALID_NOMINAL_HASHRATE);
        }
        let Some(bounds) = Bounds::new(&self.shared.settings, open.max_target) else {
            return Err(error_code::MAX_TARGET_OUT_OF_RANGE);
        };
        let Some(rollable) = self.shared.settings.rollable(open.min_extranonce_size) else {
            return Err(error_code::MIN_EXTRANONCE_SIZE_TOO_LARGE);
        };
        let channels = self.channels.len() + self.pending.len();
        if channels >= self.shared.settings.limits.channels as usize && !self.is_trusted {
            return Err(error_code::CHANNEL_CAPACITY_EXHAUSTED);
        }
        Ok((bounds, rollable))
    }

    pub(crate) fn refuse_channel(&mut self, request: u32, code: Vec<u8>, out: &mut Outbox) {
        if let Some(pending) = self.take_pending(request) {
            send_open_error(pending.request_id, code, pending.by, out);
        }
    }

    pub(crate) fn open_channel(
        &mut self,
        request: u32,
        grant: ChannelGrant,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(pending) = self.take_pending(request) else { return };
        let Some(prefix) = self.shared.prefixes.take() else {
            let code = error_code::CHANNEL_CAPACITY_EXHAUSTED;
            out.events.push(Event::ChannelFailed { request, code });
            return send_open_error(pending.request_id, code.into(), pending.by, out);
        };
        // The first job must be what everyone else works on.
        self.follow_work(now, out);
        let per_minute = self.shared.settings.shares_per_minute;
        let bounds = pending.bounds.above(self.work.floor);
        let declared = bounds.for_hash_rate(pending.hash_rate, per_minute);
        let new = NewChannel {
            id: self.new_id(),
            kind: pending.kind,
            rollable: pending.rollable,
            exponent: grant.exponent.map_or(declared, |exponent| bounds.clamp(exponent)),
            bounds,
            hash_rate: pending.hash_rate,
            owner: grant.owner,
            prefix,
            first_job: self.next_job,
        };
        let index = self.add_channel(new, now);
        if let Some(by) = pending.by {
            for (msg_type, payload) in &grant.before {
                send_extension(by.extension_type, *msg_type, false, payload, out);
            }
        }
        send_open_success(&self.channels[index], &pending, &grant.tail, out);
        self.announce_opened(index, &pending, out);
        self.send_first_jobs(index, now, out);
    }

    fn take_pending(&mut self, request: u32) -> Option<PendingOpen> {
        let index = self.pending.iter().position(|pending| pending.request == request)?;
        let pending = self.pending.swap_remove(index);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Some(pending)
    }

    fn add_channel(&mut self, new: NewChannel, now: Now) -> usize {
        let extranonce_len = crate::settings::PREFIX_LEN as u8 + new.rollable;
        let group = self.join_group(new.id, &new.owner, new.exponent, extranonce_len);
        if self.channels.capacity() == 0 {
            self.channels.reserve_exact(1);
        }
        self.channels.push(Channel::new(new, group, now.mono_ms));
        let index = self.channels.len() - 1;
        self.phase_deadline_ms = u64::MAX;
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
        count(&self.shared.counters.channels_opened, 1);
        index
    }

    fn announce_opened(&self, index: usize, pending: &PendingOpen, out: &mut Outbox) {
        let channel = &self.channels[index];
        out.events.push(Event::ChannelOpened {
            request: pending.request,
            channel: channel.id,
            group: channel.group,
            kind: channel.kind,
            exponent: channel.exponent,
            extranonce_prefix: channel.wire_prefix(),
            rollable: channel.rolled_len() as u16,
            extension_type: pending.by.map_or(0, |by| by.extension_type),
        });
    }

    /// Closes a channel, or all members of a group, as the client wishes; silent about unknown ids.
    ///
    /// Source: sv2-spec, section 5.3.9.
    pub(crate) fn on_close(&mut self, close: &CloseChannel, now: Now, out: &mut Outbox) {
        self.close_channels(close.channel_id, true, &close.reason_code, now, out);
    }

    pub(crate) fn close_by_pool(&mut self, id: u32, reason: &str, now: Now, out: &mut Outbox) {
        let reason_code = wire_text(reason);
        if self.close_channels(id, false, &reason_code, now, out) {
            send(&Message::CloseChannel(CloseChannel { channel_id: id, reason_code }), out);
        }
    }

    /// Closes what `id` names; returns whether there was any.
    fn close_channels(
        &mut self,
        id: u32,
        by_client: bool,
        reason: &[u8],
        now: Now,
        out: &mut Outbox,
    ) -> bool {
        let interval_ms = self.shared.settings.report_interval_ms;
        let before = self.channels.len();
        for index in (0..before).rev() {
            let channel = &mut self.channels[index];
            if channel.id != id && channel.group != id {
                continue;
            }
            out.events.extend(channel.report(now.mono_ms, interval_ms).map(Event::ChannelReport));
            let channel = self.channels.remove(index);
            self.forget_custom_jobs(channel.id);
            self.leave_group(channel.id, channel.group, now);
            let (channel, reason) = (channel.id, reason.to_vec());
            out.events.push(Event::ChannelClosed { channel, by_client, reason });
        }
        let closed = before - self.channels.len();
        count(&self.shared.counters.channels_closed, closed as u64);
        if closed > 0 && self.channels.is_empty() {
            self.expect_channel(now);
        }
        closed > 0
    }

    pub(crate) fn send_reconnect(&self, host: &str, port: u16, out: &mut Outbox) {
        send(&Message::Reconnect(Reconnect { new_host: wire_text(host), new_port: port }), out);
    }
}

fn send_open_success(channel: &Channel, pending: &PendingOpen, tail: &[u8], out: &mut Outbox) {
    let request_id = pending.request_id;
    let target = channel.exponent.target().to_le_bytes();
    let message = match channel.kind {
        ChannelKind::Standard => {
            Message::OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccess {
                request_id,
                channel_id: channel.id,
                target,
                extranonce_prefix: channel.wire_prefix(),
                group_channel_id: channel.group,
            })
        }
        ChannelKind::Extended => {
            Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id: channel.id,
                target,
                extranonce_size: channel.rollable.into(),
                extranonce_prefix: channel.wire_prefix(),
                group_channel_id: channel.group,
            })
        }
    };
    let core = (message.extension_type(), message.msg_type());
    send_by(
        pending.by.map_or(core, |by| (by.extension_type, by.success_type)),
        &message,
        tail,
        out,
    );
}

fn send_open_error(
    request_id: u32,
    error_code: Vec<u8>,
    by: Option<OpenMessage>,
    out: &mut Outbox,
) {
    let message =
        Message::OpenMiningChannelError(OpenMiningChannelError { request_id, error_code });
    match by {
        Some(by) => send_by((by.extension_type, by.error_type), &message, &[], out),
        None => send(&message, out),
    }
}
