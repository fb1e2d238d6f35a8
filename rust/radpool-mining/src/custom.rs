//! Custom jobs: what a client that selects its work mines instead of the pool's templates.
//!
//! A job is asked for, then accepted or refused by the pool. The last one accepted is its channel's
//! active job, until the next one or a new tip. Its owner output is among the outputs that the
//! client sent: the tag decides who earned a share and its weight, so the channel's target follows
//! the tag, and vardiff can only say which tag it wants next. What a verifier of the ledger would
//! not accept becomes no job.
//!
//! Bounds: requests waiting (`custom_jobs_pending`), jobs remembered (`custom_jobs_kept`), the frame
//! (`custom_job_frame_bytes`), the rate (`requests_per_second`).
//!
//! Source: sv2-spec, sections 5.3.18 to 5.3.20.

use std::sync::Arc;

use radpool_ledger::{CoinbaseFault, TemplateBody, check_coinbase};
use radpool_units::{Exponent, Now, Target};
use radpool_wire::{
    error_code,
    message::{Message, SetCustomMiningJob, SetCustomMiningJobError, SetCustomMiningJobSuccess},
};

use crate::{
    Connection, CustomGrant, Event, Outbox, Tip, Work,
    connection::send,
    counters::count,
    job::{Job, JobState, JobTag},
    output::{Outputs, count_outputs, push_compact_size, read_compact_size},
    settings::SCRIPT_SIG_MAX,
    vardiff::Vardiff,
    work::{JobSource, MERKLE_PATH_MAX, coinbase_start},
};

/// Templates of clients have numbers from here on, so that none is taken for one of a source.
pub const DECLARED_TEMPLATES: u64 = 1 << 63;

/// A job that a client wants to mine, whole in form.
#[derive(Debug)]
pub struct CustomJob {
    /// Unique on the connection.
    pub request: u32,
    /// The channel's step when it was asked for.
    pub exponent: Exponent,
    /// Length of the channel's whole extranonce, which follows `coinbase_prefix`.
    pub extranonce_len: u8,
    pub output_count: u16,
    /// As the client sent it, but for the outputs, whose count is cut off.
    pub message: SetCustomMiningJob,
}

impl Connection {
    /// Asks the pool about a job of the client's own.
    pub(crate) fn on_custom_job(&mut self, message: SetCustomMiningJob, out: &mut Outbox) {
        let (channel_id, request_id) = (message.channel_id, message.request_id);
        match self.check_custom_job(message) {
            Ok(job) => {
                self.next_request = self.next_request.wrapping_add(1);
                let job = Arc::new(job);
                self.custom_jobs.push(Arc::clone(&job));
                out.events.push(Event::CustomJobRequested(job));
            }
            Err(code) => self.send_custom_error(channel_id, request_id, code.into(), out),
        }
    }

