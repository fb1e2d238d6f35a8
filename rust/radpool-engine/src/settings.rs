//! What the engine around the machines is told once.

use std::{path::PathBuf, thread};

use radpool_mining::{Settings, SettingsError};
use thiserror::Error;

use crate::limit::GateLimits;

/// Settings of the engine and of the pool that it serves. Nothing has a default here.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// What holds for all connections of the pool.
    pub mining: Settings,
    /// Threads that serve sockets; 0 means one less than there are processors, so that Python has one.
    pub io_threads: usize,
    /// Connections in all, handshakes included.
    pub connections_max: usize,
    /// Connections of one IPv4 address or IPv6 /64.
    pub connections_per_address_max: usize,
    /// Handshakes in the long run; what exceeds rate and burst waits its turn.
    pub handshakes_per_second_max: u32,
    /// Handshakes at once.
    pub handshakes_burst_max: u32,
    /// Handshakes of one address in the long run; what exceeds rate and burst is closed.
    pub handshakes_per_second_per_address_max: u32,
    /// Handshakes of one address at once.
    pub handshakes_burst_per_address_max: u32,
    /// From the accepted connection to a complete handshake.
    pub handshake_deadline_ms: u64,
    /// From the first byte of a frame to its last.
    pub frame_deadline_ms: u64,
    /// How long a client may take no byte while some are waiting for it.
    pub write_deadline_ms: u64,
    /// Bytes waiting for one client; above it the client is dropped.
    pub outbound_bytes_max: usize,
    /// Shares waiting to be drained; at it no socket is read.
    pub ring_records_max: usize,
    /// Events waiting to be drained; at it no socket is read.
    pub events_max: usize,
    /// Extranonce prefixes left at which more are asked for.
    pub prefixes_low: u64,
    /// File to which each solved block is appended before anything else.
    pub solution_log: PathBuf,
    /// Unix socket of the template source.
    pub solution_socket: Option<PathBuf>,
}

/// Settings that no engine can run with.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EngineSettingsError {
    /// A setting of the pool.
    #[error(transparent)]
    Mining(#[from] SettingsError),
    /// A bound of zero.
    #[error("{0} = 0 lets nothing through: give at least 1")]
    Zero(&'static str),
    /// More threads than make sense.
    #[error("io_threads = {0} is out of range: give 0 (all processors but one) to 256")]
    Threads(usize),
}

impl EngineSettings {
    /// Checks that an engine can run with these settings.
    ///
    /// # Errors
    /// [`EngineSettingsError`] names the setting and the allowed range.
    pub fn check(&self) -> Result<(), EngineSettingsError> {
        self.mining.check()?;
        if self.io_threads > 256 {
            return Err(EngineSettingsError::Threads(self.io_threads));
        }
        let bounds = [
            ("connections_max", self.connections_max as u64),
            ("connections_per_address_max", self.connections_per_address_max as u64),
            ("handshakes_per_second_max", self.handshakes_per_second_max.into()),
            ("handshakes_burst_max", self.handshakes_burst_max.into()),
            (
                "handshakes_per_second_per_address_max",
                self.handshakes_per_second_per_address_max.into(),
            ),
            ("handshakes_burst_per_address_max", self.handshakes_burst_per_address_max.into()),
            ("handshake_deadline_ms", self.handshake_deadline_ms),
            ("frame_deadline_ms", self.frame_deadline_ms),
            ("write_deadline_ms", self.write_deadline_ms),
            ("outbound_bytes_max", self.outbound_bytes_max as u64),
            ("ring_records_max", self.ring_records_max as u64),
            ("events_max", self.events_max as u64),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(EngineSettingsError::Zero(name)),
            None => Ok(()),
        }
    }

    /// The number of threads that serve sockets.
    #[must_use]
    pub fn threads(&self) -> usize {
        threads(self.io_threads)
    }

    pub(crate) const fn gate(&self) -> GateLimits {
        GateLimits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            handshakes_per_second_max: self.handshakes_per_second_max,
            handshakes_burst_max: self.handshakes_burst_max,
            handshakes_per_second_per_address_max: self.handshakes_per_second_per_address_max,
            handshakes_burst_per_address_max: self.handshakes_burst_per_address_max,
        }
    }
}

/// How many threads a setting means: 0 leaves Python one of the processors.
pub(crate) fn threads(setting: usize) -> usize {
    match setting {
        0 => thread::available_parallelism().map_or(1, |cores| cores.get() - 1).max(1),
        threads => threads,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        env, fs,
        path::Path,
        process,
        sync::atomic::{AtomicU32, Ordering},
    };

    use radpool_mining::{Limits, SeenLimits};
    use radpool_units::Exponent;

    use super::*;

    /// A folder that goes with the test.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("radpool-engine-{}-{number}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Settings that everything passes.
    pub(crate) fn settings() -> EngineSettings {
        let limits = Limits {
            setup_deadline_ms: 10_000,
            channel_deadline_ms: 10_000,
            extension_retry_ms: 10_000,
            channels: 100,
            workers: 100,
            submits_per_second: 1_000_000,
            submits_burst: 1_000_000,
            requests_per_second: 1_000_000,
            requests_burst: 1_000_000,
            extension_bytes_pending: 1 << 20,
            custom_jobs_pending: 4,
            custom_jobs_kept: 6,
            setup_frame_bytes: 2048,
            mining_frame_bytes: 2048,
            custom_job_frame_bytes: 1 << 13,
            extension_frame_bytes: 1 << 16,
            ignored_frame_bytes: 1 << 16,
            seen: SeenLimits { tips: 3, shares_expected: 100, shares_max: 10_000 },
        };
        let mining = Settings {
            msp_key: [7; 32],
            pool_text: b"test".to_vec(),
            shares_per_minute: 6,
            exponent_min: Exponent::MIN,
            exponent_max: Exponent::MAX,
            version_rolling: true,
            group_jobs: false,
            work_selection: true,
            rollable_fixed: None,
            job_past_ms: 30_000,
            job_stale_ms: 30_000,
            ntime_slack_s: 120,
            report_interval_ms: 10_000,
            supported_extensions: vec![],
            required_extensions: vec![],
            share_messages: vec![],
            open_messages: vec![],
            limits,
        };
        EngineSettings {
            mining,
            io_threads: 1,
            connections_max: 10_000,
            connections_per_address_max: 10_000,
            handshakes_per_second_max: 100_000,
            handshakes_burst_max: 10_000,
            handshakes_per_second_per_address_max: 100_000,
            handshakes_burst_per_address_max: 10_000,
            handshake_deadline_ms: 5_000,
            frame_deadline_ms: 5_000,
            write_deadline_ms: 5_000,
            outbound_bytes_max: 1 << 20,
            ring_records_max: 10_000,
            events_max: 10_000,
            prefixes_low: 0,
            solution_log: "/dev/null".into(),
            solution_socket: None,
        }
    }

    #[test]
    fn bounds_of_zero_and_absurd_threads_are_refused_by_name() {
        assert_eq!(settings().check(), Ok(()));
        let zero = EngineSettings { events_max: 0, ..settings() };
        assert_eq!(zero.check(), Err(EngineSettingsError::Zero("events_max")));
        let threads = EngineSettings { io_threads: 257, ..settings() };
        assert_eq!(threads.check(), Err(EngineSettingsError::Threads(257)));
        assert_eq!(EngineSettings { io_threads: 256, ..settings() }.threads(), 256);
        assert!(EngineSettings { io_threads: 0, ..settings() }.threads() >= 1);
    }
}
