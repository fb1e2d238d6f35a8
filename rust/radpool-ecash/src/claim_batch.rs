//! The claims of a batch of shares, from the wire to the signature.
//!
//! Only shares reach this module, and a share is a proof of work that was checked: no
//! multiplication on the curve is done for anything that did not pass the channel's target. A claim
//! is read, admitted to the keyset that it names, handed out once to be made durable, and only then
//! signed:
//!
//! `read` → `rows` (for the transaction; again when it is tried again) → `refuse`, `standing` →
//! `sign` → `replies`
//!
//! A claim that is refused does not take its share back: the share counts, and whoever submits it
//! again with a sound claim gets its token.
//!
//! In keysets that go by value a share's token depends on the residue of its claimant, so on the
//! claims before it: tokens are dealt in the order of the batch, from the residues that `rows` is
//! given, and dealt anew for whoever stands when claims are refused.
//!
//! Source: `spec/05-ecash-messages.md`, `spec/06-work-tokens.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use thiserror::Error;

use crate::{
    BlindSignature, Claim, ClaimError, ClaimSlot, Claimant, ClaimedShare, KeysetError, KeysetKeys,
    NO_TOKEN, POINT_LEN, Point, denominate, in_parallel,
};

/// Whose residue: the account of the policy, and the claimant.
pub type ResidueKey = (u64, Claimant);

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
    /// What a unit costs; 0 where it is work.
    pub unit_value: u128,
    /// The token's step; `None` when the share and its claimant's residue are worth less than a
    /// unit.
    pub token: Option<u8>,
    refused: Option<ClaimError>,
    is_durable: bool,
    signature: Option<BlindSignature>,
}

impl AdmittedClaim {
    fn new(share: ClaimedShare, claim: &Claim, slot: &ClaimSlot) -> Self {
        let unit_exponent = slot.unit_exponent.get();
        // Where shares are worth their work no residue stands with a claim.
        let token = denominate(0, share.exponent.work().0, unit_exponent, 1 << unit_exponent)
            .expect("a step of the ladder and a unit on it have an exact answer");
        Self {
            share,
            blinded: claim.blinded,
            number: slot.number,
            unit_exponent,
            unit_value: slot.unit_value,
            token: token.exponent,
            refused: None,
            is_durable: false,
            signature: None,
        }
    }

    /// Whose residue the share joins; `None` where shares are worth their work.
    const fn residue_key(&self) -> Option<ResidueKey> {
        match self.unit_value {
            0 => None,
            _ => Some((self.share.account, self.share.claimant)),
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
    /// The token's step; 255 for a share that brings none and whose value joined a residue.
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
    /// What claimants had before the batch, as `rows` was told.
    before: HashMap<ResidueKey, u128>,
    /// What they have after it.
    after: BTreeMap<ResidueKey, u128>,
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

    /// Whose residues the batch needs and changes.
    #[must_use]
    pub fn residue_keys(&self) -> BTreeSet<ResidueKey> {
        self.claims.iter().filter_map(AdmittedClaim::residue_key).collect()
    }

    /// Hands out the claims that stand, to be made durable with the batch without the shares at
    /// `excluded`. What [`refuse`](Self::refuse) said before is forgotten: a transaction starts anew.
    ///
    /// `before` has the residues of [`residue_keys`](Self::residue_keys); who is not in it has none.
    /// Claims of shares that are worth less than a unit of work have no row.
    pub fn rows(&mut self, excluded: &[usize], before: HashMap<ResidueKey, u128>) -> Vec<ClaimRow> {
        self.excluded = excluded.to_vec();
        self.excluded.sort_unstable();
        self.excluded.dedup();
        self.before = before;
        for claim in &mut self.claims {
            (claim.refused, claim.signature) = (None, None);
            claim.is_durable = self.excluded.binary_search(&claim.share.index).is_err();
        }
        self.deal();
        self.standing()
    }

    /// The rows of the claims that were handed out and stand.
    #[must_use]
    pub fn standing(&self) -> Vec<ClaimRow> {
        let mut rows = Vec::with_capacity(self.claims.len());
        for claim in self.durable() {
            let index = claim.share.index;
            let exponent = match (claim.token, claim.unit_value) {
                (Some(exponent), _) => exponent,
                (None, 0) => continue,
                (None, _) => NO_TOKEN,
            };
            let before = self.excluded.binary_search(&index).unwrap_or_else(|place| place);
            let (blinded, number, place) = (claim.blinded.to_bytes(), claim.number, index - before);
            rows.push(ClaimRow { blinded, number, exponent, place, index });
        }
        rows
    }

    /// Deals tokens to the claims that stand, in order, each out of its claimant's residue.
    fn deal(&mut self) {
        self.after.clear();
        for claim in &mut self.claims {
            let Some(key) = claim.residue_key() else { continue };
            if !claim.is_durable || !claim.stands() {
                continue;
            }
            let before = self.before.get(&key).copied().unwrap_or(0);
            let residue = self.after.entry(key).or_insert(before);
            let value = claim.share.value.unwrap_or(0);
            match denominate(*residue, value, claim.unit_exponent, claim.unit_value) {
                Ok(token) => (claim.token, *residue) = (token.exponent, token.residue),
                // More than all money there will ever be: the share waits for another keyset.
                Err(_) => claim.refused = Some(ClaimError::MintUnavailable),
            }
        }
    }

    /// Refuses claims that [`rows`](Self::rows) handed out, and deals the others' tokens anew.
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
        self.deal();
        Ok(())
    }

    /// What claimants have after the batch, of all whose claims stand.
    #[must_use]
    pub const fn residues(&self) -> &BTreeMap<ResidueKey, u128> {
        &self.after
    }

    /// What the shares whose claims stand are worth, by the numbers of keysets that go by value.
    ///
    /// A sum of values that a batch can have is below 2^128, or the batch could not be sealed.
    #[must_use]
    pub fn values(&self) -> BTreeMap<u64, u128> {
        let mut values = BTreeMap::new();
        for claim in self.durable().filter(|claim| claim.unit_value != 0) {
            let sum: &mut u128 = values.entry(claim.number).or_default();
            *sum = sum.saturating_add(claim.share.value.unwrap_or(0));
        }
        values
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
