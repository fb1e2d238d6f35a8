//! When a channel moves on the power-of-two ladder.
//!
//! Shares of a miner come as a Poisson process. Since the last move, n shares came in a time in
//! which the wanted rate makes us expect `λ` of them. The channel's step is kept as long as this is
//! plausible for a rate within a factor √2 of the wanted one (the dead band: a neighbouring step
//! would fit no better). It is moved when less than one such miner in a thousand would be as fast
//! (checked at each share), or as slow (checked when a deadline passes). How far follows from the
//! observed rate, rounded to whole steps.
//!
//! Only shares of jobs at the channel's current step count: those in flight across a move belong to
//! the step before. Refused shares never count. All is in integers; the thresholds are tables.
//!
//! Source: sequential probability tests on Poisson counts; the tables' derivation stands beside them.

use crate::vardiff_table::{DOWN_MICRO, SHARES_MAX, UP_MICRO};

/// Shares from which on a channel can be found too fast: fewer are likely one stalled burst.
const UP_SHARES_MIN: u32 = 6;

/// Observation of one channel since its last move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vardiff {
    since_ms: u64,
    shares: u32,
}

impl Vardiff {
    pub(crate) const fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, shares: 0 }
    }

    /// Counts an accepted share; returns by how many steps to move, if the rate is implausible.
    pub(crate) fn on_share(&mut self, now_ms: u64, per_minute: u32) -> Option<i32> {
        if let Some(down) = self.on_time(now_ms, per_minute) {
            return Some(down);
        }
        self.shares += 1;
        let elapsed = now_ms.saturating_sub(self.since_ms).max(1);
        let fast = self.shares >= UP_SHARES_MIN
            && expected_micro(elapsed, per_minute) < UP_MICRO[self.shares as usize].into();
        if fast {
            // The last share is no observation: it ended the time span.
            return Some(log2_rounded(
                u128::from(self.shares - 1) * 1_000_000,
                expected_micro(elapsed, per_minute),
            ));
        }
        if self.shares as usize >= SHARES_MAX {
            *self = Self::new(now_ms);
        }
        None
    }

    /// Returns by how many steps to move if the shares so far are implausibly few.
    pub(crate) fn on_time(&self, now_ms: u64, per_minute: u32) -> Option<i32> {
        let elapsed = now_ms.saturating_sub(self.since_ms);
        let expected = expected_micro(elapsed, per_minute);
        if expected <= DOWN_MICRO[self.shares as usize].into() {
            return None;
        }
        // A quarter of a share stands for the next one, which is not here yet.
        Some(log2_rounded(u128::from(self.shares) * 1_000_000 + 250_000, expected))
    }

    /// When `on_time()` moves the channel unless a share comes before.
    pub(crate) fn deadline(&self, per_minute: u32) -> u64 {
        let micro = u64::from(DOWN_MICRO[self.shares as usize]);
        // The inverse of expected_micro(), rounded up to the first millisecond above the threshold.
        self.since_ms + micro * 3 / (u64::from(per_minute) * 50) + 1
    }
}

/// Shares expected at the wanted rate, in millionths: `ms * per_minute / 60000 * 10^6`.
fn expected_micro(elapsed_ms: u64, per_minute: u32) -> u128 {
    u128::from(elapsed_ms) * u128::from(per_minute) * 50 / 3
}

/// Rounds `log2(above / below)` to a whole number.
fn log2_rounded(above: u128, below: u128) -> i32 {
    let (above, below) = (above.max(1), below.max(1));
    // Both with 32 significant bits, so that squares fit.
    let (above_bits, below_bits) = (above.ilog2() as i32, below.ilog2() as i32);
    let mantissa = |number: u128, bits: i32| (number << (127 - bits)) >> 96;
    let (above, below) = (mantissa(above, above_bits), mantissa(below, below_bits));
    // above / below is now within (1/2, 2); compare its square with 1/2 and 2.
    let (above, below) = (above * above, below * below);
    let nearest = i32::from(above >= 2 * below) - i32::from(2 * above < below);
    above_bits - below_bits + nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_round_to_the_nearest_step() {
        for (above, below, rounded) in [
            (1, 1, 0),
            (1_414, 1_000, 0),
            (1_415, 1_000, 1),
            (2_828, 1_000, 1),
            (2_829, 1_000, 2),
            (1_000, 1_414, 0),
            (1_000, 1_415, -1),
            (5, 60_000, -14),
            (u128::MAX, 1, 128),
            (0, 1 << 20, -20),
        ] {
            assert_eq!(log2_rounded(above, below), rounded, "log2({above} / {below})");
        }
        for number in 1..5_000u32 {
            let exact = (f64::from(number) / 777.0).log2().round() as i32;
            assert_eq!(log2_rounded(number.into(), 777), exact, "log2({number} / 777)");
        }
    }

    #[test]
    fn the_wanted_rate_never_moves() {
        let mut vardiff = Vardiff::new(0);
        for share in 1..=2_000u64 {
            assert_eq!(vardiff.on_share(share * 10_000, 6), None);
        }
    }

    #[test]
    fn six_shares_at_once_move_up_and_five_do_not() {
        let mut vardiff = Vardiff::new(1_000);
        for _ in 0..5 {
            assert_eq!(vardiff.on_share(1_010, 6), None);
        }
        // Five shares in 10 ms where 0.001 were expected.
        assert_eq!(vardiff.on_share(1_010, 6), Some(12));
    }

    #[test]
    fn silence_moves_down_at_the_deadline_and_not_before() {
        for shares in 0..20 {
            let mut vardiff = Vardiff::new(5_000);
            for share in 0..shares {
                assert_eq!(vardiff.on_share(5_000 + share * 10_000, 6), None);
            }
            let deadline = vardiff.deadline(6);
            assert_eq!(vardiff.on_time(deadline - 1, 6), None);
            assert!(vardiff.on_time(deadline, 6).is_some_and(|step| step < 0));
        }
        assert_eq!(Vardiff::new(0).deadline(6), 97_693);
        assert_eq!(Vardiff::new(0).on_time(97_693, 6), Some(-5));
    }

    #[test]
    fn a_share_after_the_deadline_moves_down_too() {
        assert_eq!(Vardiff::new(0).on_share(200_000, 6), Some(-6));
    }

    #[test]
    fn extreme_rates_and_times_do_not_overflow() {
        assert!(Vardiff::new(0).on_time(u64::MAX, 1_000_000).is_some());
        assert!(Vardiff::new(0).deadline(1) > 500_000);
        let mut vardiff = Vardiff::new(u64::MAX / 2);
        assert_eq!(vardiff.on_share(0, 1_000_000), None);
    }
}