    fn check_custom_job(&self, mut message: SetCustomMiningJob) -> Result<CustomJob, &'static str> {
        if !self.work_selection {
            return Err(error_code::JD_NOT_SUPPORTED);
        }
        // A group is no channel, and all channels of such a client are extended ones.
        let index = self.channel_index(message.channel_id).ok_or(error_code::INVALID_CHANNEL_ID)?;
        if self.custom_jobs.len() >= self.shared.settings.limits.custom_jobs_pending as usize {
            return Err(error_code::CUSTOM_JOB_CAPACITY_EXHAUSTED);
        }
        let channel = &self.channels[index];
        let extranonce_len = channel.extranonce_len();
        if message.coinbase_prefix.len() + usize::from(extranonce_len) > SCRIPT_SIG_MAX {
            return Err(error_code::INVALID_COINBASE_PREFIX);
        }
        if Target::from_compact(message.nbits).is_err() {
            return Err(error_code::INVALID_NBITS);
        }
        if message.merkle_path.len() > MERKLE_PATH_MAX {
            return Err(error_code::INVALID_MERKLE_PATH);
        }
        let (output_count, outputs) = cut_outputs(&message.coinbase_tx_outputs)
            .ok_or(error_code::INVALID_COINBASE_TX_OUTPUTS)?;
        message.coinbase_tx_outputs = outputs;
        let (request, exponent) = (self.next_request, channel.exponent);
        Ok(CustomJob { request, exponent, extranonce_len, output_count, message })
    }

    pub(crate) fn refuse_custom_job(
        &mut self,
        channel: u32,
        request: u32,
        code: Vec<u8>,
        out: &mut Outbox,
    ) {
        if let Some(job) = self.take_custom_job(channel, request) {
            self.send_custom_error(channel, job.message.request_id, code, out);
        }
    }

    pub(crate) fn accept_custom_job(
        &mut self,
        channel: u32,
        request: u32,
        grant: &CustomGrant,
        now: Now,
        out: &mut Outbox,
    ) {
        let Some(job) = self.take_custom_job(channel, request) else { return };
        // The tip may have moved while the pool decided.
        self.follow_work(now, out);
        let tag = JobTag::new(
            self.shared.settings.msp_key,
            &grant.owner,
            grant.epoch,
            grant.exponent,
            None,
        );
        match lay_out(&job, grant, &tag, &self.work) {
            Ok(source) => self.set_custom_job(&job, source, tag, now, out),
            Err(code) => {
                self.send_custom_error(channel, job.message.request_id, code.into(), out);
                out.events.push(Event::CustomJobFailed { channel, request, code });
            }
        }
    }

    fn set_custom_job(
        &mut self,
        job: &CustomJob,
        source: JobSource,
        tag: JobTag,
        now: Now,
        out: &mut Outbox,
    ) {
        let (channel_id, request_id) = (job.message.channel_id, job.message.request_id);
        let index = self.channel_index(channel_id).expect("a request goes with its channel");
        let channel = &mut self.channels[index];
        let moves = channel.exponent != tag.exponent;
        if moves || !channel.has_mined {
            channel.vardiff = Vardiff::new(now.mono_ms);
        }
        channel.has_mined = true;
        let group = channel.group;
        if moves {
            self.set_target(index, tag.exponent, out);
        }
        let settings = &self.shared.settings;
        let kept = settings.limits.custom_jobs_kept as usize;
        self.jobs.retire(now, settings.job_past_ms, |other| other.addressee == channel_id);
        let job_id = self.next_job;
        self.next_job = job_id.checked_add(1).expect("job ids of a connection do not run out");
        self.jobs.push(Job {
            id: job_id,
            group,
            addressee: channel_id,
            state: JobState::Active,
            since_ms: now.mono_ms,
            source: Arc::new(source),
            tag: Arc::new(tag),
        });
        self.jobs.keep_newest(kept);
        let success = SetCustomMiningJobSuccess { channel_id, request_id, job_id };
        send(&Message::SetCustomMiningJobSuccess(success), out);
        count(&self.shared.counters.custom_jobs_accepted, 1);
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
    }

    fn take_custom_job(&mut self, channel: u32, request: u32) -> Option<Arc<CustomJob>> {
        let index = self
            .custom_jobs
            .iter()
            .position(|job| job.request == request && job.message.channel_id == channel)?;
        let job = self.custom_jobs.remove(index);
        if self.custom_jobs.is_empty() {
            self.custom_jobs = Vec::new();
        }
        Some(job)
    }

    /// Forgets what a channel that is gone has asked for.
    pub(crate) fn forget_custom_jobs(&mut self, channel: u32) {
        self.custom_jobs.retain(|job| job.message.channel_id != channel);
    }

    /// Lets the jobs of earlier tips go stale, when a client makes its own for each tip.
    pub(crate) fn follow_tip(&mut self, old: &Work, now: Now) {
        let prev_hash = |work: &Work| work.active.as_ref().map(|(_, tip)| tip.prev_hash);
        if prev_hash(old) != prev_hash(&self.work) {
            self.jobs.make_stale(now, self.shared.settings.job_stale_ms);
        }
    }

    /// Asks for tags of another step, unless that was asked for before.
    pub(crate) fn want(&mut self, index: usize, exponent: Exponent, now: Now, out: &mut Outbox) {
        let channel = &mut self.channels[index];
        // What was observed has led to this.
        channel.vardiff = Vardiff::new(now.mono_ms);
        if channel.wanted != exponent {
            channel.wanted = exponent;
            let channel = channel.id;
            out.events.push(Event::ExponentWanted { channel, exponent });
        }
        let deadline = self.rate_deadline(index);
        self.wake_by(deadline);
    }

    fn send_custom_error(
        &self,
        channel_id: u32,
        request_id: u32,
        error_code: Vec<u8>,
        out: &mut Outbox,
    ) {
        count(&self.shared.counters.custom_jobs_refused, 1);
        let error = SetCustomMiningJobError { channel_id, request_id, error_code };
        send(&Message::SetCustomMiningJobError(error), out);
    }
}

