//! The key by which a Mining Service Provider is known, and its signatures.
//!
//! It signs share batches and receipts of ecash; in a federation it is the member's identity, and signs
//! its stream and its votes.
//!
//! Source: BIP340. Messages are 32-byte hashes, each under a tag of its own.

use core::fmt;
use std::{collections::BTreeMap, num::NonZero, thread};

use secp256k1::{Keypair, Message, SECP256K1, SecretKey, XOnlyPublicKey, schnorr::Signature};
use thiserror::Error;
use zeroize::Zeroizing;

/// Length of a signature: the nonce's coordinate and the scalar, both big-endian.
pub const SIGNATURE_LEN: usize = 64;
/// Fewer than this is verified by the caller's thread alone: a thread costs about as much.
const PER_THREAD_MIN: usize = 64;

/// 32 bytes that are no secret key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the 32 bytes are no secp256k1 secret key: zero, or not below the order of the curve")]
pub struct IdentityKeyError;

/// A signature that is none of this key over this hash.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the signature is not that of this key over this hash")]
pub struct SignatureError;

/// Speaks for an MSP: signs its batches and, where it is a member of a federation, its stream, its
/// votes and the keys that it takes part in. Wiped when it is dropped.
pub struct IdentityKey {
    keypair: Keypair,
    public: [u8; 32],
}

impl IdentityKey {
    /// Reads a secret key, big-endian.
    ///
    /// # Errors
    /// [`IdentityKeyError`] when the number is zero or too large.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, IdentityKeyError> {
        let mut secret = SecretKey::from_slice(secret).map_err(|_| IdentityKeyError)?;
        let keypair = Keypair::from_secret_key(SECP256K1, &secret);
        secret.non_secure_erase();
        Ok(Self { public: keypair.x_only_public_key().0.serialize(), keypair })
    }

    /// The x-only public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The secret, to be stored where only its owner can read it.
    #[must_use]
    pub fn expose_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.keypair.secret_bytes())
    }

    /// Signs a hash with 32 zero bytes as auxiliary randomness: the same hash always has the same
    /// signature, so nothing is told by signing it again after a crash.
    #[must_use]
    pub fn sign(&self, hash: &[u8; 32]) -> [u8; SIGNATURE_LEN] {
        let message = Message::from_digest(*hash);
        SECP256K1.sign_schnorr_no_aux_rand(&message, &self.keypair).serialize()
    }
}

impl Drop for IdentityKey {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdentityKey(secret, public ")?;
        self.public.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_str(")")
    }
}

/// Verifies one signature under an x-only key.
///
/// # Errors
/// [`SignatureError`] also when key or signature are no such thing.
pub fn verify(
    public: &[u8; 32],
    hash: &[u8; 32],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), SignatureError> {
    let public = XOnlyPublicKey::from_slice(public).map_err(|_| SignatureError)?;
    verify_parsed(&public, hash, signature)
}

/// Who is said to have signed which hash.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// The x-only key.
    pub public: [u8; 32],
    /// The hash.
    pub hash: [u8; 32],
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

/// Verifies many signatures, on as many cores as it is worth, and returns the positions of those
/// that do not hold, ascending. Keys are few and signatures many: each key is read once.
#[must_use]
pub fn invalid_signatures(items: &[Signed]) -> Vec<usize> {
    let mut keys = BTreeMap::new();
    for item in items {
        keys.entry(item.public).or_insert_with(|| XOnlyPublicKey::from_slice(&item.public).ok());
    }
    let holds = |item: &Signed| {
        let key = keys.get(&item.public).and_then(Option::as_ref);
        key.is_some_and(|key| verify_parsed(key, &item.hash, &item.signature).is_ok())
    };
    let invalid_in = |first: usize, items: &[Signed]| -> Vec<usize> {
        let invalid = items.iter().enumerate().filter(|(_, item)| !holds(item));
        invalid.map(|(offset, _)| first + offset).collect()
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let parts = cores.min(items.len() / PER_THREAD_MIN).max(1);
    if parts == 1 {
        return invalid_in(0, items);
    }
    let length = items.len().div_ceil(parts);
    let invalid_in = &invalid_in;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(length)
            .enumerate()
            .map(|(part, items)| scope.spawn(move || invalid_in(part * length, items)))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().expect("verifying a signature does not panic"))
            .collect()
    })
}

fn verify_parsed(
    public: &XOnlyPublicKey,
    hash: &[u8; 32],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), SignatureError> {
    let signature = Signature::from_slice(signature).map_err(|_| SignatureError)?;
    let message = Message::from_digest(*hash);
    SECP256K1.verify_schnorr(&signature, &message, public).map_err(|_| SignatureError)
}
