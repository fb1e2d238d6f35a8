//! Events of the engine as frozen Python classes, one for each event.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use radpool_engine::EngineEvent;
use radpool_mining as mining;

/// Declares a class whose attributes are its fields.
macro_rules! event {
    ($(#[$docs:meta])* $name:ident { $($field:ident: $kind:ty,)* }) => {
        $(#[$docs])*
        #[pyclass(frozen, get_all, module = "radpool_sv2._native.event")]
        #[derive(Debug)]
        pub struct $name { $(pub(crate) $field: $kind,)* }

        #[pymethods]
        impl $name {
            fn __repr__(&self) -> String {
                format!("{self:?}")
            }
        }
    };
}

event! {
    /// A client is set up.
    SetUp {
        connection: u64,
        address: String,
        flags: u32,
        vendor: Vec<u8>,
        hardware_version: Vec<u8>,
        firmware: Vec<u8>,
        device_id: Vec<u8>,
    }
}

event! {
    /// A client may use these extensions.
    ExtensionsNegotiated { connection: u64, extensions: Vec<u16>, }
}

event! {
    /// A client asks for a channel.
    ChannelRequested {
        connection: u64,
        request: u32,
        kind: &'static str,
        user_identity: Vec<u8>,
        nominal_hash_rate: f32,
        max_target: [u8; 32],
        min_extranonce_size: u16,
        extension_type: u16,
        msg_type: u8,
        tail: Vec<u8>,
    }
}

event! {
    /// A channel is open.
    ChannelOpened {
        connection: u64,
        request: u32,
        channel: u32,
        group: u32,
        kind: &'static str,
        exponent: u8,
        extranonce_prefix: Vec<u8>,
        rollable: u16,
        extension_type: u16,
    }
}

event! {
    /// A channel could not be opened although the pool wanted to.
    ChannelFailed { connection: u64, request: u32, code: &'static str, }
}

event! {
    /// A client declared another hash rate or largest target.
    ChannelUpdated {
        connection: u64,
        channel: u32,
        nominal_hash_rate: f32,
        max_target: [u8; 32],
    }
}

event! {
    /// A channel moved on the ladder.
    ExponentChanged { connection: u64, channel: u32, exponent: u8, }
}

event! {
    /// A channel that selects its work should get tags of this exponent.
    ExponentWanted { connection: u64, channel: u32, exponent: u8, }
}

event! {
    /// A client wants to mine a job of its own.
    CustomJobRequested {
        connection: u64,
        channel: u32,
        request: u32,
        token: Vec<u8>,
        version: u32,
        prev_hash: [u8; 32],
        min_ntime: u32,
        nbits: u32,
        coinbase_tx_version: u32,
        coinbase_prefix: Vec<u8>,
        coinbase_sequence: u32,
        coinbase_tx_outputs: Vec<u8>,
        output_count: u16,
        coinbase_locktime: u32,
        merkle_path: Vec<[u8; 32]>,
        exponent: u8,
        extranonce_len: u8,
    }
}

event! {
    /// A custom job could not be set although the pool wanted to.
    CustomJobFailed { connection: u64, channel: u32, request: u32, code: &'static str, }
}

event! {
    /// What a channel has delivered.
    ChannelReport {
        connection: u64,
        channel: u32,
        accepted: u64,
        work: u128,
        rejected: BTreeMap<&'static str, u64>,
        exponent: u8,
    }
}

event! {
    /// Shares name a worker by its number from now on.
    WorkerNamed { connection: u64, channel: u32, worker: u32, name: Vec<u8>, }
}

event! {
    /// A frame of a negotiated extension.
    ExtensionFrame {
        connection: u64,
        extension_type: u16,
        msg_type: u8,
        channel_msg: bool,
        payload: Vec<u8>,
    }
}

/// A share came again, with something for an extension.
#[pyclass(frozen, module = "radpool_sv2._native.event")]
#[derive(Debug)]
pub struct RepeatedShare {
    #[pyo3(get)]
    pub(crate) connection: u64,
    #[pyo3(get)]
    pub(crate) channel: u32,
    #[pyo3(get)]
    pub(crate) sequence: u32,
    #[pyo3(get)]
    pub(crate) extension_type: u16,
    #[pyo3(get)]
    msg_type: u8,
    /// The message that refuses it, if it did not come as a core message.
    pub(crate) error_type: Option<u8>,
    #[pyo3(get)]
    hash: [u8; 32],
    #[pyo3(get)]
    exponent: u8,
    #[pyo3(get)]
    account: u64,
    #[pyo3(get)]
    epoch: u32,
    #[pyo3(get)]
    height: u32,
    #[pyo3(get)]
    data: Vec<u8>,
}

#[pymethods]
impl RepeatedShare {
    #[getter]
    fn tlvs(&self) -> bool {
        self.error_type.is_none()
    }

    fn __repr__(&self) -> String {
        format!("{self:?}")
    }
}

event! {
    /// A channel is gone.
    ChannelClosed { connection: u64, channel: u32, by_client: bool, reason: Vec<u8>, }
}

event! {
    /// A connection is gone.
    Disconnected { connection: u64, reason: &'static str, }
}

event! {
    /// A share solved its block.
    BlockFound {
        template_id: u64,
        connection: u64,
        channel: u32,
        account: u64,
        header: [u8; 80],
        coinbase_tx: Vec<u8>,
        version: u32,
        ntime: u32,
        nonce: u32,
        extranonce: Vec<u8>,
        hash: [u8; 32],
    }
}

event! {
    /// Few extranonce prefixes are left.
    PrefixesLow { remaining: u64, }
}

event! {
    /// A part of the engine cannot do its work.
    EngineFailed { message: String, }
}

event! {
    /// Devices that speak Stratum V1 have called, and nobody serves them.
    Sv1TurnedAway { address: String, total: u64, }
}

/// Adds the union of all event classes, for `isinstance` and annotations.
pub(crate) fn add_union(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let names = [
        "SetUp",
        "ExtensionsNegotiated",
        "ChannelRequested",
        "ChannelOpened",
        "ChannelFailed",
        "ChannelUpdated",
        "ExponentChanged",
        "ExponentWanted",
        "CustomJobRequested",
        "CustomJobFailed",
        "ChannelReport",
        "WorkerNamed",
        "ExtensionFrame",
        "RepeatedShare",
        "ChannelClosed",
        "Disconnected",
        "BlockFound",
        "PrefixesLow",
        "Sv1TurnedAway",
        "EngineFailed",
    ];
    let mut union = module.getattr(names[0])?;
    for name in &names[1..] {
        union = union.bitor(module.getattr(*name)?)?;
    }
    module.add("Event", union)
}

/// Makes the Python object of an event.
pub(crate) fn to_python(py: Python<'_>, event: EngineEvent) -> PyResult<Bound<'_, PyAny>> {
    match event {
        EngineEvent::Mining {
            connection,
            address,
            event: mining::Event::SetUp { flags, vendor, hardware_version, firmware, device_id },
        } => object(
            py,
            SetUp {
                connection,
                address: address.to_string(),
                flags,
                vendor,
                hardware_version,
                firmware,
                device_id,
            },
        ),
        EngineEvent::Mining { connection, event, .. } => mining_event(py, connection, event),
        EngineEvent::Disconnected { connection, reason } => {
            object(py, Disconnected { connection, reason: reason.as_str() })
        }
        EngineEvent::BlockFound(solution) => block_found(py, *solution),
        EngineEvent::PrefixesLow { remaining } => object(py, PrefixesLow { remaining }),
        EngineEvent::Sv1TurnedAway { address, total } => {
            object(py, Sv1TurnedAway { address: address.to_string(), total })
        }
        EngineEvent::Failed { message } => object(py, EngineFailed { message }),
    }
}

fn mining_event(
    py: Python<'_>,
    connection: u64,
    event: mining::Event,
) -> PyResult<Bound<'_, PyAny>> {
    use mining::Event;
    match event {
        Event::SetUp { .. } => unreachable!("to_python() takes it, with the address"),
        Event::Disconnected { reason } => {
            object(py, Disconnected { connection, reason: reason.as_str() })
        }
        Event::ExtensionsNegotiated { extensions } => {
            object(py, ExtensionsNegotiated { connection, extensions })
        }
        event @ Event::ChannelRequested { .. } => channel_requested(py, connection, event),
        event @ Event::ChannelOpened { .. } => channel_opened(py, connection, event),
        Event::ChannelFailed { request, code } => {
            object(py, ChannelFailed { connection, request, code })
        }
        Event::ChannelUpdated { channel, nominal_hash_rate, max_target } => {
            object(py, ChannelUpdated { connection, channel, nominal_hash_rate, max_target })
        }
        Event::ExponentChanged { channel, exponent } => {
            object(py, ExponentChanged { connection, channel, exponent: exponent.get() })
        }
        Event::ExponentWanted { channel, exponent } => {
            object(py, ExponentWanted { connection, channel, exponent: exponent.get() })
        }
        Event::CustomJobRequested(job) => custom_job_requested(py, connection, &job),
        Event::CustomJobFailed { channel, request, code } => {
            object(py, CustomJobFailed { connection, channel, request, code })
        }
        Event::ChannelReport(report) => channel_report(py, connection, &report),
        Event::WorkerNamed { channel, worker, name } => {
            object(py, WorkerNamed { connection, channel, worker, name })
        }
        Event::ExtensionFrame { extension_type, msg_type, channel_msg, payload } => {
            let payload = payload.to_vec();
            object(
                py,
                ExtensionFrame { connection, extension_type, msg_type, channel_msg, payload },
            )
        }
        Event::RepeatedShare(share) => repeated_share(py, connection, *share),
        Event::ChannelClosed { channel, by_client, reason } => {
            object(py, ChannelClosed { connection, channel, by_client, reason })
        }
    }
}

fn channel_requested(
    py: Python<'_>,
    connection: u64,
    event: mining::Event,
) -> PyResult<Bound<'_, PyAny>> {
    let mining::Event::ChannelRequested {
        request,
        kind,
        user_identity,
        nominal_hash_rate,
        max_target,
        min_extranonce_size,
        msg_type,
        tail,
    } = event
    else {
        unreachable!("mining_event() calls this for no other event");
    };
    object(
        py,
        ChannelRequested {
            connection,
            request,
            kind: kind_name(kind),
            user_identity,
            nominal_hash_rate,
            max_target,
            min_extranonce_size,
            extension_type: tail.as_ref().map_or(0, |tail| tail.extension_type),
            msg_type,
            tail: tail.map_or_else(Vec::new, |tail| tail.bytes.to_vec()),
        },
    )
}

fn repeated_share(
    py: Python<'_>,
    connection: u64,
    share: mining::RepeatedShare,
) -> PyResult<Bound<'_, PyAny>> {
    object(
        py,
        RepeatedShare {
            connection,
            channel: share.channel,
            sequence: share.sequence,
            extension_type: share.extension_type,
            msg_type: share.msg_type,
            error_type: share.error_type,
            hash: share.hash.0,
            exponent: share.exponent.get(),
            account: share.account,
            epoch: share.epoch,
            height: share.height,
            data: share.data.to_vec(),
        },
    )
}

fn channel_opened(
    py: Python<'_>,
    connection: u64,
    event: mining::Event,
) -> PyResult<Bound<'_, PyAny>> {
    let mining::Event::ChannelOpened {
        request,
        channel,
        group,
        kind,
        exponent,
        extranonce_prefix,
        rollable,
        extension_type,
    } = event
    else {
        unreachable!("mining_event() calls this for no other event");
    };
    object(
        py,
        ChannelOpened {
            connection,
            request,
            channel,
            group,
            kind: kind_name(kind),
            exponent: exponent.get(),
            extranonce_prefix,
            rollable,
            extension_type,
        },
    )
}

fn custom_job_requested<'py>(
    py: Python<'py>,
    connection: u64,
    job: &mining::CustomJob,
) -> PyResult<Bound<'py, PyAny>> {
    let message = &job.message;
    object(
        py,
        CustomJobRequested {
            connection,
            channel: message.channel_id,
            request: job.request,
            token: message.token.clone(),
            version: message.version,
            prev_hash: message.prev_hash,
            min_ntime: message.min_ntime,
            nbits: message.nbits,
            coinbase_tx_version: message.coinbase_tx_version,
            coinbase_prefix: message.coinbase_prefix.clone(),
            coinbase_sequence: message.coinbase_tx_input_n_sequence,
            coinbase_tx_outputs: message.coinbase_tx_outputs.clone(),
            output_count: job.output_count,
            coinbase_locktime: message.coinbase_tx_locktime,
            merkle_path: message.merkle_path.clone(),
            exponent: job.exponent.get(),
            extranonce_len: job.extranonce_len,
        },
    )
}

