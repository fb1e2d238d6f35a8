//! `radpool_sv2._native.miner`: the CPU miner.

use parking_lot::Mutex;
use pyo3::prelude::*;
use radpool_miner as miner;

use crate::{
    error::{config_error, local_error},
    keys::AuthorityPublicKey,
};

/// More threads than any machine has are a slip of the keyboard.
const THREADS_MAX: u32 = 1024;

/// A CPU miner on threads of its own.
#[pyclass(frozen, module = "radpool_sv2._native.miner")]
#[derive(Debug)]
pub struct Miner {
    settings: miner::MinerSettings,
    running: Mutex<Option<miner::Miner>>,
}

#[pymethods]
impl Miner {
    #[new]
    #[pyo3(signature = (*, host, port, authority, user, kind, threads, hash_rate_limit))]
    fn new(
        host: String,
        port: u16,
        authority: Option<&AuthorityPublicKey>,
        user: String,
        kind: &str,
        threads: u32,
        hash_rate_limit: Option<u64>,
    ) -> PyResult<Self> {
        let kind = match kind {
            "standard" => miner::ChannelKind::Standard,
            "extended" => miner::ChannelKind::Extended,
            other => {
                return Err(config_error(format!(
                    "there is no channel of kind {other:?}: it is standard or extended"
                )));
            }
        };
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(config_error(format!("{threads} threads: 1 to {THREADS_MAX} can mine")));
        }
        if hash_rate_limit == Some(0) {
            return Err(config_error("a limit of 0 hashes per second would never find anything"));
        }
        if user.len() > 255 {
            return Err(config_error(format!(
                "the user name has {} bytes: 255 are the most that a pool can be told",
                user.len()
            )));
        }
        let authority = authority.map(|key| key.0);
        let settings =
            miner::MinerSettings { host, port, authority, user, kind, threads, hash_rate_limit };
        Ok(Self { settings, running: Mutex::new(None) })
    }

    fn start(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            let mut running = self.running.lock();
            if running.is_some() {
                return Err(local_error("the miner was started before: make another one"));
            }
            let started = miner::Miner::start(self.settings.clone());
            *running = Some(started.map_err(|error| {
                config_error(format!("the system gives the miner no thread or socket: {error}"))
            })?);
            Ok(())
        })
    }

    fn stats(&self) -> MinerStats {
        let running = self.running.lock();
        MinerStats(running.as_ref().map(miner::Miner::stats).unwrap_or_default())
    }

    fn events(&self) -> Vec<(u64, String)> {
        let running = self.running.lock();
        let notes = running.as_ref().map(miner::Miner::events).unwrap_or_default();
        notes.into_iter().map(|note| (note.unix_ms, note.text)).collect()
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            // Taken out while it stops, so that figures can still be asked for.
            let taken = self.running.lock().take();
            if let Some(mut miner) = taken {
                miner.stop();
                *self.running.lock() = Some(miner);
            }
        });
    }
}

/// The figures of a miner at one moment.
#[pyclass(frozen, module = "radpool_sv2._native.miner")]
#[derive(Debug)]
pub struct MinerStats(miner::Stats);

#[pymethods]
impl MinerStats {
    #[getter]
    fn state(&self) -> &'static str {
        self.0.state.name()
    }

    #[getter]
    fn hashes(&self) -> u64 {
        self.0.hashes
    }

    #[getter]
    fn hash_rate(&self) -> u64 {
        self.0.hash_rate
    }

    #[getter]
    fn submitted(&self) -> u64 {
        self.0.submitted
    }

    #[getter]
    fn accepted(&self) -> u64 {
        self.0.accepted
    }

    #[getter]
    fn accepted_hashes(&self) -> u128 {
        self.0.accepted_hashes
    }

    #[getter]
    fn rejected(&self) -> std::collections::BTreeMap<String, u64> {
        self.0.rejected.clone()
    }

    #[getter]
    fn unanswered(&self) -> u64 {
        self.0.unanswered
    }

    #[getter]
    fn lost(&self) -> u64 {
        self.0.lost
    }

    #[getter]
    fn mismatches(&self) -> u64 {
        self.0.mismatches
    }

    #[getter]
    fn exponent(&self) -> Option<u8> {
        self.0.target.and_then(|target| target.exponent_at_most()).map(|z| z.get())
    }

    #[getter]
    fn target(&self) -> Option<[u8; 32]> {
        self.0.target.map(|target| target.to_le_bytes())
    }

    #[getter]
    fn channel(&self) -> Option<u32> {
        self.0.channel_id
    }

    #[getter]
    fn job(&self) -> Option<u32> {
        self.0.job_id
    }

    #[getter]
    fn prev_hash(&self) -> Option<[u8; 32]> {
        self.0.prev_hash
    }

    #[getter]
    fn tips(&self) -> u64 {
        self.0.tips
    }

    #[getter]
    fn sessions(&self) -> u64 {
        self.0.sessions
    }

    #[getter]
    fn latency_p50_us(&self) -> Option<u64> {
        self.0.latency_p50_us
    }

    #[getter]
    fn latency_p99_us(&self) -> Option<u64> {
        self.0.latency_p99_us
    }

    #[getter]
    fn last_end(&self) -> Option<&str> {
        self.0.last_end.as_deref()
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}
