//! Stratum V1 devices behind Stratum V2 channels, without IO.
//!
//! A [`Device`] is one SV1 connection: it is given lines, work and time, and leaves lines, shares
//! and events in a [`DeviceOutbox`]. An [`Upstream`] is one SV2 connection to a pool with a channel
//! for each device. Whoever drives both carries work and shares from one to the other.

mod caller;
mod device;
pub mod difficulty;
mod figures;
mod job;
mod line;
mod method;
mod outbox;
mod reply;
mod request;
mod settings;
mod submit;
mod upstream;

pub use caller::{Caller, OPENING_LEN};
pub use device::{Device, EXTRANONCE2_LEN, Feed};
pub use figures::{DeviceFigures, WorkerFigures};
pub use job::{EXTRANONCE1_LEN, VERSION_MASK};
pub use line::{LINE_LEN_MAX, LineReader, LineTooLong};
pub use outbox::{DeviceClose, DeviceEvent, DeviceOutbox, PoolShare};
pub use reply::Refusal;
pub use settings::{DeviceSettings, DeviceSettingsError};
pub use upstream::{Told, Upstream, UpstreamOutbox, UpstreamSettings};
