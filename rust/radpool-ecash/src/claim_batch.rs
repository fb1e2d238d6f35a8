//! The claims of a batch of shares, from the wire to the signature.
//!
//! Only shares reach this module, and a share is a proof of work that was checked: no
//! multiplication on the curve is done for anything that did not pass the channel's target. A claim
//! is read, admitted to the keyset that it names, handed out once to be made durable, and only then
//! signed:
//!
//! `read` → `rows` (for the transaction; again when it is tried again) → `sign` → `replies`
//!
//! A claim that is refused does not take its share back: the share counts, and whoever submits it
//! again with a sound claim gets its token.
//!
//! Source: `spec/05-ecash-messages.md`, `spec/06-work-tokens.md`.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

use crate::{
    BlindSignature, Claim, ClaimError, ClaimSlot, ClaimedShare, KeysetError, KeysetKeys, POINT_LEN,
    Point, denominate, in_parallel,
};

/// What the mint's order of calls, or its keys, do not fit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ClaimBatchError {
    /// Two keysets have one short id.
    #[error("another keyset has the short id of keyset {0}: open one more in its place")]
    DuplicateSlot(u64),
    /// There is no claim at that place of the batch.
    #[error("share {0} of the batch has no claim that stands")]
    NoClaim(usize),
    /// Keys are missing.
    #[error("no keys were given for keyset {0}")]
    NoKeys(u64),
    /// The keyset has no key for a token of that step.
    #[error("keyset {number}: {error}")]
    Keyset { number: u64, error: KeysetError },
    /// A reply was asked for before its claim was signed.
    #[error("share {0} of the batch is not signed: sign before you reply")]
    Unsigned(usize),
}

/// A claim that was admitted.
#[derive(Clone, Debug)]
pub struct AdmittedClaim {
    pub share: ClaimedShare,
    pub blinded: Point,
    /// The keyset's number.
    pub number: u64,
    pub unit_exponent: u8,
    /// The token's step; `None` when the share is worth less than a unit.
    pub token: Option<u8>,
    /// What the share is worth beyond its token, in hashes.
    pub residue: u128,
    refused: Option<ClaimError>,
    is_durable: bool,
    signature: Option<BlindSignature>,
}

impl AdmittedClaim {
    fn new(share: ClaimedShare, claim: &Claim, slot: &ClaimSlot) -> Self {
        // A share's value is the work of its tag; no residue stands with a claim of its own.
        let token = denominate(0, share.exponent.work().0, slot.unit_exponent.get())
            .expect("a step of the ladder and a unit on it have an exact answer");
        Self {
            share,
            blinded: claim.blinded,
            number: slot.number,
            unit_exponent: slot.unit_exponent.get(),
            token: token.exponent,
            residue: token.residue,
            refused: None,
            is_durable: false,
            signature: None,
        }
    }

    const fn stands(&self) -> bool {
        self.refused.is_none()
    }

    /// The signature, once it was made.
    #[must_use]
    pub const fn signature(&self) -> Option<&BlindSignature> {
        self.signature.as_ref()
    }
}

/// A claim as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    pub blinded: [u8; POINT_LEN],
    pub number: u64,
    pub exponent: u8,
    /// The share's place in the batch as it is sealed.
    pub place: usize,
    /// The share's place in the batch as it was drained.
    pub index: usize,
}

/// The claims of a batch of shares.
#[derive(Debug, Default)]
pub struct ClaimBatch {
    /// By ascending index.
    claims: Vec<AdmittedClaim>,
    refused: Vec<(usize, ClaimError)>,
    excluded: Vec<usize>,
}

impl ClaimBatch {
    /// Admits the claims of shares, which are in the order of the batch.
    ///
    /// Of two shares with one blinded message the first has it.
    ///
    /// # Errors
    /// [`ClaimBatchError::DuplicateSlot`] when a short id does not tell keysets apart.
    pub fn read(
        shares: impl IntoIterator<Item = ClaimedShare>,
        slots: &[ClaimSlot],
    ) -> Result<Self, ClaimBatchError> {
        let mut by_short = HashMap::with_capacity(slots.len());
        for slot in slots {
            if by_short.insert(slot.keyset_short, slot).is_some() {
                return Err(ClaimBatchError::DuplicateSlot(slot.number));
            }
        }
        let mut batch = Self::default();
        let mut seen = HashSet::new();
        for share in shares {
            let admitted = share.claim.and_then(|claim| {
                let slot = by_short.get(&claim.keyset_short).ok_or(ClaimError::UnknownKeyset)?;
                slot.admit(&share)?;
                match seen.insert(claim.blinded.to_bytes()) {
                    true => Ok((claim, *slot)),
                    false => Err(ClaimError::BlindedMessageReused),
                }
            });
            match admitted {
                Ok((claim, slot)) => batch.claims.push(AdmittedClaim::new(share, &claim, slot)),
                Err(error) => batch.refused.push((share.index, error)),
            }
        }
        Ok(batch)
    }

