//! What the translator is told once.

use radpool_sv1::{DeviceSettings, DeviceSettingsError};
use thiserror::Error;

use crate::limit::GateLimits;

/// Settings of the translator. Nothing has a default here.
#[derive(Clone, Debug)]
pub struct TranslatorSettings {
    pub device: DeviceSettings,
    /// Whom the pools are to pay, with the device's worker behind it; `None` for the device's own
    /// user name.
    pub user: Option<String>,
    /// Hashes a second to declare for a device that says nothing.
    pub nominal_hash_rate: f32,
    /// How long a pool's channel waits for the next device of its name.
    pub linger_ms: u64,
    /// Threads that serve sockets; 0 means one less than there are processors.
    pub io_threads: usize,
    /// Connections in all.
    pub connections_max: usize,
    /// Connections of one IPv4 address or IPv6 /64.
    pub connections_per_address_max: usize,
    /// New connections of one address in the long run; what exceeds rate and burst is closed.
    pub connects_per_second_per_address_max: u32,
    /// New connections of one address at once.
    pub connects_burst_per_address_max: u32,
    /// TLS handshakes at once, in all; others wait for their turn.
    pub tls_handshakes_max: usize,
    /// TLS handshakes of one IPv4 address or IPv6 /64 at once.
    pub tls_handshakes_per_address_max: usize,
    /// How long a device may be silent before its handshake, wait for its turn, and shake hands.
    pub tls_handshake_deadline_ms: u64,
    /// From the first byte of a line to its last.
    pub line_deadline_ms: u64,
    /// How long a device may take no byte while some are waiting for it.
    pub write_deadline_ms: u64,
    /// Header hashes that are remembered.
    pub seen_shares_max: usize,
}

/// Settings that no translator can run with.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TranslatorSettingsError {
    #[error(transparent)]
    Device(#[from] DeviceSettingsError),
    /// A bound of zero.
    #[error("{0} = 0 lets no device in: give at least 1")]
    Zero(&'static str),
    /// A hash rate that cannot be declared.
    #[error("nominal_hash_rate = {0} is out of range: give a number above 0")]
    HashRate(f32),
    /// More threads than make sense.
    #[error("io_threads = {0} is out of range: give 0 (all processors but one) to 256")]
    Threads(usize),
}

impl TranslatorSettings {
    pub(super) fn check(&self) -> Result<(), TranslatorSettingsError> {
        self.device.check()?;
        if !(self.nominal_hash_rate.is_finite() && self.nominal_hash_rate > 0.0) {
            return Err(TranslatorSettingsError::HashRate(self.nominal_hash_rate));
        }
        if self.io_threads > 256 {
            return Err(TranslatorSettingsError::Threads(self.io_threads));
        }
        let bounds = [
            ("connections_max", self.connections_max as u64),
            ("connections_per_address_max", self.connections_per_address_max as u64),
            (
                "connects_per_second_per_address_max",
                self.connects_per_second_per_address_max.into(),
            ),
            ("connects_burst_per_address_max", self.connects_burst_per_address_max.into()),
            ("tls_handshakes_max", self.tls_handshakes_max as u64),
            ("tls_handshakes_per_address_max", self.tls_handshakes_per_address_max as u64),
            ("tls_handshake_deadline_ms", self.tls_handshake_deadline_ms),
            ("line_deadline_ms", self.line_deadline_ms),
            ("write_deadline_ms", self.write_deadline_ms),
            ("seen_shares_max", self.seen_shares_max as u64),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(TranslatorSettingsError::Zero(name)),
            None => Ok(()),
        }
    }

    pub(super) const fn gate(&self) -> GateLimits {
        GateLimits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            // A connection costs no cryptography here: only its address is held to a rate.
            handshakes_per_second_max: u32::MAX,
            handshakes_burst_max: u32::MAX,
            handshakes_per_second_per_address_max: self.connects_per_second_per_address_max,
            handshakes_burst_per_address_max: self.connects_burst_per_address_max,
        }
    }
}
