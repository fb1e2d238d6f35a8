//! Nonces that sign once.
//!
//! Two shares under one nonce give the signing key away, so a nonce must not outlive its use by any
//! path. The rules, as this module keeps them:
//!
//! - N1: nonces are in memory only and have no encoding. A pool begins with a boot counter that its
//!   owner raises durably at each start; commitments name it, and those of another boot are void.
//! - N2: a nonce leaves the pool before a share is computed with it. Whatever happens then, it is
//!   gone.
//! - N3: the bytes of a share are kept by session, and given out again when they are asked for
//!   again. Nothing is ever computed twice.
//! - N4: one nonce, one session, which fixes signature, signer set and message. For one signature
//!   and session number there is one session: who asks for a second one is refused. Nonces are
//!   moved, never copied, and a process that was forked off finds its pool empty.
//! - N5: nonces are drawn when they are committed to, of the system's randomness and the signing
//!   share together (RFC 9591 4.1); no seed is kept. A snapshot of a running machine still copies
//!   its memory: who resumes one must raise the boot counter by a restart.
//! - N6: no nonce is a function of what is signed.

use core::fmt;
use std::{
    collections::{BTreeMap, VecDeque},
    process,
    sync::Arc,
};

use frost_secp256k1_tr::{
    round1::{NonceCommitment, SigningCommitments, SigningNonces, commit},
    round2,
};
use rand_core::{CryptoRng, RngCore};
use thiserror::Error;

use super::{KeyShare, POINT_LEN, SHARE_LEN, Session, point_bytes};
use crate::read::Reader;

/// Length of a commitment: boot (u64), slot (u64), hiding point (33), binding point (33); numbers
/// little-endian.
pub const COMMITMENT_LEN: usize = 8 + 8 + 2 * POINT_LEN;
/// Most unspent nonces of a pool: a member's window of 64, a few times over.
pub const NONCES_MAX: usize = 1024;
/// Shares that are remembered to be sent again; older ones are not sent again.
const SHARES_MAX: usize = 1024;

/// Bytes that are no commitment.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CommitmentError {
    /// Another length.
    #[error("a nonce commitment of {0} bytes: it has {COMMITMENT_LEN}")]
    Length(usize),
    /// A point that is none, or the identity.
    #[error("a nonce commitment's points are none")]
    Point,
}

/// The public side of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    boot: u64,
    slot: u64,
    points: [[u8; POINT_LEN]; 2],
    inner: SigningCommitments,
}

impl Commitment {
    /// Reads a commitment.
    ///
    /// # Errors
    /// [`CommitmentError`]: its author is at fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommitmentError> {
        let mut reader = Reader::new(bytes);
        let mut read = || {
            let found = (reader.u64()?, reader.u64()?, [reader.array()?, reader.array()?]);
            reader.end().map(|()| found)
        };
        let (boot, slot, points) = read().ok_or(CommitmentError::Length(bytes.len()))?;
        let point = |bytes: &[u8]| NonceCommitment::deserialize(bytes);
        let (Ok(hiding), Ok(binding)) = (point(&points[0]), point(&points[1])) else {
            return Err(CommitmentError::Point);
        };
        Ok(Self { boot, slot, points, inner: SigningCommitments::new(hiding, binding) })
    }

    /// The bytes to publish.
    #[must_use]
    pub fn encode(&self) -> [u8; COMMITMENT_LEN] {
        let (boot, slot) = (self.boot.to_le_bytes(), self.slot.to_le_bytes());
        let bytes = [boot.as_slice(), &slot, self.points.as_flattened()].concat();
        bytes.try_into().expect("the parts have the length together")
    }

    /// The boot counter of the pool that it is of.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// Its number in that pool.
    #[must_use]
    pub const fn slot(&self) -> u64 {
        self.slot
    }

    pub(super) const fn inner(&self) -> &SigningCommitments {
        &self.inner
    }
}

/// Why a pool does not sign or commit. None of them is a peer's fault.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NonceError {
    /// The process is a copy of the one that drew the nonces.
    #[error("the process was forked: the nonces are its parent's and are wiped here")]
    Forked,
    /// The pool would hold too many nonces.
    #[error("{unspent} nonces are unspent and {wanted} more wanted: a pool holds {NONCES_MAX}")]
    Full { unspent: usize, wanted: usize },
    /// The session is one of another key.
    #[error("the session signs with another key than this pool's")]
    Key,
    /// This member does not sign in the session.
    #[error("member {0}, whose pool this is, does not sign in the session")]
    Signer(u16),
    /// The commitment was made before a restart.
    #[error("the commitment is of boot {found}, the pool of boot {own}: it is void")]
    Boot { found: u64, own: u64 },
    /// The nonce is spent, burnt, or was never drawn.
    #[error("the nonce of slot {0} is spent, burnt or was never drawn")]
    Spent(u64),
    /// The slot has another commitment.
    #[error("slot {0} has another commitment than the session says")]
    Commitment(u64),
    /// There is another session of this number already.
    #[error("session {0} for this signature has other signers or commitments already")]
    Conflict(u64),
    /// The library refuses what was checked before; the nonce is gone.
    #[error("the share could not be computed: {0}")]
    Library(frost_secp256k1_tr::Error),
}

/// A nonce with its commitment; has no `Clone`, so it is in one place.
struct Unspent {
    nonces: SigningNonces,
    commitment: Commitment,
}

