//! `radpool_sv2._native.keys`: keys and certificates of SV2 connections.

use pyo3::prelude::*;
use radpool_wire::{keys as wire, noise};

use crate::error::{config_error, internal_error};

/// Fresh bytes from the system.
pub(crate) fn random_bytes<const LEN: usize>() -> PyResult<[u8; LEN]> {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes)
        .map_err(|error| internal_error(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// The key that miners pin.
#[pyclass(frozen, eq, hash, module = "radpool_sv2._native.keys")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthorityPublicKey(pub(crate) wire::AuthorityPublicKey);

#[pymethods]
impl AuthorityPublicKey {
    #[staticmethod]
    fn from_text(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(config_error)
    }

    fn to_text(&self) -> String {
        self.0.to_string()
    }

    fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("AuthorityPublicKey({})", self.0)
    }
}

/// The key that signs certificates.
#[pyclass(frozen, module = "radpool_sv2._native.keys")]
#[derive(Debug)]
pub struct AuthoritySecretKey(wire::AuthoritySecretKey);

#[pymethods]
impl AuthoritySecretKey {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        wire::AuthoritySecretKey::from_bytes(random_bytes()?).map(Self).map_err(internal_error)
    }

    #[staticmethod]
    fn from_text(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(config_error)
    }

    fn expose_text(&self) -> String {
        self.0.to_text().to_string()
    }

    fn public_key(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.public_key())
    }

    fn __repr__(&self) -> String {
        format!("AuthoritySecretKey(redacted, public {})", self.0.public_key())
    }
}

/// The long-lived Noise key of a server.
#[pyclass(frozen, module = "radpool_sv2._native.keys")]
#[derive(Debug)]
pub struct StaticKey(noise::StaticKey);

#[pymethods]
impl StaticKey {
    #[staticmethod]
    fn generate() -> PyResult<Self> {
        noise::StaticKey::from_bytes(random_bytes()?).map(Self).map_err(internal_error)
    }

    #[staticmethod]
    fn from_text(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(config_error)
    }

    fn expose_text(&self) -> String {
        self.0.to_text().to_string()
    }

    fn public_bytes(&self) -> [u8; 32] {
        self.0.x_only_public_key()
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// The authority's word for a static key, limited in time.
#[pyclass(frozen, module = "radpool_sv2._native.keys")]
#[derive(Clone, Debug)]
pub struct Certificate(noise::Certificate);

fn seconds(name: &str, value: i64) -> PyResult<u32> {
    u32::try_from(value).map_err(|_| {
        config_error(format!("{name} = {value}: give seconds since 1970, 0 to {}", u32::MAX))
    })
}

#[pymethods]
impl Certificate {
    #[staticmethod]
    #[pyo3(signature = (authority, static_key, *, valid_from, not_valid_after))]
    fn sign(
        authority: &AuthoritySecretKey,
        static_key: &StaticKey,
        valid_from: i64,
        not_valid_after: i64,
    ) -> PyResult<Self> {
        let from = seconds("valid_from", valid_from)?;
        let until = seconds("not_valid_after", not_valid_after)?;
        if until <= from {
            return Err(config_error(format!(
                "a certificate from {from} to {until} is never valid: give a later end"
            )));
        }
        let aux_rand = random_bytes()?;
        Ok(Self(noise::Certificate::sign(&authority.0, &static_key.0, from, until, aux_rand)))
    }

    #[staticmethod]
    fn from_text(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(config_error)
    }

    fn to_text(&self) -> String {
        self.0.to_text()
    }

    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        let bytes = data.try_into().map_err(|_| {
            config_error(format!(
                "a certificate has {} bytes, not {}",
                noise::CERTIFICATE_LEN,
                data.len()
            ))
        })?;
        Ok(Self(noise::Certificate::from_bytes(bytes)))
    }

    fn to_bytes(&self) -> [u8; noise::CERTIFICATE_LEN] {
        self.0.to_bytes()
    }

    fn verify(
        &self,
        authority: &AuthorityPublicKey,
        static_key: &StaticKey,
        unix_s: i64,
    ) -> PyResult<()> {
        let now = seconds("unix_s", unix_s)?;
        self.0.verify(&authority.0, &static_key.0.x_only_public_key(), now).map_err(config_error)
    }

    #[getter]
    fn valid_from(&self) -> u32 {
        self.0.valid_from
    }

    #[getter]
    fn not_valid_after(&self) -> u32 {
        self.0.not_valid_after
    }

    fn __repr__(&self) -> String {
        format!("Certificate(valid {} to {})", self.0.valid_from, self.0.not_valid_after)
    }
}

/// What a listener shows to miners.
#[pyclass(frozen, module = "radpool_sv2._native.keys")]
#[derive(Clone, Debug)]
pub struct ServerIdentity(pub(crate) noise::ServerIdentity);

#[pymethods]
impl ServerIdentity {
    #[new]
    fn new(static_key: &StaticKey, certificate: &Certificate) -> Self {
        Self(noise::ServerIdentity::new(static_key.0.clone(), certificate.0))
    }

    #[getter]
    fn not_valid_after(&self) -> u32 {
        self.0.certificate().not_valid_after
    }

    fn __repr__(&self) -> String {
        format!("ServerIdentity(valid to {})", self.0.certificate().not_valid_after)
    }
}
