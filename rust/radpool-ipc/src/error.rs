//! Why the node did not do what it was asked to.

use bitcoin_capnp_types::capnp;
use thiserror::Error;

/// What came instead of an answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IpcError {
    /// Nobody listens on the socket, or the way to it is closed.
    #[error(
        "nothing answers on {path} ({cause}): is the node running with -ipcbind=unix, and may this \
         user open its socket?"
    )]
    Unreachable { path: String, cause: String },
    /// Somebody listens who may not be trusted with blocks.
    #[error(
        "user {uid} listens on {path}, but only {trusted} may: if that user runs the node, name it \
         in the configuration"
    )]
    Foreign { path: String, uid: u32, trusted: String },
    /// The connection ended while the answer was awaited.
    #[error("the node closed the connection ({0})")]
    Disconnected(String),
    /// No answer came in time.
    #[error("the node has not answered within {0} ms")]
    Late(u32),
    /// The node raised an error.
    #[error("the node says: {0}")]
    Refused(String),
    /// The node does not know the method.
    #[error("the node does not know {0}: update Bitcoin Core")]
    Unsupported(&'static str),
    /// The node answered what no healthy node does.
    #[error("the node's answer makes no sense: {0}")]
    Nonsense(String),
    /// The template was forgotten or never existed.
    #[error("template {0} is not kept")]
    NoTemplate(u64),
    /// More is under way than is allowed.
    #[error("{0} requests are under way, no more are taken: the node hangs or is overloaded")]
    Busy(usize),
}

impl IpcError {
    /// One word for the kind, by which a program decides.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Foreign { .. } => "foreign",
            Self::Disconnected(_) => "disconnected",
            Self::Late(_) => "late",
            Self::Refused(_) => "refused",
            Self::Unsupported(_) => "unsupported",
            Self::Nonsense(_) => "nonsense",
            Self::NoTemplate(_) => "no-template",
            Self::Busy(_) => "busy",
        }
    }

    /// What a call of `method` failed with.
    pub(crate) fn of(method: &'static str, error: capnp::Error) -> Self {
        match error.kind {
            capnp::ErrorKind::Unimplemented => Self::Unsupported(method),
            capnp::ErrorKind::Disconnected => Self::Disconnected(format!("{method}: {error}")),
            capnp::ErrorKind::Failed | capnp::ErrorKind::Overloaded => {
                Self::Refused(format!("{method}: {}", error.extra))
            }
            _ => Self::Nonsense(format!("{method}: {error}")),
        }
    }
}

/// Why a request was not even sent: the caller's fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// As many requests as there may be wait for their answers to be taken.
    #[error("{0} requests wait for their answers: take some before sending more")]
    TooMany(usize),
    /// The bytes are no block.
    #[error("the block cannot be read: {0}")]
    Block(#[from] crate::block::BlockFormatError),
    /// A number that was used twice, or is kept for the connection.
    #[error("request number {0} is in use")]
    Token(u64),
}
