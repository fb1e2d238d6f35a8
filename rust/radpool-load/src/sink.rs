//! A process that takes connections and whatever comes on them: the other end of the write floor.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{arguments::Arguments, machine, peer::block_on, report};

static OPEN: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let connections: usize = arguments.take("connections", 1)?;
    let cpu: Option<usize> = arguments.take_optional("cpu")?;
    arguments.end()?;
    if let Some(cpu) = cpu {
        machine::stay_on(cpu)?;
    }
    block_on(async move {
        let failed = |error: std::io::Error| format!("sink: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        report::line(&json!({"port": port}));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().await.map_err(failed)?;
            OPEN.fetch_add(1, Ordering::Relaxed);
            tasks.spawn(async move {
                let mut scratch = [0; 512];
                while matches!(stream.read(&mut scratch).await, Ok(1..)) {}
            });
        }
        report::line(&json!({"open": OPEN.load(Ordering::Relaxed)}));
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
}
