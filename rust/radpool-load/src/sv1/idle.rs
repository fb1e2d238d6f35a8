//! Devices that have a job and do nothing: what they cost the pool.

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    task::JoinSet,
};

use super::{Miner, Place, join_all};
use crate::{arguments::Arguments, machine::monotonic_ns, peer::block_on, report};

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let place = Place::take(arguments)?;
    let connections: usize = arguments.take("connections", 1_000)?;
    let waves: usize = arguments.take("waves", 1)?;
    arguments.end()?;
    block_on(async move {
        let mut lines = BufReader::new(stdin()).lines();
        for wave in 1..=waves {
            let started = monotonic_ns();
            let mut tasks = JoinSet::new();
            for joined in join_all(&place, connections).await? {
                tasks.spawn(idle(joined.miner));
            }
            report::line(&json!({
                "event": "wave",
                "wave": wave,
                "connections": connections,
                "join_all_us": (monotonic_ns() - started) / 1_000,
            }));
            tokio::select! {
                _ = lines.next_line() => {}
                Some(Ok(reason)) = tasks.join_next() => {
                    return Err(format!("wave {wave}: an idle device's connection ended: {reason}"));
                }
            }
            tasks.shutdown().await;
            report::line(&json!({"event": "gone", "wave": wave}));
        }
        Ok(())
    })
}

/// Reads until the connection ends, and says why.
async fn idle(mut miner: Miner) -> String {
    loop {
        if let Err(reason) = miner.read(|_| Ok(())).await {
            return reason;
        }
    }
}
