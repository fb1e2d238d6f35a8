//! Keysets: their ids, the mint's seed and the keys that come of it.
//!
//! Source: NUT-02; `spec/06-work-tokens.md`.

use core::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{AmountKey, Point, PointError, Scalar, hmac::hmac_sha512};

/// Length of a keyset id of version 2: the version byte and a SHA-256.
pub const KEYSET_ID_LEN: usize = 33;
/// Length of the prefix of an id by which messages name a keyset.
pub const KEYSET_SHORT_LEN: usize = 8;
/// Length of a mint's seed.
pub const SEED_LEN: usize = 32;
/// Amounts are 2^0 to 2^63: a u64 holds each.
const AMOUNT_EXPONENTS: u8 = 64;

const VERSION: u8 = 1;
const SEED_TAG: &[u8] = b"radpool/keyset";

/// The id of a keyset: `0x01` and the SHA-256 of its keys and terms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeysetId([u8; KEYSET_ID_LEN]);

/// Bytes that are no keyset id of a version that is understood.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeysetIdError {
    /// There is no version byte.
    #[error("a keyset id without bytes: give {KEYSET_ID_LEN}")]
    Empty,
    /// Another version: what it derives and how is not known.
    #[error("a keyset id of version {0:#04x}: only version 0x01 is understood")]
    Version(u8),
    /// A version that is understood, of another length.
    #[error("a keyset id of version 0x01 with {0} bytes: give {KEYSET_ID_LEN}")]
    Length(usize),
}

/// Keys that make no keyset.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeysetError {
    /// There are none.
    #[error("a keyset without keys: give at least one")]
    Empty,
    /// An amount has two keys.
    #[error("the amount {0} has two keys: give one key per amount")]
    DuplicateAmount(u64),
    /// Amounts of 2^64 and more.
    #[error(
        "{count} keys from the amount 2^{first} on: give 1 to {} there, amounts end at 2^63",
        AMOUNT_EXPONENTS.saturating_sub(*.first)
    )]
    Amounts { first: u8, count: u8 },
    /// The keyset has no key for an amount.
    #[error("the keyset has no key for the amount {0}")]
    UnknownAmount(u64),
    /// What is to be signed is no point.
    #[error(transparent)]
    Point(#[from] PointError),
}

impl KeysetId {
    /// Computes the id of public keys and terms; a fee or an expiry of 0 is the same as none.
    ///
    /// # Errors
    /// [`KeysetError`] without keys, or when an amount has two.
    pub fn of(
        keys: &[(u64, Point)],
        unit: &str,
        input_fee_ppk: u64,
        final_expiry: Option<u64>,
    ) -> Result<Self, KeysetError> {
        if keys.is_empty() {
            return Err(KeysetError::Empty);
        }
        let mut keys: Vec<_> = keys.iter().collect();
        keys.sort_unstable_by_key(|(amount, _)| *amount);
        if let Some(pair) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(KeysetError::DuplicateAmount(pair[0].0));
        }
        let mut state = Sha256::new();
        let mut separator = "";
        for (amount, point) in keys {
            state.update(format!("{separator}{amount}:"));
            point.to_bytes().iter().for_each(|byte| state.update(format!("{byte:02x}")));
            separator = ",";
        }
        state.update(format!("|unit:{}", unit.to_lowercase()));
        if input_fee_ppk != 0 {
            state.update(format!("|input_fee_ppk:{input_fee_ppk}"));
        }
        if let Some(expiry) = final_expiry.filter(|expiry| *expiry != 0) {
            state.update(format!("|final_expiry:{expiry}"));
        }
        let mut id = [VERSION; KEYSET_ID_LEN];
        id[1..].copy_from_slice(&state.finalize());
        Ok(Self(id))
    }

    /// Reads an id; only version 0x01 is understood, others are refused by name.
    ///
    /// # Errors
    /// [`KeysetIdError`] says why the bytes are no id.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysetIdError> {
        match bytes.first() {
            None => Err(KeysetIdError::Empty),
            Some(&VERSION) => {
                bytes.try_into().map(Self).map_err(|_| KeysetIdError::Length(bytes.len()))
            }
            Some(version) => Err(KeysetIdError::Version(*version)),
        }
    }

    /// The 33 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEYSET_ID_LEN] {
        &self.0
    }
}

