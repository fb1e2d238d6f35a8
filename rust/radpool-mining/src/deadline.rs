//! What is due when: the end of a phase, a look at a channel's rate, a report.
//!
//! Each connection keeps one time before which no channel is due. It may be early, then all channels
//! are looked at in vain; a share never has to move it.

use radpool_units::Now;

use crate::{CloseReason, Connection, Event, Outbox, connection::Phase, vardiff::Vardiff};

impl Connection {
    /// Does what is due; harmless before the deadline.
    pub fn handle_deadline(&mut self, now: Now, out: &mut Outbox) {
        if self.closed {
            return;
        }
        if now.mono_ms >= self.phase_deadline_ms {
            self.end_phase(now, out);
        }
        if now.mono_ms >= self.channel_wake_ms && !self.closed {
            self.wake_channels(now, out);
        }
    }

    /// When `handle_deadline()` is to be called, at the latest; sooner costs a look at each channel.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let next = self.phase_deadline_ms.min(self.channel_wake_ms);
        (!self.closed && next != u64::MAX).then_some(next)
    }

    fn end_phase(&mut self, now: Now, out: &mut Outbox) {
        match self.phase {
            Phase::Fresh => self.close(CloseReason::SetupTimeout, now, out),
            Phase::ExtensionsRefused => self.close(CloseReason::ExtensionRequired, now, out),
            Phase::SetUp | Phase::Running if self.pending.is_empty() => {
                self.close(CloseReason::ChannelTimeout, now, out);
            }
            // The client has asked: it is the pool that is slow.
            Phase::SetUp | Phase::Running => self.expect_channel(now),
        }
    }

    /// Starts the time within which a channel must be open.
    pub(crate) fn expect_channel(&mut self, now: Now) {
        self.phase_deadline_ms = now.mono_ms + self.shared.settings.limits.channel_deadline_ms;
    }

    /// Makes sure that the channels are looked at by then.
    pub(crate) fn wake_by(&mut self, deadline_ms: u64) {
        self.channel_wake_ms = self.channel_wake_ms.min(deadline_ms);
    }

    fn wake_channels(&mut self, now: Now, out: &mut Outbox) {
        self.channel_wake_ms = u64::MAX;
        for index in 0..self.channels.len() {
            self.look_at_rate(index, now, out);
            let interval_ms = self.shared.settings.report_interval_ms;
            let channel = &mut self.channels[index];
            if channel.report_deadline().is_some_and(|due| now.mono_ms >= due) {
                out.events
                    .extend(channel.report(now.mono_ms, interval_ms).map(Event::ChannelReport));
            }
            let report = channel.report_deadline().unwrap_or(u64::MAX);
            let deadline = self.rate_deadline(index).min(report);
            self.wake_by(deadline);
        }
    }

    pub(crate) fn report_all(&mut self, now: Now, out: &mut Outbox) {
        let interval_ms = self.shared.settings.report_interval_ms;
        for channel in &mut self.channels {
            out.events.extend(channel.report(now.mono_ms, interval_ms).map(Event::ChannelReport));
        }
    }

    /// Moves a channel whose shares came implausibly seldom.
    pub(crate) fn look_at_rate(&mut self, index: usize, now: Now, out: &mut Outbox) {
        let per_minute = self.shared.settings.shares_per_minute;
        let channel = &self.channels[index];
        if let Some(steps) = channel.vardiff.on_time(now.mono_ms, per_minute) {
            self.step(index, steps, now, out);
        }
    }

    /// Moves a channel by so many steps, as far as its bounds allow.
    pub(crate) fn step(&mut self, index: usize, steps: i32, now: Now, out: &mut Outbox) {
        let channel = &mut self.channels[index];
        let exponent = channel.bounds.step(channel.exponent, steps);
        if exponent == channel.exponent {
            // At the end of the ladder: what was observed has led to nothing, so it is dropped.
            channel.vardiff = Vardiff::new(now.mono_ms);
        }
        self.move_to(index, exponent, now, out);
    }

    /// When a channel is to be looked at for being too slow; never at the easiest step, nor before
    /// a channel that selects its work has had any.
    pub(crate) fn rate_deadline(&self, index: usize) -> u64 {
        let channel = &self.channels[index];
        let idle = self.work_selection && !channel.has_mined;
        if idle || channel.exponent <= channel.bounds.easiest {
            return u64::MAX;
        }
        channel.vardiff.deadline(self.shared.settings.shares_per_minute)
    }
}
