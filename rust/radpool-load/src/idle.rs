//! Connections that do nothing, in waves: what they cost the pool, and what is left of them.

use std::sync::Arc;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    arguments::Arguments,
    machine::monotonic_ns,
    peer::{Peer, block_on},
    report,
};

const JOINING_MAX: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let pool = arguments.take_pool()?;
    let connections: usize = arguments.take("connections", 1_000)?;
    let waves: usize = arguments.take("waves", 1)?;
    arguments.end()?;
    block_on(async move {
        let mut lines = BufReader::new(stdin()).lines();
        for wave in 1..=waves {
            let started = monotonic_ns();
            let joining = Arc::new(Semaphore::new(JOINING_MAX));
            let (joined_send, mut joined) = tokio::sync::mpsc::channel(JOINING_MAX);
            let mut tasks = JoinSet::new();
            for _ in 0..connections {
                let (pool, joining) = (pool.clone(), Arc::clone(&joining));
                let joined_send = joined_send.clone();
                tasks.spawn(async move {
                    let place = joining.acquire().await;
                    let (mut peer, _) = Peer::join(&pool).await?;
                    drop(place);
                    // Without a receiver the wave is over.
                    let _ = joined_send.send(()).await;
                    Err::<(), _>(peer.idle(drop).await)
                });
            }
            for _ in 0..connections {
                tokio::select! {
                    Some(()) = joined.recv() => {}
                    Some(Ok(Err(ended))) = tasks.join_next() => {
                        return Err(format!("wave {wave}: a connection ended: {ended}"));
                    }
                }
            }
            report::line(&json!({
                "event": "wave",
                "wave": wave,
                "connections": connections,
                "join_all_us": (monotonic_ns() - started) / 1_000,
            }));
            tokio::select! {
                _ = lines.next_line() => {}
                Some(Ok(Err(ended))) = tasks.join_next() => {
                    return Err(format!("wave {wave}: an idle connection ended: {ended}"));
                }
            }
            tasks.shutdown().await;
            report::line(&json!({"event": "gone", "wave": wave}));
        }
        Ok(())
    })
}