/// Cuts the count off serialised outputs; `None` when they are not as many, whole and nothing else.
fn cut_outputs(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (count, outputs) = read_compact_size(bytes)?;
    let count = u16::try_from(count).ok()?;
    (count_outputs(outputs) == Some(count.into())).then(|| (count, outputs.to_vec()))
}

/// Lays out a custom job on the tip that it names, or says why it cannot be mined.
fn lay_out(
    job: &CustomJob,
    grant: &CustomGrant,
    tag: &JobTag,
    work: &Work,
) -> Result<JobSource, &'static str> {
    let message = &job.message;
    if work.active.as_ref().is_none_or(|(_, tip)| tip.prev_hash != message.prev_hash) {
        return Err(error_code::STALE_CHAIN_TIP);
    }
    let tip = Tip {
        template_id: grant.template_id,
        prev_hash: message.prev_hash,
        min_ntime: message.min_ntime,
        nbits: message.nbits,
        target: grant.target,
        price: grant.price,
    };
    tip.check().map_err(|_| error_code::INVALID_NBITS)?;
    let (before, after) = split_at_tag(&message.coinbase_tx_outputs, &tag.output)
        .ok_or(error_code::INVALID_COINBASE_TX_OUTPUTS)?;
    let script_len = message.coinbase_prefix.len() + usize::from(job.extranonce_len);
    let mut coinbase_prefix = coinbase_start(message.coinbase_tx_version, script_len);
    coinbase_prefix.extend_from_slice(&message.coinbase_prefix);
    let mut coinbase_before_tag = message.coinbase_tx_input_n_sequence.to_le_bytes().to_vec();
    push_compact_size(&mut coinbase_before_tag, job.output_count);
    coinbase_before_tag.extend_from_slice(before);
    let body = TemplateBody {
        version: message.version,
        prev_hash: message.prev_hash,
        nbits: message.nbits,
        height: grant.height,
        coinbase_prefix,
        coinbase_before_tag,
        coinbase_after_tag: [after, &message.coinbase_tx_locktime.to_le_bytes()].concat(),
        merkle_path: message.merkle_path.clone(),
    };
    check_as_verifier(&body, job.extranonce_len, tag)?;
    Ok(JobSource {
        template_id: grant.template_id,
        template: None,
        tip: Some(tip),
        extranonce_len: job.extranonce_len,
        body: Arc::new(body),
    })
}

/// Splits outputs around the first that is the tag; `None` when none is.
fn split_at_tag<'bytes>(outputs: &'bytes [u8], tag: &[u8]) -> Option<(&'bytes [u8], &'bytes [u8])> {
    let mut before = 0;
    for output in Outputs::new(outputs).flatten() {
        if output == tag {
            return Some((&outputs[..before], &outputs[before + tag.len()..]));
        }
        before += output.len();
    }
    None
}

/// Checks what every verifier of the ledger will check of the job's shares.
fn check_as_verifier(
    body: &TemplateBody,
    extranonce_len: u8,
    tag: &JobTag,
) -> Result<(), &'static str> {
    let extranonce = [0; 32];
    let extranonce = &extranonce[..extranonce_len.into()];
    let mut coinbase = Vec::new();
    body.write_coinbase(extranonce, &tag.output, &mut coinbase);
    let extranonce_at = (body.coinbase_prefix.len(), extranonce.len());
    let script = tag.owner.tag(tag.exponent).to_script();
    check_coinbase(&coinbase, extranonce_at, body.height, &script).map_err(|fault| match fault {
        CoinbaseFault::Shape => error_code::INVALID_COINBASE_TX,
        CoinbaseFault::Height => error_code::INVALID_COINBASE_PREFIX,
        CoinbaseFault::OwnerTag => error_code::INVALID_COINBASE_TX_OUTPUTS,
    })
}
