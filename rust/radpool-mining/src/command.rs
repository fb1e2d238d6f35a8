//! What the pool tells a connection.

use radpool_ledger::Rail;
use radpool_units::{Exponent, Target};

use crate::CloseReason;

/// Whose a channel's shares are, without what every owner of the pool has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOwner {
    /// The account in the ledger.
    pub account: u64,
    /// The account's commitment, as the owner tag binds it.
    pub commitment: [u8; 32],
    /// How the owner is paid.
    pub rail: Rail,
}

/// What a channel is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelGrant {
    pub owner: ChannelOwner,
    /// A starting step that replaces the one from the declared hash rate; the channel's bounds hold
    /// for it too.
    pub exponent: Option<Exponent>,
    /// What follows the core fields of the Success.
    pub tail: Vec<u8>,
    /// Frames of the extension that asked for the channel, as message type and payload. Nothing
    /// leaves between them and the Success.
    pub before: Vec<(u8, Vec<u8>)>,
}

impl ChannelGrant {
    /// Opens a channel for an owner, without anything else.
    #[must_use]
    pub fn to(owner: ChannelOwner) -> Self {
        Self { owner, exponent: None, tail: Vec::new(), before: Vec::new() }
    }
}

/// What shares of a custom job count for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomGrant {
    /// The pool's number for the job as a template, which no template of a source has.
    pub template_id: u64,
    pub owner: ChannelOwner,
    /// Epoch in the job's owner output.
    pub epoch: u32,
    /// Exponent in the job's owner output.
    pub exponent: Exponent,
    /// What a unit of work on the job is worth.
    pub price: u128,
    pub height: u32,
    /// What a solution's hash must not exceed.
    pub target: Target,
}

/// A decision about one connection. A command about a channel that is gone has no effect: the client
/// may have closed it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens the channel that `Event::ChannelRequested` asked for.
    OpenChannel { request: u32, grant: ChannelGrant },
    /// Refuses it with an error code of printable ASCII.
    RefuseChannel { request: u32, code: String },
    /// Tells the client that shares are durable: how many since the last such message, the sequence
    /// number of the last of them and the sum of their work in hashes.
    Acknowledge { channel: u32, last_sequence: u32, count: u32, sum: u64 },
    /// Takes a share back that validation had let pass, by a message of an extension, given as
    /// extension type and message type, or by the core message.
    RejectShare { channel: u32, sequence: u32, code: String, by: Option<(u16, u8)> },
    /// Closes a channel, or all members of a group.
    CloseChannel { channel: u32, reason: String },
    /// Makes the custom job that `Event::CustomJobRequested` asked for the channel's current one.
    AcceptCustomJob { channel: u32, request: u32, grant: Box<CustomGrant> },
    /// Refuses it with an error code of printable ASCII.
    RefuseCustomJob { channel: u32, request: u32, code: String },
    /// Gives a channel's further jobs to another owner.
    SetOwner { channel: u32, owner: ChannelOwner },
    /// Moves a channel to a step of the ladder, within the channel's bounds; vardiff starts afresh.
    /// A channel that selects its work moves with a later custom job.
    SetExponent { channel: u32, exponent: Exponent },
    /// Gives a channel a new extranonce prefix, for further jobs.
    SetExtranoncePrefix { channel: u32 },
    /// Sends a frame of an extension.
    SendExtension { extension_type: u16, msg_type: u8, channel_msg: bool, payload: Vec<u8> },
    /// Asks the client to connect elsewhere; an empty host and port 0 mean the same address.
    Reconnect { host: String, port: u16 },
    /// Ends the connection once what was queued is sent.
    Disconnect { reason: CloseReason },
}
