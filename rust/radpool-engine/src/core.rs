//! What all tasks of an engine have in common.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use radpool_mining::{Event, Shared};
use radpool_wire::noise::ServerIdentity;

use crate::{
    EngineEvent, EngineSettings,
    clock::Clock,
    handover::Handover,
    limit::Gate,
    metric::EngineCounters,
    registry::Registry,
    solution::{SolutionCounters, SolutionPath},
};

/// What all tasks of an engine have in common: one per engine, behind an `Arc`.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: EngineSettings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    pub(crate) gate: Arc<Gate>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) identity: RwLock<Arc<ServerIdentity>>,
    pub(crate) solutions: RwLock<Option<SolutionPath>>,
    pub(crate) counters: EngineCounters,
    pub(crate) solution_counters: Arc<SolutionCounters>,
    /// Whether connections are to say goodbye.
    pub(crate) stopping: AtomicBool,
    /// Milliseconds of the monotonic clock until which they may.
    pub(crate) stop_deadline_ms: AtomicU64,
    /// Whether more prefixes were asked for and have not come.
    pub(crate) prefixes_asked: AtomicBool,
    /// The connection whose task is to panic.
    #[cfg(test)]
    pub(crate) panicking: AtomicU64,
}

impl Core {
    /// The moment by which a stopping engine's connections must be gone; `None` while it runs.
    pub(crate) fn stop_deadline_ms(&self) -> Option<u64> {
        let stopping = self.stopping.load(Ordering::Acquire);
        stopping.then(|| self.stop_deadline_ms.load(Ordering::Relaxed))
    }

    /// Asks for prefixes when an event says that one was used or missing, and few are left.
    pub(crate) fn watch_prefixes(&self, event: &Event) {
        if !matches!(event, Event::ChannelOpened { .. } | Event::ChannelFailed { .. }) {
            return;
        }
        let remaining = self.shared.prefixes.remaining();
        if remaining <= self.settings.prefixes_low
            && !self.prefixes_asked.swap(true, Ordering::AcqRel)
        {
            self.handover.push_event(EngineEvent::PrefixesLow { remaining });
        }
    }
}
