//! A mining channel as the client sees it: which job is mined, which ones wait for their tip.
//!
//! Target and extranonce prefix belong to a job, not to the channel: a new prefix counts for jobs
//! that come after it, a new target for those and for the future jobs that already wait. The job
//! that is being mined keeps what it had.

use std::{collections::VecDeque, sync::Arc};

use radpool_units::Target;
use radpool_wire::message::{NewExtendedMiningJob, NewMiningJob, SetNewPrevHash};

use crate::{
    assignment::{Assignment, ChannelKind, Coinbase, JobSource},
    submission::Submissions,
};

/// Future jobs that are kept. A pool sends one ahead, or a few on one tip; the oldest gives way.
const FUTURE_JOBS_MAX: usize = 16;

/// A tip that a channel mines on.
#[derive(Clone, Copy, Debug)]
struct Tip {
    prev_hash: [u8; 32],
    nbits: u32,
    min_ntime: u32,
}

/// A job that waits for the tip it was made for, or that is about to be mined.
#[derive(Clone, Debug)]
struct Job {
    id: u32,
    version: u32,
    version_rolling: bool,
    extranonce_prefix: Vec<u8>,
    source: JobSource,
}

/// The tip names a job that was not sent as a future job before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFutureJob(pub u32);

/// One open channel.
#[derive(Clone, Debug)]
pub struct Channel {
    pub id: u32,
    pub kind: ChannelKind,
    /// The group whose messages count for this channel too.
    pub group_id: u32,
    /// What the pool asks of the next jobs' shares.
    pub target: Target,
    /// How many bytes of extranonce the client rolls: 0 on a standard channel.
    pub rollable: usize,
    /// The pool's part of the extranonce for jobs to come.
    pub extranonce_prefix: Vec<u8>,
    /// Shares under way.
    pub submissions: Submissions,
    tip: Option<Tip>,
    future: VecDeque<Job>,
    active: Option<Arc<Assignment>>,
}

impl Channel {
    /// Starts without any job.
    #[must_use]
    pub fn new(
        id: u32,
        kind: ChannelKind,
        group_id: u32,
        target: Target,
        rollable: usize,
        extranonce_prefix: Vec<u8>,
    ) -> Self {
        Self {
            id,
            kind,
            group_id,
            target,
            rollable,
            extranonce_prefix,
            submissions: Submissions::default(),
            tip: None,
            // One job waits for its tip, as a rule.
            future: VecDeque::with_capacity(1),
            active: None,
        }
    }

    /// Whether a message to `channel_id` is meant for this channel.
    #[must_use]
    pub fn is_addressed(&self, channel_id: u32) -> bool {
        channel_id == self.id || channel_id == self.group_id
    }

    /// What is mined now.
    #[must_use]
    pub fn active(&self) -> Option<&Arc<Assignment>> {
        self.active.as_ref()
    }

    /// Takes in a job whose merkle root the pool has computed.
    pub fn handle_job(&mut self, job: &NewMiningJob, fixed_version: bool) {
        let source = JobSource::Root(job.merkle_root);
        self.add(job.job_id, job.min_ntime, job.version, !fixed_version, source);
    }

    /// Takes in a job whose coinbase the client completes; `coinbase` is the job's, and may be shared
    /// with other channels.
    pub fn handle_extended_job(
        &mut self,
        job: &NewExtendedMiningJob,
        coinbase: Arc<Coinbase>,
        fixed_version: bool,
    ) {
        let rolling = job.version_rolling_allowed && !fixed_version;
        let source = JobSource::Coinbase(coinbase);
        self.add(job.job_id, job.min_ntime, job.version, rolling, source);
    }

    /// Takes in a tip and starts to mine the future job that it names.
    ///
    /// # Errors
    /// [`UnknownFutureJob`] when there is none of that number; nothing is mined then.
    pub fn handle_tip(&mut self, message: &SetNewPrevHash) -> Result<(), UnknownFutureJob> {
        let job = self.future.iter().rposition(|job| job.id == message.job_id);
        let job = job.and_then(|index| self.future.remove(index));
        self.future.clear();
        self.active = None;
        let tip = Tip {
            prev_hash: message.prev_hash,
            nbits: message.nbits,
            min_ntime: message.min_ntime,
        };
        self.tip = Some(tip);
        self.activate(job.ok_or(UnknownFutureJob(message.job_id))?, tip);
        Ok(())
    }

    fn add(
        &mut self,
        id: u32,
        min_ntime: Option<u32>,
        version: u32,
        version_rolling: bool,
        source: JobSource,
    ) {
        let extranonce_prefix = self.extranonce_prefix.clone();
        let job = Job { id, version, version_rolling, extranonce_prefix, source };
        match (min_ntime, self.tip) {
            (Some(min_ntime), Some(tip)) => self.activate(job, Tip { min_ntime, ..tip }),
            // Without a tip there is nothing to mine on, whatever the job says.
            (Some(_), None) => {}
            (None, _) => {
                if self.future.len() == FUTURE_JOBS_MAX {
                    self.future.pop_front();
                }
                self.future.push_back(job);
            }
        }
    }

    fn activate(&mut self, job: Job, tip: Tip) {
        self.active = Some(Arc::new(Assignment {
            channel_id: self.id,
            job_id: job.id,
            version: job.version,
            version_rolling: job.version_rolling,
            prev_hash: tip.prev_hash,
            nbits: tip.nbits,
            min_ntime: tip.min_ntime,
            target: self.target,
            extranonce_prefix: job.extranonce_prefix,
            rollable: self.rollable,
            source: job.source,
        }));
    }
}
