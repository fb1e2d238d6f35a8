//! By what devices that come over TLS know the translator: a certificate and the key to it.

use std::{fmt, sync::Arc, time::Duration};

use ring::digest;
use thiserror::Error;
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring as provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::{EndEntityCert, KeyUsage};

/// Certificates of one chain: none in use has as many.
const CHAIN_MAX: usize = 10;

/// Certificates and keys that no device could be served with.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TlsIdentityError {
    #[error(
        "there is no certificate in it: PEM text with a line -----BEGIN CERTIFICATE----- is wanted"
    )]
    NoCertificate,
    #[error("more than {CHAIN_MAX} certificates stand in it: give your own and those that sign it")]
    LongChain,
    #[error("the certificate cannot be read: {0}. Make a new one, of X.509 version 3")]
    Certificate(String),
    #[error(
        "there is no private key in it: PEM text with a line -----BEGIN PRIVATE KEY----- is wanted"
    )]
    NoKey,
    #[error("the key is locked by a pass phrase: take it off with `openssl pkey -in OLD -out NEW`")]
    LockedKey,
    #[error(
        "the key cannot be used: {0}. RSA of 2048 bits or more, P-256, P-384 and Ed25519 are known"
    )]
    Key(String),
    #[error("the key does not belong to the certificate: give the one that it was made with")]
    OtherKey,
}

/// A certificate, and those that lead from it to one that devices know.
#[derive(Clone, Debug)]
pub struct TlsCertificate {
    chain: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    not_before_unix_s: u64,
    not_after_unix_s: u64,
}

impl TlsCertificate {
    /// Reads PEM text; the first certificate is the translator's own.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_pem(text: &[u8]) -> Result<Self, TlsIdentityError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(text).take(CHAIN_MAX + 1).collect();
        let chain = chain.map_err(|error| TlsIdentityError::Certificate(error.to_string()))?;
        if chain.len() > CHAIN_MAX {
            return Err(TlsIdentityError::LongChain);
        }
        for each in &chain {
            EndEntityCert::try_from(each).map_err(unreadable)?;
        }
        let own = chain.first().ok_or(TlsIdentityError::NoCertificate)?;
        let (not_before_unix_s, not_after_unix_s) = validity(own)?;
        let parsed = EndEntityCert::try_from(own).map_err(unreadable)?;
        let names = parsed.valid_dns_names().map(str::to_owned).collect();
        Ok(Self { names, not_before_unix_s, not_after_unix_s, chain })
    }

    /// The names of hosts that it is for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when to when it holds, in seconds since 1970.
    #[must_use]
    pub const fn validity_unix_s(&self) -> (u64, u64) {
        (self.not_before_unix_s, self.not_after_unix_s)
    }

    /// The hash of the certificate by which people compare it.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        let hash = digest::digest(&digest::SHA256, &self.chain[0]);
        hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// A certificate with its key, ready for handshakes.
#[derive(Clone)]
pub struct TlsIdentity {
    pub(super) config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TlsIdentity(..)")
    }
}

impl TlsIdentity {
    /// Joins a certificate and the PEM text of its key.
    ///
    /// # Errors
    /// Says what is wrong with the key.
    pub fn new(certificate: &TlsCertificate, key: &[u8]) -> Result<Self, TlsIdentityError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound if is_locked(key) => {
                TlsIdentityError::LockedKey
            }
            rustls::pki_types::pem::Error::NoItemsFound => TlsIdentityError::NoKey,
            error => TlsIdentityError::Key(error.to_string()),
        })?;
        let provider = Arc::new(provider::default_provider());
        let chain = certificate.chain.clone();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsIdentityError::OtherKey,
                rustls::Error::General(text) => TlsIdentityError::Key(text),
                error => TlsIdentityError::Key(error.to_string()),
            })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers of both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // Nothing is kept of a session that is over: firmware hardly ever takes one up again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }
}

fn is_locked(key: &[u8]) -> bool {
    key.windows(9).any(|window| window == b"ENCRYPTED")
}

fn unreadable(error: webpki::Error) -> TlsIdentityError {
    TlsIdentityError::Certificate(format!("{error:?}"))
}

/// From when to when a certificate holds.
///
/// The library does not tell, but refuses it at the beginning and at the end of time, before it looks
/// at anything else, and says why.
fn validity(certificate: &CertificateDer<'_>) -> Result<(u64, u64), TlsIdentityError> {
    let parsed = EndEntityCert::try_from(certificate).map_err(unreadable)?;
    let refusal = |time_s| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time_s));
        parsed.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    let not_before = match refusal(0) {
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        Some(webpki::Error::InvalidCertValidity | webpki::Error::BadDerTime) => {
            return Err(TlsIdentityError::Certificate("it ends before it begins".into()));
        }
        // It holds since 1970 or before.
        _ => 0,
    };
    match refusal(u64::MAX) {
        Some(webpki::Error::CertExpired { not_after, .. }) => Ok((not_before, not_after.as_secs())),
        other => Err(TlsIdentityError::Certificate(format!("it has no end: {other:?}"))),
    }
}
