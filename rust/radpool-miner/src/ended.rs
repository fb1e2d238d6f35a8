//! Why a session with a pool ended, in words for the person in front of the miner.

use thiserror::Error;

use crate::client::printable;

/// The end of a session.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Ended {
    /// This side closed it.
    #[error("stopped")]
    Stopped,
    /// The pool said no to the connection or to the channel.
    #[error("the pool refused {what}: {code}")]
    Refused { what: &'static str, code: String },
    /// The pool insists on extensions that this miner does not speak.
    #[error("the pool requires extensions that this miner does not speak: {0:04x?}")]
    ExtensionsRequired(Vec<u16>),
    /// The pool does not speak the extension that was to carry the shares.
    #[error(
        "the pool does not speak extension {0:04x}, which this miner was told to mine with: choose \
         another pool, or mine without it"
    )]
    ExtensionMissing(u16),
    /// The pool closed the channel.
    #[error("the pool closed the channel: {0}")]
    Closed(String),
    /// The pool sends its clients to another address; empty host and port 0 mean the same one.
    #[error("the pool asks to connect again to {}", Address(host, *port))]
    SentElsewhere { host: String, port: u16 },
    /// No answer came in time.
    #[error("the pool did not answer within 30 s: {awaited}")]
    Silent { awaited: &'static str },
    /// A message does not decode.
    #[error("the pool sent a message that does not decode: {0}")]
    Malformed(String),
    /// A message makes no sense where it stands.
    #[error("the pool broke the protocol: it sent {0}")]
    Broken(&'static str),
    /// A tip names a job that is not known.
    #[error("the pool broke the protocol: SetNewPrevHash names job {0}, no future job")]
    UnknownFutureJob(u32),
    /// A frame is larger than anything a pool has to say.
    #[error(
        "the pool announced a message of {length} bytes: 262144 are the most for a mining client"
    )]
    Oversized { length: u32 },
    /// A setting does not fit into a message.
    #[error("a message cannot be sent: {0}")]
    Unsendable(String),
    /// The connection broke, or was not possible.
    #[error("{0}")]
    Disconnected(String),
    /// The pool is not who it should be, or a clock is wrong.
    #[error("{0}")]
    Untrusted(String),
}

impl Ended {
    /// Whether trying again with the same settings is hopeless before anything has worked.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::ExtensionsRequired(_)
                | Self::ExtensionMissing(_)
                | Self::Unsendable(_)
                | Self::Untrusted(_)
                | Self::Stopped
        )
    }

    /// Says so with the peer's words made printable.
    #[must_use]
    pub fn refused(what: &'static str, code: &[u8]) -> Self {
        Self::Refused { what, code: printable(code) }
    }

    /// Says so.
    #[must_use]
    pub const fn broken(what: &'static str) -> Self {
        Self::Broken(what)
    }

    /// Says so with the peer's words made printable.
    #[must_use]
    pub fn sent_elsewhere(host: &[u8], port: u16) -> Self {
        Self::SentElsewhere { host: printable(host), port }
    }
}

struct Address<'text>(&'text str, u16);

impl core::fmt::Display for Address<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.0, self.1) {
            ("", 0) => formatter.write_str("the same address"),
            ("", port) => write!(formatter, "port {port}"),
            (host, 0) => formatter.write_str(host),
            (host, port) => write!(formatter, "{host}:{port}"),
        }
    }
}
