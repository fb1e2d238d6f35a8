//! What key generation leaves: the public key with everybody's verifying share, and a member's own
//! share.

use core::fmt;
use std::{collections::BTreeMap, sync::Arc};

use frost_secp256k1_tr::{
    Identifier, VerifyingKey,
    keys::{KeyPackage, PublicKeyPackage, SigningShare, Tweak, VerifyingShare},
};
use radpool_identity::{IdentityKey, SIGNATURE_LEN, SignatureError};
use radpool_units::TaggedHasher;
use rand_core::{CryptoRng, RngCore};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{POINT_LEN, Purpose, Round1Set, Round2, Run, RunError, point_bytes};
use crate::{
    read::Reader,
    stored::{self, StoredKeyError},
};

const TRANSCRIPT_TAG: &str = "radpool/dkg-transcript";

/// A key that cannot be read or used so.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// A member's second message is missing.
    #[error("the second message of member {0} is missing")]
    Missing(u16),
    /// The run at the beginning is none.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Bytes that encode no key.
    #[error("the bytes encode no threshold key")]
    Encoding,
    /// Only a treasury key has tweaks.
    #[error("a {0} key is used as it is: only a treasury key commits to scripts")]
    Tweak(Purpose),
    /// The commitments add up to no key.
    #[error("the members' commitments add up to no key")]
    Sum,
}

/// A key that `threshold` members of a run sign with together.
///
/// The key is BIP341's internal key. It is already tweaked once, with no scripts, so that nobody
/// can have hidden a script in it while it was generated.
#[derive(Clone, Debug)]
pub struct PublicKey {
    run: Arc<Run>,
    transcript: [u8; 32],
    package: PublicKeyPackage,
}

impl PublicKey {
    pub(super) const fn new(
        run: Arc<Run>,
        transcript: [u8; 32],
        package: PublicKeyPackage,
    ) -> Self {
        Self { run, transcript, package }
    }

    /// Computes the key from what all members broadcast: what an outsider does, and a member that
    /// lost its share.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when a member's second message is not there.
    pub fn from_broadcast(round1: &Round1Set, round2: &[Round2]) -> Result<Self, KeyError> {
        let run = round1.run();
        let commitments = run.identifiers().zip(round1.messages());
        let commitments: BTreeMap<_, _> = commitments
            .map(|((_, identifier), message)| (identifier, message.package.commitment()))
            .collect();
        let package =
            PublicKeyPackage::from_dkg_commitments(&commitments).map_err(|_| KeyError::Sum)?;
        let package = package.tweak::<&[u8]>(None);
        let round2 = round2.iter().map(|message| (message.author(), message)).collect();
        let transcript = transcript(round1, &round2, &package).map_err(KeyError::Missing)?;
        Ok(Self::new(Arc::clone(run), transcript, package))
    }

