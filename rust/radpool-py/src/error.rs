//! The one place where errors become Python exceptions.
//!
//! The classes are defined in `radpool_sv2.errors`, so that type checkers and readers see ordinary
//! Python classes; they are looked up there by name when first raised.

use std::fmt::Display;

use pyo3::{PyErr, import_exception};

import_exception!(radpool_sv2.errors, ConfigError);
import_exception!(radpool_sv2.errors, FaultyMSPError);
import_exception!(radpool_sv2.errors, InternalError);
import_exception!(radpool_sv2.errors, LocalProtocolError);
import_exception!(radpool_sv2.errors, RemoteProtocolError);

/// The operator's configuration or key file cannot be used.
pub(crate) fn config_error(error: impl Display) -> PyErr {
    ConfigError::new_err(error.to_string())
}

/// The caller used an interface wrongly.
pub(crate) fn local_error(error: impl Display) -> PyErr {
    LocalProtocolError::new_err(error.to_string())
}

/// The other end of a link broke the protocol.
pub(crate) fn remote_error(error: impl Display) -> PyErr {
    RemoteProtocolError::new_err(error.to_string())
}

/// The same, with the specification's code for it.
pub(crate) fn remote_error_with_code(error: impl Display, code: &'static str) -> PyErr {
    RemoteProtocolError::new_err((error.to_string(), code))
}

/// An MSP published something provably wrong; `evidence` is what it published.
pub(crate) fn faulty_msp(error: impl Display, msp: &[u8], evidence: &[u8]) -> PyErr {
    FaultyMSPError::new_err((error.to_string(), hex::encode(msp), evidence.to_vec()))
}

/// radpool-sv2 itself is wrong.
pub(crate) fn internal_error(error: impl Display) -> PyErr {
    InternalError::new_err(error.to_string())
}
