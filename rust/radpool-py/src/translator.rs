//! `radpool_sv2._native.translator`: SV1 devices on one side, pools on the other.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use radpool_engine::{
    self as engine, TlsIdentityError, TranslatorError, TranslatorEvent,
    TranslatorSettings as Settings, UpstreamPlace,
};
use radpool_sv1::{DeviceSettings, Refusal, UpstreamSettings};
use radpool_units::Exponent;
use radpool_wire::tlv::WORKER_IDENTITY_EXTENSION;

use crate::{
    argument::Int,
    error::{config_error, local_error},
    keys::AuthorityPublicKey,
    miner::{Carrier, News, carrier_frame, sized},
    setting::Keys,
};

/// Devices that are looked at in one go.
const CLIENTS_AT_ONCE: usize = 256;

/// Declares a class whose attributes are its fields.
macro_rules! record {
    ($(#[$docs:meta])* $name:ident { $($field:ident: $kind:ty,)* }) => {
        $(#[$docs])*
        #[pyclass(frozen, get_all, module = "radpool_sv2._native.translator")]
        #[derive(Clone, Debug)]
        pub struct $name { $($field: $kind,)* }

        #[pymethods]
        impl $name {
            fn __repr__(&self) -> String {
                format!("{self:?}")
            }
        }
    };
}

record! {
    /// A pool works.
    UpstreamReady { upstream: u64, extranonce_size: Option<u16>, }
}

record! {
    /// The connection to a pool is over.
    UpstreamEnded {
        upstream: u64,
        reason: String,
        lasting: bool,
        elsewhere: Option<(String, u16)>,
    }
}

record! {
    /// A device is subscribed and authorized.
    DeviceJoined { device: u64, address: String, user: String, }
}

record! {
    /// A device that had joined is gone.
    DeviceLeft { device: u64, reason: &'static str, }
}

record! {
    /// A pool opens no channel for a device, or has closed it.
    ChannelRefused { device: u64, upstream: u64, code: String, }
}

record! {
    /// There is no encrypted connection with a device that came for one.
    TlsFailed { address: String, reason: String, }
}

record! {
    /// Events of devices were dropped, because nobody took them.
    EventsDropped { count: u64, }
}

record! {
    /// A worker of a device.
    Worker {
        name: String,
        accepted: u64,
        work: u128,
        forwarded: u64,
        rejected: BTreeMap<&'static str, u64>,
        last_share_unix_ms: u64,
    }
}

record! {
    /// A device at one moment.
    Client {
        device: u64,
        address: String,
        since_unix_ms: u64,
        agent: String,
        workers: Vec<Worker>,
        version_mask: u32,
        exponent: Option<u8>,
        pool_exponent: Option<u8>,
        jobs: u64,
        pool_accepted: u64,
        pool_work: u128,
        pool_rejected: BTreeMap<String, u64>,
        refused: u64,
    }
}

/// What is decided once for all devices.
#[pyclass(frozen, module = "radpool_sv2._native.translator")]
#[derive(Debug)]
pub struct TranslatorSettings(Settings);

#[pymethods]
impl TranslatorSettings {
    #[new]
    #[pyo3(
        signature = (**settings),
        text_signature = "(*, shares_per_minute, exponent_start, exponent_min, handshake_deadline_ms, silence_ms, \
keepalive_ms, ntime_ahead_s, submits_per_second_max, submits_burst_max, requests_per_second_max, \
requests_burst_max, malformed_max, names_max, jobs_max, user, nominal_hash_rate, linger_ms, \
io_threads, connections_max, connections_per_address_max, connects_per_second_per_address_max, \
connects_burst_per_address_max, tls_handshakes_max, tls_handshakes_per_address_max, \
tls_handshake_deadline_ms, line_deadline_ms, write_deadline_ms, seen_shares_max)"
    )]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = match settings {
            Some(settings) => settings.copy()?,
            None => PyDict::new(py),
        };
        let mut keys = Keys { class: "TranslatorSettings", given };
        let exponent_min = keys.exponent("exponent_min")?;
        let device = DeviceSettings {
            exponent_start: keys.exponent("exponent_start")?,
            shares_per_minute: keys.take("shares_per_minute")?,
            exponent_min,
            handshake_deadline_ms: keys.take("handshake_deadline_ms")?,
            silence_ms: keys.take("silence_ms")?,
            keepalive_ms: keys.take("keepalive_ms")?,
            ntime_ahead_s: keys.take("ntime_ahead_s")?,
            submits_per_second: keys.take("submits_per_second_max")?,
            submits_burst: keys.take("submits_burst_max")?,
            requests_per_second: keys.take("requests_per_second_max")?,
            requests_burst: keys.take("requests_burst_max")?,
            malformed_max: keys.take("malformed_max")?,
            names_max: keys.take("names_max")?,
            jobs_max: keys.take("jobs_max")?,
        };
        let settings = Settings {
            device,
            user: keys.take("user")?,
            nominal_hash_rate: keys.take("nominal_hash_rate")?,
            linger_ms: keys.take("linger_ms")?,
            io_threads: keys.take("io_threads")?,
            connections_max: keys.take("connections_max")?,
            connections_per_address_max: keys.take("connections_per_address_max")?,
            connects_per_second_per_address_max: keys
                .take("connects_per_second_per_address_max")?,
            connects_burst_per_address_max: keys.take("connects_burst_per_address_max")?,
            tls_handshakes_max: keys.take("tls_handshakes_max")?,
            tls_handshakes_per_address_max: keys.take("tls_handshakes_per_address_max")?,
            tls_handshake_deadline_ms: keys.take("tls_handshake_deadline_ms")?,
            line_deadline_ms: keys.take("line_deadline_ms")?,
            write_deadline_ms: keys.take("write_deadline_ms")?,
            seen_shares_max: keys.take("seen_shares_max")?,
        };
        keys.finish()?;
        Ok(Self(settings))
    }
}

