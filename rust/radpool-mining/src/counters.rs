//! Pool-wide counters and gauges.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::reject::{REJECT_CODES, Reject};

/// What all connections of a pool have done, for metrics; each number alone is exact, several read
/// together need not be of one moment.
#[derive(Debug, Default)]
pub struct Counters {
    pub connections_set_up: AtomicU64,
    pub channels_opened: AtomicU64,
    pub channels_closed: AtomicU64,
    pub shares_accepted: AtomicU64,
    pub shares_rejected: [AtomicU64; REJECT_CODES],
    pub solutions: AtomicU64,
    pub jobs_sent: AtomicU64,
    pub retargets: AtomicU64,
    pub frames_ignored: AtomicU64,
    pub extension_frames: AtomicU64,
    pub shares_repeated: AtomicU64,
    pub custom_jobs_accepted: AtomicU64,
    pub custom_jobs_refused: AtomicU64,
}

impl Counters {
    /// How many shares were refused for `reject`.
    #[must_use]
    pub fn rejected(&self, reject: Reject) -> u64 {
        self.shares_rejected[reject.index()].load(Ordering::Relaxed)
    }

    /// How many channels are open.
    #[must_use]
    pub fn channels_open(&self) -> u64 {
        let closed = self.channels_closed.load(Ordering::Relaxed);
        self.channels_opened.load(Ordering::Relaxed).saturating_sub(closed)
    }
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
