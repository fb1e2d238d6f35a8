//! Groups: channels of a connection that share jobs because nothing in them differs.
//!
//! Every channel is in exactly one group. Members have one owner, one exponent and one extranonce
//! size, so that one coinbase serves them all. Jobs of a group with several members are addressed
//! to the group; the only member of a group is addressed by its own id, which every client
//! understands. A channel that moves on the ladder goes to a group that fits it, or takes its own along
//! when it is alone there, or starts a new one; SetGroupChannel tells the client unless the group
//! stays. Connections that require standard jobs only ever have groups of one.

use std::sync::Arc;

use radpool_units::Exponent;

use crate::{ChannelOwner, job::JobTag};

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

    /// The tag of the group's jobs in an epoch; kept until something in it changes.
    pub(crate) fn tag(&mut self, msp_key: [u8; 32], epoch: u32) -> Arc<JobTag> {
        if let Some(tag) = &self.tag
            && tag.owner.epoch == epoch
        {
            return Arc::clone(tag);
        }
        let tag = Arc::new(JobTag::new(msp_key, &self.owner, epoch, self.exponent));
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
