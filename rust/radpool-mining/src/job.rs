//! Jobs: what was sent, under which tag, and how long it counts.

use std::sync::Arc;

use radpool_ledger::Owner;
use radpool_units::{Exponent, Now, merkle_root_from_path};
use radpool_wire::{
    frame::FrameHeader,
    message::{Message, NewMiningJob},
};

use crate::{command::ChannelOwner, validate::coinbase_txid, work::JobSource};

const MSG_NEW_EXTENDED_MINING_JOB: u8 = 0x1f;

/// Owner and weight of a job's shares, as its coinbase has them; shared by the jobs of a group.
#[derive(Debug)]
pub(crate) struct JobTag {
    pub(crate) account: u64,
    pub(crate) owner: Owner,
    pub(crate) exponent: Exponent,
    pub(crate) output: Arc<[u8]>,
    /// Whether the output came with the template: then it says nothing of owner and exponent.
    pub(crate) given: bool,
}

impl JobTag {
    /// Makes the tag of an owner's jobs; `output` is what stands in its place, if anything does.
    pub(crate) fn new(
        msp_key: [u8; 32],
        channel_owner: &ChannelOwner,
        epoch: u32,
        exponent: Exponent,
        output: Option<&Arc<[u8]>>,
    ) -> Self {
        let owner = Owner {
            msp_key,
            commitment: channel_owner.commitment,
            epoch,
            rail: channel_owner.rail,
        };
        let given = output.is_some();
        let output = match output {
            Some(output) => Arc::clone(output),
            None => Arc::new(owner.tag(exponent).to_output()),
        };
        Self { account: channel_owner.account, owner, exponent, output, given }
    }
}

/// Where a job is in its life. Future → Active → Past or Stale; or Future → forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// Sent ahead of its tip: not to be mined yet.
    Future,
    /// To be mined.
    Active,
    /// Replaced on the same tip: its shares count until the time given.
    Past { until_ms: u64 },
    /// Of an earlier tip: its shares are told to be stale until the time given.
    Stale { until_ms: u64 },
}

/// A job as it was sent.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u32,
    /// The group that it was made for.
    pub(crate) group: u32,
    /// The channel or group that it was sent to.
    pub(crate) addressee: u32,
    pub(crate) state: JobState,
    /// Monotonic time from which it could be mined.
    pub(crate) since_ms: u64,
    pub(crate) source: Arc<JobSource>,
    pub(crate) tag: Arc<JobTag>,
}

/// The jobs of a connection, by rising id.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Vec<Job>);

impl Jobs {
    pub(crate) fn push(&mut self, job: Job) {
        if self.0.capacity() == 0 {
            // Most connections have one channel, with a job and its predecessor.
            self.0.reserve_exact(2);
        }
        self.0.push(job);
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Job> {
        self.0.binary_search_by_key(&id, |job| job.id).ok().map(|index| &self.0[index])
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Job> {
        self.0.binary_search_by_key(&id, |job| job.id).ok().map(|index| &mut self.0[index])
    }

    /// Turns the active jobs that `which` picks into past ones, and forgets what has expired.
    pub(crate) fn retire(&mut self, now: Now, past_ms: u64, which: impl Fn(&Job) -> bool) {
        let until_ms = now.mono_ms + past_ms;
        for job in &mut self.0 {
            if job.state == JobState::Active && which(job) {
                job.state = JobState::Past { until_ms };
            }
        }
        self.forget_expired(now);
    }

    /// Makes all jobs but the future ones stale, and forgets what has expired.
    pub(crate) fn make_stale(&mut self, now: Now, stale_ms: u64) {
        let until_ms = now.mono_ms + stale_ms;
        for job in &mut self.0 {
            if matches!(job.state, JobState::Active | JobState::Past { .. }) {
                job.state = JobState::Stale { until_ms };
            }
        }
        self.forget_expired(now);
    }

    /// Forgets the future jobs that `which` picks: they will never be mined.
    pub(crate) fn forget_future(&mut self, which: impl Fn(&Job) -> bool) {
        self.0.retain(|job| job.state != JobState::Future || !which(job));
    }

    /// Forgets the oldest jobs that are not to be mined any more, when there are more than so many.
    pub(crate) fn keep_newest(&mut self, count: usize) {
        let mut excess = self.0.len().saturating_sub(count);
        self.0.retain(|job| {
            let forget = excess > 0 && job.state != JobState::Active;
            excess -= usize::from(forget);
            !forget
        });
    }

    fn forget_expired(&mut self, now: Now) {
        self.0.retain(|job| match job.state {
            JobState::Future | JobState::Active => true,
            JobState::Past { until_ms } | JobState::Stale { until_ms } => now.mono_ms < until_ms,
        });
        if self.0.capacity() > 8 && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
    }
}

/// Appends NewExtendedMiningJob for `job`, from borrowed parts: at each template this is the bulk of
/// what the pool writes.
pub(crate) fn write_extended_job(job: &Job, version_rolling: bool, out: &mut Vec<u8>) {
    let body = &job.source.body;
    let suffix_len =
        body.coinbase_before_tag.len() + job.tag.output.len() + body.coinbase_after_tag.len();
    let start = out.len();
    out.extend_from_slice(&[0; radpool_wire::frame::HEADER_LEN]);
    out.extend_from_slice(&job.addressee.to_le_bytes());
    out.extend_from_slice(&job.id.to_le_bytes());
    match min_ntime(job) {
        Some(min_ntime) => {
            out.push(1);
            out.extend_from_slice(&min_ntime.to_le_bytes());
        }
        None => out.push(0),
    }
    out.extend_from_slice(&body.version.to_le_bytes());
    out.push(version_rolling.into());
    // Template::check() bounds the path by 32 and both coinbase parts by 65535.
    out.push(body.merkle_path.len() as u8);
    out.extend_from_slice(body.merkle_path.as_flattened());
    out.extend_from_slice(&(body.coinbase_prefix.len() as u16).to_le_bytes());
    out.extend_from_slice(&body.coinbase_prefix);
    out.extend_from_slice(&(suffix_len as u16).to_le_bytes());
    out.extend_from_slice(&body.coinbase_before_tag);
    out.extend_from_slice(&job.tag.output);
    out.extend_from_slice(&body.coinbase_after_tag);
    let payload = out.len() - start - radpool_wire::frame::HEADER_LEN;
    let header = FrameHeader {
        extension_type: 0,
        channel_msg: true,
        msg_type: MSG_NEW_EXTENDED_MINING_JOB,
        payload_len: payload as u32,
    };
    out[start..start + radpool_wire::frame::HEADER_LEN].copy_from_slice(&header.to_bytes());
}

/// Makes NewMiningJob for `job` on a channel whose full extranonce is `extranonce`.
pub(crate) fn standard_job(job: &Job, extranonce: &[u8]) -> Message<'static> {
    let txid = coinbase_txid(&job.source.body, extranonce, &job.tag.output);
    Message::NewMiningJob(NewMiningJob {
        channel_id: job.addressee,
        job_id: job.id,
        min_ntime: min_ntime(job),
        version: job.source.body.version,
        merkle_root: merkle_root_from_path(txid, &job.source.body.merkle_path).0,
    })
}

fn min_ntime(job: &Job) -> Option<u32> {
    match job.state {
        JobState::Future => None,
        _ => job.source.tip.map(|tip| tip.min_ntime),
    }
}
