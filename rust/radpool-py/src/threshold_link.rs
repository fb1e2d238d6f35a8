//! `radpool_sv2._native.threshold`: links between members.

use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyList},
};
use radpool_threshold::{
    self as threshold,
    link::{self, LinkError, Received},
};
use zeroize::Zeroizing;

use crate::{
    argument::hash,
    error::{config_error, local_error, remote_error},
    keys::random_bytes,
};

fn link_error(error: LinkError) -> PyErr {
    if error.is_local() { local_error(error) } else { remote_error(error) }
}

/// The static key of a member's links.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct TransportKey(threshold::TransportKey);

#[pymethods]
impl TransportKey {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        let secret = Zeroizing::new(random_bytes()?);
        Ok(Self(threshold::TransportKey::from_secret(secret)))
    }

    #[staticmethod]
    fn from_secret(secret: &[u8]) -> PyResult<Self> {
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).map_err(|_| {
            config_error(format!("a transport key has 32 bytes, not {}", secret.len()))
        })?);
        Ok(Self(threshold::TransportKey::from_secret(secret)))
    }

    fn expose_secret<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.expose_secret())
    }

    #[getter]
    fn public(&self) -> [u8; 32] {
        *self.0.public()
    }

    fn __repr__(&self) -> String {
        format!("TransportKey(secret redacted, public {})", hex::encode(self.0.public()))
    }
}

/// One end of a link, without its socket.
#[pyclass(frozen, module = "radpool_sv2._native.threshold")]
#[derive(Debug)]
pub struct Link(Mutex<link::Link>);

#[pymethods]
impl Link {
    #[staticmethod]
    fn dial<'py>(
        py: Python<'py>,
        key: &TransportKey,
        remote: &[u8],
        committee: &[u8],
    ) -> PyResult<(Self, Bound<'py, PyBytes>)> {
        let (remote, committee) = (hash("remote", remote)?, hash("committee", committee)?);
        let (link, first) =
            py.detach(|| link::Link::dial(&key.0, &remote, &committee)).map_err(link_error)?;
        Ok((Self(Mutex::new(link)), PyBytes::new(py, &first)))
    }

    #[staticmethod]
    fn accept(key: &TransportKey, allowed: Vec<PyBackedBytes>, committee: &[u8]) -> PyResult<Self> {
        let committee = hash("committee", committee)?;
        let allowed = allowed.iter().map(|key| hash("allowed", key)).collect::<PyResult<_>>()?;
        let link = link::Link::accept(&key.0, allowed, &committee).map_err(link_error)?;
        Ok(Self(Mutex::new(link)))
    }

    fn receive<'py>(
        &self,
        py: Python<'py>,
        data: PyBackedBytes,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyList>)> {
        let received = py.detach(|| self.0.lock().receive(&data)).map_err(link_error)?;
        let Received { reply, messages, .. } = received;
        let messages = messages.iter().map(|message| PyBytes::new(py, message));
        let messages = PyList::new(py, messages.collect::<Vec<_>>())?;
        Ok((PyBytes::new(py, &reply), messages))
    }

    fn send<'py>(
        &self,
        py: Python<'py>,
        messages: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let data = py.detach(|| self.0.lock().send(&messages)).map_err(link_error)?;
        Ok(PyBytes::new(py, &data))
    }

    fn close(&self) {
        self.0.lock().close();
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.0.lock().is_open()
    }

    #[getter]
    fn remote(&self) -> Option<[u8; 32]> {
        self.0.lock().remote().copied()
    }

    #[getter]
    fn handshake_hash(&self) -> Option<[u8; 32]> {
        self.0.lock().handshake_hash().copied()
    }
}
