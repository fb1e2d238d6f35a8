//! `radpool_sv2._native.engine.EngineSettings`: every setting by keyword, each checked by name.

use std::path::PathBuf;

use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyString},
};
use radpool_mining::{Limits, OpenMessage, SeenLimits, Settings, ShareMessage};
use radpool_units::Exponent;

use crate::error::config_error;

/// What is decided once for all connections.
#[pyclass(frozen, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub struct EngineSettings(pub(crate) radpool_engine::EngineSettings);

#[pymethods]
impl EngineSettings {
    #[new]
    #[pyo3(
        signature = (**settings),
        text_signature = "(*, msp_key, pool_text, shares_per_minute, exponent_min, exponent_max, \
version_rolling, group_jobs, work_selection, rollable_fixed, job_past_ms, job_stale_ms, \
ntime_slack_s, report_interval_ms, \
supported_extensions, required_extensions, share_messages, open_messages, \
setup_deadline_ms, channel_deadline_ms, extension_retry_ms, channels_per_connection_max, \
workers_per_connection_max, submits_per_second_max, submits_burst_max, \
requests_per_second_max, requests_burst_max, extension_bytes_pending_max, \
custom_jobs_pending_max, custom_jobs_kept_max, \
setup_frame_bytes_max, mining_frame_bytes_max, extension_frame_bytes_max, \
ignored_frame_bytes_max, custom_job_frame_bytes_max, seen_tips, seen_shares_expected, \
seen_shares_max, io_threads, \
connections_max, connections_per_address_max, handshakes_per_second_max, \
handshakes_burst_max, handshakes_per_second_per_address_max, \
handshakes_burst_per_address_max, handshake_deadline_ms, frame_deadline_ms, \
write_deadline_ms, outbound_bytes_max, ring_records_max, events_max, prefixes_low, \
solution_log, solution_socket)"
    )]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = match settings {
            Some(settings) => settings.copy()?,
            None => PyDict::new(py),
        };
        let mut keys = Keys { class: "EngineSettings", given };
        let settings = radpool_engine::EngineSettings {
            mining: mining(&mut keys)?,
            io_threads: keys.take("io_threads")?,
            connections_max: keys.take("connections_max")?,
            connections_per_address_max: keys.take("connections_per_address_max")?,
            handshakes_per_second_max: keys.take("handshakes_per_second_max")?,
            handshakes_burst_max: keys.take("handshakes_burst_max")?,
            handshakes_per_second_per_address_max: keys
                .take("handshakes_per_second_per_address_max")?,
            handshakes_burst_per_address_max: keys.take("handshakes_burst_per_address_max")?,
            handshake_deadline_ms: keys.take("handshake_deadline_ms")?,
            frame_deadline_ms: keys.take("frame_deadline_ms")?,
            write_deadline_ms: keys.take("write_deadline_ms")?,
            outbound_bytes_max: keys.take("outbound_bytes_max")?,
            ring_records_max: keys.take("ring_records_max")?,
            events_max: keys.take("events_max")?,
            prefixes_low: keys.take("prefixes_low")?,
            solution_log: keys.take("solution_log")?,
            solution_socket: keys.take::<Option<PathBuf>>("solution_socket")?,
        };
        keys.finish()?;
        settings.check().map_err(config_error)?;
        Ok(Self(settings))
    }
}

fn mining(keys: &mut Keys<'_>) -> PyResult<Settings> {
    let key: Vec<u8> = keys.take("msp_key")?;
    let msp_key = key.as_slice().try_into().map_err(|_| {
        config_error(format!("msp_key has {} bytes: give the 32 of an x-only key", key.len()))
    })?;
    Ok(Settings {
        msp_key,
        pool_text: keys.take::<String>("pool_text")?.into_bytes(),
        shares_per_minute: keys.take("shares_per_minute")?,
        exponent_min: keys.exponent("exponent_min")?,
        exponent_max: keys.exponent("exponent_max")?,
        version_rolling: keys.take("version_rolling")?,
        group_jobs: keys.take("group_jobs")?,
        work_selection: keys.take("work_selection")?,
        rollable_fixed: keys.take("rollable_fixed")?,
        job_past_ms: keys.take("job_past_ms")?,
        job_stale_ms: keys.take("job_stale_ms")?,
        ntime_slack_s: keys.take("ntime_slack_s")?,
        report_interval_ms: keys.take("report_interval_ms")?,
        supported_extensions: keys.take("supported_extensions")?,
        required_extensions: keys.take("required_extensions")?,
        share_messages: share_messages(keys)?,
        open_messages: open_messages(keys)?,
        limits: limits(keys)?,
    })
}

