//! Which jobs leave when: new work, new channels, moves on the ladder.
//!
//! Order on a channel, always: the first job is a future one, then SetNewPrevHash names it. A new
//! tip names a future job that was sent before, or one that is sent just before it. SetTarget is
//! followed at once by jobs that carry the new exponent, the queued future one too. A future job
//! that waits for the next tip is known to every member of its group: whoever joins makes the group
//! get a fresh one.

use std::sync::Arc;

use radpool_units::{Exponent, Now};
use radpool_wire::message::{Message, SetGroupChannel, SetNewPrevHash, SetTarget};

use crate::{
    ChannelKind, ChannelOwner, Connection, Event, Outbox, Template, Tip, Work,
    connection::send,
    counters::count,
    group::Group,
    job::{Job, JobState, standard_job, write_extended_job},
    vardiff::Vardiff,
};

impl Connection {
    /// Sends what has changed since the channels were last told.
    pub(crate) fn follow_work(&mut self, now: Now, out: &mut Outbox) {
        let work = self.shared.current_work();
        if work.generation == self.work.generation {
            return;
        }
        let old = std::mem::replace(&mut self.work, Arc::clone(&work));
        if self.groups.is_empty() {
            return;
        }
        if let Some((template, tip)) = &work.active {
            match &old.active {
                Some((old_template, old_tip)) if old_tip.prev_hash == tip.prev_hash => {
                    if !Arc::ptr_eq(old_template, template) || old_tip != tip {
                        self.send_new_template(template, *tip, now, out);
                    }
                }
                _ => self.send_new_tip(template, *tip, now, out),
            }
        }
        self.follow_future(&old, &work, now, out);
    }

    fn follow_future(&mut self, old: &Work, work: &Work, now: Now, out: &mut Outbox) {
        let Some(future) = &work.future else {
            // Either it has just become current, or it has been passed over.
            return self.forget_future_jobs();
        };
        if old.future.as_ref().is_none_or(|old| !Arc::ptr_eq(old, future)) {
            for index in 0..self.groups.len() {
                self.send_future(index, future, now, out);
            }
        }
    }

    fn forget_future_jobs(&mut self) {
        self.jobs.forget_future(|_| true);
        for group in &mut self.groups {
            group.future_job = 0;
        }
    }

    fn send_new_template(
        &mut self,
        template: &Arc<Template>,
        tip: Tip,
        now: Now,
        out: &mut Outbox,
    ) {
        self.jobs.retire(now, self.shared.settings.job_past_ms, |_| true);
        for index in 0..self.groups.len() {
            let addressee = self.groups[index].addressee();
            self.send_job(index, addressee, template, Some(tip), now, out);
        }
    }

    fn send_new_tip(&mut self, template: &Arc<Template>, tip: Tip, now: Now, out: &mut Outbox) {
        self.jobs.make_stale(now, self.shared.settings.job_stale_ms);
        self.jobs.forget_future(|job| !Arc::ptr_eq(&job.source.template, template));
        for index in 0..self.groups.len() {
            let queued = std::mem::take(&mut self.groups[index].future_job);
            let job = match self.jobs.get(queued) {
                Some(job) => job.id,
                None => {
                    let addressee = self.groups[index].addressee();
                    self.send_job(index, addressee, template, None, now, out)
                }
            };
            self.activate(job, tip, now, out);
        }
        // Whatever future job is left belongs to no group any more.
        self.jobs.forget_future(|_| true);
    }

    /// Tells that a future job is the one to be mined now.
    fn activate(&mut self, job: u32, tip: Tip, now: Now, out: &mut Outbox) {
        let job = self.jobs.get_mut(job).expect("the caller has just found or made the job");
        let extranonce_len = job.source.extranonce_len;
        job.source = self.shared.source(&job.source.template, Some(tip), extranonce_len);
        job.state = JobState::Active;
        job.since_ms = now.mono_ms;
        let message = SetNewPrevHash {
            channel_id: job.addressee,
            job_id: job.id,
            prev_hash: tip.prev_hash,
            min_ntime: tip.min_ntime,
            nbits: tip.nbits,
        };
        send(&Message::SetNewPrevHash(message), out);
    }

    /// Sends a group the job that waits for the next tip, in place of an earlier one.
    fn send_future(&mut self, index: usize, template: &Arc<Template>, now: Now, out: &mut Outbox) {
        let (group, addressee) = (self.groups[index].id, self.groups[index].addressee());
        self.jobs.forget_future(|job| job.group == group);
        let job = self.send_job(index, addressee, template, None, now, out);
        self.groups[index].future_job = job;
    }

    /// Makes a job for a group, sends it to the group or one member, and returns its id.
    fn send_job(
        &mut self,
        index: usize,
        addressee: u32,
        template: &Arc<Template>,
        tip: Option<Tip>,
        now: Now,
        out: &mut Outbox,
    ) -> u32 {
        let settings = &self.shared.settings;
        let group = &mut self.groups[index];
        let job = Job {
            id: self.next_job,
            group: group.id,
            addressee,
            state: if tip.is_some() { JobState::Active } else { JobState::Future },
            since_ms: now.mono_ms,
            source: self.shared.source(template, tip, group.extranonce_len),
            tag: group.tag(settings.msp_key, template.epoch),
        };
        // Requests and templates are rate limited: this takes years.
        self.next_job = job.id.checked_add(1).expect("job ids of a connection do not run out");
        let channel = self.channel_index(addressee).map(|index| &self.channels[index]);
        match channel.filter(|channel| channel.kind == ChannelKind::Standard) {
            Some(channel) => {
                let extranonce = channel.extranonce(job.id, &[]);
                let extranonce = &extranonce[..channel.extranonce_len().into()];
                send(&standard_job(&job, extranonce), out);
            }
            None => write_extended_job(&job, settings.version_rolling, &mut out.frames),
        }
        count(&self.shared.counters.jobs_sent, 1);
        let id = job.id;
        self.jobs.push(job);
        id
    }