/// A certificate that devices are shown, and those that lead from it to one that they know.
#[pyclass(frozen, module = "radpool_sv2._native.translator")]
#[derive(Debug)]
pub struct TlsCertificate(engine::TlsCertificate);

#[pymethods]
impl TlsCertificate {
    #[staticmethod]
    fn from_pem(text: &[u8]) -> PyResult<Self> {
        engine::TlsCertificate::from_pem(text).map(Self).map_err(identity_error)
    }

    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.names().to_vec()
    }

    #[getter]
    fn not_before_unix_s(&self) -> u64 {
        self.0.validity_unix_s().0
    }

    #[getter]
    fn not_after_unix_s(&self) -> u64 {
        self.0.validity_unix_s().1
    }

    #[getter]
    fn sha256(&self) -> [u8; 32] {
        self.0.sha256()
    }
}

/// A certificate with its key.
#[pyclass(frozen, module = "radpool_sv2._native.translator")]
#[derive(Debug)]
pub struct TlsIdentity(engine::TlsIdentity);

#[pymethods]
impl TlsIdentity {
    #[new]
    fn new(certificate: &TlsCertificate, key: &[u8]) -> PyResult<Self> {
        engine::TlsIdentity::new(&certificate.0, key).map(Self).map_err(identity_error)
    }

    fn __repr__(&self) -> &'static str {
        "TlsIdentity(...)"
    }
}

/// The counter between the pool of an upstream and the side of the extension that carries shares.
#[pyclass(frozen, module = "radpool_sv2._native.translator")]
#[derive(Debug)]
pub struct Desk(Arc<radpool_miner::desk::Desk>);

#[pymethods]
impl Desk {
    #[new]
    fn new() -> PyResult<Self> {
        let desk = radpool_miner::desk::Desk::new();
        let desk =
            desk.map_err(|error| config_error(format!("the system gives no socket: {error}")))?;
        Ok(Self(Arc::new(desk)))
    }

    fn event_fd(&self) -> i32 {
        self.0.descriptor()
    }

    fn take(&self) -> News {
        News(self.0.take())
    }

    fn give(
        &self,
        session: Int<u64>,
        lot: Int<u64>,
        attachments: Vec<(Int<u64>, Vec<u8>)>,
    ) -> PyResult<bool> {
        Ok(self.0.give(session.0, lot.0, sized(attachments)?))
    }

    #[pyo3(signature = (session, msg_type, *, channel_msg, payload))]
    fn send(
        &self,
        session: Int<u64>,
        msg_type: Int<u8>,
        channel_msg: bool,
        payload: Vec<u8>,
    ) -> PyResult<bool> {
        let frame = carrier_frame(msg_type.0, channel_msg, payload)?;
        Ok(self.0.command(session.0, frame))
    }
}

