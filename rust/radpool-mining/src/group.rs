//! Groups: channels of a connection that share jobs because nothing in them differs.
//!
//! Every channel is in exactly one group. Members have one owner, one exponent and one extranonce
//! size, so that one coinbase serves them all. Jobs of a group with several members are addressed
//! to the group; the only member of a group is addressed by its own id, which every client
//! understands. A channel that moves on the ladder goes to a group that fits it, or takes its own along
//! when it is alone there, or starts a new one; SetGroupChannel tells the client unless the group
//! stays. Connections that require standard jobs or select their work only ever have groups of one.

use std::sync::Arc;

use radpool_units::{Exponent, Now};
use radpool_wire::message::{Message, SetGroupChannel};

use crate::{ChannelOwner, Connection, Outbox, Template, connection::send, job::JobTag};

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: u32,
    pub(crate) owner: ChannelOwner,
    pub(crate) exponent: Exponent,
    pub(crate) extranonce_len: u8,
    pub(crate) members: u32,
    /// The member, while there is only one.
    pub(crate) sole: u32,
    /// The future job that was sent last and is still of use, or 0.
    pub(crate) future_job: u32,
    tag: Option<Arc<JobTag>>,
}

impl Group {
    pub(crate) fn new(
        id: u32,
        owner: ChannelOwner,
        exponent: Exponent,
        extranonce_len: u8,
        member: u32,
    ) -> Self {
        let (members, future_job, tag) = (1, 0, None);
        Self { id, owner, exponent, extranonce_len, members, sole: member, future_job, tag }
    }

    /// Whom jobs are addressed to.
    pub(crate) fn addressee(&self) -> u32 {
        if self.members == 1 { self.sole } else { self.id }
    }

    pub(crate) fn fits(
        &self,
        owner: &ChannelOwner,
        exponent: Exponent,
        extranonce_len: u8,
    ) -> bool {
        self.exponent == exponent && self.extranonce_len == extranonce_len && self.owner == *owner
    }

    /// The tag of the group's jobs on a template; kept until something in it changes.
    pub(crate) fn tag(&mut self, msp_key: [u8; 32], template: &Template) -> Arc<JobTag> {
        let (epoch, output) = (template.epoch, template.owner_output.as_ref());
        if let Some(tag) = &self.tag
            && tag.owner.epoch == epoch
            && output.map_or(!tag.given, |output| tag.given && tag.output == *output)
        {
            return Arc::clone(tag);
        }
        let tag = Arc::new(JobTag::new(msp_key, &self.owner, epoch, self.exponent, output));
        self.tag = Some(Arc::clone(&tag));
        tag
    }

    /// Gives the group's further jobs another owner or exponent.
    pub(crate) fn retag(&mut self, owner: ChannelOwner, exponent: Exponent) {
        self.owner = owner;
        self.exponent = exponent;
        self.tag = None;
    }
}

impl Connection {
    /// Puts a channel whose owner or exponent changed into a group that fits.
    pub(crate) fn regroup(
        &mut self,
        index: usize,
        owner: ChannelOwner,
        now: Now,
        out: &mut Outbox,
    ) {
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
        if !self.shared.settings.group_jobs || self.standard_jobs || self.work_selection {
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
}