    /// The run that generated the key.
    #[must_use]
    pub const fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// The hash over everything that was broadcast and came of it: the key's name.
    #[must_use]
    pub const fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }

    /// The x-only internal key.
    #[must_use]
    pub fn internal_key(&self) -> [u8; 32] {
        x_only(self.package.verifying_key())
    }

    /// The x-only key that signatures verify under: the internal key, or, with the root of a script
    /// tree, BIP341's output key.
    ///
    /// # Errors
    /// [`KeyError::Tweak`] when a root is given for a key that is not the treasury's.
    pub fn output_key(&self, merkle_root: Option<&[u8; 32]>) -> Result<[u8; 32], KeyError> {
        self.tweaked(merkle_root).map(|package| x_only(package.verifying_key()))
    }

    /// Verifies a signature of the group (BIP340).
    ///
    /// # Errors
    /// [`SignatureError`] when it does not hold, also for a root that this key has none of.
    pub fn verify(
        &self,
        message: &[u8; 32],
        merkle_root: Option<&[u8; 32]>,
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), SignatureError> {
        let key = self.output_key(merkle_root).map_err(|_| SignatureError)?;
        radpool_identity::verify(&key, message, signature)
    }

    pub(super) fn tweaked(
        &self,
        merkle_root: Option<&[u8; 32]>,
    ) -> Result<PublicKeyPackage, KeyError> {
        match (merkle_root, self.run.purpose()) {
            (None, _) => Ok(self.package.clone()),
            (Some(root), Purpose::Treasury) => Ok(self.package.clone().tweak(Some(root))),
            (Some(_), purpose) => Err(KeyError::Tweak(purpose)),
        }
    }

    /// The key as bytes: the run, transcript (32), group key (33), verifying shares (33 each, by
    /// position). Only a certificate tells whether it is the members' key.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.run.encode();
        bytes.extend_from_slice(&self.transcript);
        points(&self.run, &self.package).iter().for_each(|point| bytes.extend_from_slice(point));
        bytes
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`] when the bytes are no run or no points.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Reader::new(bytes);
        let key = Self::read(&mut reader)?;
        reader.end().ok_or(KeyError::Encoding)?;
        Ok(key)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, KeyError> {
        let run = Run::read(reader)?;
        let transcript = reader.array().ok_or(KeyError::Encoding)?;
        let mut point = || reader.array::<POINT_LEN>().ok_or(KeyError::Encoding);
        let group = VerifyingKey::deserialize(&point()?).map_err(|_| KeyError::Encoding)?;
        let shares: BTreeMap<_, _> = run
            .identifiers()
            .map(|(_, identifier)| {
                let share =
                    VerifyingShare::deserialize(&point()?).map_err(|_| KeyError::Encoding)?;
                Ok((identifier, share))
            })
            .collect::<Result<_, KeyError>>()?;
        let package = PublicKeyPackage::new(shares, group, Some(run.threshold()));
        Ok(Self::new(Arc::new(run), transcript, package))
    }
}

/// A member's share of a key. Wiped when it is dropped.
pub struct KeyShare {
    public: Arc<PublicKey>,
    index: u16,
    package: KeyPackage,
}

impl KeyShare {
    pub(super) const fn new(public: Arc<PublicKey>, index: u16, package: KeyPackage) -> Self {
        Self { public, index, package }
    }

    /// The key that this is a share of.
    #[must_use]
    pub const fn public(&self) -> &Arc<PublicKey> {
        &self.public
    }

    /// The position of whose share it is.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    pub(super) const fn package(&self) -> &KeyPackage {
        &self.package
    }

    pub(super) fn tweaked(&self, merkle_root: Option<&[u8; 32]>) -> KeyPackage {
        match merkle_root {
            None => self.package.clone(),
            Some(root) => self.package.clone().tweak(Some(root)),
        }
    }

    /// Encrypts the share for its owner's disk.
    ///
    /// # Errors
    /// [`StoredKeyError::Owner`] when `owner` is not the member whose share this is.
    pub fn seal(
        &self,
        owner: &IdentityKey,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<u8>, StoredKeyError> {
        self.check_owner(owner)?;
        let share = Zeroizing::new(self.package.signing_share().serialize());
        let mut plain = Zeroizing::new(self.index.to_le_bytes().to_vec());
        plain.reserve_exact(share.len() + self.public.encode().len());
        plain.extend_from_slice(&share);
        plain.extend_from_slice(&self.public.encode());
        Ok(stored::seal(owner, &plain, rng))
    }

    /// Decrypts a share from its owner's disk, and checks that it belongs to its key.
    ///
    /// # Errors
    /// [`StoredKeyError`]: not written by this owner's key, damaged, or of another version.
    pub fn open(owner: &IdentityKey, bytes: &[u8]) -> Result<Self, StoredKeyError> {
        let plain = stored::open(owner, bytes)?;
        let share = Self::read(&plain).ok_or(StoredKeyError::Content)?;
        share.check_owner(owner)?;
        Ok(share)
    }

    fn read(plain: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(plain);
        let index = reader.u16()?;
        let secret = Zeroizing::new(reader.array::<32>()?);
        let public = PublicKey::read(&mut reader).ok()?;
        reader.end()?;
        let identifier: Identifier = public.run.identifier(index)?;
        let share = SigningShare::deserialize(&*secret).ok()?;
        let verifying = VerifyingShare::from(share);
        if public.package.verifying_shares().get(&identifier) != Some(&verifying) {
            return None;
        }
        let group = *public.package.verifying_key();
        let package = KeyPackage::new(identifier, share, verifying, group, public.run.threshold());
        Some(Self::new(Arc::new(public), index, package))
    }

    fn check_owner(&self, owner: &IdentityKey) -> Result<(), StoredKeyError> {
        let member = self.public.run.members().get(usize::from(self.index));
        if member == Some(owner.public()) { Ok(()) } else { Err(StoredKeyError::Owner) }
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeyShare(secret, member {}, key ", self.index)?;
        self.public.internal_key().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_str(")")
    }
}

/// Hashes everything that was broadcast and what came of it; the error is the position of a member
/// whose second message is missing.
pub(super) fn transcript(
    round1: &Round1Set,
    round2: &BTreeMap<u16, &Round2>,
    package: &PublicKeyPackage,
) -> Result<[u8; 32], u16> {
    let run = round1.run();
    let mut bytes = [run.id().as_slice(), round1.digest()].concat();
    for index in 0..run.size() {
        bytes.extend_from_slice(round2.get(&index).ok_or(index)?.digest());
    }
    points(run, package).iter().for_each(|point| bytes.extend_from_slice(point));
    Ok(TaggedHasher::new(TRANSCRIPT_TAG).hash(&[&bytes]))
}

/// The group key and the verifying shares by position.
fn points(run: &Run, package: &PublicKeyPackage) -> Vec<[u8; POINT_LEN]> {
    let shares = package.verifying_shares();
    let shares = run.identifiers().map(|(_, identifier)| {
        shares.get(&identifier).and_then(|share| point_bytes(share.serialize()))
    });
    let group = point_bytes(package.verifying_key().serialize());
    [group].into_iter().chain(shares).map(|point| point.expect("no share is zero")).collect()
}

fn x_only(key: &VerifyingKey) -> [u8; 32] {
    let point = point_bytes(key.serialize()).expect("a group key is not the identity");
    let [_, x @ ..] = point;
    x
}
