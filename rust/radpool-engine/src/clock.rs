//! The one place where the engine reads clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use radpool_units::Now;

/// Measures from the moment of its making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: millis(self.start.elapsed()), unix_ms: millis(unix) }
    }

    /// Nanoseconds of the monotonic clock, for rate limits.
    pub(crate) fn mono_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The runtime's word for a moment of the monotonic clock.
    pub(crate) fn instant(&self, mono_ms: u64) -> tokio::time::Instant {
        let far = Duration::from_secs(86_400 * 365);
        (self.start + Duration::from_millis(mono_ms).min(far)).into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