/// A share that was given out.
struct Given {
    session: [u8; 32],
    bytes: [u8; SHARE_LEN],
}

/// Identifies sessions of one number for one signature.
type Attempt = ([u8; 32], u64);

/// A member's unspent nonces for one key: one pool per key and boot, whose slots the owner deals out to
/// whoever coordinates.
pub struct NoncePool {
    share: Arc<KeyShare>,
    boot: u64,
    process: u32,
    next_slot: u64,
    unspent: BTreeMap<u64, Unspent>,
    given: BTreeMap<Attempt, Given>,
    given_order: VecDeque<Attempt>,
}

impl NoncePool {
    /// Opens an empty pool. `boot` must be higher than that of any pool of this key before.
    #[must_use]
    pub fn new(share: Arc<KeyShare>, boot: u64) -> Self {
        Self {
            share,
            boot,
            process: process::id(),
            next_slot: 0,
            unspent: BTreeMap::new(),
            given: BTreeMap::new(),
            given_order: VecDeque::new(),
        }
    }

    /// The boot counter.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// How many nonces are unspent.
    #[must_use]
    pub fn unspent(&self) -> usize {
        self.unspent.len()
    }

    /// The key share that the pool signs with.
    #[must_use]
    pub const fn share(&self) -> &Arc<KeyShare> {
        &self.share
    }

    /// Draws nonces and returns their commitments, in the order of their slots.
    ///
    /// # Errors
    /// [`NonceError::Full`] when there would be too many, [`NonceError::Forked`].
    pub fn commit(
        &mut self,
        count: usize,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<Commitment>, NonceError> {
        self.check_process()?;
        let unspent = self.unspent.len();
        if count > NONCES_MAX - unspent {
            return Err(NonceError::Full { unspent, wanted: count });
        }
        let mut commitments = Vec::with_capacity(count);
        for _ in 0..count {
            let (nonces, inner) = commit(self.share.package().signing_share(), rng);
            let point = |point: &NonceCommitment| {
                point_bytes(point.serialize()).expect("a drawn nonce is not zero")
            };
            let points = [point(inner.hiding()), point(inner.binding())];
            let slot = self.next_slot;
            self.next_slot += 1;
            let commitment = Commitment { boot: self.boot, slot, points, inner };
            self.unspent.insert(slot, Unspent { nonces, commitment });
            commitments.push(commitment);
        }
        Ok(commitments)
    }

    /// Signs in a session with the nonce that the session says, which is spent thereby; asked for
    /// the same session again, gives the same bytes again.
    ///
    /// # Errors
    /// [`NonceError`]; a nonce is spent only when the session could have been signed.
    pub fn sign(&mut self, session: &Session) -> Result<[u8; SHARE_LEN], NonceError> {
        self.check_process()?;
        let index = self.share.index();
        if session.key().transcript() != self.share.public().transcript() {
            return Err(NonceError::Key);
        }
        let attempt = (*session.signing_id(), session.number());
        if let Some(given) = self.given.get(&attempt) {
            let same = given.session == *session.id();
            return if same {
                Ok(given.bytes)
            } else {
                Err(NonceError::Conflict(session.number()))
            };
        }
        let commitment = session.commitment_of(index).ok_or(NonceError::Signer(index))?;
        if commitment.boot != self.boot {
            return Err(NonceError::Boot { found: commitment.boot, own: self.boot });
        }
        let slot = commitment.slot;
        let own = self.unspent.get(&slot).ok_or(NonceError::Spent(slot))?.commitment;
        if own != *commitment {
            return Err(NonceError::Commitment(slot));
        }
        // From here on the nonce belongs to this call alone and is wiped at its end.
        let Unspent { nonces, .. } = self.unspent.remove(&slot).ok_or(NonceError::Spent(slot))?;
        let package = self.share.tweaked(session.merkle_root());
        let share = round2::sign(session.package(), &nonces, &package);
        drop(nonces);
        let share = share.map_err(NonceError::Library)?;
        let bytes = session.encode_share(&share).expect("a scalar has 32 bytes");
        self.remember(attempt, Given { session: *session.id(), bytes });
        Ok(bytes)
    }

    /// Wipes nonces that will not be used: those of sessions that ended, or of a coordinator.
    pub fn burn(&mut self, slots: &[u64]) {
        slots.iter().for_each(|slot| drop(self.unspent.remove(slot)));
    }

    /// Wipes everything: nonces and remembered shares. The pool can commit anew, to later slots.
    pub fn wipe(&mut self) {
        self.unspent.clear();
        self.given.clear();
        self.given_order.clear();
    }

    fn remember(&mut self, attempt: Attempt, given: Given) {
        if self.given.len() >= SHARES_MAX
            && let Some(oldest) = self.given_order.pop_front()
        {
            self.given.remove(&oldest);
        }
        self.given_order.push_back(attempt);
        self.given.insert(attempt, given);
    }

    fn check_process(&mut self) -> Result<(), NonceError> {
        if self.process == process::id() {
            return Ok(());
        }
        self.wipe();
        Err(NonceError::Forked)
    }

    /// Makes the pool believe that it was drawn by another process.
    #[cfg(test)]
    pub(super) const fn pretend_forked(&mut self) {
        self.process = !self.process;
    }
}

impl fmt::Debug for NoncePool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (boot, unspent) = (self.boot, self.unspent.len());
        write!(formatter, "NoncePool(secret, boot {boot}, {unspent} unspent)")
    }
}
