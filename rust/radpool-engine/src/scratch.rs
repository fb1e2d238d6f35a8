//! Memory that the tasks of a thread use in turn, so that an idle connection holds none of it.

use std::cell::RefCell;

use radpool_mining::Outbox;

use crate::EngineEvent;

/// Bytes read at once; one system call takes whatever a busy client has sent meanwhile.
const READ_LEN: usize = 64 * 1024;

/// Buffers that grew beyond this are given back after use.
const KEPT_MAX: usize = 1 << 20;

/// The buffers of one thread, empty between uses.
pub(crate) struct Scratch {
    pub(crate) read: Box<[u8]>,
    pub(crate) outbox: Outbox,
    pub(crate) sealed: Vec<u8>,
    pub(crate) events: Vec<EngineEvent>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            read: vec![0; READ_LEN].into(),
            outbox: Outbox::default(),
            sealed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Forgets the last use: a task that panicked may have left something.
    fn clear(&mut self) {
        self.outbox.clear();
        self.sealed.clear();
        self.events.clear();
        if self.sealed.capacity() > KEPT_MAX {
            self.sealed = Vec::new();
        }
        if self.outbox.frames.capacity() > KEPT_MAX {
            self.outbox.frames = Vec::new();
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// Lends the thread's buffers to one poll of one task.
pub(crate) fn with_scratch<T>(act: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        act(scratch)
    })
}
