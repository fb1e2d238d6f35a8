//! A member's own part in key generation: states that are moved from round to round.
//!
//! [`Dealing`] (first message sent) → [`Dealt`] (second message sent) → [`KeyShare`]. Each step
//! consumes the one before, so no polynomial is dealt twice. Nothing of it is stored: who crashes
//! in a run spoils that run alone, and the next begins with a new polynomial.

use core::fmt;
use std::{collections::BTreeMap, sync::Arc};

use frost_secp256k1_tr::{
    Identifier,
    keys::{SecretShare, dkg},
};
use rand_core::{CryptoRng, RngCore};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    Complaint, KeyShare, PublicKey, Round1, Round1Set, Round2, Run,
    round2::{share_bytes, share_info},
};
use crate::{seal, transport_key::public_of};

/// Why there is no key share.
#[derive(Debug, Error)]
pub enum FinishError {
    /// The run has no such member.
    #[error("member {0} takes no part in the run")]
    NotAMember(u16),
    /// The caller's first message is not the one that was delivered.
    #[error("the first messages are of another run, or hold another one than this member made")]
    Round1,
    /// A member's second message is missing.
    #[error("the second message of member {0} is missing")]
    Missing(u16),
    /// Members dealt bad shares: broadcast these, and give the run up.
    #[error("{} member(s) dealt a bad share: complain, and run again without the culprits", .0.len())]
    BadShares(Vec<Complaint>),
    /// The library refuses what was checked before.
    #[error("key generation failed though all messages are valid: {0}")]
    Library(frost_secp256k1_tr::Error),
}

/// A member that has drawn its polynomial and waits for the first messages of all.
pub struct Dealing {
    run: Arc<Run>,
    index: u16,
    sealing_secret: Zeroizing<[u8; 32]>,
    polynomial: dkg::round1::SecretPackage,
    message: Vec<u8>,
}

impl Dealing {
    /// Draws a polynomial and a sealing key.
    ///
    /// # Errors
    /// [`FinishError::NotAMember`].
    pub fn new(
        run: Arc<Run>,
        index: u16,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Self, FinishError> {
        let identifier = run.identifier(index).ok_or(FinishError::NotAMember(index))?;
        let (polynomial, package) = dkg::part1(identifier, run.size(), run.threshold(), &mut *rng)
            .map_err(FinishError::Library)?;
        let mut sealing_secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *sealing_secret);
        let message = Round1::encode(&run, &public_of(&sealing_secret), &package)
            .expect("a drawn coefficient is not zero");
        Ok(Self { run, index, sealing_secret, polynomial, message })
    }

