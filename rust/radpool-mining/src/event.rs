//! What a connection tells the pool, besides shares.

use std::sync::Arc;

use radpool_units::{Exponent, Hash256, Work};

use crate::{CloseReason, CustomJob, HeldBytes, reject::REJECT_CODES};

/// Whether a channel gets whole headers or coinbases to roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// The client rolls headers alone.
    Standard,
    /// The client rolls the extranonce too.
    Extended,
}

/// What a channel has delivered since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelReport {
    /// The channel.
    pub channel: u32,
    /// Shares that validation accepted.
    pub accepted: u64,
    /// The work of those shares.
    pub work: Work,
    /// Shares refused, by [`Reject::index`](crate::Reject::index).
    pub rejected: [u64; REJECT_CODES],
    /// The channel's step of the ladder.
    pub exponent: Exponent,
}

/// A valid share that was submitted before and now brings something for an extension. It is counted
/// already; the extension answers it once everything that was handed up before is durable.
#[derive(Debug)]
pub struct RepeatedShare {
    pub channel: u32,
    /// The sequence number of the repeat.
    pub sequence: u32,
    pub extension_type: u16,
    /// The frame's message type: that of SubmitSharesExtended for TLVs.
    pub msg_type: u8,
    /// The message that refuses it; `None` for TLVs, which the core message refuses.
    pub error_type: Option<u8>,
    pub hash: Hash256,
    /// Step of the job's tag.
    pub exponent: Exponent,
    /// Account of the job's tag.
    pub account: u64,
    /// Epoch of the job's tag.
    pub epoch: u32,
    /// Height of the job's block.
    pub height: u32,
    /// The extension's own TLVs, or what followed the share's fields in its message.
    pub data: HeldBytes,
}

/// What an extension's message brings along that asks for a channel.
#[derive(Debug)]
pub struct OpenTail {
    pub extension_type: u16,
    /// What follows the fields of OpenExtendedMiningChannel.
    pub bytes: HeldBytes,
}

/// Something that the pool decides on or keeps count of.
#[derive(Debug)]
pub enum Event {
    /// The client is set up. The texts are the client's own bytes: at most 255 each, any content.
    SetUp {
        flags: u32,
        vendor: Vec<u8>,
        hardware_version: Vec<u8>,
        firmware: Vec<u8>,
        device_id: Vec<u8>,
    },
    /// The client may use these extensions from now on.
    ExtensionsNegotiated { extensions: Vec<u16> },
    /// The client asks for a channel: to be answered with OpenChannel or RefuseChannel.
    ChannelRequested {
        /// Unique on this connection.
        request: u32,
        kind: ChannelKind,
        user_identity: Vec<u8>,
        /// Hashes a second as the client declares them: finite and not negative.
        nominal_hash_rate: f32,
        /// The largest target that the client accepts, least significant byte first.
        max_target: [u8; 32],
        /// 0 for a standard channel.
        min_extranonce_size: u16,
        /// The message that asks.
        msg_type: u8,
        /// For a message of an extension.
        tail: Option<OpenTail>,
    },
    /// A channel is open.
    ChannelOpened {
        request: u32,
        channel: u32,
        group: u32,
        kind: ChannelKind,
        exponent: Exponent,
        extranonce_prefix: Vec<u8>,
        rollable: u16,
        /// The extension by whose message it was asked for; 0 is core.
        extension_type: u16,
    },
    /// A channel could not be opened although the pool wanted to.
    ChannelFailed { request: u32, code: &'static str },
    /// The client declared another hash rate or largest target.
    ChannelUpdated { channel: u32, nominal_hash_rate: f32, max_target: [u8; 32] },
    /// A channel moved on the ladder.
    ExponentChanged { channel: u32, exponent: Exponent },
    /// Vardiff wants a channel that selects its work at this step: the next tag of its owner
    /// should have it.
    ExponentWanted { channel: u32, exponent: Exponent },
    /// The client wants to mine a job of its own: to be answered with AcceptCustomJob or
    /// RefuseCustomJob.
    CustomJobRequested(Arc<CustomJob>),
    /// A custom job could not be set although the pool wanted to; the client was told.
    CustomJobFailed { channel: u32, request: u32, code: &'static str },
    /// What a channel has delivered; only when it changed, and not more often than set.
    ChannelReport(ChannelReport),
    /// Shares name this worker by its number from now on.
    WorkerNamed { channel: u32, worker: u32, name: Vec<u8> },
    /// A frame of a negotiated extension.
    ExtensionFrame { extension_type: u16, msg_type: u8, channel_msg: bool, payload: HeldBytes },
    /// A share came again, with something for an extension.
    RepeatedShare(Box<RepeatedShare>),
    /// A channel was closed, by the client if `by_client`. Its last report precedes this.
    ChannelClosed { channel: u32, by_client: bool, reason: Vec<u8> },
    /// The connection is over, and with it its channels: the last event, exactly once.
    Disconnected { reason: CloseReason },
}