    /// Sends a channel that was just opened what it needs to start.
    pub(crate) fn send_first_jobs(&mut self, index: usize, now: Now, out: &mut Outbox) {
        let work = Arc::clone(&self.work);
        let (id, group) = (self.channels[index].id, self.channels[index].group);
        let group = self.group_index(group).expect("every channel is in a group");
        if let Some((template, tip)) = &work.active {
            let job = self.send_job(group, id, template, None, now, out);
            self.activate(job, *tip, now, out);
        }
        if let Some(future) = &work.future {
            self.send_future(group, future, now, out);
        }
    }

    /// Sends a channel the current jobs anew, because something in them has changed for it.
    pub(crate) fn send_fresh_jobs(&mut self, index: usize, now: Now, out: &mut Outbox) {
        let work = Arc::clone(&self.work);
        let (id, group_id) = (self.channels[index].id, self.channels[index].group);
        let group = self.group_index(group_id).expect("every channel is in a group");
        if self.groups[group].members == 1 {
            let past_ms = self.shared.settings.job_past_ms;
            self.jobs.retire(now, past_ms, |job| job.group == group_id);
        }
        if let Some((template, tip)) = &work.active {
            self.send_job(group, id, template, Some(*tip), now, out);
        }
        if let Some(future) = &work.future {
            self.send_future(group, future, now, out);
        }
    }

    /// Moves a channel on the ladder: SetTarget, then jobs that carry the new exponent. No effect
    /// when it is there already.
    pub(crate) fn move_to(&mut self, index: usize, exponent: Exponent, now: Now, out: &mut Outbox) {
        let channel = &mut self.channels[index];
        if channel.exponent == exponent {
            return;
        }
        channel.exponent = exponent;
        channel.vardiff = Vardiff::new(now.mono_ms);
        let (id, owner) = (channel.id, channel.owner);
        self.regroup(index, owner, now, out);
        let maximum_target = exponent.target().to_le_bytes();
        send(&Message::SetTarget(SetTarget { channel_id: id, maximum_target }), out);
        self.send_fresh_jobs(index, now, out);
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
        count(&self.shared.counters.retargets, 1);
        out.events.push(Event::ExponentChanged { channel: id, exponent });
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

    /// Puts a channel whose owner or exponent changed into a group that fits.
    fn regroup(&mut self, index: usize, owner: ChannelOwner, now: Now, out: &mut Outbox) {
        let channel = &self.channels[index];
        let (id, group_id, exponent) = (channel.id, channel.group, channel.exponent);
        let extranonce_len = channel.extranonce_len();
        let group = self.group_index(group_id).expect("every channel is in a group");
        if self.groups[group].members == 1
            && self.fitting_group(&owner, exponent, extranonce_len).is_none()
        {
            return self.groups[group].retag(owner, exponent);
        }
        self.leave_group(id, group_id, now);
        let group_channel_id = self.join_group(id, &owner, exponent, extranonce_len);
        let channel = &mut self.channels[index];
        channel.group = group_channel_id;
        channel.moved_ms = now.mono_ms;
        let message = SetGroupChannel { group_channel_id, channel_ids: vec![id] };
        send(&Message::SetGroupChannel(message), out);
    }

    /// Finds or makes the group for a channel and returns its id.
    pub(crate) fn join_group(
        &mut self,
        channel: u32,
        owner: &ChannelOwner,
        exponent: Exponent,
        extranonce_len: u8,
    ) -> u32 {
        if let Some(index) = self.fitting_group(owner, exponent, extranonce_len) {
            self.groups[index].members += 1;
            return self.groups[index].id;
        }
        let id = self.new_id();
        if self.groups.capacity() == 0 {
            self.groups.reserve_exact(1);
        }
        self.groups.push(Group::new(id, *owner, exponent, extranonce_len, channel));
        id
    }

    fn fitting_group(
        &self,
        owner: &ChannelOwner,
        exponent: Exponent,
        extranonce_len: u8,
    ) -> Option<usize> {
        if !self.shared.settings.group_jobs || self.standard_jobs {
            return None;
        }
        self.groups.iter().position(|group| group.fits(owner, exponent, extranonce_len))
    }

    /// Takes a channel out of its group; a group without members goes, its jobs become past.
    pub(crate) fn leave_group(&mut self, channel: u32, group_id: u32, now: Now) {
        let Some(index) = self.group_index(group_id) else { return };
        let past_ms = self.shared.settings.job_past_ms;
        let group = &mut self.groups[index];
        group.members -= 1;
        if group.members == 0 {
            self.groups.remove(index);
            self.jobs.forget_future(|job| job.group == group_id);
            self.jobs.retire(now, past_ms, |job| job.group == group_id);
        } else if group.members == 1 {
            let mut rest = self.channels.iter();
            let sole = rest.find(|other| other.group == group_id && other.id != channel);
            group.sole = sole.expect("the group counts one more member").id;
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

    /// When a channel is to be looked at for being too slow; never at the easiest step.
    pub(crate) fn rate_deadline(&self, index: usize) -> u64 {
        let channel = &self.channels[index];
        if channel.exponent == channel.bounds.easiest {
            return u64::MAX;
        }
        channel.vardiff.deadline(self.shared.settings.shares_per_minute)
    }
}
