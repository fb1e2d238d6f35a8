//! The bounded ring between the io threads and the one consumer.
//!
//! Shares, events and completions gather under one lock; the consumer swaps them out. At a bound the
//! ring is full: connections park instead of reading their sockets and are woken when it was
//! drained. A share that was read is never dropped, so the ring may exceed its bound by what each io
//! thread had read at that moment. Jobs, blocks and acknowledgements go out all the while.

use std::{
    io,
    os::fd::RawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use radpool_mining::ShareRecord;

use crate::{Completion, EngineEvent, EngineSettings, mailbox::Mailbox, wake::Wake};

/// Records for which room is made ahead after a large drain.
const ROOM_AHEAD_MAX: usize = 4096;

/// Solved blocks that wait for the disk before sockets are not read any more.
const SOLUTIONS_MAX: usize = 1024;

/// What one drain took out.
#[derive(Debug, Default)]
pub struct Drained {
    /// Shares that are neither durable nor acknowledged yet.
    pub shares: Vec<ShareRecord>,
    /// What happened, in order for each connection.
    pub events: Vec<EngineEvent>,
    /// Outcomes of commands.
    pub completions: Vec<Completion>,
    /// Whether shares were left behind.
    pub more: bool,
    /// Whether the engine has stopped, so that nothing will ever follow.
    pub stopped: bool,
}

#[derive(Debug)]
pub(crate) struct Handover {
    records_max: usize,
    events_max: usize,
    /// Whether a bound is reached; written under the lock, read without.
    full: AtomicBool,
    /// Whether reading has ended for good.
    reads_ended: AtomicBool,
    stopped: AtomicBool,
    solutions_pending: AtomicUsize,
    pauses: AtomicU64,
    state: Mutex<State>,
    wake: Wake,
}

#[derive(Debug, Default)]
struct State {
    shares: Vec<ShareRecord>,
    events: Vec<EngineEvent>,
    completions: Vec<Completion>,
    parked: Vec<Arc<Mailbox>>,
}

impl Handover {
    pub(crate) fn new(settings: &EngineSettings) -> io::Result<Self> {
        Ok(Self {
            records_max: settings.ring_records_max,
            events_max: settings.events_max,
            full: AtomicBool::new(false),
            reads_ended: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            solutions_pending: AtomicUsize::new(0),
            pauses: AtomicU64::new(0),
            state: Mutex::default(),
            wake: Wake::new()?,
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.wake.descriptor()
    }

    /// Moves shares and events in; both are empty afterwards.
    pub(crate) fn push(&self, shares: &mut Vec<ShareRecord>, events: &mut Vec<EngineEvent>) {
        if shares.is_empty() && events.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.shares.append(shares);
        state.events.append(events);
        self.judge(&state);
        drop(state);
        self.wake.wake();
    }

    pub(crate) fn push_event(&self, event: EngineEvent) {
        self.push(&mut Vec::new(), &mut vec![event]);
    }

    pub(crate) fn complete(&self, completion: Completion) {
        self.state.lock().completions.push(completion);
        self.wake.wake();
    }

    /// Whether a connection may read now. If not, it is woken once that changes.
    pub(crate) fn may_read(&self, mailbox: &Arc<Mailbox>) -> bool {
        if self.reads_ended.load(Ordering::Acquire) {
            return false;
        }
        if !self.full.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.state.lock();
        if !self.full.load(Ordering::Acquire) {
            return true;
        }
        if !mailbox.parked.swap(true, Ordering::Relaxed) {
            state.parked.push(Arc::clone(mailbox));
            self.pauses.fetch_add(1, Ordering::Relaxed);
        }
        false
    }

    /// Takes out all events and completions and up to `records_max` shares.
    pub(crate) fn drain(&self, records_max: usize) -> Drained {
        // Looked at before the swap: after it a last event could slip in between.
        let stopped = self.stopped.load(Ordering::Acquire);
        self.wake.rearm();
        let mut state = self.state.lock();
        let left = match state.shares.len() > records_max {
            true => state.shares.split_off(records_max),
            false => Vec::with_capacity(state.shares.len().min(ROOM_AHEAD_MAX)),
        };
        let shares = core::mem::replace(&mut state.shares, left);
        let events = core::mem::take(&mut state.events);
        let completions = core::mem::take(&mut state.completions);
        let more = !state.shares.is_empty();
        self.judge(&state);
        let released = self.release(&mut state);
        drop(state);
        if more || stopped {
            self.wake.wake();
        }
        released.iter().for_each(|mailbox| mailbox.wake());
        Drained { shares, events, completions, more, stopped: stopped && !more }
    }

    /// Counts a solved block that waits for the disk.
    pub(crate) fn solution_waits(&self) {
        self.solutions_pending.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock();
        self.judge(&state);
    }

    /// Counts a solved block that is on disk.
    pub(crate) fn solution_done(&self) {
        self.solutions_pending.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        self.judge(&state);
        let released = self.release(&mut state);
        drop(state);
        released.iter().for_each(|mailbox| mailbox.wake());
    }

    /// Ends reading for good. A task that is in the middle of a read still hands it over; its shares
    /// are not acknowledged then, and the miner sends them again elsewhere.
    pub(crate) fn end_reads(&self) {
        self.reads_ended.store(true, Ordering::Release);
    }

    /// Tells the consumer that nothing follows.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.wake();
    }

    pub(crate) fn shares_waiting(&self) -> usize {
        self.state.lock().shares.len()
    }

    pub(crate) fn events_waiting(&self) -> usize {
        self.state.lock().events.len()
    }

    pub(crate) fn connections_parked(&self) -> usize {
        self.state.lock().parked.len()
    }

    pub(crate) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    pub(crate) fn solutions_pending(&self) -> usize {
        self.solutions_pending.load(Ordering::Relaxed)
    }

    fn judge(&self, state: &State) {
        let full = state.shares.len() >= self.records_max
            || state.events.len() >= self.events_max
            || self.solutions_pending.load(Ordering::Relaxed) >= SOLUTIONS_MAX;
        self.full.store(full, Ordering::Release);
    }

    fn release(&self, state: &mut State) -> Vec<Arc<Mailbox>> {
        if self.full.load(Ordering::Acquire) {
            return Vec::new();
        }
        for mailbox in &state.parked {
            mailbox.parked.store(false, Ordering::Relaxed);
        }
        core::mem::take(&mut state.parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    fn handover(events_max: usize) -> Handover {
        Handover::new(&EngineSettings { events_max, ..settings() }).unwrap()
    }

    fn event() -> EngineEvent {
        EngineEvent::PrefixesLow { remaining: 0 }
    }

    #[test]
    fn a_full_ring_parks_each_reader_once_and_releases_all() {
        let handover = handover(2);
        let mailbox = Arc::new(Mailbox::new(1));
        mailbox.take_pending();
        assert!(handover.may_read(&mailbox));
        handover.push(&mut Vec::new(), &mut vec![event(), event()]);
        assert!(!handover.may_read(&mailbox));
        assert!(!handover.may_read(&mailbox));
        assert_eq!((handover.connections_parked(), handover.pauses()), (1, 1));
        assert!(!mailbox.take_pending());
        assert_eq!(handover.drain(1).events.len(), 2);
        assert!(mailbox.take_pending());
        assert!(handover.may_read(&mailbox));
        assert_eq!(handover.connections_parked(), 0);
    }

    #[test]
    fn solutions_that_wait_for_the_disk_stop_reads() {
        let handover = handover(2);
        let mailbox = Arc::new(Mailbox::new(1));
        (0..SOLUTIONS_MAX).for_each(|_| handover.solution_waits());
        assert!(!handover.may_read(&mailbox));
        handover.solution_done();
        assert!(handover.may_read(&mailbox));
    }

    #[test]
    fn stop_is_told_again_and_again() {
        let handover = handover(2);
        assert!(!handover.drain(1).stopped);
        handover.stop();
        assert!(handover.drain(1).stopped);
        assert!(handover.drain(1).stopped);
    }
}