fn share_messages(keys: &mut Keys<'_>) -> PyResult<Vec<ShareMessage>> {
    let given: Vec<(u16, u8, u8)> = keys.take("share_messages")?;
    let messages = given.into_iter().map(|(extension_type, msg_type, error_type)| ShareMessage {
        extension_type,
        msg_type,
        error_type,
    });
    Ok(messages.collect())
}

fn open_messages(keys: &mut Keys<'_>) -> PyResult<Vec<OpenMessage>> {
    let given: Vec<(u16, u8, u8, u8)> = keys.take("open_messages")?;
    let messages = given.into_iter().map(|(extension_type, msg_type, success_type, error_type)| {
        OpenMessage { extension_type, msg_type, success_type, error_type }
    });
    Ok(messages.collect())
}

fn limits(keys: &mut Keys<'_>) -> PyResult<Limits> {
    Ok(Limits {
        setup_deadline_ms: keys.take("setup_deadline_ms")?,
        channel_deadline_ms: keys.take("channel_deadline_ms")?,
        extension_retry_ms: keys.take("extension_retry_ms")?,
        channels: keys.take("channels_per_connection_max")?,
        workers: keys.take("workers_per_connection_max")?,
        submits_per_second: keys.take("submits_per_second_max")?,
        submits_burst: keys.take("submits_burst_max")?,
        requests_per_second: keys.take("requests_per_second_max")?,
        requests_burst: keys.take("requests_burst_max")?,
        extension_bytes_pending: keys.take("extension_bytes_pending_max")?,
        custom_jobs_pending: keys.take("custom_jobs_pending_max")?,
        custom_jobs_kept: keys.take("custom_jobs_kept_max")?,
        setup_frame_bytes: keys.take("setup_frame_bytes_max")?,
        mining_frame_bytes: keys.take("mining_frame_bytes_max")?,
        custom_job_frame_bytes: keys.take("custom_job_frame_bytes_max")?,
        extension_frame_bytes: keys.take("extension_frame_bytes_max")?,
        ignored_frame_bytes: keys.take("ignored_frame_bytes_max")?,
        seen: SeenLimits {
            tips: keys.take("seen_tips")?,
            shares_expected: keys.take("seen_shares_expected")?,
            shares_max: keys.take("seen_shares_max")?,
        },
    })
}

/// The keywords that are left.
pub(crate) struct Keys<'py> {
    /// The class that they are for.
    pub(crate) class: &'static str,
    pub(crate) given: Bound<'py, PyDict>,
}

impl<'py> Keys<'py> {
    pub(crate) fn take<T>(&mut self, name: &str) -> PyResult<T>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        let name = PyString::new(self.given.py(), name);
        let value = self.given.get_item(&name)?.ok_or_else(|| {
            PyTypeError::new_err(format!("{} needs the keyword {name}", self.class))
        })?;
        self.given.del_item(&name)?;
        value.extract::<T>().map_err(|error| {
            let error: PyErr = error.into();
            config_error(format!("{name} = {value} cannot be used: {}", error.value(name.py())))
        })
    }

    pub(crate) fn exponent(&mut self, name: &str) -> PyResult<Exponent> {
        let zeros = self.take(name)?;
        Exponent::new(zeros).map_err(|error| config_error(format!("{name}: {error}")))
    }

    pub(crate) fn finish(self) -> PyResult<()> {
        match self.given.keys().iter().next() {
            None => Ok(()),
            Some(name) => {
                Err(PyTypeError::new_err(format!("{} knows no keyword {name}", self.class)))
            }
        }
    }
}
