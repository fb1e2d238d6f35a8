//! `radpool_sv2._native.miner`: the CPU miner.

use parking_lot::Mutex;
use pyo3::prelude::*;
use radpool_miner as miner;

use radpool_miner::desk::{ATTACHMENT_LEN_MAX, Attachment, CarrierFrame};

use crate::{
    argument::{Int, code},
    error::{config_error, local_error},
    keys::AuthorityPublicKey,
};

/// More threads than any machine has are a slip of the keyboard.
const THREADS_MAX: u32 = 1024;

/// Longest payload of a frame of an extension.
const PAYLOAD_LEN_MAX: usize = miner::client::PAYLOAD_LEN_MAX as usize;

/// Core messages, the negotiation of extensions and a channel bit are no carrier's.
const EXTENSION_TYPES: std::ops::RangeInclusive<u16> = 2..=0x7fff;

/// A request's message type and those of its answers.
type ExchangeNumbers = (Int<u8>, Int<u8>, Int<u8>);

/// How a miner speaks an extension that carries its shares.
#[pyclass(frozen, module = "radpool_sv2._native.miner")]
#[derive(Clone, Debug)]
pub struct Carrier(pub(crate) miner::ClientExtension);

#[pymethods]
impl Carrier {
    #[new]
    #[pyo3(signature = (
        *, extension_type, open_messages, open_tail, share_messages, renewing_codes, lapsing_codes
    ))]
    fn new(
        extension_type: Int<u16>,
        open_messages: ExchangeNumbers,
        open_tail: Vec<u8>,
        share_messages: ExchangeNumbers,
        renewing_codes: Vec<String>,
        lapsing_codes: Vec<String>,
    ) -> PyResult<Self> {
        let extension_type = extension_type.0;
        if !EXTENSION_TYPES.contains(&extension_type) {
            return Err(local_error(format!("{extension_type:#06x} is no extension's number")));
        }
        let exchange = |(request, success, error): ExchangeNumbers| miner::Exchange {
            request: request.0,
            success: success.0,
            error: error.0,
        };
        let (open, share) = (exchange(open_messages), exchange(share_messages));
        let mut numbers = vec![open.success, open.error, share.success, share.error];
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() != 4 || open.request == share.request {
            return Err(local_error("two messages of the carrier have the same number"));
        }
        if open_tail.len() > PAYLOAD_LEN_MAX / 2 {
            return Err(local_error(format!("a tail of {} bytes", open_tail.len())));
        }
        let checked = |codes: Vec<String>| -> PyResult<Vec<String>> {
            codes.iter().map(|text| code(text, 1)).collect()
        };
        Ok(Self(miner::ClientExtension {
            extension_type,
            open,
            open_tail,
            share,
            renewing_codes: checked(renewing_codes)?,
            lapsing_codes: checked(lapsing_codes)?,
        }))
    }

    #[getter]
    fn extension_type(&self) -> u16 {
        self.0.extension_type
    }

    #[getter]
    fn open_messages(&self) -> (u8, u8, u8) {
        let open = self.0.open;
        (open.request, open.success, open.error)
    }

    #[getter]
    fn open_tail(&self) -> &[u8] {
        &self.0.open_tail
    }

    #[getter]
    fn share_messages(&self) -> (u8, u8, u8) {
        let share = self.0.share;
        (share.request, share.success, share.error)
    }

    #[getter]
    fn renewing_codes(&self) -> Vec<String> {
        self.0.renewing_codes.clone()
    }

    #[getter]
    fn lapsing_codes(&self) -> Vec<String> {
        self.0.lapsing_codes.clone()
    }
}

/// What has happened in a session since the last look.
#[pyclass(frozen, module = "radpool_sv2._native.miner")]
#[derive(Debug)]
pub struct News(pub(crate) miner::desk::News);

#[pymethods]
impl News {
    #[getter]
    fn session(&self) -> u64 {
        self.0.session
    }

    #[getter]
    fn opened(&self) -> Option<(u32, &[u8])> {
        self.0.opened.as_ref().map(|(channel, tail)| (*channel, tail.as_slice()))
    }

    #[getter]
    fn submitted(&self) -> Vec<(u32, Option<u8>, u64, &[u8])> {
        let shares = self.0.submitted.iter();
        shares
            .map(|share| (share.sequence, share.exponent, share.attachment, share.hash.as_slice()))
            .collect()
    }

