//! What holds for all devices of a translator.

use radpool_units::Exponent;
use thiserror::Error;

/// What holds for all devices, and the bounds that each keeps.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    /// Rate that the local difficulty is steered to; 1 to 1,000,000.
    pub shares_per_minute: u32,
    /// What a device that asks for nothing begins with, where that is easier than the pool's.
    pub exponent_start: Exponent,
    /// The easiest difficulty that a device is given.
    pub exponent_min: Exponent,
    /// From the connection to a subscribed and authorized device; then it is closed.
    pub handshake_deadline_ms: u64,
    /// How long a device may be without work; then it is closed, so that it goes elsewhere.
    pub silence_ms: u64,
    /// After so long without a job the last one is sent again, with a later time.
    pub keepalive_ms: u64,
    /// Seconds by which a share's time may run ahead of the clock.
    pub ntime_ahead_s: u32,
    /// Shares a second in the long run; what exceeds rate and burst is refused, and the device
    /// closed after another burst of excess.
    pub submits_per_second: u32,
    /// Shares at once.
    pub submits_burst: u32,
    /// Other requests a second in the long run; the device is closed above rate and burst.
    pub requests_per_second: u32,
    /// Other requests at once.
    pub requests_burst: u32,
    /// Malformed lines that are answered; one more closes the device.
    pub malformed_max: u32,
    /// Names that one connection can authorize.
    pub names_max: usize,
    /// Jobs that a device's shares may be of.
    pub jobs_max: usize,
}

/// Settings that no translator can run with.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DeviceSettingsError {
    /// A rate that cannot be steered to.
    #[error("shares_per_minute = {0} is out of range: give 1 to 1000000")]
    SharesPerMinute(u32),
    /// A bound of zero.
    #[error("{0} = 0 lets no device in: give at least 1")]
    Zero(&'static str),
}

impl DeviceSettings {
    /// Checks that devices can be served with these settings.
    ///
    /// # Errors
    /// [`DeviceSettingsError`] names the setting and the allowed range.
    pub fn check(&self) -> Result<(), DeviceSettingsError> {
        if !(1..=1_000_000).contains(&self.shares_per_minute) {
            return Err(DeviceSettingsError::SharesPerMinute(self.shares_per_minute));
        }
        let bounds = [
            ("handshake_deadline_ms", self.handshake_deadline_ms),
            ("silence_ms", self.silence_ms),
            ("keepalive_ms", self.keepalive_ms),
            ("submits_per_second", self.submits_per_second.into()),
            ("submits_burst", self.submits_burst.into()),
            ("requests_per_second", self.requests_per_second.into()),
            ("requests_burst", self.requests_burst.into()),
            ("names_max", self.names_max as u64),
            ("jobs_max", self.jobs_max as u64),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(DeviceSettingsError::Zero(name)),
            None => Ok(()),
        }
    }
}