    /// The first message, to be broadcast.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Deals the shares once the first messages of all members are delivered; returns the second
    /// message, to be broadcast.
    ///
    /// # Errors
    /// [`FinishError::Round1`] when the messages are not those of this run.
    pub fn deal(
        self,
        round1: Arc<Round1Set>,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<(Dealt, Vec<u8>), FinishError> {
        let own = Round1::decode(&self.run, self.index, &self.message);
        let own = own.expect("a member's own first message is valid");
        let delivered = round1.get(self.index).ok_or(FinishError::Round1)?;
        if *round1.run() != self.run
            || delivered.package != own.package
            || delivered.sealing_key != own.sealing_key
        {
            return Err(FinishError::Round1);
        }
        let (own_share, shares) =
            dkg::part2(self.polynomial, &packages_of_others(&round1, self.index))
                .map_err(FinishError::Library)?;
        let mut boxes = Vec::with_capacity(shares.len());
        for (recipient, identifier) in self.run.identifiers() {
            let Some(share) = shares.get(&identifier) else { continue };
            let share = share_bytes(share.signing_share()).expect("a scalar has 32 bytes");
            let info = share_info(&round1, self.index, recipient);
            let key = round1.get(recipient).ok_or(FinishError::Round1)?.sealing_key;
            boxes.push(seal::seal(&key, &info, &share, rng).expect("no sealing key is low"));
        }
        let message = Round2::encode(&round1, &boxes);
        let sealing_secret = self.sealing_secret;
        Ok((Dealt { round1, index: self.index, sealing_secret, own_share }, message))
    }
}

/// A member that has dealt and waits for the second messages of all.
pub struct Dealt {
    round1: Arc<Round1Set>,
    index: u16,
    sealing_secret: Zeroizing<[u8; 32]>,
    own_share: dkg::round2::SecretPackage,
}

impl Dealt {
    /// Opens and verifies the shares of all others and sums them up.
    ///
    /// The key share must be stored durably before the transcript is signed: the signature tells
    /// the others that this member can sign from now on.
    ///
    /// # Errors
    /// [`FinishError::BadShares`] holds a complaint for each member that dealt a bad share.
    pub fn finish(self, round2: &[Round2]) -> Result<KeyShare, FinishError> {
        let run = self.round1.run();
        let by_author: BTreeMap<u16, &Round2> =
            round2.iter().map(|message| (message.author(), message)).collect();
        let mut shares = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (dealer, identifier) in run.identifiers() {
            let message = by_author.get(&dealer).ok_or(FinishError::Missing(dealer))?;
            if dealer == self.index {
                continue;
            }
            match message.share_for(&self.round1, self.index, &self.sealing_secret) {
                Some(share) => drop(shares.insert(identifier, dkg::round2::Package::new(share))),
                None => unreadable.push(dealer),
            }
        }
        if !unreadable.is_empty() {
            return Err(self.complain(&shares, unreadable));
        }
        let others = packages_of_others(&self.round1, self.index);
        match dkg::part3(&self.own_share, &others, &shares) {
            Ok((key, package)) => {
                let transcript = super::key::transcript(&self.round1, &by_author, &package);
                let transcript = transcript.map_err(FinishError::Missing)?;
                let public = PublicKey::new(Arc::clone(run), transcript, package);
                Ok(KeyShare::new(Arc::new(public), self.index, key))
            }
            Err(frost_secp256k1_tr::Error::InvalidSecretShare { .. }) => {
                Err(self.complain(&shares, Vec::new()))
            }
            Err(error) => Err(FinishError::Library(error)),
        }
    }

    /// What a member shows when it complains.
    #[cfg(test)]
    pub(super) fn sealing_secret(&self) -> &[u8; 32] {
        &self.sealing_secret
    }

    /// Names everybody whose share is bad, not only the first.
    fn complain(
        &self,
        shares: &BTreeMap<Identifier, dkg::round2::Package>,
        mut culprits: Vec<u16>,
    ) -> FinishError {
        let run = self.round1.run();
        for (dealer, identifier) in run.identifiers() {
            let (Some(share), Some(round1)) = (shares.get(&identifier), self.round1.get(dealer))
            else {
                continue;
            };
            let Some(own) = run.identifier(self.index) else { continue };
            let commitment = round1.package.commitment().clone();
            if SecretShare::new(own, *share.signing_share(), commitment).verify().is_err() {
                culprits.push(dealer);
            }
        }
        let complaint = |dealer| Complaint::new(run, dealer, *self.sealing_secret);
        FinishError::BadShares(culprits.into_iter().map(complaint).collect())
    }
}

impl fmt::Debug for Dealing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dealing(secret, member {})", self.index)
    }
}

impl fmt::Debug for Dealt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Dealt(secret, member {})", self.index)
    }
}

/// The packages of all members but one, as the library wants them.
fn packages_of_others(round1: &Round1Set, own: u16) -> BTreeMap<Identifier, dkg::round1::Package> {
    let others = round1.run().identifiers().zip(round1.messages());
    others
        .filter(|((index, _), _)| *index != own)
        .map(|((_, identifier), message)| (identifier, message.package.clone()))
        .collect()
}
