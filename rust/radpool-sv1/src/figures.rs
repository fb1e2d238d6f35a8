//! What is counted of a device, for people and for metrics.

use std::collections::BTreeMap;

use radpool_units::Exponent;

use crate::reply::Refusal;

/// Error codes of pools that are told apart; what a pool says beyond them counts as `other`.
const CODES_MAX: usize = 16;

/// What is counted of a device.
#[derive(Clone, Debug, Default)]
pub struct DeviceFigures {
    /// What it says that it is, printable.
    pub agent: String,
    /// Its workers, the one that its channel is named after first.
    pub workers: Vec<WorkerFigures>,
    /// The version bits that it may roll.
    pub version_mask: u32,
    /// What it is asked for.
    pub exponent: Option<Exponent>,
    /// What the pool asks for.
    pub pool_exponent: Option<Exponent>,
    /// Jobs that it was sent.
    pub jobs: u64,
    /// Shares that the pool has acknowledged, and what it says that they are worth.
    pub pool_accepted: u64,
    pub pool_work: u128,
    /// Shares that the pool refused although they were good here, by its error code.
    pub pool_rejected: BTreeMap<String, u64>,
    /// Requests that were refused before any worker was known.
    pub refused: u64,
}

/// What is counted of a worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerFigures {
    pub name: String,
    /// Shares that met what was asked for.
    pub accepted: u64,
    /// What they are worth, in expected hashes.
    pub work: u128,
    /// Of these, the shares that went to the pool; the others do not meet its target.
    pub forwarded: u64,
    /// Refused shares, by the place of the reason in [`Refusal::ALL`].
    pub rejected: [u64; Refusal::ALL.len()],
    /// When the last share came, in milliseconds since 1970; 0 for never.
    pub last_share_unix_ms: u64,
}

impl DeviceFigures {
    /// Counts shares that the pool has acknowledged.
    pub fn count_accepted(&mut self, count: u32, hashes: u64) {
        self.pool_accepted += u64::from(count);
        self.pool_work += u128::from(hashes);
    }

    /// Counts a share that the pool has refused.
    pub fn count_rejected(&mut self, code: &str) {
        let known = self.pool_rejected.contains_key(code);
        let code = if known || self.pool_rejected.len() < CODES_MAX { code } else { "other" };
        *self.pool_rejected.entry(code.to_owned()).or_default() += 1;
    }
}
