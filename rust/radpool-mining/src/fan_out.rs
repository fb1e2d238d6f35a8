//! Which jobs leave when: new work, new channels, moves on the ladder.
//!
//! Order on a channel, always: the first job is a future one, then SetNewPrevHash names it. A new
//! tip names a future job that was sent before, or one that is sent just before it. SetTarget is
//! followed at once by jobs that carry the new exponent, the queued future one too. A future job
//! that waits for the next tip is known to every member of its group: whoever joins makes the group
//! get a fresh one. Who selects the work gets none of this; see `custom`.

use std::sync::Arc;

use radpool_units::{Exponent, Now};
use radpool_wire::message::{Message, SetNewPrevHash, SetTarget};

use crate::{
    ChannelKind, Connection, Event, Outbox, Template, Tip, Work,
    connection::send,
    counters::count,
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
        if self.work_selection {
            self.follow_tip(&old, now);
        } else {
            self.follow_templates(&old, &work, now, out);
        }
        if old.floor != work.floor {
            self.follow_floor(work.floor, now, out);
        }
    }

    fn follow_floor(&mut self, floor: Exponent, now: Now, out: &mut Outbox) {
        for index in 0..self.channels.len() {
            let channel = &mut self.channels[index];
            channel.bounds = channel.bounds.above(floor);
            let (easiest, wanted) = (channel.bounds.easiest, channel.wanted);
            if wanted < easiest {
                self.move_to(index, easiest, now, out);
            }
            if self.channels[index].exponent < easiest {
                // Only of a channel that selects its work: its next job may come much later.
                self.set_target(index, easiest, out);
            }
            // A lower floor may leave a way down that was not there.
            let deadline = self.rate_deadline(index);
            self.wake_by(deadline);
        }
    }

    fn follow_templates(&mut self, old: &Work, work: &Work, now: Now, out: &mut Outbox) {
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
        self.follow_future(old, work, now, out);
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
        self.jobs.forget_future(|job| !job.source.is_made_of(template));
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
        let template = job.source.template.as_ref().expect("a custom job never waits for its tip");
        job.source = self.shared.source(template, Some(tip), extranonce_len);
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
            tag: group.tag(settings.msp_key, template),
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
        if self.work_selection {
            return;
        }
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
        if self.work_selection {
            return;
        }
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
    /// when it is there already. A channel that selects its work moves with its next job.
    pub(crate) fn move_to(&mut self, index: usize, exponent: Exponent, now: Now, out: &mut Outbox) {
        if self.work_selection {
            return self.want(index, exponent, now, out);
        }
        let channel = &mut self.channels[index];
        if channel.exponent == exponent {
            return;
        }
        channel.exponent = exponent;
        channel.wanted = exponent;
        channel.vardiff = Vardiff::new(now.mono_ms);
        let owner = channel.owner;
        self.regroup(index, owner, now, out);
        self.set_target(index, exponent, out);
        self.send_fresh_jobs(index, now, out);
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
    }

    /// Tells a channel what its next jobs ask for.
    pub(crate) fn set_target(&mut self, index: usize, exponent: Exponent, out: &mut Outbox) {
        let channel = &mut self.channels[index];
        channel.exponent = exponent;
        let (channel_id, maximum_target) = (channel.id, exponent.target().to_le_bytes());
        send(&Message::SetTarget(SetTarget { channel_id, maximum_target }), out);
        count(&self.shared.counters.retargets, 1);
        out.events.push(Event::ExponentChanged { channel: channel_id, exponent });
    }
}
