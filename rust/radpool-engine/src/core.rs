//! What all tasks of an engine have in common.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use radpool_mining::{Event, Shared};
use radpool_wire::noise::ServerIdentity;

use crate::{
    EngineEvent, EngineSettings, Sv1Door,
    clock::Clock,
    handover::Handover,
    limit::Gate,
    metric::EngineCounters,
    registry::Registry,
    solution::{SolutionCounters, SolutionPath},
};

/// How long nothing is said of SV1 devices after it was.
const SV1_TELL_MS: u64 = 60_000;

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
    /// Who serves devices that speak Stratum V1, if anybody does.
    pub(crate) sv1: RwLock<Option<Sv1Door>>,
    /// From when on the owner may be told again that nobody does.
    pub(crate) sv1_tell_ms: AtomicU64,
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

    /// Whether a client is the translator that serves SV1 devices at this engine's port.
    pub(crate) fn is_own_translator(&self, address: SocketAddr) -> bool {
        self.sv1.read().as_ref().is_some_and(|door| door.has_called_from(address))
    }

    /// Counts an SV1 device that nobody serves, and tells the owner now and then.
    pub(crate) fn count_sv1_turned_away(&self, address: SocketAddr) {
        let total = self.counters.sv1_turned_away.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ms = self.clock.now().mono_ms;
        let due_ms = self.sv1_tell_ms.load(Ordering::Relaxed);
        let is_due = now_ms >= due_ms
            && self
                .sv1_tell_ms
                .compare_exchange(
                    due_ms,
                    now_ms + SV1_TELL_MS,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        if is_due {
            self.handover.push_event(EngineEvent::Sv1TurnedAway { address, total });
        }
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
