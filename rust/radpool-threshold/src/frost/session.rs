//! One attempt of exactly `threshold` members to sign one message.
//!
//! A session is fixed by the key, the message, the tweak, a number, and the signers with the nonce
//! commitments that they use: its id hashes all of it. Whoever builds it from the same data has the
//! same session; a signature share counts in its own session and in no other. A signer builds its
//! session itself, of a message that it derived itself.

use std::{collections::BTreeMap, sync::Arc};

use frost_core::{CheaterDetection, aggregate_custom};
use frost_secp256k1_tr::{
    Error, Identifier, SigningPackage, keys::PublicKeyPackage, round2::SignatureShare,
};
use radpool_identity::{SIGNATURE_LEN, verify};
use radpool_units::TaggedHasher;
use thiserror::Error as ThisError;

use super::{Commitment, KeyError, PublicKey, Purpose, Suite};
use crate::read::Reader;

/// Length of a signature share on the wire: session id (32), scalar (32, big-endian).
pub const SHARE_LEN: usize = 64;

const SIGNING_ID_TAG: &str = "radpool/signing-id";
const SESSION_TAG: &str = "radpool/signing-session";

/// Parameters that make no session.
#[derive(Clone, Copy, Debug, ThisError, PartialEq, Eq)]
pub enum SessionError {
    /// A key that never signs so.
    #[error("an {0} key attests by announced nonces and never signs by FROST")]
    Purpose(Purpose),
    /// The key has no such tweak.
    #[error(transparent)]
    Tweak(#[from] KeyError),
    /// Not as many signers as the threshold.
    #[error("{found} signers: exactly {wanted} sign")]
    Signers { found: usize, wanted: u16 },
    /// A signer that is none, or is not in order.
    #[error("signer {0} is no member, or does not come after the one before")]
    Signer(u16),
}

/// A signature share that counts nothing: its author, over its own link, is at fault.
#[derive(Clone, Copy, Debug, ThisError, PartialEq, Eq)]
pub enum ShareError {
    /// Another length, or a scalar that is none.
    #[error("the bytes are no signature share")]
    Encoding,
    /// It was made for another session.
    #[error("a signature share of another session: replayed?")]
    Session,
    /// Its author does not sign in this session.
    #[error("member {0} does not sign in this session")]
    Signer(u16),
    /// It does not verify.
    #[error("the signature share of member {0} does not hold")]
    Invalid(u16),
}

/// Shares that make no signature.
#[derive(Clone, Debug, ThisError, PartialEq, Eq)]
pub enum AggregateError {
    /// Shares are missing.
    #[error("the shares of members {0:?} are missing")]
    Missing(Vec<u16>),
    /// The shares of these do not hold: all of them are named.
    #[error("the shares of members {0:?} do not hold")]
    Cheaters(Vec<u16>),
    /// A share that [`Session::decode_share`] refuses.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The library refuses what was checked before.
    #[error("the shares make no signature though each holds")]
    Library,
}

/// One attempt to sign.
#[derive(Clone, Debug)]
pub struct Session {
    key: Arc<PublicKey>,
    signing_id: [u8; 32],
    number: u64,
    id: [u8; 32],
    merkle_root: Option<[u8; 32]>,
    signers: BTreeMap<u16, Commitment>,
    message: [u8; 32],
    package: SigningPackage,
    tweaked: PublicKeyPackage,
}

impl Session {
    /// Names a session.
    ///
    /// `number` tells apart the sessions for one signature; `signers` are positions and commitments,
    /// ascending by position.
    ///
    /// # Errors
    /// [`SessionError`] says what does not fit.
    pub fn new(
        key: Arc<PublicKey>,
        message: [u8; 32],
        merkle_root: Option<[u8; 32]>,
        number: u64,
        signers: &[(u16, Commitment)],
    ) -> Result<Self, SessionError> {
        let run = key.run();
        if run.purpose() == Purpose::Oracle {
            return Err(SessionError::Purpose(Purpose::Oracle));
        }
        if signers.len() != usize::from(run.threshold()) {
            let (found, wanted) = (signers.len(), run.threshold());
            return Err(SessionError::Signers { found, wanted });
        }
        if let Some(pair) = signers.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(SessionError::Signer(pair[1].0));
        }
        let tweaked = key.tweaked(merkle_root.as_ref())?;
        let mut commitments = BTreeMap::new();
        for (index, commitment) in signers {
            let identifier = run.identifier(*index).ok_or(SessionError::Signer(*index))?;
            commitments.insert(identifier, *commitment.inner());
        }
        let signing_id = signing_id(&key, &message, merkle_root.as_ref());
        let mut bytes = signing_id.to_vec();
        bytes.extend_from_slice(&number.to_le_bytes());
        for (index, commitment) in signers {
            bytes.extend_from_slice(&index.to_le_bytes());
            bytes.extend_from_slice(&commitment.encode());
        }
        Ok(Self {
            signing_id,
            number,
            id: TaggedHasher::new(SESSION_TAG).hash(&[&bytes]),
            merkle_root,
            signers: signers.iter().copied().collect(),
            message,
            package: SigningPackage::new(commitments, &message),
            tweaked,
            key,
        })
    }

