//! Everyone connects at once, as after a pool's restart.

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    arguments::Arguments,
    machine::{cpu_ns, monotonic_ns},
    peer::{Peer, block_on},
    report,
};

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let pool = arguments.take_pool()?;
    let connections: usize = arguments.take("connections", 1_000)?;
    arguments.end()?;
    block_on(async move {
        let (started, cpu_before) = (monotonic_ns(), cpu_ns());
        let mut joins = JoinSet::new();
        for _ in 0..connections {
            let pool = pool.clone();
            joins.spawn(async move {
                let joined = Peer::join(&pool).await;
                joined.map(|(peer, _)| (peer, (monotonic_ns() - started) / 1_000))
            });
        }
        let (mut peers, mut served_us, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(joined) = joins.join_next().await {
            match joined.map_err(|error| format!("a joining task died: {error}"))? {
                Ok((peer, wait)) => {
                    peers.push(peer);
                    served_us.push(wait);
                }
                Err(ended) => failed.push(ended.to_string()),
            }
        }
        report::line(&json!({
            "event": "storm",
            "connections": connections,
            "failed": failed.len(),
            "served_us": report::distribution(&mut served_us),
            "generator_cpu_us": (cpu_ns() - cpu_before) / 1_000,
        }));
        match failed.first() {
            Some(reason) => {
                Err(format!("{} of {connections} were not served: {reason}", failed.len()))
            }
            None => Ok(()),
        }
    })
}
