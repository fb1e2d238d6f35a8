//! The figures of a miner, for display.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use radpool_units::Target;

/// Notes that wait to be read; the oldest gives way.
const NOTES_MAX: usize = 256;
/// Waits of acknowledgements that percentiles are computed of.
const WAITS_MAX: usize = 1024;
/// Different error codes that are counted apart; a pool that invents more has them counted as one.
const CODES_MAX: usize = 32;
/// The hash rate is that of so many last seconds.
const RATE_SECONDS: usize = 10;

/// What a miner is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Looking for the pool, shaking hands, opening the channel.
    #[default]
    Connecting,
    /// The channel is open.
    Mining,
    /// The connection is lost; it tries again in a while.
    Waiting,
    /// It has ended and doesn't start again.
    Stopped,
}

impl State {
    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Mining => "mining",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

/// Something that happened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    pub text: String,
}

/// A moment's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub state: State,
    /// Hashes since the start.
    pub hashes: u64,
    /// Hashes per second over the last ten seconds.
    pub hash_rate: u64,
    /// Shares found in work of the present connection and sent.
    pub submitted: u64,
    /// Shares that the pool acknowledged.
    pub accepted: u64,
    /// What the pool says the acknowledged shares are worth, in hashes.
    pub accepted_hashes: u128,
    /// Shares that the pool refused, by its error code.
    pub rejected: BTreeMap<String, u64>,
    /// Shares that still wait for an answer.
    pub unanswered: u64,
    /// Shares that wait for an attachment.
    pub waiting: u64,
    /// Shares that were sent again with another attachment.
    pub resent: u64,
    /// Shares whose answer the end of a connection cut off.
    pub lost: u64,
    /// Answers that did not fit what was sent: the pool miscounts.
    pub mismatches: u64,
    /// The target that the pool asks for now.
    pub target: Option<Target>,
    pub channel_id: Option<u32>,
    pub job_id: Option<u32>,
    /// Hash of the block that is built on, internal byte order.
    pub prev_hash: Option<[u8; 32]>,
    /// Tips seen since the start.
    pub tips: u64,
    /// Connections that came to an open channel.
    pub sessions: u64,
    /// From sending a share to its acknowledgement, over the last 1024 of them.
    pub latency_p50_us: Option<u64>,
    pub latency_p99_us: Option<u64>,
    /// Why the last session ended.
    pub last_end: Option<String>,
}

/// What the session writes and [`crate::Miner::stats`] reads.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) stats: Stats,
    waits_us: VecDeque<u64>,
    notes: VecDeque<Note>,
    samples: VecDeque<(Instant, u64)>,
}

impl Book {
    /// Writes down what happened.
    pub(crate) fn note(&mut self, unix_ms: u64, text: String) {
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { unix_ms, text });
    }

    /// Gives the notes away.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        self.notes.drain(..).collect()
    }

    pub(crate) fn accept(&mut self, count: u32, hashes: u64, waited_us: &[u64]) {
        self.stats.accepted += u64::from(count);
        self.stats.accepted_hashes += u128::from(hashes);
        self.waits_us.extend(waited_us);
        let surplus = self.waits_us.len().saturating_sub(WAITS_MAX);
        self.waits_us.drain(..surplus);
    }

    pub(crate) fn reject(&mut self, code: String) {
        let known =
            self.stats.rejected.len() < CODES_MAX || self.stats.rejected.contains_key(&code);
        let code = if known { code } else { "other".into() };
        *self.stats.rejected.entry(code).or_default() += 1;
    }

    /// Notes the hashes so far, about once a second.
    pub(crate) fn sample(&mut self, now: Instant, hashes: u64) {
        self.samples.push_back((now, hashes));
        while self.samples.len() > RATE_SECONDS + 1 {
            self.samples.pop_front();
        }
    }

    /// The figures as of now.
    pub(crate) fn read(&self, now: Instant, hashes: u64) -> Stats {
        let mut stats = self.stats.clone();
        stats.hashes = hashes;
        if let Some((since, before)) = self.samples.front() {
            let elapsed = now.saturating_duration_since(*since).max(Duration::from_millis(1));
            let rate = u128::from(hashes.saturating_sub(*before)) * 1_000 / elapsed.as_millis();
            stats.hash_rate = u64::try_from(rate).unwrap_or(u64::MAX);
        }
        let mut waits: Vec<u64> = self.waits_us.iter().copied().collect();
        waits.sort_unstable();
        stats.latency_p50_us = percentile(&waits, 50);
        stats.latency_p99_us = percentile(&waits, 99);
        stats
    }
}

/// The smallest value that `percent` of the sorted `values` do not exceed.
#[must_use]
pub(crate) fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn foreign_codes_cannot_fill_the_memory() {
        let mut book = Book::default();
        for number in 0..1000 {
            book.reject(format!("code-{number}"));
        }
        assert_eq!(book.stats.rejected.len(), CODES_MAX + 1);
        assert_eq!(book.stats.rejected.values().sum::<u64>(), 1000);
        assert_eq!(book.stats.rejected["other"], 1000 - CODES_MAX as u64);
    }

    #[test]
    fn hash_rate_is_that_of_the_last_ten_seconds() {
        let mut book = Book::default();
        let start = Instant::now();
        for second in 0..100_u64 {
            let hashes = if second < 50 { 0 } else { (second - 49) * 1_000 };
            book.sample(start + Duration::from_secs(second), hashes);
        }
        let stats = book.read(start + Duration::from_secs(99), 50_000);
        assert_eq!(stats.hash_rate, 1_000);
    }

    #[test]
    fn notes_are_bounded() {
        let mut book = Book::default();
        for number in 0..1000 {
            book.note(number, String::new());
        }
        let notes = book.take_notes();
        assert_eq!((notes.len(), notes[0].unix_ms), (NOTES_MAX, 1000 - NOTES_MAX as u64));
    }
}
