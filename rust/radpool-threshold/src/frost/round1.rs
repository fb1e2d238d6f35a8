//! The first message of key generation: commitments, proof of possession, sealing key.

use std::sync::Arc;

use frost_core::keys::dkg::verify_proof_of_knowledge;
use frost_secp256k1_tr::{
    Signature,
    keys::{VerifiableSecretSharingCommitment, dkg::round1::Package},
};
use radpool_units::TaggedHasher;
use thiserror::Error;

use super::{POINT_LEN, Run};
use crate::{read::Reader, seal::is_low_order};

const ROUND1_TAG: &str = "radpool/dkg-deal";
const ROUND1_SET_TAG: &str = "radpool/dkg-deals";
const PROOF_LEN: usize = 64;

/// A first message that its author must not have sent. Every error is the author's fault, and
/// whoever has the message finds the same one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Round1Error {
    /// The author takes no part in the run.
    #[error("member {0} takes no part in the run")]
    Author(u16),
    /// Another length than the threshold asks for.
    #[error("a first message of {found} bytes: {wanted} at this threshold")]
    Length { found: usize, wanted: usize },
    /// It was made for another run.
    #[error("a first message of another run: replayed?")]
    Run,
    /// Nothing can be sealed to the key.
    #[error("the sealing key is of low order: no share can be sealed to it")]
    SealingKey,
    /// A commitment is no point, or the identity.
    #[error("commitment {0} is no point")]
    Commitment(usize),
    /// The proof does not show that the author knows what it commits to.
    #[error("the proof of possession does not hold")]
    Proof,
}

/// A valid first message: run id (32), sealing key (32, X25519), commitments (33 each, as many as
/// the threshold), proof of possession (64).
#[derive(Clone, Debug)]
pub struct Round1 {
    author: u16,
    pub(super) sealing_key: [u8; 32],
    pub(super) package: Package,
    bytes: Vec<u8>,
}

impl Round1 {
    /// Reads and verifies the message of the member at position `author`.
    ///
    /// # Errors
    /// [`Round1Error`]: the author is at fault.
    pub fn decode(run: &Run, author: u16, bytes: &[u8]) -> Result<Self, Round1Error> {
        let identifier = run.identifier(author).ok_or(Round1Error::Author(author))?;
        let wanted = Self::length(run);
        let wrong_length = Round1Error::Length { found: bytes.len(), wanted };
        if bytes.len() != wanted {
            return Err(wrong_length);
        }
        let mut reader = Reader::new(bytes);
        if reader.array().ok_or(wrong_length)? != *run.id() {
            return Err(Round1Error::Run);
        }
        let sealing_key = reader.array().ok_or(wrong_length)?;
        if is_low_order(&sealing_key) {
            return Err(Round1Error::SealingKey);
        }
        let mut points: Vec<[u8; POINT_LEN]> = Vec::with_capacity(run.threshold().into());
        for _ in 0..run.threshold() {
            points.push(reader.array().ok_or(wrong_length)?);
        }
        let commitment =
            VerifiableSecretSharingCommitment::deserialize(&points).map_err(|_| wrong(&points))?;
        let proof: [u8; PROOF_LEN] = reader.array().ok_or(wrong_length)?;
        let proof = Signature::deserialize(&proof).map_err(|_| Round1Error::Proof)?;
        verify_proof_of_knowledge(identifier, &commitment, &proof)
            .map_err(|_| Round1Error::Proof)?;
        let package = Package::new(commitment, proof);
        Ok(Self { author, sealing_key, package, bytes: bytes.to_vec() })
    }

    /// Writes a message of one's own.
    pub(super) fn encode(run: &Run, sealing_key: &[u8; 32], package: &Package) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(Self::length(run));
        bytes.extend_from_slice(run.id());
        bytes.extend_from_slice(sealing_key);
        package.commitment().serialize().ok()?.iter().for_each(|point| bytes.extend(point));
        bytes.extend(package.proof_of_knowledge().serialize().ok()?);
        Some(bytes)
    }

    fn length(run: &Run) -> usize {
        64 + POINT_LEN * usize::from(run.threshold()) + PROOF_LEN
    }

    /// The position of who sent it.
    #[must_use]
    pub const fn author(&self) -> u16 {
        self.author
    }
}

/// Names the first commitment that is none.
fn wrong(points: &[[u8; POINT_LEN]]) -> Round1Error {
    let is_none = |point: &[u8; POINT_LEN]| {
        VerifiableSecretSharingCommitment::deserialize([point.as_slice()]).is_err()
    };
    Round1Error::Commitment(points.iter().position(is_none).unwrap_or_default())
}

/// First messages that make no set.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Round1SetError {
    /// A member's message is missing; a silent member is no culprit, the run is repeated without.
    #[error("the first message of member {0} is missing")]
    Missing(u16),
    /// There are more messages than members, or two of one.
    #[error("two first messages of member {0}")]
    Repeated(u16),
}

/// The first messages of all members of a run, which the second round builds on.
#[derive(Clone, Debug)]
pub struct Round1Set {
    run: Arc<Run>,
    messages: Vec<Round1>,
    digest: [u8; 32],
}

impl Round1Set {
    /// Takes the messages of all members, in any order.
    ///
    /// # Errors
    /// [`Round1SetError`] when one is missing or there twice.
    pub fn new(run: Arc<Run>, mut messages: Vec<Round1>) -> Result<Self, Round1SetError> {
        messages.sort_by_key(Round1::author);
        if let Some(pair) = messages.windows(2).find(|pair| pair[0].author == pair[1].author) {
            return Err(Round1SetError::Repeated(pair[0].author));
        }
        let missing = (0..run.size())
            .find(|index| messages.get(usize::from(*index)).is_none_or(|m| m.author != *index));
        if let Some(missing) = missing {
            return Err(Round1SetError::Missing(missing));
        }
        let each = TaggedHasher::new(ROUND1_TAG);
        let mut digests = run.id().to_vec();
        for message in &messages {
            digests.extend(each.hash(&[&message.author.to_le_bytes(), &message.bytes]));
        }
        let digest = TaggedHasher::new(ROUND1_SET_TAG).hash(&[&digests]);
        Ok(Self { run, messages, digest })
    }

    /// The run.
    #[must_use]
    pub const fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The hash over the run and all messages, which second messages name.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    pub(super) fn get(&self, index: u16) -> Option<&Round1> {
        self.messages.get(usize::from(index))
    }

    pub(super) fn messages(&self) -> &[Round1] {
        &self.messages
    }
}
