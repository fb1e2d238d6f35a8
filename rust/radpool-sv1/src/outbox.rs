//! What a device's machine leaves behind after it was called.

use std::sync::Arc;

use radpool_miner::assignment::{Assignment, Share};
use radpool_units::{Exponent, Hash256, Target};

use crate::job::Rolled;

/// Why a device's connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceClose {
    /// It has closed.
    PeerClosed,
    /// The socket failed.
    SocketFailed,
    /// A line was longer than any that a device has to send.
    LineTooLong,
    /// A line did not end in time.
    LineTimeout,
    /// Too many malformed lines.
    Malformed,
    /// More requests than it may send.
    RequestRate,
    /// More shares than it may send.
    SubmitRate,
    /// It was not subscribed and authorized in time.
    HandshakeTimeout,
    /// There was no work for it for too long: it is to look for some elsewhere.
    NoWork,
    /// The pool leaves it another length of extranonce than it was told, and it cannot be told.
    ExtranonceChanged,
    /// It does not read what it is sent.
    SlowReader,
    /// The translator stops.
    Stopped,
    /// A defect of the translator.
    Internal,
}

impl DeviceClose {
    /// The name in figures and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer-closed",
            Self::SocketFailed => "socket-failed",
            Self::LineTooLong => "line-too-long",
            Self::LineTimeout => "line-timeout",
            Self::Malformed => "malformed",
            Self::RequestRate => "request-rate",
            Self::SubmitRate => "submit-rate",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::NoWork => "no-work",
            Self::ExtranonceChanged => "extranonce-changed",
            Self::SlowReader => "slow-reader",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

/// What whoever drives a device has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// It is subscribed and authorized: it needs work. The difficulty is the one that it or its
    /// owner asked for.
    Ready { user: String, asked: Option<Exponent> },
    /// It is as fast as shares of this difficulty at the wanted rate say, and the pool's difficulty
    /// should not be above it.
    Paced { exponent: Exponent },
}

/// A share that meets the pool's target.
#[derive(Clone, Debug)]
pub struct PoolShare {
    /// The upstream that its job is of.
    pub source: u64,
    pub share: Share,
    /// Whether it is a block.
    pub is_block: bool,
}

impl PoolShare {
    pub(crate) fn new(
        source: u64,
        assignment: &Arc<Assignment>,
        rolled: &Rolled,
        hash: &Hash256,
    ) -> Self {
        let network = Target::from_compact(assignment.nbits);
        let share = Share {
            assignment: Arc::clone(assignment),
            version: rolled.version,
            ntime: rolled.ntime,
            nonce: rolled.nonce,
            extranonce: rolled.extranonce,
        };
        Self { source, share, is_block: network.is_ok_and(|target| target.is_met_by(hash)) }
    }
}

/// Effects of a call, in order within each field; reused from call to call.
#[derive(Debug, Default)]
pub struct DeviceOutbox {
    /// Whole lines for the device.
    pub lines: Vec<u8>,
    /// Shares for the pool.
    pub shares: Vec<PoolShare>,
    pub events: Vec<DeviceEvent>,
    /// Set when the connection must end, once `lines` are sent. The machine does nothing more then.
    pub close: Option<DeviceClose>,
}