/// SV1 devices on one side, pools on the other.
#[pyclass(frozen, module = "radpool_sv2._native.translator")]
#[derive(Debug)]
pub struct Translator {
    engine: engine::Translator,
    nominal_hash_rate: f32,
    linger_ms: u64,
    channels_max: usize,
    /// What pools said about their extranonce, by their numbers.
    sizes: Mutex<BTreeMap<u64, Option<u16>>>,
}

#[pymethods]
impl Translator {
    #[new]
    fn new(py: Python<'_>, settings: &TranslatorSettings) -> PyResult<Self> {
        let settings = settings.0.clone();
        let (nominal_hash_rate, linger_ms) = (settings.nominal_hash_rate, settings.linger_ms);
        // Each device has one channel, and one more may linger for it.
        let channels_max = settings.connections_max.saturating_mul(2);
        let engine = py.detach(|| engine::Translator::start(settings)).map_err(translator_error)?;
        let sizes = Mutex::default();
        Ok(Self { engine, nominal_hash_rate, linger_ms, channels_max, sizes })
    }

    fn listen(&self, py: Python<'_>, host: &str, port: Int<u16>) -> PyResult<(String, u16)> {
        let address = py.detach(|| self.engine.listen(host, port.0)).map_err(translator_error)?;
        Ok((address.ip().to_string(), address.port()))
    }

    fn listen_tls(
        &self,
        py: Python<'_>,
        host: &str,
        port: Int<u16>,
        identity: &TlsIdentity,
    ) -> PyResult<(String, u16)> {
        let address = py.detach(|| self.engine.listen_tls(host, port.0, &identity.0));
        let address = address.map_err(translator_error)?;
        Ok((address.ip().to_string(), address.port()))
    }

    fn set_tls_identity(&self, identity: &TlsIdentity) {
        self.engine.set_tls_identity(&identity.0);
    }

    fn event_fd(&self) -> i32 {
        self.engine.descriptor()
    }

    fn drain(&self, py: Python<'_>) -> PyResult<(Py<PyList>, bool)> {
        let (events, stopped) = py.detach(|| self.engine.drain());
        let list = PyList::empty(py);
        for event in events {
            list.append(self.to_python(py, event)?)?;
        }
        Ok((list.unbind(), stopped))
    }

    #[pyo3(signature = (
        *, host, port, authority, user, probe_required, aggregated, pays = None, carrier = None,
        desk = None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the other side of the border")]
    fn connect(
        &self,
        host: String,
        port: Int<u16>,
        authority: Option<&AuthorityPublicKey>,
        user: String,
        probe_required: bool,
        aggregated: bool,
        pays: Option<String>,
        carrier: Option<&Carrier>,
        desk: Option<&Desk>,
    ) -> PyResult<u64> {
        if carrier.is_some() != desk.is_some() || (carrier.is_some() && !aggregated) {
            return Err(local_error(
                "an extension that carries shares needs a desk and one channel for all devices",
            ));
        }
        if user.len() > 255 {
            return Err(config_error(format!(
                "the user name has {} bytes: 255 are the most that a pool can be told",
                user.len()
            )));
        }
        let settings = UpstreamSettings {
            host,
            port: port.0,
            vendor: "radpool-sv2".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            // Behind one channel the pool tells devices apart by their names alone.
            extensions: match aggregated && carrier.is_none() {
                true => vec![WORKER_IDENTITY_EXTENSION],
                false => Vec::new(),
            },
            user,
            probe_required,
            nominal_hash_rate: self.nominal_hash_rate,
            linger_ms: self.linger_ms,
            channels_max: self.channels_max,
            aggregated,
            carrier: carrier.map(|carrier| carrier.0.clone()),
        };
        let desk = desk.map(|desk| Arc::clone(&desk.0));
        let place =
            UpstreamPlace { authority: authority.map(|key| key.0), settings, user: pays, desk };
        self.engine.connect(place).map_err(translator_error)
    }

    fn use_upstream(&self, upstream: Int<u64>) -> PyResult<()> {
        let size = self.sizes.lock().get(&upstream.0).copied().flatten();
        self.engine.use_upstream(upstream.0, size).map_err(translator_error)
    }

    fn assign_each(&self) {
        self.engine.assign_each();
    }

    fn assign(&self, devices: Vec<u64>, upstream: Int<u64>) -> PyResult<()> {
        self.engine.assign(&devices, upstream.0).map_err(translator_error)
    }

    fn show(&self, devices: Vec<u64>, text: &str) {
        self.engine.show(&devices, text);
    }

