//! What waits for a connection's task, and the way to wake it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};

use parking_lot::Mutex;
use radpool_mining::{Command, ConnectionId};

/// Commands that may wait for one connection. Its task takes them all whenever it runs, so more wait
/// only where the threads are starved.
const COMMANDS_MAX: usize = 1024;

/// Shares of a channel that became durable, for one SubmitShares.Success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(crate) channel: u32,
    pub(crate) last_sequence: u32,
    pub(crate) count: u32,
    pub(crate) sum: u64,
}

impl Acknowledgement {
    /// Adds later shares of the same channel.
    pub(crate) fn merge(&mut self, later: Self) {
        self.last_sequence = later.last_sequence;
        self.count = self.count.saturating_add(later.count);
        self.sum = self.sum.saturating_add(later.sum);
    }
}

/// A share that the ledger refused after validation had let it pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) channel: u32,
    pub(crate) sequence: u32,
    pub(crate) code: String,
    /// The extension's message that says so, if it is not the core's.
    pub(crate) by: Option<(u16, u8)>,
}

/// A command and the token that its completion bears.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    pub(crate) token: u64,
}

/// Everything that was waiting.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// To be told before the acknowledgements: clients match those with shares by their count.
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) acknowledgements: Vec<Acknowledgement>,
    pub(crate) orders: VecDeque<Order>,
}

/// Why a command cannot wait here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeliverable {
    Gone,
    Full,
}

/// The mailbox of one connection. Waking coalesces: the task looks at everything each time it runs.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) connection: ConnectionId,
    /// Whether the task has to look, at mail or at anything that concerns all connections.
    pending: AtomicBool,
    /// Whether the task waits for room in the hand-over; guarded by the hand-over's lock.
    pub(crate) parked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waker: Option<Waker>,
    mail: Mail,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            pending: AtomicBool::new(true),
            parked: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Makes the task run and look.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Some(waker) = &self.state.lock().waker
        {
            waker.wake_by_ref();
        }
    }

    /// Adds an acknowledgement; the caller wakes afterwards. A connection that is gone needs none.
    pub(crate) fn acknowledge(&self, acknowledgement: Acknowledgement) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let mut waiting = state.mail.acknowledgements.iter_mut();
        match waiting.find(|waiting| waiting.channel == acknowledgement.channel) {
            Some(waiting) => waiting.merge(acknowledgement),
            None => state.mail.acknowledgements.push(acknowledgement),
        }
    }

    /// Adds a rejection; the caller wakes afterwards. There are at most as many as were drained.
    pub(crate) fn reject(&self, rejection: Rejection) {
        let mut state = self.state.lock();
        if !state.closed {
            state.mail.rejections.push(rejection);
        }
    }

    /// Adds a command and wakes the task.
    pub(crate) fn order(&self, order: Order) -> Result<(), Undeliverable> {
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(Undeliverable::Gone);
            }
            if state.mail.orders.len() >= COMMANDS_MAX {
                return Err(Undeliverable::Full);
            }
            state.mail.orders.push_back(order);
        }
        self.wake();
        Ok(())
    }

    /// Sets the task that is woken; to be called by the task itself whenever its waker changes.
    pub(crate) fn register(&self, waker: &Waker) {
        self.state.lock().waker = Some(waker.clone());
    }

    /// Takes the reason to look away and returns whether there was one.
    pub(crate) fn take_pending(&self) -> bool {
        // The plain load spares a locked instruction in the many polls that are about the socket.
        self.pending.load(Ordering::Relaxed) && self.pending.swap(false, Ordering::AcqRel)
    }

    /// Takes what is waiting.
    pub(crate) fn take(&self) -> Mail {
        core::mem::take(&mut self.state.lock().mail)
    }

    /// Refuses further mail and returns what was waiting.
    pub(crate) fn close(&self) -> Mail {
        let mut state = self.state.lock();
        state.closed = true;
        state.waker = None;
        core::mem::take(&mut state.mail)
    }
}

#[cfg(test)]
mod tests {
    use radpool_mining::CloseReason;

    use super::*;

    fn order(token: u64) -> Order {
        let command = Command::Disconnect { reason: CloseReason::Requested };
        Order { command, token }
    }

    #[test]
    fn acknowledgements_merge_per_channel() {
        let mailbox = Mailbox::new(7);
        for (channel, last_sequence, sum) in [(1, 5, 16), (2, 6, 32), (1, 9, u64::MAX)] {
            mailbox.acknowledge(Acknowledgement { channel, last_sequence, count: 2, sum });
        }
        let mail = mailbox.take();
        assert_eq!(
            mail.acknowledgements,
            [
                Acknowledgement { channel: 1, last_sequence: 9, count: 4, sum: u64::MAX },
                Acknowledgement { channel: 2, last_sequence: 6, count: 2, sum: 32 },
            ]
        );
        assert!(mailbox.take().acknowledgements.is_empty());
    }

    #[test]
    fn commands_are_bounded_and_refused_when_closed() {
        let mailbox = Mailbox::new(7);
        for token in 0..COMMANDS_MAX as u64 {
            mailbox.order(order(token)).unwrap();
        }
        assert_eq!(mailbox.order(order(0)), Err(Undeliverable::Full));
        let rejection = Rejection { channel: 1, sequence: 2, code: "x".into(), by: None };
        mailbox.reject(rejection.clone());
        let mail = mailbox.close();
        assert_eq!(
            (mail.orders.len(), &mail.rejections[..]),
            (COMMANDS_MAX, &[rejection.clone()][..])
        );
        mailbox.reject(rejection);
        assert!(mailbox.take().rejections.is_empty());
        assert_eq!(mailbox.order(order(0)), Err(Undeliverable::Gone));
    }

    #[test]
    fn a_wake_before_registration_is_seen() {
        let mailbox = Mailbox::new(7);
        assert!(mailbox.take_pending(), "a new task looks at the current work at once");
        mailbox.wake();
        mailbox.register(Waker::noop());
        assert!(mailbox.take_pending());
        assert!(!mailbox.take_pending());
    }
}
