//! How long a new tip takes to reach everyone, and whether those who join meanwhile are served.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use radpool_miner::client::Event;
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{
    arguments::Arguments,
    machine::{cpu_ns, monotonic_ns},
    peer::{Peer, Pool, block_on},
    report,
};

/// Handshakes at a time while the connections are made.
const JOINING_MAX: usize = 64;
/// A tip that has not reached everyone after this long never will.
const TIP_MAX: Duration = Duration::from_secs(60);

/// Tips that have reached everyone and wait to be reported, which takes a millisecond each.
const TIPS_PENDING_MAX: usize = 1024;

/// Arrival times of a tip at the connections, in nanoseconds of the monotonic clock.
type Arrivals = Arc<Mutex<HashMap<[u8; 32], Vec<u64>>>>;

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let pool = arguments.take_pool()?;
    let connections: usize = arguments.take("connections", 1_000)?;
    let tips: usize = arguments.take("tips", 10)?;
    let joiners: u64 = arguments.take("joiners", 0)?;
    let join_rate: u64 = arguments.take("join-rate", 200)?;
    arguments.end()?;
    if connections == 0 || join_rate == 0 {
        return Err("--connections and --join-rate begin at 1".into());
    }
    block_on(async move {
        let arrivals: Arrivals = Arc::default();
        let (complete_send, mut complete) = mpsc::channel(TIPS_PENDING_MAX);
        let listener = Listener { arrivals: Arc::clone(&arrivals), connections, complete_send };
        let mut tasks = JoinSet::new();
        join_all(&pool, connections, &listener, &mut tasks).await?;
        arrivals.lock().clear();
        report::line(&json!({"event": "ready", "connections": connections}));
        let latecomers = tokio::spawn(join_later(pool.clone(), joiners, join_rate));
        let cpu_before = cpu_ns();
        for _ in 0..tips {
            tokio::select! {
                tip = timeout(TIP_MAX, complete.recv()) => report_tip(&arrivals, tip, connections)?,
                Some(ended) = tasks.join_next() => {
                    return Err(format!("a connection ended: {}", ended.unwrap_or_default()));
                }
            }
        }
        report::line(
            &json!({"event": "fanout", "generator_cpu_us": (cpu_ns() - cpu_before) / 1_000}),
        );
        latecomers.await.map_err(|error| format!("the joining task died: {error}"))?
    })
}

#[derive(Clone)]
struct Listener {
    arrivals: Arrivals,
    connections: usize,
    complete_send: mpsc::Sender<[u8; 32]>,
}

impl Listener {
    fn stamp(&self, event: &Event) {
        let now = monotonic_ns();
        if let Event::Assigned { assignment, new_tip: true } = event {
            let mut arrivals = self.arrivals.lock();
            let stamps = arrivals.entry(assignment.prev_hash).or_default();
            stamps.push(now);
            if stamps.len() == self.connections {
                // Without a receiver the run is over, and the tip of no interest. A tip that found no
                // room is missing from the report, which then ends with an error.
                let _ = self.complete_send.try_send(assignment.prev_hash);
            }
        }
    }
}

async fn join_all(
    pool: &Pool,
    connections: usize,
    listener: &Listener,
    tasks: &mut JoinSet<String>,
) -> Result<(), String> {
    let joining = Arc::new(Semaphore::new(JOINING_MAX));
    let mut joins = JoinSet::new();
    for _ in 0..connections {
        let (pool, joining) = (pool.clone(), Arc::clone(&joining));
        joins.spawn(async move {
            let _place = joining.acquire().await;
            Peer::join(&pool).await
        });
    }
    while let Some(joined) = joins.join_next().await {
        let (mut peer, _) = joined
            .map_err(|error| format!("a joining task died: {error}"))?
            .map_err(|ended| format!("a client could not join: {ended}"))?;
        let listener = listener.clone();
        tasks.spawn(async move { peer.idle(|event| listener.stamp(&event)).await.to_string() });
    }
    Ok(())
}

fn report_tip(
    arrivals: &Arrivals,
    tip: Result<Option<[u8; 32]>, tokio::time::error::Elapsed>,
    connections: usize,
) -> Result<(), String> {
    let Ok(Some(prev_hash)) = tip else {
        let best = arrivals.lock().values().map(Vec::len).max().unwrap_or(0);
        return Err(format!("after 60 s a tip has reached {best} of {connections}"));
    };
    let mut stamps = arrivals.lock().remove(&prev_hash).unwrap_or_default();
    let hash: String = prev_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let arrived_ns = report::distribution(&mut stamps);
    report::line(&json!({"event": "tip", "prev_hash": hash, "arrived_ns": arrived_ns}));
    Ok(())
}

/// Lets clients join one after the other: each must get its first job.
async fn join_later(pool: Pool, joiners: u64, join_rate: u64) -> Result<(), String> {
    let mut ticks = interval(Duration::from_nanos(1_000_000_000 / join_rate));
    let mut joins = JoinSet::new();
    for _ in 0..joiners {
        ticks.tick().await;
        let pool = pool.clone();
        joins.spawn(async move {
            let started = monotonic_ns();
            Peer::join(&pool).await.map(|_| (monotonic_ns() - started) / 1_000)
        });
    }
    let (mut waits_us, mut failed) = (Vec::new(), Vec::new());
    while let Some(joined) = joins.join_next().await {
        match joined.map_err(|error| format!("a joining task died: {error}"))? {
            Ok(wait) => waits_us.push(wait),
            Err(ended) => failed.push(ended.to_string()),
        }
    }
    if joiners > 0 {
        let join_us = report::distribution(&mut waits_us);
        let failed = failed.len();
        report::line(&json!({"event": "joined", "join_us": join_us, "failed": failed}));
    }
    match failed.first() {
        Some(reason) => Err(format!("{} of {joiners} could not join: {reason}", failed.len())),
        None => Ok(()),
    }
}
