//! A bound on how often something may happen: a long-run rate and a burst.

/// What a bucket says to one more event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Within rate and burst.
    Yes,
    /// Above them.
    No,
    /// Above them by more than another burst.
    Exhausted,
}

/// Tokens that flow in at a rate and out by one an event; excess makes debt, down to one burst.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In thousandths of a token, so that each millisecond adds a whole number.
    level: i64,
    filled_ms: u64,
}

impl Bucket {
    /// Starts full.
    #[must_use]
    pub fn full(burst: u32, now_ms: u64) -> Self {
        Self { level: i64::from(burst) * 1000, filled_ms: now_ms }
    }

    /// Takes a token.
    pub fn take(&mut self, per_second: u32, burst: u32, now_ms: u64) -> Grant {
        let burst = i64::from(burst) * 1000;
        let elapsed = i64::try_from(now_ms.saturating_sub(self.filled_ms)).unwrap_or(i64::MAX);
        let inflow = elapsed.saturating_mul(per_second.into());
        self.level = self.level.saturating_add(inflow).min(burst);
        self.filled_ms = self.filled_ms.max(now_ms);
        self.level -= 1000;
        if self.level >= 0 {
            Grant::Yes
        } else if self.level >= -burst {
            Grant::No
        } else {
            self.level = -burst;
            Grant::Exhausted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_then_debt_ends_it() {
        let mut bucket = Bucket::full(3, 0);
        let mut take = |now_ms| bucket.take(2, 3, now_ms);
        assert_eq!(
            [take(0), take(0), take(0), take(0)],
            [Grant::Yes, Grant::Yes, Grant::Yes, Grant::No]
        );
        // A debt of one token: paid after 500 ms, one more is there after 1000 ms.
        assert_eq!(take(999), Grant::No);
        assert_eq!(take(2_000), Grant::Yes);
        assert_eq!([take(2_000), take(2_000)], [Grant::Yes, Grant::No]);
        assert_eq!([take(2_000), take(2_000)], [Grant::No; 2]);
        assert_eq!(take(2_000), Grant::Exhausted);
        // Time that goes back changes nothing.
        assert_eq!(take(0), Grant::Exhausted);
        assert_eq!(take(1_000_000), Grant::Yes);
    }
}
