//! What a server needs to prove itself: its static key and the certificate for it.

use core::{fmt, str::FromStr};

use secp256k1::{Keypair, SECP256K1, ellswift::ElligatorSwift};
use zeroize::Zeroizing;

use super::Certificate;
use crate::keys::{KeyError, decode_base58check, with_secret_key};

const KIND: &str = "server static key";
/// Stands before the text form, so that a static key and an authority key cannot be mixed up.
const TEXT_PREFIX: [u8; 2] = 2u16.to_le_bytes();

/// A server's static key pair. Wiped when dropped; its `Debug` shows the public half.
#[derive(Clone)]
pub struct StaticKey {
    secret: Zeroizing<[u8; 32]>,
    x_only: [u8; 32],
    elligator_swift: [u8; 64],
}

impl StaticKey {
    /// Takes 32 random bytes as the secret.
    ///
    /// # Errors
    /// `KeyError::OutOfRange` for zero and numbers not below the curve's order, which random bytes
    /// never are.
    pub fn from_bytes(secret: [u8; 32]) -> Result<Self, KeyError> {
        let secret = Zeroizing::new(secret);
        // The encoding is not hidden from anybody who can connect, so it needs no randomness.
        let (x_only, elligator_swift) = with_secret_key(&secret, |key| {
            let mut pair = Keypair::from_secret_key(SECP256K1, key);
            let x_only = pair.x_only_public_key().0.serialize();
            pair.non_secure_erase();
            (x_only, ElligatorSwift::from_seckey(SECP256K1, *key, None).to_array())
        })
        .ok_or(KeyError::OutOfRange { kind: KIND })?;
        Ok(Self { secret, x_only, elligator_swift })
    }

    /// The public key's x coordinate, most significant byte first: what a certificate signs.
    #[must_use]
    pub const fn x_only_public_key(&self) -> [u8; 32] {
        self.x_only
    }

    /// The secret as 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.clone()
    }

    /// The text form for files: `base58check(0x02 0x00 || secret)`.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 34]);
        bytes[..2].copy_from_slice(&TEXT_PREFIX);
        bytes[2..].copy_from_slice(self.secret.as_slice());
        Zeroizing::new(bs58::encode(bytes.as_slice()).with_check().into_string())
    }

    pub(super) const fn elligator_swift(&self) -> &[u8; 64] {
        &self.elligator_swift
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl FromStr for StaticKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_base58check(text, KIND)?;
        let wrong_length = || KeyError::Length {
            kind: KIND,
            expected: 34,
            found: bytes.len(),
            hint: if bytes.len() == 32 {
                "is it an authority's secret key?"
            } else {
                "it is another thing"
            },
        };
        let (prefix, secret) = bytes.split_first_chunk::<2>().ok_or_else(wrong_length)?;
        let secret = secret.try_into().map_err(|_| wrong_length())?;
        if *prefix != TEXT_PREFIX {
            let (expected, found) = (u16::from_le_bytes(TEXT_PREFIX), u16::from_le_bytes(*prefix));
            return Err(KeyError::Version { kind: KIND, expected, found });
        }
        Self::from_bytes(secret)
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StaticKey(public ")?;
        for byte in self.x_only {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str(", secret redacted)")
    }
}

/// The static key of a server and the certificate that it shows.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    static_key: StaticKey,
    certificate: Certificate,
}

impl ServerIdentity {
    /// Joins a key and its certificate. Whether they belong together only
    /// [`Certificate::verify`] can say, with the authority's public key.
    #[must_use]
    pub const fn new(static_key: StaticKey, certificate: Certificate) -> Self {
        Self { static_key, certificate }
    }

    /// The key.
    #[must_use]
    pub const fn static_key(&self) -> &StaticKey {
        &self.static_key
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}
