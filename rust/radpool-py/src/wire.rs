//! `radpool_sv2._native.wire`: the handshake and the sealed frames of one connection, without IO.

use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyList},
};
use radpool_wire::{
    frame::{FrameHeader, HEADER_LEN},
    keys as wire_keys,
    noise::{self, ACT1_LEN, ACT2_LEN, Opener, Sealer},
    reader::{FrameReader, ReadError},
};

use crate::{
    argument::Int,
    error::{local_error, remote_error},
    keys::{ServerIdentity, random_bytes},
};

/// What a connection may send before anybody says otherwise: a set-up fits, at most 1.3 KiB.
const FRAME_BYTES_DEFAULT: usize = 4096;

/// A plain frame as Python gets it.
struct Frame {
    header: FrameHeader,
    payload: Vec<u8>,
}

impl Frame {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let Self { header, payload } = self;
        let payload = PyBytes::new(py, &payload);
        let fields = (header.extension_type, header.msg_type, header.channel_msg, payload);
        Ok(fields.into_pyobject(py)?.into_any())
    }
}

/// The client's side of the handshake.
#[pyclass(frozen, module = "radpool_sv2._native.wire")]
#[derive(Debug)]
pub struct Initiator {
    act1: [u8; ACT1_LEN],
    authority: Option<wire_keys::AuthorityPublicKey>,
    begun: Mutex<Option<noise::Initiator>>,
}

#[pymethods]
impl Initiator {
    #[new]
    #[pyo3(signature = (authority_key = None))]
    fn new(authority_key: Option<&[u8]>) -> PyResult<Self> {
        let authority = authority_key.map(authority).transpose()?;
        let (begun, act1) =
            noise::Initiator::new(random_bytes()?, random_bytes()?).map_err(local_error)?;
        Ok(Self { act1, authority, begun: Mutex::new(Some(begun)) })
    }

    fn act1(&self) -> [u8; ACT1_LEN] {
        self.act1
    }

    #[pyo3(signature = (act2, unix_s = None))]
    fn finish(&self, py: Python<'_>, act2: &[u8], unix_s: Option<Int<u32>>) -> PyResult<Transport> {
        let act2 = field(act2, "act 2")?;
        let begun = self.begun.lock().take();
        let begun = begun.ok_or_else(|| local_error("a handshake can be finished once only"))?;
        let unix_s = unix_s.map_or_else(unix_now, |given| given.0);
        let (sealer, opener) = py
            .detach(|| begun.finish(act2, self.authority.as_ref(), unix_s))
            .map_err(remote_error)?;
        Ok(Transport::new(sealer, opener))
    }

    fn __repr__(&self) -> &'static str {
        "Initiator(redacted)"
    }
}

/// The server's side of the handshake.
#[pyclass(frozen, module = "radpool_sv2._native.wire")]
#[derive(Debug)]
pub struct Responder(noise::ServerIdentity);

#[pymethods]
impl Responder {
    #[new]
    fn new(identity: &ServerIdentity) -> Self {
        Self(identity.0.clone())
    }

    fn respond(&self, py: Python<'_>, act1: &[u8]) -> PyResult<([u8; ACT2_LEN], Transport)> {
        let act1 = field(act1, "act 1")?;
        let (secret, aux) = (random_bytes()?, random_bytes()?);
        let (act2, sealer, opener) = py
            .detach(|| noise::Responder::respond(&self.0, act1, secret, aux))
            .map_err(local_error)?;
        Ok((act2, Transport::new(sealer, opener)))
    }

    fn __repr__(&self) -> &'static str {
        "Responder(redacted)"
    }
}

/// What has been received of the frame that comes.
#[derive(Debug)]
struct Incoming {
    opener: Opener,
    reader: FrameReader,
    frame_bytes_max: usize,
    /// Why nothing more can be read; told when all frames before it have been handed over.
    failure: Option<String>,
}

impl Incoming {
    fn feed(&mut self, data: &mut [u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        let limit = self.frame_bytes_max;
        let check = |header: &FrameHeader| {
            let length = HEADER_LEN + header.payload_len as usize;
            match length <= limit {
                true => Ok(()),
                false => Err(format!(
                    "a frame of {length} bytes (extension {:#06x}, message {:#04x}): \
                     at most {limit} are taken here",
                    header.extension_type, header.msg_type
                )),
            }
        };
        let fed = self.reader.feed(data, &mut self.opener, check, |header, payload| {
            frames.push(Frame { header, payload: payload.to_vec() });
        });
        self.failure = fed.err().map(|error| match error {
            ReadError::Open(error) => error.to_string(),
            ReadError::Refused(reason) => reason,
        });
        frames
    }
}

/// Both directions of a connection. They do not wait for each other.
#[pyclass(frozen, module = "radpool_sv2._native.wire")]
#[derive(Debug)]
pub struct Transport {
    sealer: Mutex<Sealer>,
    incoming: Mutex<Incoming>,
}

impl Transport {
    fn new(sealer: Sealer, opener: Opener) -> Self {
        let incoming = Incoming {
            opener,
            reader: FrameReader::new(),
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            failure: None,
        };
        Self { sealer: Mutex::new(sealer), incoming: Mutex::new(incoming) }
    }
}

#[pymethods]
impl Transport {
    fn seal<'py>(&self, py: Python<'py>, frames: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
        let sealed = py.detach(|| {
            let mut sealed = Vec::new();
            self.sealer.lock().seal_frames(&frames, &mut sealed).map(|()| sealed)
        });
        Ok(PyBytes::new(py, &sealed.map_err(local_error)?))
    }

    fn feed<'py>(&self, py: Python<'py>, data: PyBackedBytes) -> PyResult<Bound<'py, PyList>> {
        let frames = py.detach(|| {
            let mut incoming = self.incoming.lock();
            match &incoming.failure {
                Some(reason) => Err(reason.clone()),
                None => {
                    let frames = incoming.feed(&mut data.to_vec());
                    match (&incoming.failure, frames.is_empty()) {
                        (Some(reason), true) => Err(reason.clone()),
                        _ => Ok(frames),
                    }
                }
            }
        });
        let list = PyList::empty(py);
        for frame in frames.map_err(remote_error)? {
            list.append(frame.into_python(py)?)?;
        }
        Ok(list)
    }

    #[getter]
    fn frame_bytes_max(&self) -> usize {
        self.incoming.lock().frame_bytes_max
    }

    #[setter]
    fn set_frame_bytes_max(&self, value: Int<usize>) {
        self.incoming.lock().frame_bytes_max = value.0;
    }

    #[getter]
    fn pending_bytes(&self) -> usize {
        self.incoming.lock().reader.allocated()
    }

    #[getter]
    fn inside_frame(&self) -> bool {
        self.incoming.lock().reader.is_inside_frame()
    }

    fn __repr__(&self) -> &'static str {
        "Transport(redacted)"
    }
}

fn authority(bytes: &[u8]) -> PyResult<wire_keys::AuthorityPublicKey> {
    let x_only = field(bytes, "an authority's key")?;
    wire_keys::AuthorityPublicKey::from_bytes(x_only).map_err(local_error)
}

fn field<'bytes, const LEN: usize>(bytes: &'bytes [u8], name: &str) -> PyResult<&'bytes [u8; LEN]> {
    bytes
        .try_into()
        .map_err(|_| local_error(format!("{name} has {LEN} bytes, not {}", bytes.len())))
}

/// The system's clock, which a certificate's dates are compared with.
fn unix_now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}
