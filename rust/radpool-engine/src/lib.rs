//! The tokio shell around the machines: sockets, limits, hand-over, fan-out, solved blocks.
//!
//! Each connection is one task that drives a [`radpool_mining::Connection`]. Shares and events go
//! through a bounded ring to one consumer, which a file descriptor wakes; decisions come back through
//! a mailbox per connection. New work is published once and every connection is woken to compare it
//! with what it has sent, so that whoever joins, sleeps or lags gets to the same place.
//!
//! Beside the engine stands the [`Translator`], which has SV1 devices on one side and pools on the
//! other.

mod clock;
mod core;
mod engine;
mod error;
mod event;
mod handover;
mod limit;
mod link;
mod listener;
mod mailbox;
mod metric;
mod outbound;
mod registry;
mod scratch;
mod settings;
mod solution;
mod translator;
mod wake;

pub use engine::Engine;
pub use error::EngineError;
pub use event::{Completion, EngineEvent, NO_SUCH_CONNECTION, TOO_MANY_COMMANDS};
pub use handover::Drained;
pub use settings::{EngineSettings, EngineSettingsError};
pub use translator::{
    Client, Sv1Door, TlsCertificate, TlsIdentity, TlsIdentityError, Translator, TranslatorError,
    TranslatorEvent, TranslatorSettings, TranslatorSettingsError, UpstreamPlace,
};