    /// The hash over all that fixes the session.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The hash over key, message and tweak: the same for all sessions that make one signature.
    #[must_use]
    pub const fn signing_id(&self) -> &[u8; 32] {
        &self.signing_id
    }

    /// The number among the sessions for one signature.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The key that is signed with.
    #[must_use]
    pub const fn key(&self) -> &Arc<PublicKey> {
        &self.key
    }

    /// Who signs, ascending.
    pub fn signers(&self) -> impl Iterator<Item = u16> + '_ {
        self.signers.keys().copied()
    }

    pub(super) fn commitment_of(&self, index: u16) -> Option<&Commitment> {
        self.signers.get(&index)
    }

    pub(super) const fn merkle_root(&self) -> Option<&[u8; 32]> {
        self.merkle_root.as_ref()
    }

    pub(super) const fn package(&self) -> &SigningPackage {
        &self.package
    }

    pub(super) fn encode_share(&self, share: &SignatureShare) -> Option<[u8; SHARE_LEN]> {
        [self.id.as_slice(), &share.serialize()].concat().try_into().ok()
    }

    /// Reads the share of the member at position `author`, and does not yet verify it.
    fn decode_share(
        &self,
        author: u16,
        bytes: &[u8],
    ) -> Result<(Identifier, SignatureShare), ShareError> {
        let mut reader = Reader::new(bytes);
        let mut read = || {
            let found = (reader.array::<32>()?, reader.array::<32>()?);
            reader.end().map(|()| found)
        };
        let (session, scalar) = read().ok_or(ShareError::Encoding)?;
        if session != self.id {
            return Err(ShareError::Session);
        }
        let signer = ShareError::Signer(author);
        let identifier = self.key.run().identifier(author).ok_or(signer)?;
        self.signers.get(&author).ok_or(signer)?;
        let share = SignatureShare::deserialize(&scalar).map_err(|_| ShareError::Encoding)?;
        Ok((identifier, share))
    }

    /// Verifies the share of the member at position `author`. What it says of the author is as true
    /// as the author's own signature around it: with that, it is evidence.
    ///
    /// # Errors
    /// [`ShareError`]: the author is at fault.
    pub fn verify_share(&self, author: u16, bytes: &[u8]) -> Result<(), ShareError> {
        let (identifier, share) = self.decode_share(author, bytes)?;
        let invalid = ShareError::Invalid(author);
        let verifying = self.tweaked.verifying_shares().get(&identifier).ok_or(invalid)?;
        frost_core::verify_signature_share::<Suite>(
            identifier,
            verifying,
            &share,
            &self.package,
            self.tweaked.verifying_key(),
        )
        .map_err(|_| invalid)
    }

    /// Joins the shares of all signers; the signature is verified by BIP340 before it is returned.
    ///
    /// Verifies single shares only if the whole does not hold, and then names all that do not.
    ///
    /// # Errors
    /// [`AggregateError`] names who is missing or at fault.
    pub fn aggregate(
        &self,
        shares: &[(u16, Vec<u8>)],
    ) -> Result<[u8; SIGNATURE_LEN], AggregateError> {
        let mut decoded = BTreeMap::new();
        let mut malformed = Vec::new();
        for (author, bytes) in shares {
            match self.decode_share(*author, bytes) {
                Ok((identifier, share)) => drop(decoded.insert(identifier, share)),
                Err(ShareError::Encoding) => malformed.push(*author),
                Err(error) => return Err(error.into()),
            }
        }
        if !malformed.is_empty() {
            return Err(AggregateError::Cheaters(malformed));
        }
        let run = self.key.run();
        let given =
            |index: &u16| run.identifier(*index).is_some_and(|id| decoded.contains_key(&id));
        let missing: Vec<u16> = self.signers().filter(|index| !given(index)).collect();
        if !missing.is_empty() {
            return Err(AggregateError::Missing(missing));
        }
        let signature =
            aggregate_custom(&self.package, &decoded, &self.tweaked, CheaterDetection::AllCheaters);
        let signature = match signature {
            Ok(signature) => signature,
            Err(Error::InvalidSignatureShare { culprits }) => {
                let culprits = culprits.iter().filter_map(|id| run.index_of_identifier(id));
                let mut culprits: Vec<u16> = culprits.collect();
                culprits.sort_unstable();
                return Err(AggregateError::Cheaters(culprits));
            }
            Err(_) => return Err(AggregateError::Library),
        };
        let signature = signature.serialize().map_err(|_| AggregateError::Library)?;
        let signature = signature.try_into().map_err(|_| AggregateError::Library)?;
        let output_key =
            self.key.output_key(self.merkle_root()).map_err(|_| AggregateError::Library)?;
        verify(&output_key, &self.message, &signature).map_err(|_| AggregateError::Library)?;
        Ok(signature)
    }
}

/// Names one signature: the key, what it signs, and the tweak it is signed under.
fn signing_id(key: &PublicKey, message: &[u8; 32], merkle_root: Option<&[u8; 32]>) -> [u8; 32] {
    let root = merkle_root.map_or(&[][..], |root| root);
    let tweaked = [u8::from(merkle_root.is_some())];
    TaggedHasher::new(SIGNING_ID_TAG).hash(&[key.transcript(), message, &tweaked, root])
}
