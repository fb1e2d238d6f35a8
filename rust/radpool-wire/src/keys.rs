//! Authority keys: who vouches for a server, in the text form that SRI's configuration files use.
//!
//! A public key is `base58check(0x01 0x00 || x)`, x-only and behind a little-endian version; a
//! secret key is `base58check(secret)` without a version. Base58check appends the first four
//! bytes of the double SHA-256.

use core::{fmt, str::FromStr};

use secp256k1::{Keypair, Message, SECP256K1, SecretKey, XOnlyPublicKey, schnorr::Signature};
use thiserror::Error;
use zeroize::Zeroizing;

/// The version that stands before a public key.
const PUBLIC_KEY_VERSION: u16 = 1;

/// The longest text that is decoded, in bytes: decoding takes time by the square of the length, and
/// the longest thing that is written, a certificate, has 110.
const TEXT_LEN_MAX: usize = 256;

/// A text or a number that is not a key. Never quotes the text: it may be a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// A character outside the base58 alphabet.
    #[error(
        "{kind}: character {character:?} at position {index} is not base58: copy the key again"
    )]
    Character { kind: &'static str, character: char, index: usize },
    /// A text far longer than any key.
    #[error("{kind}: a text of {length} bytes is no key: is it the right file?")]
    TooLong { kind: &'static str, length: usize },
    /// The checksum does not match: a typing error or a cut.
    #[error(
        "{kind}: the checksum does not match, so a character is wrong or missing: copy it again"
    )]
    Checksum { kind: &'static str },
    /// The text decodes to something of another length.
    #[error("{kind}: {found} bytes inside, {expected} expected: {hint}")]
    Length { kind: &'static str, expected: usize, found: usize, hint: &'static str },
    /// A public key of a version that this software does not know.
    #[error("{kind}: version {found}, only version {expected} is known")]
    Version { kind: &'static str, expected: u16, found: u16 },
    /// The number is zero or not below the order of the curve.
    #[error("{kind}: not a secret key of secp256k1")]
    OutOfRange { kind: &'static str },
    /// No point of the curve has this x coordinate.
    #[error("{kind}: not a point of secp256k1")]
    NotAPoint { kind: &'static str },
}

/// The key that signs servers' certificates. Wiped when dropped; may stay offline.
#[derive(Clone)]
pub struct AuthoritySecretKey(Zeroizing<[u8; 32]>);

/// The key that clients are given to recognise a pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPublicKey(XOnlyPublicKey);

impl AuthoritySecretKey {
    const KIND: &'static str = "authority secret key";

    /// Takes 32 random bytes as the key.
    ///
    /// # Errors
    /// `KeyError::OutOfRange` for zero and numbers not below the curve's order, which random bytes
    /// never are.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(bytes);
        with_secret_key(&bytes, |_| ()).ok_or(KeyError::OutOfRange { kind: Self::KIND })?;
        Ok(Self(bytes))
    }

    /// The public key that belongs to this one.
    #[must_use]
    pub fn public_key(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.with_keypair(|pair| pair.x_only_public_key().0))
    }

    /// The text form. Whoever reads it can pose as this pool.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(bs58::encode(self.0.as_slice()).with_check().into_string())
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// Signs a digest by BIP340 with auxiliary randomness.
    pub(crate) fn sign(&self, digest: [u8; 32], aux_rand: &[u8; 32]) -> [u8; 64] {
        let message = Message::from_digest(digest);
        self.with_keypair(|pair| {
            *SECP256K1.sign_schnorr_with_aux_rand(&message, pair, aux_rand).as_ref()
        })
    }

    fn with_keypair<T>(&self, act: impl FnOnce(&Keypair) -> T) -> T {
        with_secret_key(&self.0, |secret| {
            let mut pair = Keypair::from_secret_key(SECP256K1, secret);
            let result = act(&pair);
            pair.non_secure_erase();
            result
        })
        .expect("the constructor has checked the range")
    }
}

/// Lends `bytes` as a secret key and wipes the copy; `None` when they are none.
pub(crate) fn with_secret_key<T>(bytes: &[u8; 32], act: impl FnOnce(&SecretKey) -> T) -> Option<T> {
    let mut secret = SecretKey::from_slice(bytes).ok()?;
    let result = act(&secret);
    secret.non_secure_erase();
    Some(result)
}

impl FromStr for AuthoritySecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_base58check(text, Self::KIND)?;
        let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Length {
            kind: Self::KIND,
            expected: 32,
            found: bytes.len(),
            hint: if bytes.len() == 34 { "is it the public key?" } else { "it is another thing" },
        })?;
        Self::from_bytes(secret)
    }
}

impl fmt::Debug for AuthoritySecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuthoritySecretKey(redacted)")
    }
}

impl AuthorityPublicKey {
    const KIND: &'static str = "authority public key";

    /// Takes an x coordinate, most significant byte first.
    ///
    /// # Errors
    /// `KeyError::NotAPoint` when no point has it.
    pub fn from_bytes(x_only: &[u8; 32]) -> Result<Self, KeyError> {
        XOnlyPublicKey::from_slice(x_only)
            .map(Self)
            .map_err(|_| KeyError::NotAPoint { kind: Self::KIND })
    }

    /// The x coordinate, most significant byte first.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.serialize()
    }

    /// Whether `signature` signs `digest` by BIP340.
    pub(crate) fn has_signed(&self, digest: [u8; 32], signature: &[u8; 64]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| {
            SECP256K1.verify_schnorr(&signature, &Message::from_digest(digest), &self.0).is_ok()
        })
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_base58check(text, Self::KIND)?;
        let Some((version, x_only)) = bytes.split_first_chunk::<2>() else {
            return Err(Self::wrong_length(bytes.len()));
        };
        let x_only: &[u8; 32] = x_only.try_into().map_err(|_| Self::wrong_length(bytes.len()))?;
        match u16::from_le_bytes(*version) {
            PUBLIC_KEY_VERSION => Self::from_bytes(x_only),
            found => {
                Err(KeyError::Version { kind: Self::KIND, expected: PUBLIC_KEY_VERSION, found })
            }
        }
    }
}

impl AuthorityPublicKey {
    const fn wrong_length(found: usize) -> KeyError {
        let hint = if found == 32 { "is it the secret key?" } else { "it is another thing" };
        KeyError::Length { kind: Self::KIND, expected: 34, found, hint }
    }
}

impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&PUBLIC_KEY_VERSION.to_le_bytes());
        bytes[2..].copy_from_slice(&self.to_bytes());
        formatter.write_str(&bs58::encode(bytes).with_check().into_string())
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AuthorityPublicKey({self})")
    }
}

/// Decodes base58check without its checksum; `kind` names the thing in errors.
pub(crate) fn decode_base58check(
    text: &str,
    kind: &'static str,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    use bs58::decode::Error;
    let text = text.trim();
    if text.len() > TEXT_LEN_MAX {
        return Err(KeyError::TooLong { kind, length: text.len() });
    }
    match bs58::decode(text).with_check(None).into_vec() {
        Ok(bytes) => Ok(Zeroizing::new(bytes)),
        Err(Error::InvalidCharacter { character, index }) => {
            Err(KeyError::Character { kind, character, index })
        }
        Err(Error::NonAsciiCharacter { index }) => {
            let character = text.get(index..).and_then(|rest| rest.chars().next());
            Err(KeyError::Character { kind, character: character.unwrap_or('\u{fffd}'), index })
        }
        Err(_) => Err(KeyError::Checksum { kind }),
    }
}
