//! `radpool_sv2._native.engine`: the engine, its settings and what it works on.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use pyo3::{prelude::*, types::PyList};
use radpool_engine as engine;
use radpool_mining::{ChannelGrant, CloseReason, Command, CustomGrant, DECLARED_TEMPLATES};
use radpool_units::Target;

use crate::{
    argument::{self, Int, code, owner},
    batch::ShareBatch,
    error::{config_error, internal_error, local_error},
    event::{RepeatedShare, to_python},
    keys::ServerIdentity,
    setting::EngineSettings,
    translator::Translator,
    work::{Template, Tip},
};

/// Longest payload of a frame.
const PAYLOAD_LEN_MAX: usize = radpool_wire::frame::PAYLOAD_LEN_MAX;

fn engine_error(error: engine::EngineError) -> PyErr {
    use engine::EngineError;
    match error {
        EngineError::Settings(_) | EngineError::SolutionLog { .. } | EngineError::Listen { .. } => {
            config_error(error)
        }
        EngineError::Work(_) | EngineError::Index { .. } | EngineError::Stopped => {
            local_error(error)
        }
        EngineError::System { .. } | EngineError::Forked { .. } => internal_error(error),
    }
}

/// Longest tail of a channel's Success: it leaves in one frame with the core fields.
const TAIL_LEN_MAX: usize = 0xffff;

fn check_payload(payload: &[u8]) -> PyResult<()> {
    match payload.len() {
        ..=PAYLOAD_LEN_MAX => Ok(()),
        length => Err(local_error(format!(
            "a payload of {length} bytes: a frame holds {PAYLOAD_LEN_MAX}"
        ))),
    }
}

/// What one call of `Engine.drain` took out.
#[pyclass(frozen, get_all, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub(crate) struct Drained {
    batch: Option<Py<ShareBatch>>,
    events: Py<PyList>,
    completions: Vec<(u64, Option<&'static str>)>,
    more: bool,
    stopped: bool,
}

