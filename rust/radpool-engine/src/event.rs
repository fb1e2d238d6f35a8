//! What the engine tells the pool, besides shares.

use std::net::SocketAddr;

use radpool_mining::{CloseReason, ConnectionId, Event, Solution};

/// Something that the pool decides on or keeps count of.
#[derive(Debug)]
pub enum EngineEvent {
    /// What a connection's machine has to say.
    Mining { connection: ConnectionId, address: SocketAddr, event: Event },
    /// A connection of which an event was told before is gone, and its channels with it.
    Disconnected { connection: ConnectionId, reason: CloseReason },
    /// A share solved its block, which is on disk and on its way to the template source.
    BlockFound(Box<Solution>),
    /// Few extranonce prefixes are left: without any, no channel can be opened.
    PrefixesLow { remaining: u64 },
    /// Devices that speak Stratum V1 have called, and nobody here serves them; at most one event a
    /// minute says so, with one of their addresses and how many there were since the engine started.
    Sv1TurnedAway { address: SocketAddr, total: u64 },
    /// A part of the engine cannot do its work; the text says what the operator can do.
    Failed { message: String },
}

/// The outcome of a command: its token, and why it was not carried out if it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the command's method returned.
    pub token: u64,
    /// `None` when the connection has carried the command out.
    pub failure: Option<&'static str>,
}

/// The failure of a command to a connection that is gone.
pub const NO_SUCH_CONNECTION: &str = "no-such-connection";
/// The failure of a command to a connection that has too many commands waiting.
pub const TOO_MANY_COMMANDS: &str = "too-many-commands";