    fn disconnect(&self, upstream: Int<u64>) -> PyResult<()> {
        self.engine.disconnect(upstream.0).map_err(translator_error)
    }

    fn clients(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let list = PyList::empty(py);
        // Some at a time: thousands of them are not to be in memory twice.
        for devices in py.detach(|| self.engine.devices()).chunks(CLIENTS_AT_ONCE) {
            let clients = py.detach(|| self.engine.clients(devices));
            for each in clients {
                list.append(object(py, client(each))?)?;
            }
        }
        Ok(list.unbind())
    }

    fn metrics(&self) -> BTreeMap<String, u128> {
        self.engine.metrics().into_iter().collect()
    }

    fn refusals(&self) -> BTreeMap<String, u64> {
        self.engine.refusals()
    }

    fn stop(&self, py: Python<'_>, timeout_ms: Int<u64>) {
        py.detach(|| self.engine.stop(Duration::from_millis(timeout_ms.0)));
    }
}

impl Translator {
    /// The way in for devices that an engine accepts; `None` once it has stopped.
    pub(crate) fn door(&self) -> Option<engine::Sv1Door> {
        self.engine.door().ok()
    }

    fn to_python<'py>(
        &self,
        py: Python<'py>,
        event: TranslatorEvent,
    ) -> PyResult<Bound<'py, PyAny>> {
        match event {
            TranslatorEvent::UpstreamReady { upstream, extranonce_size } => {
                self.sizes.lock().insert(upstream, extranonce_size);
                object(py, UpstreamReady { upstream, extranonce_size })
            }
            TranslatorEvent::UpstreamEnded { upstream, ended } => {
                self.sizes.lock().remove(&upstream);
                let (reason, lasting) = (ended.to_string(), ended.is_lasting());
                let elsewhere = match ended {
                    radpool_miner::Ended::SentElsewhere { host, port } => Some((host, port)),
                    _ => None,
                };
                object(py, UpstreamEnded { upstream, reason, lasting, elsewhere })
            }
            TranslatorEvent::DeviceJoined { device, address, user } => {
                object(py, DeviceJoined { device, address: address.to_string(), user })
            }
            TranslatorEvent::DeviceLeft { device, reason } => {
                object(py, DeviceLeft { device, reason: reason.as_str() })
            }
            TranslatorEvent::ChannelRefused { device, upstream, code } => {
                object(py, ChannelRefused { device, upstream, code })
            }
            TranslatorEvent::TlsFailed { address, reason } => {
                object(py, TlsFailed { address: address.to_string(), reason })
            }
            TranslatorEvent::Dropped { count } => object(py, EventsDropped { count }),
        }
    }
}

fn client(client: engine::Client) -> Client {
    let figures = client.figures;
    Client {
        device: client.device,
        address: client.address.to_string(),
        since_unix_ms: client.since_unix_ms,
        agent: figures.agent,
        workers: figures.workers.into_iter().map(worker).collect(),
        version_mask: figures.version_mask,
        exponent: figures.exponent.map(Exponent::get),
        pool_exponent: figures.pool_exponent.map(Exponent::get),
        jobs: figures.jobs,
        pool_accepted: figures.pool_accepted,
        pool_work: figures.pool_work,
        pool_rejected: figures.pool_rejected,
        refused: figures.refused,
    }
}

fn worker(worker: radpool_sv1::WorkerFigures) -> Worker {
    let counted = Refusal::ALL.iter().zip(worker.rejected).filter(|(_, count)| *count > 0);
    Worker {
        name: worker.name,
        accepted: worker.accepted,
        work: worker.work,
        forwarded: worker.forwarded,
        rejected: counted.map(|(refusal, count)| (refusal.code(), count)).collect(),
        last_share_unix_ms: worker.last_share_unix_ms,
    }
}

fn identity_error(error: TlsIdentityError) -> PyErr {
    config_error(error)
}

fn translator_error(error: TranslatorError) -> PyErr {
    match error {
        TranslatorError::Stopped
        | TranslatorError::TooManyUpstreams
        | TranslatorError::NoUpstream(_) => local_error(error),
        TranslatorError::Settings(_)
        | TranslatorError::System { .. }
        | TranslatorError::Listen { .. } => config_error(error),
    }
}

fn object<'py, T>(py: Python<'py>, value: T) -> PyResult<Bound<'py, PyAny>>
where
    T: pyo3::PyClass + Into<PyClassInitializer<T>>,
{
    Ok(Bound::new(py, value)?.into_any())
}
