//! The server side of the SV2 mining protocol without IO: connections, channels, jobs, validation, vardiff.
//!
//! A [`Connection`] is given frames, commands, new work and time, and leaves frames, shares, events
//! and solutions in an [`Outbox`]. It reads no clock, socket, disk or random source. What all
//! connections of a pool have in common (settings, current work, header hashes seen, extranonce
//! prefixes, counters) is one [`Shared`] behind an `Arc`.

pub mod bucket;
mod channel;
mod close;
mod command;
mod connection;
mod counters;
mod custom;
mod deadline;
mod event;
mod extension;
mod fan_out;
mod group;
mod held;
mod job;
mod open;
mod outbox;
mod output;
mod prefix;
mod reject;
mod repeat;
mod seen;
mod settings;
mod setup;
mod shared;
mod siphash;
mod submit;
mod update;
mod validate;
pub mod vardiff;
mod vardiff_table;
mod work;

pub use close::CloseReason;
pub use command::{ChannelGrant, ChannelOwner, Command, CustomGrant};
pub use connection::{Connection, ConnectionId};
pub use counters::Counters;
pub use custom::{CustomJob, DECLARED_TEMPLATES};
pub use event::{ChannelKind, ChannelReport, Event, OpenTail, RepeatedShare};
pub use held::HeldBytes;
pub use outbox::{Attachment, Outbox, ShareRecord, Solution};
pub use prefix::PrefixPool;
pub use reject::{REJECT_CODES, Reject};
pub use seen::{Seen, SeenLimits, SeenShares};
pub use settings::{Limits, OpenMessage, Settings, SettingsError, ShareMessage};
pub use shared::Shared;
pub use work::{Template, Tip, Work, WorkError};
