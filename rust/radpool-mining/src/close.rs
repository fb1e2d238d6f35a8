//! Why a connection ends.

use core::fmt;

/// Why a connection ended; the machine gives the first group, the engine around it the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// No SetupConnection came in time.
    SetupTimeout,
    /// No channel was open in time.
    ChannelTimeout,
    /// Something else came before SetupConnection.
    SetupMissing,
    /// SetupConnection was answered with an error.
    SetupRefused,
    /// The client did not negotiate an extension that the pool requires.
    ExtensionRequired,
    /// A frame announced more bytes than its state and type allow.
    FrameTooLarge,
    /// A known message did not parse.
    MalformedMessage,
    /// The client went on submitting far above its rate.
    SubmitRate,
    /// The client opened, updated or closed channels far above its rate.
    RequestRate,
    /// More extension bytes are waiting than the limit allows.
    ExtensionBytes,
    /// The pool decided so.
    Requested,

    /// The client went away.
    PeerClosed,
    /// The Noise handshake failed or took too long.
    HandshakeFailed,
    /// A frame did not decrypt.
    DecryptFailed,
    /// A frame was announced and did not come in time.
    FrameTimeout,
    /// The client read too slowly for what it was sent.
    SlowReader,
    /// The socket failed.
    SocketFailed,
    /// A limit on connections was reached.
    TooManyConnections,
    /// The engine stops.
    Stopped,
    /// The engine met a bug of its own.
    Internal,
}

impl CloseReason {
    /// The reason as a word for metrics, logs and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SetupTimeout => "setup-timeout",
            Self::ChannelTimeout => "channel-timeout",
            Self::SetupMissing => "setup-missing",
            Self::SetupRefused => "setup-refused",
            Self::ExtensionRequired => "extension-required",
            Self::FrameTooLarge => "frame-too-large",
            Self::MalformedMessage => "malformed-message",
            Self::SubmitRate => "submit-rate-exceeded",
            Self::RequestRate => "request-rate-exceeded",
            Self::ExtensionBytes => "extension-bytes-exceeded",
            Self::Requested => "requested",
            Self::PeerClosed => "peer-closed",
            Self::HandshakeFailed => "handshake-failed",
            Self::DecryptFailed => "decrypt-failed",
            Self::FrameTimeout => "frame-timeout",
            Self::SlowReader => "slow-reader",
            Self::SocketFailed => "socket-failed",
            Self::TooManyConnections => "too-many-connections",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
