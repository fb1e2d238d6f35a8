//! The key that an MSP signs its batches with.

use core::fmt;

use secp256k1::{Keypair, Message, SECP256K1, SecretKey, XOnlyPublicKey, schnorr::Signature};
use thiserror::Error;

/// Signs batches: the identity of a Mining Service Provider. Wiped when it is dropped.
pub struct MspKey {
    keypair: Keypair,
    public: [u8; 32],
}

/// 32 bytes that are no secret key: zero, or not below the order of the curve.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the 32 bytes are no secp256k1 secret key: zero, or not below the order of the curve")]
pub struct MspKeyError;

impl MspKey {
    /// Reads a secret key.
    ///
    /// # Errors
    /// [`MspKeyError`] when the number is zero or too large.
    pub fn from_secret(secret: &[u8; 32]) -> Result<Self, MspKeyError> {
        let mut secret = SecretKey::from_slice(secret).map_err(|_| MspKeyError)?;
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
    pub fn expose_secret(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.keypair.secret_bytes())
    }

    /// Signs a 32-byte hash as BIP340 has it, with 32 zero bytes as auxiliary randomness: the same
    /// batch always has the same signature.
    #[must_use]
    pub fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        let message = Message::from_digest(*hash);
        SECP256K1.sign_schnorr_no_aux_rand(&message, &self.keypair).serialize()
    }
}

impl Drop for MspKey {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

impl fmt::Debug for MspKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MspKey(secret, public ")?;
        for byte in self.public {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str(")")
    }
}

/// Whether `signature` is the BIP340 signature of `hash` under the x-only key `public`.
#[must_use]
pub fn is_signed_by(public: &[u8; 32], hash: &[u8; 32], signature: &[u8; 64]) -> bool {
    let (Ok(public), Ok(signature)) =
        (XOnlyPublicKey::from_slice(public), Signature::from_slice(signature))
    else {
        return false;
    };
    SECP256K1.verify_schnorr(&signature, &Message::from_digest(*hash), &public).is_ok()
}
