//! What a connection leaves behind after it was called.

use std::sync::Arc;

use radpool_ledger::{Owner, TemplateBody};
use radpool_units::{Exponent, Hash256};

use crate::{CloseReason, ConnectionId, Event, HeldBytes};

/// Effects of a call, in order within each field; reused from call to call so that a share costs no
/// allocation. Whoever drives the machine takes everything out after each call, or after several.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Plain frames back to back, header and payload, to be sealed and sent.
    pub frames: Vec<u8>,
    /// Shares that passed validation: to be made durable, then acknowledged.
    pub shares: Vec<ShareRecord>,
    /// What the pool decides on or keeps count of.
    pub events: Vec<Event>,
    /// Solved blocks: before anything else, to disk and to the template source.
    pub solutions: Vec<Solution>,
    /// Set when the connection must end, once `frames` are sent. The machine does nothing more then.
    pub close: Option<CloseReason>,
}

impl Outbox {
    /// Forgets all effects but keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.shares.clear();
        self.events.clear();
        self.solutions.clear();
        self.close = None;
    }

    /// Whether the last calls had no effect.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
            && self.shares.is_empty()
            && self.events.is_empty()
            && self.solutions.is_empty()
            && self.close.is_none()
    }
}

/// What a share brings along for an extension.
#[derive(Debug)]
pub struct Attachment {
    /// For TLVs the extension of the first one, for an extension message its extension.
    pub extension_type: u16,
    /// The frame's message type: that of SubmitSharesExtended for TLVs.
    pub msg_type: u8,
    /// The extension's message that refuses such a share. `None` for TLVs: the core messages answer
    /// them. Otherwise the extension answers accepted shares, and the engine says nothing.
    pub error_type: Option<u8>,
    /// The TLVs of negotiated extensions, raw and in order, but for the worker identity; or whatever
    /// follows the fields of SubmitSharesExtended in the extension message.
    pub bytes: HeldBytes,
}

/// A share that passed validation: everything that is needed to prove and to pay it.
#[derive(Debug)]
pub struct ShareRecord {
    pub connection: ConnectionId,
    pub channel_id: u32,
    pub sequence: u32,
    /// Account of the job's tag, which need not be the channel's any more.
    pub account: u64,
    /// Owner of the job's tag.
    pub owner: Owner,
    /// Step of the job's tag: the share is worth `2^z`.
    pub exponent: Exponent,
    pub body: Arc<TemplateBody>,
    /// The price of the job's template.
    pub price: u128,
    pub template_id: u64,
    /// The job's id on the connection.
    pub job: u32,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    /// The full extranonce, prefix included, then zeros.
    pub extranonce: [u8; 32],
    pub extranonce_len: u8,
    /// The header's hash.
    pub hash: Hash256,
    /// The worker's number, 0 when the share names none.
    pub worker: u32,
    pub attachment: Option<Box<Attachment>>,
    /// Wall clock at which the share was validated.
    pub unix_ms: u64,
}

/// A share that solves its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    pub template_id: u64,
    pub connection: ConnectionId,
    pub channel: u32,
    pub account: u64,
    pub header: [u8; 80],
    /// The coinbase as it stands in the block, with its witness if the block commits to any.
    pub coinbase_tx: Vec<u8>,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    /// The whole extranonce, behind what the template says of its beginning.
    pub extranonce: Vec<u8>,
    pub hash: Hash256,
}