fn channel_report<'py>(
    py: Python<'py>,
    connection: u64,
    report: &mining::ChannelReport,
) -> PyResult<Bound<'py, PyAny>> {
    let counts = mining::Reject::ALL.map(|reject| (reject, report.rejected[reject.index()]));
    let mut rejected = BTreeMap::new();
    for (reject, count) in counts {
        if count > 0 {
            // Two reasons may share a code.
            *rejected.entry(reject.code()).or_default() += count;
        }
    }
    object(
        py,
        ChannelReport {
            connection,
            channel: report.channel,
            accepted: report.accepted,
            work: report.work.0,
            rejected,
            exponent: report.exponent.get(),
        },
    )
}

fn block_found(py: Python<'_>, solution: mining::Solution) -> PyResult<Bound<'_, PyAny>> {
    object(
        py,
        BlockFound {
            template_id: solution.template_id,
            connection: solution.connection,
            channel: solution.channel,
            account: solution.account,
            header: solution.header,
            coinbase_tx: solution.coinbase_tx,
            version: solution.version,
            ntime: solution.ntime,
            nonce: solution.nonce,
            extranonce: solution.extranonce,
            hash: solution.hash.0,
        },
    )
}

fn kind_name(kind: mining::ChannelKind) -> &'static str {
    match kind {
        mining::ChannelKind::Standard => "standard",
        mining::ChannelKind::Extended => "extended",
    }
}

fn object<'py, T>(py: Python<'py>, value: T) -> PyResult<Bound<'py, PyAny>>
where
    T: pyo3::PyClass + Into<PyClassInitializer<T>>,
{
    Ok(Bound::new(py, value)?.into_any())
}
