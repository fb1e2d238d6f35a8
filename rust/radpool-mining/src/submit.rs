//! Shares: from the message to a record, or to the error that the client is told.

use radpool_units::Now;
use radpool_wire::message::{
    Message, SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess,
};

use crate::{
    ChannelKind, CloseReason, Connection, Outbox, Reject, Seen, ShareRecord, Solution,
    bucket::Grant,
    channel::Channel,
    connection::{send, send_by},
    counters::count,
    extension::{Attached, Tail},
    job::Job,
    repeat::Repeat,
    validate::{Attempt, Proof, check_state, coinbase_in_block, prove},
};

/// The fields that both kinds of shares have.
#[derive(Clone, Copy, Debug)]
struct Share<'frame> {
    kind: ChannelKind,
    channel: u32,
    sequence: u32,
    job: u32,
    version: u32,
    ntime: u32,
    nonce: u32,
    /// What the client put behind its prefix.
    rolled: &'frame [u8],
    tail: Tail<'frame>,
}

/// Why a share leads to nothing.
pub(crate) enum Refusal {
    Reject(Reject),
    Close(CloseReason),
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl Connection {
    pub(crate) fn on_standard_share(
        &mut self,
        share: &SubmitSharesStandard,
        now: Now,
        out: &mut Outbox,
    ) {
        let share = Share {
            kind: ChannelKind::Standard,
            channel: share.channel_id,
            sequence: share.sequence_number,
            job: share.job_id,
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
            rolled: &[],
            tail: Tail::Tlvs(&[]),
        };
        self.on_share(&share, now, out);
    }

    pub(crate) fn on_extended_share(
        &mut self,
        share: &SubmitSharesExtended<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        self.on_share_with_tail(share, Tail::Tlvs(share.tail), now, out);
    }

    pub(crate) fn on_share_with_tail(
        &mut self,
        share: &SubmitSharesExtended<'_>,
        tail: Tail<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let share = Share {
            kind: ChannelKind::Extended,
            channel: share.channel_id,
            sequence: share.sequence_number,
            job: share.job_id,
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
            rolled: share.extranonce,
            tail,
        };
        self.on_share(&share, now, out);
    }

    fn on_share(&mut self, share: &Share<'_>, now: Now, out: &mut Outbox) {
        match self.take_submit(now) {
            Grant::Yes => {}
            Grant::No => return self.reject(share, Reject::SubmitRate, now, out),
            Grant::Exhausted => return self.close(CloseReason::SubmitRate, now, out),
        }
        match self.judge(share, now, out) {
            Ok(()) => {}
            Err(Refusal::Reject(reject)) => self.reject(share, reject, now, out),
            Err(Refusal::Close(reason)) => self.close(reason, now, out),
        }
    }

    /// Validates a share and records it; see `docs/reference/share-validation.md` for the order.
    fn judge(&mut self, share: &Share<'_>, now: Now, out: &mut Outbox) -> Result<(), Refusal> {
        let index = self.channel_index(share.channel).ok_or(Reject::InvalidChannelId)?;
        let channel = &self.channels[index];
        if channel.kind != share.kind {
            return Err(Reject::InvalidChannelId.into());
        }
        let attached = self.read_tail(share.tail)?;
        let job = self.jobs.get(share.job).ok_or(Reject::InvalidJobId)?;
        check_addressee(job, channel, self.shared.settings.job_past_ms, now)?;
        match check_state(job, now) {
            Err(Reject::StaleShare) if attached.is_some() => {
                return self.judge_stale(share, index, &attached, now, out);
            }
            state => state?,
        }
        let (extranonce, proof) = self.prove(share, channel, job, now)?;
        if !proof.solves_block && !proof.is_share {
            return Err(Reject::DifficultyTooLow.into());
        }
        // Before the header counts as seen: a share that cannot be kept whole may come again.
        let attachment =
            if proof.is_share { self.attachment(&attached).map_err(Refusal::Close)? } else { None };
        let job = self.jobs.get(share.job).expect("it was there a moment ago");
        if self.shared.seen.insert(&job.source.body.prev_hash, &proof.hash) == Seen::Before {
            let repeat = Repeat::new(share.channel, share.sequence, job, proof.hash);
            return match attachment {
                Some(attachment) => self.repeat(repeat, *attachment, now, out),
                None => Err(Reject::DuplicateShare.into()),
            };
        }
        if proof.solves_block {
            let extranonce = &extranonce[..self.channels[index].extranonce_len().into()];
            out.solutions.push(self.solution(share, job, extranonce, &proof));
            count(&self.shared.counters.solutions, 1);
        }
        if !proof.is_share {
            return Err(Reject::DifficultyTooLow.into());
        }
        out.shares.push(ShareRecord {
            connection: self.id,
            channel_id: share.channel,
            sequence: share.sequence,
            account: job.tag.account,
            owner: job.tag.owner,
            exponent: job.tag.exponent,
            body: job.source.body.clone(),
            price: job.source.tip.map_or(0, |tip| tip.price),
            template_id: job.source.template_id,
            job: job.id,
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
            extranonce,
            extranonce_len: self.channels[index].extranonce_len(),
            hash: proof.hash,
            worker: 0,
            attachment,
            unix_ms: now.unix_ms,
        });
        self.count_accepted(index, &attached, now, out);
        Ok(())
    }

    /// Judges a share on a job of an earlier tip that brings something for an extension: it counts no
    /// more, but if it did in time, then what it brings now may be taken.
    fn judge_stale(
        &mut self,
        share: &Share<'_>,
        index: usize,
        attached: &Attached<'_>,
        now: Now,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let stale = Refusal::Reject(Reject::StaleShare);
        let job = self.jobs.get(share.job).expect("it was there a moment ago");
        let Ok((_, proof)) = self.prove(share, &self.channels[index], job, now) else {
            return Err(stale);
        };
        let seen = &self.shared.seen;
        if !proof.is_share || !seen.contains(&job.source.body.prev_hash, &proof.hash) {
            return Err(stale);
        }
        let repeat = Repeat::new(share.channel, share.sequence, job, proof.hash);
        match self.attachment(attached).map_err(Refusal::Close)? {
            Some(attachment) => self.repeat(repeat, *attachment, now, out),
            None => Err(stale),
        }
    }

    /// Puts a share's header together and hashes it; returns the full extranonce too.
    fn prove(
        &self,
        share: &Share<'_>,
        channel: &Channel,
        job: &Job,
        now: Now,
    ) -> Result<([u8; 32], Proof), Reject> {
        if share.rolled.len() != channel.rolled_len() {
            return Err(Reject::BadExtranonceSize);
        }
        let extranonce = channel.extranonce(job.id, share.rolled);
        let attempt = Attempt {
            extranonce: &extranonce[..channel.extranonce_len().into()],
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
        };
        let proof = prove(job, &attempt, &self.shared.settings, now)?;
        Ok((extranonce, proof))
    }

    /// Keeps count of the share that was just recorded, names its worker, and lets vardiff see it.
    fn count_accepted(
        &mut self,
        index: usize,
        attached: &Attached<'_>,
        now: Now,
        out: &mut Outbox,
    ) {
        let channel_id = self.channels[index].id;
        let worker = self.worker(channel_id, attached.worker, out);
        let record = out.shares.last_mut().expect("the share was just recorded");
        record.worker = worker;
        let exponent = record.exponent;
        count(&self.shared.counters.shares_accepted, 1);
        let settings = &self.shared.settings;
        let (interval_ms, per_minute) = (settings.report_interval_ms, settings.shares_per_minute);
        let channel = &mut self.channels[index];
        let report_ms = channel.count_accepted(exponent.work(), now.mono_ms, interval_ms);
        // A share of a job at another step tells nothing about this one.
        let steps = (exponent == channel.exponent)
            .then(|| channel.vardiff.on_share(now.mono_ms, per_minute))
            .flatten();
        self.wake_by(report_ms);
        if let Some(steps) = steps {
            self.step(index, steps, now, out);
        }
    }

    fn solution(&self, share: &Share<'_>, job: &Job, extranonce: &[u8], proof: &Proof) -> Solution {
        let body = &job.source.body;
        Solution {
            template_id: job.source.template_id,
            connection: self.id,
            channel: share.channel,
            account: job.tag.account,
            header: proof.header,
            coinbase_tx: coinbase_in_block(body, extranonce, &job.tag.output),
            version: share.version,
            ntime: share.ntime,
            nonce: share.nonce,
            extranonce: extranonce.to_vec(),
            hash: proof.hash,
        }
    }

    fn reject(&mut self, share: &Share<'_>, reject: Reject, now: Now, out: &mut Outbox) {
        count(&self.shared.counters.shares_rejected[reject.index()], 1);
        if let Some(index) = self.channel_index(share.channel) {
            let interval_ms = self.shared.settings.report_interval_ms;
            let channel = &mut self.channels[index];
            let report_ms = channel.count_rejected(reject, now.mono_ms, interval_ms);
            self.wake_by(report_ms);
        }
        let by = match share.tail {
            Tail::Message { source, .. } => Some((source.extension_type, source.error_type)),
            Tail::Tlvs(_) => None,
        };
        self.send_submit_error(share.channel, share.sequence, reject.code().into(), by, out);
    }

    pub(crate) fn send_submit_error(
        &self,
        channel_id: u32,
        sequence_number: u32,
        error_code: Vec<u8>,
        by: Option<(u16, u8)>,
        out: &mut Outbox,
    ) {
        let error = SubmitSharesError { channel_id, sequence_number, error_code };
        let message = Message::SubmitSharesError(error);
        match by {
            Some(by) => send_by(by, &message, &[], out),
            None => send(&message, out),
        }
    }

    pub(crate) fn acknowledge(
        &self,
        channel_id: u32,
        last_sequence_number: u32,
        count: u32,
        sum: u64,
        out: &mut Outbox,
    ) {
        // Nothing may be sent about a channel that is closed.
        if self.channel_index(channel_id).is_some() {
            let success = SubmitSharesSuccess {
                channel_id,
                last_sequence_number,
                new_submits_accepted_count: count,
                new_shares_sum: sum,
            };
            send(&Message::SubmitSharesSuccess(success), out);
        }
    }
}

/// Says whether the channel was sent the job: by its own id, or as a member of the job's group. After
/// it has left that group, the group's jobs count for it like past ones.
fn check_addressee(job: &Job, channel: &Channel, past_ms: u64, now: Now) -> Result<(), Reject> {
    let sent =
        job.addressee == channel.id || (job.addressee == job.group && job.id >= channel.first_job);
    let fits = job.source.extranonce_len == channel.extranonce_len();
    let in_time = job.group == channel.group || now.mono_ms < channel.moved_ms + past_ms;
    if sent && fits && in_time { Ok(()) } else { Err(Reject::InvalidJobId) }
}
