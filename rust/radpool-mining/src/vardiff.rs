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
pub struct Vardiff {
    since_ms: u64,
    shares: u32,
}

impl Vardiff {
    /// Starts to observe.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, shares: 0 }
    }

    /// Counts an accepted share; returns by how many steps to move, if the rate is implausible.
    pub fn on_share(&mut self, now_ms: u64, per_minute: u32) -> Option<i32> {
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
    #[must_use]
    pub fn on_time(&self, now_ms: u64, per_minute: u32) -> Option<i32> {
        let elapsed = now_ms.saturating_sub(self.since_ms);
        let expected = expected_micro(elapsed, per_minute);
        if expected <= DOWN_MICRO[self.shares as usize].into() {
            return None;
        }
        // A quarter of a share stands for the next one, which is not here yet.
        Some(log2_rounded(u128::from(self.shares) * 1_000_000 + 250_000, expected))
    }

    /// When `on_time()` moves the channel unless a share comes before.
    #[must_use]
    pub fn deadline(&self, per_minute: u32) -> u64 {
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
        assert_eq!(Vardiff::new(0).deadline(6), 97_691);
        assert_eq!(Vardiff::new(0).on_time(97_691, 6), Some(-5));
    }

    #[test]
    fn a_share_after_the_deadline_moves_down_too() {
        assert_eq!(Vardiff::new(0).on_share(200_000, 6), Some(-6));
    }

    /// Numbers that are random enough for a simulation, the same in each run of a seed.
    struct Lcg(u64);

    impl Lcg {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }
    }

    /// A miner under vardiff on a ladder from 0 to 60; `rate` is its ideal exponent, a real number.
    struct Miner {
        vardiff: Vardiff,
        exponent: i32,
        easiest: i32,
        now: f64,
        random: Lcg,
    }

    impl Miner {
        fn new(seed: u64, exponent: i32, easiest: i32) -> Self {
            let random = Lcg(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            Self { vardiff: Vardiff::new(0), exponent, easiest, now: 0.0, random }
        }

        /// Lives until a share or a deadline; returns whether the exponent moved.
        fn live(&mut self, ideal: f64) -> bool {
            let shares_per_ms = 2f64.powf(ideal - f64::from(self.exponent)) / 10_000.0;
            let share = self.now - self.random.uniform().ln() / shares_per_ms;
            let deadline = if self.exponent == self.easiest {
                f64::INFINITY
            } else {
                self.vardiff.deadline(6) as f64
            };
            self.now = share.min(deadline).max(self.now);
            let now_ms = self.now as u64;
            let steps = if share < deadline {
                self.vardiff.on_share(now_ms, 6)
            } else {
                self.vardiff.on_time(now_ms, 6)
            };
            let Some(steps) = steps else { return false };
            let before = self.exponent;
            self.exponent = (before + steps).clamp(self.easiest, 60);
            self.vardiff = Vardiff::new(now_ms);
            self.exponent != before
        }

        /// Lives for so long; returns the number of moves.
        fn live_for(&mut self, ms: f64, ideal: f64) -> u32 {
            let end = self.now + ms;
            let mut moves = 0;
            while self.now < end {
                moves += u32::from(self.live(ideal));
            }
            moves
        }
    }

    #[test]
    fn steps_of_the_hash_rate_by_a_million_settle_in_few_moves() {
        let (mut runs, mut moves_sum) = (0u32, 0u32);
        for seed in 1..=200 {
            for (before, after) in [(20, 40), (40, 20), (20, 30), (30, 20), (25, 27), (27, 25)] {
                let ideal = f64::from(after) + (seed % 10) as f64 / 10.0 - 0.5;
                let mut miner = Miner::new(seed, before, 0);
                let mut moves = 0;
                while (f64::from(miner.exponent) - ideal).abs() > 1.0 {
                    moves += u32::from(miner.live(ideal));
                    assert!(moves <= 8, "seed {seed}: {before} to {ideal} at {}", miner.exponent);
                }
                assert!(miner.now < 2_000_000.0, "seed {seed}: {before} to {ideal}: {}", miner.now);
                runs += 1;
                moves_sum += moves;
            }
        }
        assert!(moves_sum <= 3 * runs, "{moves_sum} moves in {runs} runs");
    }

    #[test]
    fn a_steady_miner_is_rarely_moved_and_stays_near() {
        let mut moves = 0;
        for seed in 1..=50 {
            let ideal = 30.0 + (seed % 9) as f64 / 10.0 - 0.4;
            let mut miner = Miner::new(seed, 30, 0);
            moves += miner.live_for(6.0 * 3_600_000.0, ideal);
            assert!((f64::from(miner.exponent) - ideal).abs() <= 2.0, "seed {seed}");
        }
        // 300 hours of mining.
        assert!(moves <= 30, "{moves} moves");
    }

    #[test]
    fn a_random_walk_is_followed_within_the_bounds() {
        for seed in 1..=50 {
            let mut miner = Miner::new(seed, 20, 12);
            let mut ideal = 20.0f64;
            for _ in 0..30 {
                ideal = (ideal + (miner.random.uniform() - 0.5) * 40.0).clamp(2.0, 45.0);
                let moves = miner.live_for(2_400_000.0, ideal);
                let near = (f64::from(miner.exponent) - ideal.max(12.0)).abs() <= 2.0;
                assert!(near, "seed {seed}: {} for {ideal} after {moves} moves", miner.exponent);
                assert!(miner.exponent >= 12 && moves <= 12, "seed {seed}: {moves} moves");
            }
        }
    }

    #[test]
    fn extreme_rates_and_times_do_not_overflow() {
        assert!(Vardiff::new(0).on_time(u64::MAX, 1_000_000).is_some());
        assert!(Vardiff::new(0).deadline(1) > 500_000);
        let mut vardiff = Vardiff::new(u64::MAX / 2);
        assert_eq!(vardiff.on_share(0, 1_000_000), None);
    }
}