/// The pool's front.
#[pyclass(frozen, module = "radpool_sv2._native.engine")]
#[derive(Debug)]
pub struct Engine(engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    fn new(py: Python<'_>, settings: &EngineSettings, identity: &ServerIdentity) -> PyResult<Self> {
        let (settings, identity) = (settings.0.clone(), identity.0.clone());
        py.detach(|| engine::Engine::start(settings, identity).map(Self).map_err(engine_error))
    }

    fn listen(&self, py: Python<'_>, host: &str, port: Int<u16>) -> PyResult<(String, u16)> {
        let address = py.detach(|| self.0.listen(host, port.0)).map_err(engine_error)?;
        Ok((address.ip().to_string(), address.port()))
    }

    #[pyo3(signature = (translator, /))]
    fn set_sv1(&self, translator: Option<&Translator>) {
        self.0.set_sv1(translator.and_then(Translator::door));
    }

    fn event_fd(&self) -> i32 {
        self.0.descriptor()
    }

    fn drain(&self, py: Python<'_>, records_max: Int<usize>) -> PyResult<Drained> {
        let drained = py.detach(|| self.0.drain(records_max.0)).map_err(engine_error)?;
        let batch = match drained.shares.is_empty() {
            true => None,
            false => Some(Py::new(py, ShareBatch::new(drained.shares))?),
        };
        let events = PyList::empty(py);
        for event in drained.events {
            events.append(to_python(py, event)?)?;
        }
        let completions = drained.completions.into_iter();
        Ok(Drained {
            batch,
            events: events.unbind(),
            completions: completions.map(|done| (done.token, done.failure)).collect(),
            more: drained.more,
            stopped: drained.stopped,
        })
    }

    #[pyo3(
        signature = (batch, rejected = vec![]),
        text_signature = "($self, batch, rejected=())"
    )]
    fn acknowledge(
        &self,
        py: Python<'_>,
        batch: &ShareBatch,
        rejected: Vec<(Int<usize>, String)>,
    ) -> PyResult<()> {
        let rejected: Vec<(usize, String)> = rejected
            .into_iter()
            .map(|(index, text)| Ok((index.0, code(&text, 1)?)))
            .collect::<PyResult<_>>()?;
        if let Some((index, _)) = rejected.iter().find(|(index, _)| *index >= batch.shares.len()) {
            let count = batch.shares.len();
            return Err(local_error(format!("there is no share {index} in a batch of {count}")));
        }
        if batch.acknowledged.swap(true, Ordering::AcqRel) {
            return Err(local_error("the batch was acknowledged before: once is enough"));
        }
        py.detach(|| self.0.acknowledge(&batch.shares, &rejected)).map_err(engine_error)
    }

    fn publish_template(
        &self,
        py: Python<'_>,
        template: &Template,
        tip: Option<&Tip>,
    ) -> PyResult<()> {
        let (template, tip) = (template.0.clone(), tip.map(|tip| tip.0));
        py.detach(|| self.0.publish_template(template, tip)).map_err(engine_error)
    }

    fn activate_template(&self, py: Python<'_>, tip: &Tip) -> PyResult<()> {
        py.detach(|| self.0.activate_template(tip.0)).map_err(engine_error)
    }

    fn set_floor(&self, py: Python<'_>, exponent: Int<u32>) -> PyResult<()> {
        let floor = argument::exponent(exponent.0)?;
        py.detach(|| self.0.set_floor(floor)).map_err(engine_error)
    }

    fn add_prefixes(&self, start: i64, end: i64) -> PyResult<()> {
        let bound = |number| u32::try_from(number).ok();
        match (bound(start), bound(end)) {
            (Some(first), Some(last)) if first < last => {
                self.0.add_prefixes(first, last).map_err(engine_error)
            }
            _ => Err(local_error(format!(
                "prefixes {start} to {end} are no lease: give 0 <= start < end < 2^32"
            ))),
        }
    }

    fn preload_seen(&self, py: Python<'_>, header_hashes: &[u8]) -> PyResult<()> {
        let (hashes, rest) = header_hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(local_error(format!(
                "header_hashes has {} bytes: give a multiple of 32",
                header_hashes.len()
            )));
        }
        py.detach(|| self.0.preload_seen(hashes)).map_err(engine_error)
    }

    #[pyo3(
        signature = (connection, request, *, account, commitment, rail, exponent, tail = b"".as_slice(), before = vec![]),
        text_signature =
            "($self, connection, request, *, account, commitment, rail, exponent, tail=b'', before=())"
    )]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn open_channel(
        &self,
        connection: Int<u64>,
        request: Int<u32>,
        account: Int<u64>,
        commitment: &[u8],
        rail: Int<u8>,
        exponent: Option<Int<u32>>,
        tail: &[u8],
        before: Vec<(Int<u8>, Vec<u8>)>,
    ) -> PyResult<u64> {
        if tail.len() > TAIL_LEN_MAX {
            return Err(local_error(format!(
                "a tail of {} bytes: give at most {TAIL_LEN_MAX}",
                tail.len()
            )));
        }
        let owner = owner(account.0, commitment, rail.0)?;
        let exponent = exponent.map(|zeros| argument::exponent(zeros.0)).transpose()?;
        let before = before.into_iter().map(|(msg_type, payload)| {
            check_payload(&payload)?;
            Ok((msg_type.0, payload))
        });
        let before = before.collect::<PyResult<_>>()?;
        let grant = ChannelGrant { owner, exponent, tail: tail.to_vec(), before };
        self.command(connection, Command::OpenChannel { request: request.0, grant })
    }

    fn refuse_channel(
        &self,
        connection: Int<u64>,
        request: Int<u32>,
        error_code: &str,
    ) -> PyResult<u64> {
        let code = code(error_code, 1)?;
        self.command(connection, Command::RefuseChannel { request: request.0, code })
    }

    fn close_channel(
        &self,
        connection: Int<u64>,
        channel: Int<u32>,
        reason: &str,
    ) -> PyResult<u64> {
        let reason = code(reason, 0)?;
        self.command(connection, Command::CloseChannel { channel: channel.0, reason })
    }

    #[pyo3(signature = (
        connection, channel, request, *, template_id, account, commitment, rail, epoch, exponent,
        price, height, target
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn accept_custom_job(
        &self,
        connection: Int<u64>,
        channel: Int<u32>,
        request: Int<u32>,
        template_id: Int<u64>,
        account: Int<u64>,
        commitment: &[u8],
        rail: Int<u8>,
        epoch: Int<u32>,
        exponent: Int<u32>,
        price: Int<u128>,
        height: Int<u32>,
        target: &[u8],
    ) -> PyResult<u64> {
        let template_id = template_id.0;
        if template_id < DECLARED_TEMPLATES {
            return Err(local_error(format!(
                "template_id {template_id} may be a source's: give 2^63 or more to a custom job"
            )));
        }
        let grant = CustomGrant {
            template_id,
            owner: owner(account.0, commitment, rail.0)?,
            epoch: epoch.0,
            exponent: argument::exponent(exponent.0)?,
            price: price.0,
            height: height.0,
            target: Target::from_le_bytes(argument::hash("target", target)?),
        };
        let (channel, request, grant) = (channel.0, request.0, Box::new(grant));
        self.command(connection, Command::AcceptCustomJob { channel, request, grant })
    }

    fn refuse_custom_job(
        &self,
        connection: Int<u64>,
        channel: Int<u32>,
        request: Int<u32>,
        error_code: &str,
    ) -> PyResult<u64> {
        let (channel, request, code) = (channel.0, request.0, code(error_code, 1)?);
        self.command(connection, Command::RefuseCustomJob { channel, request, code })
    }

    #[pyo3(signature = (connection, channel, *, account, commitment, rail))]
    fn set_owner(
        &self,
        connection: Int<u64>,
        channel: Int<u32>,
        account: Int<u64>,
        commitment: &[u8],
        rail: Int<u8>,
    ) -> PyResult<u64> {
        let owner = owner(account.0, commitment, rail.0)?;
        self.command(connection, Command::SetOwner { channel: channel.0, owner })
    }

    fn set_exponent(
        &self,
        connection: Int<u64>,
        channel: Int<u32>,
        exponent: Int<u32>,
    ) -> PyResult<u64> {
        let exponent = argument::exponent(exponent.0)?;
        self.command(connection, Command::SetExponent { channel: channel.0, exponent })
    }

    fn set_extranonce_prefix(&self, connection: Int<u64>, channel: Int<u32>) -> PyResult<u64> {
        self.command(connection, Command::SetExtranoncePrefix { channel: channel.0 })
    }

    #[pyo3(signature = (connection, extension_type, msg_type, *, channel_msg, payload))]
    fn send_extension(
        &self,
        connection: Int<u64>,
        extension_type: Int<u16>,
        msg_type: Int<u8>,
        channel_msg: bool,
        payload: &[u8],
    ) -> PyResult<u64> {
        let extension_type = extension_type.0;
        if extension_type & radpool_wire::frame::CHANNEL_BIT != 0 {
            return Err(local_error(format!(
                "extension type {extension_type:#06x} has bit 15 set: use channel_msg for that"
            )));
        }
        check_payload(payload)?;
        let (msg_type, payload) = (msg_type.0, payload.to_vec());
        let command = Command::SendExtension { extension_type, msg_type, channel_msg, payload };
        self.command(connection, command)
    }

    fn reject_repeated(&self, share: &RepeatedShare, error_code: &str) -> PyResult<u64> {
        let code = code(error_code, 1)?;
        let (channel, sequence) = (share.channel, share.sequence);
        let by = share.error_type.map(|error_type| (share.extension_type, error_type));
        let reject = Command::RejectShare { channel, sequence, code, by };
        self.command(Int(share.connection), reject)
    }

    fn reconnect(&self, connection: Int<u64>, host: &str, port: Int<u16>) -> PyResult<u64> {
        if host.len() > 255 {
            return Err(local_error(format!("a host of {} bytes: give at most 255", host.len())));
        }
        self.command(connection, Command::Reconnect { host: host.to_owned(), port: port.0 })
    }

    fn disconnect(&self, connection: Int<u64>) -> PyResult<u64> {
        self.command(connection, Command::Disconnect { reason: CloseReason::Requested })
    }

    fn set_identity(&self, identity: &ServerIdentity) {
        self.0.set_identity(identity.0.clone());
    }

    fn metrics(&self) -> BTreeMap<String, u64> {
        self.0.metrics().into_iter().collect()
    }

    fn stop_accepting(&self) {
        self.0.stop_accepting();
    }

    fn pause_reads(&self) {
        self.0.pause_reads();
    }

    fn stop(&self, py: Python<'_>, timeout_ms: Int<u64>) {
        py.detach(|| self.0.stop(Duration::from_millis(timeout_ms.0)));
    }
}

impl Engine {
    fn command(&self, connection: Int<u64>, command: Command) -> PyResult<u64> {
        self.0.command(connection.0, command).map_err(engine_error)
    }
}
