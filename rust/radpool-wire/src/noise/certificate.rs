//! The authority's word for a server's static key, limited in time.

use core::str::FromStr;

use super::{HandshakeError, StaticKey, symmetric::sha256};
use crate::keys::{AuthorityPublicKey, AuthoritySecretKey, KeyError, decode_base58check};

/// Length of a certificate in bytes: version 2, validity 4 + 4, signature 64.
pub const CERTIFICATE_LEN: usize = 74;

/// How far two clocks may differ before a certificate counts as expired or not yet valid.
/// The same as in SRI's clients.
pub const CLOCK_TOLERANCE_S: u32 = 10;

const VERSION: u16 = 0;
const SIGNED_LEN: usize = 10;
const KIND: &str = "certificate";
/// Stands before the text form, so that the kinds of key file cannot be mixed up.
const TEXT_PREFIX: [u8; 2] = 3u16.to_le_bytes();

/// A certificate, as it is sent in act 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The layout; only 0 is known.
    pub version: u16,
    /// First second of validity, since 1970.
    pub valid_from: u32,
    /// Last second of validity, since 1970.
    pub not_valid_after: u32,
    /// BIP340, over the SHA-256 of the fields above and the static key's x coordinate.
    pub signature: [u8; 64],
}

impl Certificate {
    /// Signs a certificate for `static_key`, valid from and until the given Unix seconds.
    ///
    /// `aux_rand` is fresh randomness, which hardens the signature against side channels.
    #[must_use]
    pub fn sign(
        authority: &AuthoritySecretKey,
        static_key: &StaticKey,
        valid_from: u32,
        not_valid_after: u32,
        aux_rand: [u8; 32],
    ) -> Self {
        let mut certificate =
            Self { version: VERSION, valid_from, not_valid_after, signature: [0; 64] };
        let digest = certificate.digest(&static_key.x_only_public_key());
        certificate.signature = authority.sign(digest, &aux_rand);
        certificate
    }

    /// Checks that `authority` vouches for the key `static_x_only` at the time `unix_s`.
    ///
    /// The signature comes first: only a signed validity says anything about clocks.
    ///
    /// # Errors
    /// `Version`, `WrongAuthority`, `ClockSkew` or `Expired`.
    pub fn verify(
        &self,
        authority: &AuthorityPublicKey,
        static_x_only: &[u8; 32],
        unix_s: u32,
    ) -> Result<(), HandshakeError> {
        self.check_version()?;
        if !authority.has_signed(self.digest(static_x_only), &self.signature) {
            return Err(HandshakeError::WrongAuthority {
                expected: *authority,
                server_static_key: *static_x_only,
            });
        }
        let (valid_from, not_valid_after) = (self.valid_from, self.not_valid_after);
        if unix_s < valid_from.saturating_sub(CLOCK_TOLERANCE_S) {
            let behind_s = valid_from - unix_s;
            return Err(HandshakeError::ClockSkew { valid_from, unix_s, behind_s });
        }
        if unix_s > not_valid_after.saturating_add(CLOCK_TOLERANCE_S) {
            let since_s = unix_s - not_valid_after;
            return Err(HandshakeError::Expired { not_valid_after, unix_s, since_s });
        }
        Ok(())
    }

    pub(super) const fn check_version(&self) -> Result<(), HandshakeError> {
        if self.version == VERSION {
            Ok(())
        } else {
            Err(HandshakeError::Version { found: self.version, expected: VERSION })
        }
    }

    fn digest(&self, static_x_only: &[u8; 32]) -> [u8; 32] {
        sha256(&[&self.to_bytes()[..SIGNED_LEN], static_x_only])
    }

    /// Writes the 74 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; CERTIFICATE_LEN] {
        let mut bytes = [0; CERTIFICATE_LEN];
        bytes[..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.valid_from.to_le_bytes());
        bytes[6..SIGNED_LEN].copy_from_slice(&self.not_valid_after.to_le_bytes());
        bytes[SIGNED_LEN..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads 74 bytes; whether they are worth anything is for [`Certificate::verify`] to say.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; CERTIFICATE_LEN]) -> Self {
        let mut signature = [0; 64];
        signature.copy_from_slice(&bytes[SIGNED_LEN..]);
        Self {
            version: u16::from_le_bytes([bytes[0], bytes[1]]),
            valid_from: u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            not_valid_after: u32::from_le_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]),
            signature,
        }
    }

    /// The text form for files: `base58check(0x03 0x00 || 74 bytes)`. Not a secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        bs58::encode([&TEXT_PREFIX[..], &self.to_bytes()].concat()).with_check().into_string()
    }
}

impl FromStr for Certificate {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_base58check(text, KIND)?;
        let wrong_length = || KeyError::Length {
            kind: KIND,
            expected: CERTIFICATE_LEN + TEXT_PREFIX.len(),
            found: bytes.len(),
            hint: "it is another thing",
        };
        let (prefix, body) = bytes.split_first_chunk::<2>().ok_or_else(wrong_length)?;
        let body = body.try_into().map_err(|_| wrong_length())?;
        if *prefix != TEXT_PREFIX {
            let (expected, found) = (u16::from_le_bytes(TEXT_PREFIX), u16::from_le_bytes(*prefix));
            return Err(KeyError::Version { kind: KIND, expected, found });
        }
        Ok(Self::from_bytes(body))
    }
}
