//! Changes of an open channel: declared hash rate, largest target, step, owner, prefix.

use core::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use radpool_units::{Exponent, Now};
use radpool_wire::{
    error_code,
    message::{Message, SetExtranoncePrefix, UpdateChannel, UpdateChannelError},
};

use crate::{
    ChannelOwner, Connection, Event, Outbox,
    channel::{Bounds, is_hash_rate},
    connection::send,
};

impl Connection {
    /// Takes another declared hash rate or largest target.
    pub(crate) fn on_update(&mut self, update: &UpdateChannel, now: Now, out: &mut Outbox) {
        let Some(index) = self.channel_index(update.channel_id) else {
            return send_update_error(update.channel_id, error_code::INVALID_CHANNEL_ID, out);
        };
        if !is_hash_rate(update.nominal_hash_rate) {
            return send_update_error(update.channel_id, error_code::INVALID_NOMINAL_HASHRATE, out);
        }
        let Some(bounds) = Bounds::new(&self.shared.settings, update.maximum_target) else {
            return send_update_error(update.channel_id, error_code::MAX_TARGET_OUT_OF_RANGE, out);
        };
        let bounds = bounds.above(self.work.floor);
        let per_minute = self.shared.settings.shares_per_minute;
        let channel = &mut self.channels[index];
        channel.bounds = bounds;
        let exponent = if is_news(channel.hash_rate, update.nominal_hash_rate) {
            channel.hash_rate = update.nominal_hash_rate;
            bounds.for_hash_rate(update.nominal_hash_rate, per_minute)
        } else {
            bounds.clamp(channel.wanted)
        };
        // New bounds may leave a way down that was not there.
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
        out.events.push(Event::ChannelUpdated {
            channel: update.channel_id,
            nominal_hash_rate: update.nominal_hash_rate,
            max_target: update.maximum_target,
        });
        self.move_to(index, exponent, now, out);
        if self.channels[index].exponent < bounds.easiest {
            // Only of a channel that selects its work: no larger target may stand in the meantime.
            self.set_target(index, bounds.easiest, out);
        }
    }

    pub(crate) fn set_exponent(
        &mut self,
        channel: u32,
        exponent: Exponent,
        now: Now,
        out: &mut Outbox,
    ) {
        if let Some(index) = self.channel_index(channel) {
            let exponent = self.channels[index].bounds.clamp(exponent);
            self.move_to(index, exponent, now, out);
        }
    }

    pub(crate) fn set_prefix(&mut self, channel: u32, now: Now, out: &mut Outbox) {
        let Some(index) = self.channel_index(channel) else { return };
        // Without a fresh prefix the old one stays: it is still nobody else's.
        let Some(prefix) = self.shared.prefixes.take() else { return };
        let first_job = self.next_job;
        let channel = &mut self.channels[index];
        channel.replace_prefix(prefix, first_job);
        let extranonce_prefix = channel.wire_prefix();
        let message = SetExtranoncePrefix { channel_id: channel.id, extranonce_prefix };
        send(&Message::SetExtranoncePrefix(message), out);
        self.send_fresh_jobs(index, now, out);
    }

    pub(crate) fn set_owner(
        &mut self,
        channel: u32,
        owner: ChannelOwner,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(index) = self.channel_index(channel) else { return };
        if self.channels[index].owner != owner {
            self.channels[index].owner = owner;
            self.regroup(index, owner, now, out);
            self.send_fresh_jobs(index, now, out);
        }
    }
}

/// Whether a declared rate differs enough from the one that was last followed. Proxies declare anew
/// with each device that comes or goes; below half a step vardiff knows better.
fn is_news(followed: f32, declared: f32) -> bool {
    let ratio = f64::from(declared) / f64::from(followed);
    declared != followed && !(FRAC_1_SQRT_2..=SQRT_2).contains(&ratio)
}

fn send_update_error(channel_id: u32, code: &str, out: &mut Outbox) {
    let error = UpdateChannelError { channel_id, error_code: code.into() };
    send(&Message::UpdateChannelError(error), out);
}
