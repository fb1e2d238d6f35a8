//! What the machine leaves behind after it was called.

use std::sync::Arc;

use radpool_miner::{Ended, assignment::Assignment};
use radpool_wire::message::Message;

/// What there is to tell; `member` is the device it is for.
#[derive(Clone, Debug)]
pub enum Told {
    /// The pool works; `size` bytes of extranonce are left to us, if that is known.
    Ready { size: Option<u16> },
    /// This is to be mined from now on.
    Work { member: u64, assignment: Arc<Assignment>, new_tip: bool, since_ms: u64 },
    /// The pool opens no channel for it.
    Refused { member: u64, code: String },
    /// Its channel is gone.
    Closed { member: u64, reason: String },
    /// Its shares were acknowledged.
    Accepted { member: u64, count: u32, hashes: u64 },
    /// A share of it was refused.
    Rejected { member: u64, sequence: u32, code: String },
    /// The extension that carries the shares has opened a channel, and said this with it.
    Carried { channel: u32, tail: Vec<u8> },
    /// A message of that extension, answers to accepted shares included.
    Frame { msg_type: u8, channel_msg: bool, payload: Vec<u8> },
    /// Nothing more comes; the connection is to be closed.
    Ended(Ended),
}

/// Plain frames back to back, and what there is to tell.
#[derive(Debug, Default)]
pub struct UpstreamOutbox {
    pub frames: Vec<u8>,
    pub told: Vec<Told>,
}

impl UpstreamOutbox {
    pub(super) fn send(&mut self, message: &Message<'_>) {
        let start = self.frames.len();
        if let Err(error) = message.encode(&mut self.frames) {
            self.frames.truncate(start);
            self.told.push(Told::Ended(Ended::Unsendable(error.to_string())));
        }
    }
}
