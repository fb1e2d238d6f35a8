//! Points of the curve, read strictly, and the hash that ends on one.

use core::fmt;

use secp256k1::{PublicKey, SECP256K1, ecdh::shared_secret_point};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::Scalar;

/// Length of a compressed point.
pub const POINT_LEN: usize = 33;

/// Length of an uncompressed point.
pub(crate) const UNCOMPRESSED_LEN: usize = 65;

/// Source: NUT-00.
const DOMAIN_SEPARATOR: &[u8] = b"Secp256k1_HashToCurve_Cashu_";

/// A point of secp256k1 that is not the identity. The curve's cofactor is 1: there are no others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Point(PublicKey);

/// Bytes that are no compressed point.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PointError {
    /// Too many or too few bytes.
    #[error("a point has {0} bytes: {POINT_LEN} of a compressed one are wanted")]
    Length(usize),
    /// Uncompressed, hybrid or no form at all.
    #[error("a point starts with {0:#04x}: a compressed one starts with 0x02 or 0x03")]
    Form(u8),
    /// No point has that x.
    #[error("no point of secp256k1 has this x coordinate")]
    NotOnCurve,
}

impl Point {
    /// Reads a compressed point: 33 bytes, 02 or 03 first, x below the field's prime and on the
    /// curve.
    ///
    /// # Errors
    /// [`PointError`] says which of that is not so.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PointError> {
        match *bytes {
            [2 | 3, ..] if bytes.len() == POINT_LEN => {
                PublicKey::from_slice(bytes).map(Self).map_err(|_| PointError::NotOnCurve)
            }
            [form, ..] if bytes.len() == POINT_LEN => Err(PointError::Form(form)),
            _ => Err(PointError::Length(bytes.len())),
        }
    }

    /// The compressed form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; POINT_LEN] {
        self.0.serialize()
    }

    pub(crate) fn to_uncompressed(self) -> [u8; UNCOMPRESSED_LEN] {
        self.0.serialize_uncompressed()
    }

    /// `scalar * G`, in constant time.
    #[must_use]
    pub fn generator_times(scalar: &Scalar) -> Self {
        Self(PublicKey::from_secret_key(SECP256K1, scalar.key()))
    }

    /// `scalar * self`, uncompressed, in constant time.
    pub(crate) fn times(&self, scalar: &Scalar) -> [u8; UNCOMPRESSED_LEN] {
        let mut product = [4; UNCOMPRESSED_LEN];
        product[1..].copy_from_slice(&shared_secret_point(&self.0, scalar.key()));
        product
    }

    /// Reads what [`times`](Self::times) computed.
    pub(crate) fn from_product(product: &[u8; UNCOMPRESSED_LEN]) -> Self {
        Self(PublicKey::from_slice(product).expect("a product is on the curve"))
    }

    /// `factor * self` for numbers that everybody may know: faster, in variable time.
    pub(crate) fn times_public(self, factor: &secp256k1::Scalar) -> Option<Self> {
        self.0.mul_tweak(SECP256K1, factor).map(Self).ok()
    }

    /// `self + addend * G` for a number that everybody may know.
    pub(crate) fn plus_generator_times_public(self, addend: &secp256k1::Scalar) -> Option<Self> {
        self.0.add_exp_tweak(SECP256K1, addend).map(Self).ok()
    }

    /// The sum, or `None` when it is the identity.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        self.0.combine(&other.0).map(Self).ok()
    }

    pub(crate) fn negated(self) -> Self {
        Self(self.0.negate(SECP256K1))
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Point({})", self.0)
    }
}

/// Compresses what [`Point::times`] computed, without a division.
pub(crate) fn compress(uncompressed: &[u8; UNCOMPRESSED_LEN]) -> [u8; POINT_LEN] {
    let mut bytes = [0; POINT_LEN];
    bytes[0] = 2 + (uncompressed[UNCOMPRESSED_LEN - 1] & 1);
    bytes[1..].copy_from_slice(&uncompressed[1..POINT_LEN]);
    bytes
}

/// Maps a message to a point whose logarithm nobody knows.
///
/// Source: NUT-00.
#[must_use]
pub fn hash_to_curve(message: &[u8]) -> Point {
    let message_hash = Sha256::new_with_prefix(DOMAIN_SEPARATOR).chain_update(message).finalize();
    (0u32..=u32::MAX)
        .find_map(|counter| {
            let x = Sha256::new_with_prefix(message_hash).chain_update(counter.to_le_bytes());
            let mut bytes = [2; POINT_LEN];
            bytes[1..].copy_from_slice(&x.finalize());
            Point::from_bytes(&bytes).ok()
        })
        .expect("every second number is the x of a point, and 2^32 are tried")
}