    /// How many shares brought a claim, whatever became of it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.claims.len() + self.refused.len()
    }

    /// Whether no share brought a claim.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of all shares that brought a claim, ascending.
    #[must_use]
    pub fn indices(&self) -> Vec<usize> {
        let mut indices: Vec<_> = self.claims.iter().map(|claim| claim.share.index).collect();
        indices.extend(self.refused.iter().map(|(index, _)| *index));
        indices.sort_unstable();
        indices
    }

    /// The claims that were refused, by ascending index, but for shares that were left out.
    #[must_use]
    pub fn statuses(&self) -> Vec<(usize, ClaimError)> {
        let refused =
            self.claims.iter().filter_map(|claim| Some((claim.share.index, claim.refused?)));
        let mut statuses: Vec<_> = refused.chain(self.refused.iter().copied()).collect();
        statuses.retain(|(index, _)| self.excluded.binary_search(index).is_err());
        statuses.sort_unstable_by_key(|(index, _)| *index);
        statuses
    }

    /// Hands out the claims that stand, to be made durable with the batch without the shares at
    /// `excluded`. What [`refuse`](Self::refuse) said before is forgotten: a transaction starts anew.
    ///
    /// Claims of shares that are worth less than a unit have no row.
    pub fn rows(&mut self, excluded: &[usize]) -> Vec<ClaimRow> {
        self.excluded = excluded.to_vec();
        self.excluded.sort_unstable();
        self.excluded.dedup();
        let mut rows = Vec::with_capacity(self.claims.len());
        for claim in &mut self.claims {
            let index = claim.share.index;
            let place = self.excluded.binary_search(&index);
            (claim.refused, claim.signature) = (None, None);
            claim.is_durable = place.is_err();
            if let (Err(before), Some(exponent)) = (place, claim.token) {
                let blinded = claim.blinded.to_bytes();
                let (number, place) = (claim.number, index - before);
                rows.push(ClaimRow { blinded, number, exponent, place, index });
            }
        }
        rows
    }

    /// Refuses claims that [`rows`](Self::rows) handed out.
    ///
    /// # Errors
    /// [`ClaimBatchError::NoClaim`] when a share has none that stands; nothing is refused then.
    pub fn refuse(&mut self, indices: &[usize], error: ClaimError) -> Result<(), ClaimBatchError> {
        let places: Vec<_> = indices
            .iter()
            .map(|index| {
                self.claims
                    .binary_search_by_key(index, |claim| claim.share.index)
                    .ok()
                    .filter(|place| self.claims[*place].is_durable)
                    .ok_or(ClaimBatchError::NoClaim(*index))
            })
            .collect::<Result<_, _>>()?;
        for place in places {
            self.claims[place].refused = Some(error);
        }
        Ok(())
    }

    /// What shares are worth beyond their tokens: index and hashes, of claims that are durable.
    #[must_use]
    pub fn residues(&self) -> Vec<(usize, u128)> {
        self.durable()
            .filter(|claim| claim.residue != 0)
            .map(|claim| (claim.share.index, claim.residue))
            .collect()
    }

    /// The claims that were handed out and stand.
    pub fn durable(&self) -> impl Iterator<Item = &AdmittedClaim> {
        self.claims.iter().filter(|claim| claim.is_durable && claim.stands())
    }

    /// Signs what was handed out and stands, on all cores, but for channels that `is_lazy` names;
    /// nothing else is ever signed.
    ///
    /// # Errors
    /// [`ClaimBatchError`] when keys are missing; nothing is signed then.
    pub fn sign<'keys>(
        &mut self,
        keys: impl Fn(u64) -> Option<&'keys KeysetKeys>,
        is_lazy: impl Fn(u64, u32) -> bool,
    ) -> Result<(), ClaimBatchError> {
        let mut wanted = Vec::with_capacity(self.claims.len());
        for (place, claim) in self.claims.iter().enumerate() {
            let Some(exponent) = claim.token else { continue };
            let (number, share) = (claim.number, &claim.share);
            if !claim.is_durable || !claim.stands() || is_lazy(share.connection, share.channel) {
                continue;
            }
            let keyset = keys(number).ok_or(ClaimBatchError::NoKeys(number))?;
            // A token is at most 63 steps above the unit.
            let key = keyset
                .key(1 << (exponent - claim.unit_exponent))
                .map_err(|error| ClaimBatchError::Keyset { number, error })?;
            wanted.push((place, key, claim.blinded));
        }
        let signatures = in_parallel(&wanted, |(_, key, blinded)| key.sign(blinded));
        for ((place, ..), signature) in wanted.iter().zip(signatures) {
            self.claims[*place].signature = Some(signature);
        }
        Ok(())
    }
}