    #[getter]
    fn refused(&self) -> Vec<(u32, &str, bool)> {
        let refused = self.0.refused.iter();
        refused.map(|share| (share.sequence, share.code.as_str(), share.again)).collect()
    }

    #[getter]
    fn frames(&self) -> Vec<(u8, bool, &[u8])> {
        let frames = self.0.frames.iter();
        frames.map(|frame| (frame.msg_type, frame.channel_msg, frame.payload.as_slice())).collect()
    }

    #[getter]
    fn withdrawn(&self) -> Vec<u64> {
        self.0.withdrawn.clone()
    }

    #[getter]
    fn dropped(&self) -> u64 {
        self.0.dropped
    }

    #[getter]
    fn ended(&self) -> Option<&str> {
        self.0.ended.as_deref()
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Attachments whose length is checked.
pub(crate) fn sized(attachments: Vec<(Int<u64>, Vec<u8>)>) -> PyResult<Vec<Attachment>> {
    let sized = attachments.into_iter().map(|(id, data)| match data.len() {
        0..=ATTACHMENT_LEN_MAX => Ok(Attachment { id: id.0, data }),
        length => Err(local_error(format!(
            "an attachment of {length} bytes: {ATTACHMENT_LEN_MAX} are the most"
        ))),
    });
    sized.collect()
}

/// A frame of an extension whose length is checked.
pub(crate) fn carrier_frame(
    msg_type: u8,
    channel_msg: bool,
    payload: Vec<u8>,
) -> PyResult<CarrierFrame> {
    if payload.len() > PAYLOAD_LEN_MAX {
        return Err(local_error(format!(
            "a payload of {} bytes: {PAYLOAD_LEN_MAX} are the most",
            payload.len()
        )));
    }
    Ok(CarrierFrame { msg_type, channel_msg, payload })
}

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
    #[pyo3(signature = (
        *, host, port, authority, user, kind, threads, hash_rate_limit, carrier = None, sv1 = false
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the other side of the border")]
    fn new(
        host: String,
        port: u16,
        authority: Option<&AuthorityPublicKey>,
        user: String,
        kind: &str,
        threads: u32,
        hash_rate_limit: Option<u64>,
        carrier: Option<&Carrier>,
        sv1: bool,
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
        if carrier.is_some() && kind == miner::ChannelKind::Standard {
            return Err(config_error(
                "shares of a standard channel carry nothing: an extension that carries the shares \
                 needs an extended channel",
            ));
        }
        if sv1 && (carrier.is_some() || authority.is_some()) {
            return Err(config_error(
                "Stratum V1 has neither extensions that carry shares nor keys that certify a pool",
            ));
        }
        let authority = authority.map(|key| key.0);
        let carrier = carrier.map(|carrier| carrier.0.clone());
        let settings = miner::MinerSettings {
            host,
            port,
            authority,
            user,
            kind,
            threads,
            hash_rate_limit,
            carrier,
            sv1,
        };
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

    fn leave(&self) -> PyResult<()> {
        self.with_running(miner::Miner::leave)
    }

    fn event_fd(&self) -> PyResult<i32> {
        self.with_running(miner::Miner::descriptor)
    }

    fn take(&self) -> PyResult<News> {
        self.with_running(miner::Miner::take).map(News)
    }

    fn give(
        &self,
        session: Int<u64>,
        lot: Int<u64>,
        attachments: Vec<(Int<u64>, Vec<u8>)>,
    ) -> PyResult<bool> {
        let attachments = sized(attachments)?;
        self.with_running(|miner| miner.give(session.0, lot.0, attachments))
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
        self.with_running(|miner| miner.send(session.0, frame))
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

impl Miner {
    fn with_running<T>(&self, use_it: impl FnOnce(&miner::Miner) -> T) -> PyResult<T> {
        let running = self.running.lock();
        let miner = running.as_ref().ok_or_else(|| local_error("the miner was not started"))?;
        Ok(use_it(miner))
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
    fn waiting(&self) -> u64 {
        self.0.waiting
    }

    #[getter]
    fn resent(&self) -> u64 {
        self.0.resent
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
