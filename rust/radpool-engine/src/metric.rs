//! Counters and gauges of the engine and of the pool in it, by name.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use radpool_mining::{CloseReason, Reject};

use crate::{core::Core, limit::Refusal};

/// What the engine around the machines has done; names ending in `_total` are kept by the reader.
#[derive(Debug, Default)]
pub(crate) struct EngineCounters {
    pub(crate) connections_accepted: AtomicU64,
    pub(crate) accept_failures: AtomicU64,
    pub(crate) accept_pauses: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) refused_connections_of_address: AtomicU64,
    pub(crate) refused_handshakes_of_address: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) handshakes_delayed: AtomicU64,
    pub(crate) sv1_taken_in: AtomicU64,
    pub(crate) sv1_turned_away: AtomicU64,
    pub(crate) frames_read: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) tasks_panicked: AtomicU64,
    /// Connections closed, by reason; there are about twenty, so a list is enough.
    closed: Mutex<Vec<(CloseReason, u64)>>,
}

impl EngineCounters {
    pub(crate) fn count_close(&self, reason: CloseReason) {
        let mut closed = self.closed.lock();
        match closed.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => closed.push((reason, 1)),
        }
    }

    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Connections => &self.refused_connections,
            Refusal::ConnectionsOfAddress => &self.refused_connections_of_address,
            Refusal::HandshakesOfAddress => &self.refused_handshakes_of_address,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads all counters and gauges. Each number is exact, several need not be of one moment.
pub(crate) fn metrics(core: &Core) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = Vec::with_capacity(64);
    let mut add = |name: &str, value: u64| all.push((name.to_owned(), value));
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

    let counters = &core.counters;
    add("connections_accepted_total", read(&counters.connections_accepted));
    add("accept_failures_total", read(&counters.accept_failures));
    add("accept_pauses_total", read(&counters.accept_pauses));
    add("refused_connections_total", read(&counters.refused_connections));
    add("refused_connections_of_address_total", read(&counters.refused_connections_of_address));
    add("refused_handshakes_of_address_total", read(&counters.refused_handshakes_of_address));
    add("handshakes_total", read(&counters.handshakes));
    add("handshakes_failed_total", read(&counters.handshakes_failed));
    add("handshakes_delayed_total", read(&counters.handshakes_delayed));
    add("sv1_taken_in_total", read(&counters.sv1_taken_in));
    add("sv1_turned_away_total", read(&counters.sv1_turned_away));
    add("frames_read_total", read(&counters.frames_read));
    add("bytes_read_total", read(&counters.bytes_read));
    add("bytes_written_total", read(&counters.bytes_written));
    add("tasks_panicked_total", read(&counters.tasks_panicked));
    add("sockets", core.gate.connections() as u64);
    add("connections", core.registry.len() as u64);

    let handover = &core.handover;
    add("ring_records", handover.shares_waiting() as u64);
    add("events_waiting", handover.events_waiting() as u64);
    add("connections_paused", handover.connections_parked() as u64);
    add("read_pauses_total", handover.pauses());
    add("solutions_pending", handover.solutions_pending() as u64);

    let solutions = &core.solution_counters;
    add("solutions_logged_total", read(&solutions.logged));
    add("solution_log_failures_total", read(&solutions.log_failures));
    add("solutions_sent_total", read(&solutions.sent));
    add("solution_send_failures_total", read(&solutions.send_failures));
    add("solutions_dropped_unsent_total", read(&solutions.dropped_unsent));

    let pool = &core.shared.counters;
    add("connections_set_up_total", read(&pool.connections_set_up));
    add("channels", pool.channels_open());
    add("channels_opened_total", read(&pool.channels_opened));
    add("channels_closed_total", read(&pool.channels_closed));
    add("shares_accepted_total", read(&pool.shares_accepted));
    add("solutions_total", read(&pool.solutions));
    add("jobs_sent_total", read(&pool.jobs_sent));
    add("retargets_total", read(&pool.retargets));
    add("frames_ignored_total", read(&pool.frames_ignored));
    add("extension_frames_total", read(&pool.extension_frames));
    add("shares_repeated_total", read(&pool.shares_repeated));
    add("custom_jobs_accepted_total", read(&pool.custom_jobs_accepted));
    add("custom_jobs_refused_total", read(&pool.custom_jobs_refused));
    add("seen_shares", core.shared.seen.len() as u64);
    add("seen_shares_forgotten_total", core.shared.seen.forgotten());
    add("prefixes_left", core.shared.prefixes.remaining());
    for reject in Reject::ALL {
        let name = format!("shares_rejected_{}_total", reject.code().replace('-', "_"));
        add(&name, pool.rejected(reject));
    }
    for (reason, count) in &*core.counters.closed.lock() {
        add(&format!("closed_{}_total", reason.as_str().replace('-', "_")), *count);
    }
    all
}
