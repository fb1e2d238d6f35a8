//! What the engine's owner did wrong, or the system under it.

use std::io;

use radpool_mining::WorkError;
use thiserror::Error;

use crate::EngineSettingsError;

/// Why the engine did not do what it was asked to.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Settings that no engine can run with.
    #[error(transparent)]
    Settings(#[from] EngineSettingsError),
    /// The solution log cannot be opened.
    #[error(
        "the solution log {path} cannot be opened for appending ({source}): correct solution_log"
    )]
    SolutionLog { path: String, source: io::Error },
    /// The address cannot be listened on.
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen { host: String, port: u16, source: io::Error },
    /// The system gives no thread, descriptor or randomness.
    #[error("the system gives no {what}: {source}")]
    System { what: &'static str, source: io::Error },
    /// A template or tip that no job can be made of.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// An index behind the end of a batch.
    #[error("share {index} was rejected in a batch of {count}: give an index below that")]
    Index { index: usize, count: usize },
    /// The engine is stopped.
    #[error("the engine is stopped: make a new one")]
    Stopped,
    /// The engine belongs to another process.
    #[error(
        "the engine belongs to process {owner} and has no threads in process {here}, which was forked \
         from it: start processes by exec, or make the engine after the fork"
    )]
    Forked { owner: u32, here: u32 },
}