impl fmt::Display for KeysetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeysetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeysetId({self})")
    }
}

/// The seed that all of a mint's keys come of. Wiped when dropped.
pub struct MintSeed(Zeroizing<[u8; SEED_LEN]>);

impl MintSeed {
    /// Takes a seed.
    #[must_use]
    pub const fn new(seed: Zeroizing<[u8; SEED_LEN]>) -> Self {
        Self(seed)
    }

    /// The seed, to be stored where only its owner can read it.
    #[must_use]
    pub fn expose(&self) -> &[u8; SEED_LEN] {
        &self.0
    }

    /// Derives the secret of one amount: the first HMAC that is not 0 modulo n.
    ///
    /// Each keyset has keys of its own, so that those of one can be given away or forgotten.
    fn derive(&self, unit: &str, number: u64, exponent: u8) -> Scalar {
        (0..=u8::MAX)
            .find_map(|counter| {
                let place = [exponent, counter];
                let message: [&[u8]; 4] =
                    [SEED_TAG, unit.as_bytes(), &number.to_be_bytes(), &place];
                Scalar::from_wide_be_bytes(&hmac_sha512(self.0.as_slice(), &message))
            })
            .expect("256 hashes in a row are not all multiples of the order of the curve")
    }
}

impl fmt::Debug for MintSeed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MintSeed(redacted)")
    }
}

/// The mint's keys of one keyset, by ascending amount.
pub struct KeysetKeys {
    id: KeysetId,
    keys: Vec<(u64, AmountKey)>,
}

impl KeysetKeys {
    /// Derives the keys for the amounts `2^first` to `2^(first + count - 1)` of keyset `number`.
    ///
    /// # Errors
    /// [`KeysetError`] without keys, or when an amount exceeds 2^63.
    pub fn derive(
        seed: &MintSeed,
        unit: &str,
        number: u64,
        first: u8,
        count: u8,
    ) -> Result<Self, KeysetError> {
        let end = first.checked_add(count).filter(|end| *end <= AMOUNT_EXPONENTS);
        let end = end.ok_or(KeysetError::Amounts { first, count })?;
        let key =
            |exponent| (1u64 << exponent, AmountKey::new(seed.derive(unit, number, exponent)));
        Self::from_keys((first..end).map(key).collect(), unit)
    }

    /// Makes a keyset of given keys.
    ///
    /// # Errors
    /// [`KeysetError`] without keys, or when an amount has two.
    pub fn from_keys(mut keys: Vec<(u64, AmountKey)>, unit: &str) -> Result<Self, KeysetError> {
        let public: Vec<_> = keys.iter().map(|(amount, key)| (*amount, *key.public())).collect();
        let id = KeysetId::of(&public, unit, 0, None)?;
        keys.sort_unstable_by_key(|(amount, _)| *amount);
        Ok(Self { id, keys })
    }

    /// The id, which the keys and the unit determine: no fee, no expiry.
    #[must_use]
    pub const fn id(&self) -> &KeysetId {
        &self.id
    }

    /// The keys by ascending amount.
    #[must_use]
    pub fn keys(&self) -> &[(u64, AmountKey)] {
        &self.keys
    }

    /// The key for an amount.
    ///
    /// # Errors
    /// [`KeysetError::UnknownAmount`] when the keyset has none.
    pub fn key(&self, amount: u64) -> Result<&AmountKey, KeysetError> {
        self.keys
            .binary_search_by_key(&amount, |(amount, _)| *amount)
            .map(|index| &self.keys[index].1)
            .map_err(|_| KeysetError::UnknownAmount(amount))
    }
}

impl fmt::Debug for KeysetKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeysetKeys({}, {} secrets redacted)", self.id, self.keys.len())
    }
}
