//! Claims: the blinded messages that shares bring along, and which keysets take them.
//!
//! Source: `spec/05-ecash-messages.md`, `spec/06-work-tokens.md`.

use radpool_units::{Exponent, Hash256};
use thiserror::Error;

use crate::{KEYSET_SHORT_LEN, POINT_LEN, Point};

/// Length of a claim as the value of a TLV.
const VALUE_LEN: usize = KEYSET_SHORT_LEN + POINT_LEN;

/// Why a good share gets no token by this claim.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum ClaimError {
    /// The claim is malformed, or its blinded message is no point.
    #[error("invalid-blinded-message")]
    InvalidBlindedMessage,
    /// Another claim has this blinded message.
    #[error("blinded-message-reused")]
    BlindedMessageReused,
    /// The keyset takes no claims of this share any more, or not yet.
    #[error("stale-keyset")]
    StaleKeyset,
    /// The channel's policy has no such keyset.
    #[error("unknown-keyset")]
    UnknownKeyset,
    /// The keyset's work is at its bound, or its price is fixed already.
    #[error("epoch-closed")]
    EpochClosed,
    /// The mint cannot say now.
    #[error("mint-unavailable")]
    MintUnavailable,
}

/// A blinded message and the keyset that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub keyset_short: [u8; KEYSET_SHORT_LEN],
    pub blinded: Point,
}

impl Claim {
    /// Reads what follows a share's fields in its own message: two strings of bytes with lengths.
    ///
    /// # Errors
    /// [`ClaimError::InvalidBlindedMessage`] for anything else than 8 and 33 bytes and a point.
    pub fn from_tail(tail: &[u8]) -> Result<Self, ClaimError> {
        let (short, rest) = string::<KEYSET_SHORT_LEN>(tail)?;
        match string::<POINT_LEN>(rest)? {
            (point, []) => Self::new(*short, point),
            _ => Err(ClaimError::InvalidBlindedMessage),
        }
    }

    /// Reads the value of a TLV: both strings without lengths.
    ///
    /// # Errors
    /// [`ClaimError::InvalidBlindedMessage`] for anything else than 41 bytes that end in a point.
    pub fn from_value(value: &[u8]) -> Result<Self, ClaimError> {
        let value: &[u8; VALUE_LEN] =
            value.try_into().map_err(|_| ClaimError::InvalidBlindedMessage)?;
        let (short, point) = value.split_first_chunk().ok_or(ClaimError::InvalidBlindedMessage)?;
        Self::new(*short, point)
    }

    fn new(keyset_short: [u8; KEYSET_SHORT_LEN], point: &[u8]) -> Result<Self, ClaimError> {
        match Point::from_bytes(point) {
            Ok(blinded) => Ok(Self { keyset_short, blinded }),
            Err(_) => Err(ClaimError::InvalidBlindedMessage),
        }
    }
}

/// Takes a B0_255 of exactly `LEN` bytes off the front.
fn string<const LEN: usize>(bytes: &[u8]) -> Result<(&[u8; LEN], &[u8]), ClaimError> {
    match bytes.split_first() {
        Some((len, rest)) if usize::from(*len) == LEN => {
            rest.split_first_chunk().ok_or(ClaimError::InvalidBlindedMessage)
        }
        _ => Err(ClaimError::InvalidBlindedMessage),
    }
}

/// Whether a keyset takes claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// It takes them.
    Open,
    /// It takes those of its own epoch, for a moment after it was closed.
    Closed,
    /// It takes none any more.
    Stale,
}

/// What a claim is admitted by.
#[derive(Clone, Copy, Debug)]
pub struct ClaimSlot {
    pub keyset_short: [u8; KEYSET_SHORT_LEN],
    pub number: u64,
    /// The account that stands for the keyset's policy.
    pub account: u64,
    pub epoch: u32,
    /// For keysets that belong to one height instead of an epoch.
    pub height: Option<u32>,
    /// The exponent of the token of one unit.
    pub unit_exponent: Exponent,
    /// What a unit costs of what shares are worth; 0 where shares are worth their work, and a unit
    /// is `2^unit_exponent` hashes.
    pub unit_value: u128,
    pub state: SlotState,
}

/// Whose residue it is: 33 bytes. A claim key is a point and begins with 2 or 3.
pub type Claimant = [u8; POINT_LEN];

/// Names a channel whose client gave no claim key. Its residue is its own and ends with it.
#[must_use]
pub fn channel_claimant(connection: u64, channel: u32) -> Claimant {
    let mut name = [0; POINT_LEN];
    // No point begins with 0; the 1 behind it tells channels from what they have left behind.
    name[1] = 1;
    name[2..10].copy_from_slice(&connection.to_be_bytes());
    name[10..14].copy_from_slice(&channel.to_be_bytes());
    name
}

/// A share that brings a claim.
#[derive(Clone, Copy, Debug)]
pub struct ClaimedShare {
    /// Its place in the batch before any share is left out.
    pub index: usize,
    pub connection: u64,
    pub channel: u32,
    pub sequence: u32,
    pub account: u64,
    /// Epoch of the job's tag.
    pub epoch: u32,
    /// Height of the job's block.
    pub height: u32,
    pub exponent: Exponent,
    /// What it is worth by the price of its template; `None` where prices say nothing of value.
    pub value: Option<u128>,
    /// Whose residue its value joins: a claim key, or a name of the channel's own.
    pub claimant: Claimant,
    pub hash: Hash256,
    /// Whether it came by the extension's own message, whose answer counts the share.
    pub by_message: bool,
    pub claim: Result<Claim, ClaimError>,
}

impl ClaimSlot {
    /// Whether the keyset takes this share's claim.
    ///
    /// # Errors
    /// [`ClaimError`] says why not.
    pub fn admit(&self, share: &ClaimedShare) -> Result<(), ClaimError> {
        if self.account != share.account {
            return Err(ClaimError::UnknownKeyset);
        }
        if self.unit_value != 0 && share.value.is_none() {
            return Err(ClaimError::StaleKeyset);
        }
        let (mine, theirs) = match self.height {
            Some(height) => (height, share.height),
            None => (self.epoch, share.epoch),
        };
        let is_taken = match self.state {
            SlotState::Open => mine >= theirs,
            SlotState::Closed => mine == theirs,
            SlotState::Stale => false,
        };
        if is_taken { Ok(()) } else { Err(ClaimError::StaleKeyset) }
    }
}
