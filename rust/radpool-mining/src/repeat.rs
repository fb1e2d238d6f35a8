//! Shares that come again with something for an extension.
//!
//! A share counts once. But what it carried may have been refused by the extension, or the extension
//! was not there to take it, so the same share may come again and carry something else. It is
//! validated like any other, proof of work included, and then handed up as an event: no record, no
//! work, no statistics. A new tip in between does not matter as long as the job is remembered.
//! Bounds: the rate of shares, then a rate and burst of its own, and the bytes that may wait.

use std::sync::Arc;

use radpool_units::{Hash256, Now};

use crate::{
    Attachment, CloseReason, Connection, Event, Outbox, Reject, RepeatedShare,
    counters::count,
    extension::tlvs_where,
    job::{Job, JobTag},
    submit::Refusal,
};

/// A repeated share and its job.
#[derive(Debug)]
pub(crate) struct Repeat {
    channel: u32,
    sequence: u32,
    hash: Hash256,
    tag: Arc<JobTag>,
    height: u32,
}

impl Repeat {
    pub(crate) fn new(channel: u32, sequence: u32, job: &Job, hash: Hash256) -> Self {
        let (tag, height) = (Arc::clone(&job.tag), job.source.body.height);
        Self { channel, sequence, hash, tag, height }
    }
}

impl Connection {
    /// Hands a valid share that was seen before to the extension that it carries something for.
    pub(crate) fn repeat(
        &mut self,
        repeat: Repeat,
        attachment: Attachment,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        if !self.repeat_is_granted(now) {
            return Err(Reject::SubmitRate.into());
        }
        let Attachment { extension_type, msg_type, error_type, bytes } = attachment;
        let data = if error_type.is_some() {
            bytes
        } else {
            let own = tlvs_where(&bytes, |tlv| tlv.extension_type == extension_type);
            drop(bytes);
            self.hold(&own).ok_or(Refusal::Close(CloseReason::ExtensionBytes))?
        };
        count(&self.shared.counters.shares_repeated, 1);
        out.events.push(Event::RepeatedShare(Box::new(RepeatedShare {
            channel: repeat.channel,
            sequence: repeat.sequence,
            extension_type,
            msg_type,
            error_type,
            hash: repeat.hash,
            exponent: repeat.tag.exponent,
            account: repeat.tag.account,
            epoch: repeat.tag.owner.epoch,
            height: repeat.height,
            data,
        })));
        Ok(())
    }
}
