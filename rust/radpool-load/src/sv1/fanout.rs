//! How long a new previous hash takes to reach every device.

use std::time::Duration;

use serde_json::json;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Miner, Place, join_all,
    line::{Said, read},
};
use crate::{
    arguments::Arguments,
    machine::{cpu_ns, monotonic_ns},
    peer::block_on,
    report,
};

/// A tip that has not reached everyone after this long never will.
const TIP_MAX: Duration = Duration::from_secs(60);
/// Jobs that follow upon the first one have come by then.
const SETTLE: Duration = Duration::from_secs(1);

/// A tip at one device.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    prev_hash: [u8; 32],
    at_ns: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let place = Place::take(arguments)?;
    let connections: usize = arguments.take("connections", 1_000)?;
    let tips: usize = arguments.take("tips", 10)?;
    arguments.end()?;
    if connections == 0 {
        return Err("--connections begins at 1".into());
    }
    block_on(async move {
        // All devices hear of a tip before any is waited for: a queue with room for one each is
        // never full.
        let (arrivals_send, mut arrivals) = mpsc::channel(connections);
        let mut tasks = JoinSet::new();
        for mut joined in join_all(&place, connections).await? {
            joined.catch_up()?;
            let (prev_hash, arrivals_send) = (joined.assignment.prev_hash, arrivals_send.clone());
            tasks.spawn(async move { listen(joined.miner, prev_hash, arrivals_send).await });
        }
        sleep(SETTLE).await;
        report::line(&json!({"event": "ready", "connections": connections}));
        for _ in 0..tips {
            let mut cpu_before = cpu_ns();
            let (mut stamps, mut tip) = (Vec::with_capacity(connections), None);
            let mut deadline = None;
            while stamps.len() < connections {
                let arrived = match deadline {
                    None => arrivals.recv().await,
                    Some(deadline) => {
                        let arrived = timeout_at(deadline, arrivals.recv()).await;
                        arrived.map_err(|_| {
                            format!(
                                "after 60 s a tip has reached {} of {connections}",
                                stamps.len()
                            )
                        })?
                    }
                };
                let Some(arrival) = arrived else {
                    return Err(match tasks.join_next().await {
                        Some(Ok(reason)) => reason,
                        _ => "a device's task died".into(),
                    });
                };
                if tip.replace(arrival.prev_hash).is_some_and(|tip| tip != arrival.prev_hash) {
                    return Err(format!("another tip came when {} had one", stamps.len()));
                }
                if deadline.is_none() {
                    deadline = Some(Instant::now() + TIP_MAX);
                    cpu_before = cpu_ns();
                }
                stamps.push(arrival.at_ns);
            }
            report::line(&json!({
                "event": "tip",
                "prev_hash": tip.map(hex::encode),
                "arrived_ns": report::distribution(&mut stamps),
                "generator_cpu_us": (cpu_ns() - cpu_before) / 1_000,
            }));
        }
        Ok(())
    })
}

/// Reads until the connection ends, and says why; stamps each job on another previous hash.
async fn listen(mut miner: Miner, mut known: [u8; 32], arrivals: mpsc::Sender<Arrival>) -> String {
    loop {
        let result = miner
            .read(|line| {
                let at_ns = monotonic_ns();
                let Said::Job { prev_hash, clean } = read(line)? else { return Ok(()) };
                if prev_hash == known {
                    return Ok(());
                }
                if !clean {
                    return Err("a new previous hash without clean_jobs".into());
                }
                known = prev_hash;
                arrivals
                    .try_send(Arrival { prev_hash, at_ns })
                    .map_err(|error| format!("nobody takes an arrival: {error}"))
            })
            .await;
        if let Err(reason) = result {
            return reason;
        }
    }
}
