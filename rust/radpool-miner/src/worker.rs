//! The threads that hash, and the board from which they take their work.
//!
//! Each thread owns a slice of the nonce space and turns the rest (version, extranonce) by itself,
//! so threads never hash the same header and never talk to one another. They look at the board
//! after every chunk of nonces, which takes about a millisecond.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc;

use crate::{
    assignment::{Assignment, Roll, Share},
    header::HeaderHasher,
};

/// Nonces between two looks at the board: about a millisecond of one thread with SHA extensions.
const CHUNK: u64 = 1 << 13;
const NONCES: u64 = 1 << 32;
/// With a limit a thread works in slices of this part of a second, so that its pace looks even.
const PACE_PARTS: u64 = 20;

/// A share with the session that its job came from: job numbers mean nothing in another one.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) session: u64,
    pub(crate) share: Share,
}

#[derive(Clone, Debug)]
struct Work {
    session: u64,
    assignment: Arc<Assignment>,
}

#[derive(Debug, Default)]
struct Posted {
    work: Option<Work>,
    stopped: bool,
}

/// Where the session posts what is to be mined.
#[derive(Debug, Default)]
pub(crate) struct Board {
    posted: Mutex<Posted>,
    changed: Condvar,
    generation: AtomicU64,
}

impl Board {
    /// Posts work, or takes it away.
    pub(crate) fn post(&self, work: Option<(u64, Arc<Assignment>)>) {
        self.posted.lock().work = work.map(|(session, assignment)| Work { session, assignment });
        self.announce();
    }

    /// Sends the threads home.
    pub(crate) fn stop(&self) {
        self.posted.lock().stopped = true;
        self.announce();
    }

    fn announce(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Waits for work that is newer than `seen`; `None` when there will be none.
    fn next(&self, seen: u64) -> Option<(u64, Work)> {
        let mut posted = self.posted.lock();
        loop {
            if posted.stopped {
                return None;
            }
            let generation = self.generation();
            if generation != seen
                && let Some(work) = &posted.work
            {
                return Some((generation, work.clone()));
            }
            self.changed.wait(&mut posted);
        }
    }

    /// Waits for `pause`, or for the board to change from generation `seen`.
    fn pause(&self, seen: u64, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut posted = self.posted.lock();
        while self.generation() == seen && !posted.stopped {
            if self.changed.wait_until(&mut posted, deadline).timed_out() {
                return;
            }
        }
    }
}

/// Keeps a thread at its hash rate.
#[derive(Debug)]
struct Pace {
    /// Hashes per second; `None` without a limit.
    rate: Option<u64>,
    since: Instant,
    done: u64,
}

impl Pace {
    fn chunk(&self) -> u64 {
        self.rate.map_or(CHUNK, |rate| (rate / PACE_PARTS).clamp(1, CHUNK))
    }

    /// How long to wait before the next chunk.
    fn wait(&mut self, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let due = Duration::from_micros(
            (u128::from(self.done) * 1_000_000 / u128::from(rate)).try_into().unwrap_or(u64::MAX),
        );
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed > due + Duration::from_secs(1) {
            // Without work the thread saved nothing up: it goes on at its pace from now.
            (self.since, self.done) = (now, 0);
            return Duration::ZERO;
        }
        due.saturating_sub(elapsed)
    }
}

/// One thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) board: Arc<Board>,
    /// This thread's number and how many there are.
    pub(crate) index: u64,
    pub(crate) threads: u64,
    /// Hashes per second of this thread; `None` without a limit.
    pub(crate) rate: Option<u64>,
    /// Hashes of all threads.
    pub(crate) hashes: Arc<AtomicU64>,
    pub(crate) found: mpsc::Sender<Found>,
}

impl Worker {
    /// Works until the board is stopped or nobody takes the shares.
    pub(crate) fn run(self) {
        let mut seen = 0;
        let mut pace = Pace { rate: self.rate, since: Instant::now(), done: 0 };
        while let Some((generation, work)) = self.board.next(seen) {
            seen = generation;
            if self.mine(&work, generation, &mut pace).is_err() {
                return;
            }
        }
    }

    fn slice(&self) -> Range<u64> {
        NONCES * self.index / self.threads..NONCES * (self.index + 1) / self.threads
    }

    fn mine(&self, work: &Work, generation: u64, pace: &mut Pace) -> Result<(), NobodyListens> {
        let slice = self.slice();
        let started = Instant::now();
        let mut roll = Roll::in_turn(Arc::clone(&work.assignment), generation as u16);
        let mut second = 0;
        let mut nonce = slice.start;
        let mut ntime = work.assignment.min_ntime;
        let mut hasher = HeaderHasher::new(&roll.header(ntime));
        while self.board.generation() == generation {
            let wait = pace.wait(Instant::now());
            if !wait.is_zero() {
                self.board.pause(generation, wait);
                continue;
            }
            let end = slice.end.min(nonce + pace.chunk());
            self.scan(work, &roll, ntime, &mut hasher, nonce..end)?;
            pace.done += end - nonce;
            self.hashes.fetch_add(end - nonce, Ordering::Relaxed);
            nonce = end;
            let mut renewed = nonce == slice.end;
            if renewed {
                nonce = slice.start;
                if !roll.advance() {
                    let next_second = Duration::from_secs(second + 1);
                    self.board.pause(generation, next_second.saturating_sub(started.elapsed()));
                    roll.restart();
                }
            }
            let elapsed = started.elapsed().as_secs();
            if elapsed != second {
                // A header may be as late as the job's time plus what has passed since it came.
                second = elapsed;
                let passed = u32::try_from(second).unwrap_or(u32::MAX);
                ntime = work.assignment.min_ntime.saturating_add(passed);
                renewed = true;
            }
            if renewed {
                hasher = HeaderHasher::new(&roll.header(ntime));
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        work: &Work,
        roll: &Roll,
        ntime: u32,
        hasher: &mut HeaderHasher,
        nonces: Range<u64>,
    ) -> Result<(), NobodyListens> {
        let mut result = Ok(());
        hasher.scan(nonces, &work.assignment.target, |nonce| {
            let mut extranonce = [0; 32];
            extranonce[..roll.extranonce().len()].copy_from_slice(roll.extranonce());
            let assignment = Arc::clone(&work.assignment);
            let share = Share { assignment, version: roll.version(), ntime, nonce, extranonce };
            // Blocks while the session is behind: hashing more shares than can be sent is waste.
            if self.found.blocking_send(Found { session: work.session, share }).is_err() {
                result = Err(NobodyListens);
            }
        });
        result
    }
}

/// The session's end of the channel is gone.
#[derive(Debug)]
struct NobodyListens;

/// Measures how many headers one thread hashes in a second.
#[must_use]
pub(crate) fn measure_hash_rate() -> u64 {
    const SAMPLE: Duration = Duration::from_millis(20);
    let mut hasher = HeaderHasher::new(&crate::header::Header {
        version: 0x2000_0000,
        prev_hash: [0; 32],
        merkle_root: [0; 32],
        ntime: 0,
        nbits: 0,
    });
    let nothing = radpool_units::Target::from_le_bytes([0; 32]);
    let started = Instant::now();
    let mut hashes = 0;
    while started.elapsed() < SAMPLE {
        hasher.scan(hashes..hashes + CHUNK, &nothing, |_| ());
        hashes += CHUNK;
    }
    let micros = started.elapsed().as_micros().max(1);
    u64::try_from(u128::from(hashes) * 1_000_000 / micros).unwrap_or(u64::MAX)
}
