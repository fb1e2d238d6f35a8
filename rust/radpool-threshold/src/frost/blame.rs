//! Complaints about bad shares, and who is at fault.
//!
//! A complaint names a dealer and shows the secret of the sealing key that its author made for this
//! run alone. Everyone has the dealer's box from the broadcast, opens it with that secret and
//! verifies what is in it against the dealer's commitments: either the share is bad, and the dealer
//! is at fault, or it is good, and whoever complained is. There is no third case, no trust in either
//! and no proof to verify.
//!
//! The secret opens every share that its author was dealt in this run, and nothing else. The run is
//! over then and its key never used, so they are worth nothing; that is why a sealing key serves
//! one run, and why shares are not sealed to the transport key. It also keeps the shares of a
//! successful run from whoever gets hold of a member's transport key later.

use frost_secp256k1_tr::keys::SecretShare;
use thiserror::Error;

use super::{Round1Set, Round2, Run};
use crate::{read::Reader, transport_key::public_of};

/// Length of a complaint.
pub const COMPLAINT_LEN: usize = 32 + 2 + 32;

/// Bytes that are no complaint of this run: their author is at fault.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ComplaintError {
    /// Another length.
    #[error("a complaint of {0} bytes: it has {COMPLAINT_LEN}")]
    Length(usize),
    /// It was made for another run.
    #[error("a complaint of another run: replayed?")]
    Run,
    /// It accuses nobody who dealt its author a share.
    #[error("a complaint of member {accuser} about member {dealer}, who dealt it nothing")]
    Dealer { accuser: u16, dealer: u16 },
}

/// A member's word that it was dealt a bad share: run id (32), dealer (u16, little-endian), secret
/// of the sealing key (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complaint {
    run: [u8; 32],
    dealer: u16,
    sealing_secret: [u8; 32],
}

impl Complaint {
    pub(super) const fn new(run: &Run, dealer: u16, sealing_secret: [u8; 32]) -> Self {
        Self { run: *run.id(), dealer, sealing_secret }
    }

    /// The bytes to broadcast.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.run.as_slice(), &self.dealer.to_le_bytes(), &self.sealing_secret].concat()
    }

    /// Reads the complaint of the member at position `accuser`.
    ///
    /// # Errors
    /// [`ComplaintError`]: the accuser is at fault.
    pub fn decode(run: &Run, accuser: u16, bytes: &[u8]) -> Result<Self, ComplaintError> {
        let length = ComplaintError::Length(bytes.len());
        let mut reader = Reader::new(bytes);
        let mut read = || {
            let found = (reader.array()?, reader.u16()?, reader.array()?);
            reader.end().map(|()| found)
        };
        let (id, dealer, sealing_secret) = read().ok_or(length)?;
        if id != *run.id() {
            return Err(ComplaintError::Run);
        }
        if dealer == accuser || dealer >= run.size() || accuser >= run.size() {
            return Err(ComplaintError::Dealer { accuser, dealer });
        }
        Ok(Self { run: id, dealer, sealing_secret })
    }

    /// Who is accused.
    #[must_use]
    pub const fn dealer(&self) -> u16 {
        self.dealer
    }
}

/// What a culprit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Sealed something that does not open, or holds no scalar.
    UnreadableShare,
    /// Dealt a share that is not on the polynomial it committed to.
    WrongShare,
    /// Complained and showed a secret that is not that of its sealing key.
    ForeignSecret,
    /// Complained about a share that is good.
    FalseComplaint,
}

/// Who is at fault, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The culprit's position.
    pub culprit: u16,
    /// What it did.
    pub fault: Fault,
}

/// Judges a complaint by what the broadcast delivered; everyone comes to the same verdict.
///
/// `round2` is the message of the accused.
///
/// # Errors
/// [`ComplaintError::Dealer`] when `round2` is not that of the accused: the caller's mistake.
pub fn judge(
    round1: &Round1Set,
    round2: &Round2,
    accuser: u16,
    complaint: &Complaint,
) -> Result<Verdict, ComplaintError> {
    let dealer = complaint.dealer;
    let nobody = ComplaintError::Dealer { accuser, dealer };
    if complaint.run != *round1.run().id() {
        return Err(ComplaintError::Run);
    }
    if round2.author() != dealer || accuser == dealer {
        return Err(nobody);
    }
    let identifier = round1.run().identifier(accuser).ok_or(nobody)?;
    let (dealt, accusing) = (round1.get(dealer).ok_or(nobody)?, round1.get(accuser).ok_or(nobody)?);
    if public_of(&complaint.sealing_secret) != accusing.sealing_key {
        return Ok(Verdict { culprit: accuser, fault: Fault::ForeignSecret });
    }
    let Some(share) = round2.share_for(round1, accuser, &complaint.sealing_secret) else {
        return Ok(Verdict { culprit: dealer, fault: Fault::UnreadableShare });
    };
    let share = SecretShare::new(identifier, share, dealt.package.commitment().clone());
    Ok(match share.verify() {
        Ok(_) => Verdict { culprit: accuser, fault: Fault::FalseComplaint },
        Err(_) => Verdict { culprit: dealer, fault: Fault::WrongShare },
    })
}
