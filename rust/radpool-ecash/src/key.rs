//! Blinding, signing, unblinding and verifying.
//!
//! Source: NUT-00, NUT-12.

use core::fmt;

use zeroize::Zeroizing;

use crate::{Dleq, POINT_LEN, Point, Scalar, dleq, hash_to_curve, point::UNCOMPRESSED_LEN};

/// The mint's key for one amount.
pub struct AmountKey {
    secret: Scalar,
    public: Point,
    public_bytes: [u8; UNCOMPRESSED_LEN],
}

/// A signature of a blinded message with its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindSignature {
    /// `C_ = a * B_`, compressed.
    pub point: [u8; POINT_LEN],
    pub dleq: Dleq,
}

impl AmountKey {
    /// Makes the key of a secret.
    #[must_use]
    pub fn new(secret: Scalar) -> Self {
        let public = Point::generator_times(&secret);
        Self { secret, public, public_bytes: public.to_uncompressed() }
    }

    /// The public key `A`.
    #[must_use]
    pub const fn public(&self) -> &Point {
        &self.public
    }

    /// Signs a blinded message: two multiplications of it and one of the generator.
    #[must_use]
    pub fn sign(&self, blinded: &Point) -> BlindSignature {
        let (point, dleq) = dleq::sign(&self.secret, &self.public_bytes, blinded);
        BlindSignature { point, dleq }
    }

    /// Signs a blinded message without the proof: one multiplication.
    #[must_use]
    pub fn sign_unproved(&self, blinded: &Point) -> [u8; POINT_LEN] {
        crate::point::compress(&blinded.times(&self.secret))
    }

    /// Whether `signature` is this key's unblinded signature of `message`: `C = a * Y`.
    ///
    /// The comparison takes the same time wherever the bytes differ: `a * Y` is what a forger
    /// wants.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Point) -> bool {
        let expected = Zeroizing::new(hash_to_curve(message).times(&self.secret));
        let difference = expected.iter().zip(signature.to_uncompressed());
        difference.fold(0, |all, (left, right)| all | (left ^ right)) == 0
    }
}

impl fmt::Debug for AmountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AmountKey(secret redacted, public {:?})", self.public)
    }
}

/// Blinds a message: `B_ = hash_to_curve(message) + r * G`; `None` when that is the identity.
#[must_use]
pub fn blind(message: &[u8], factor: &Scalar) -> Option<Point> {
    hash_to_curve(message).plus(&Point::generator_times(factor))
}

/// Unblinds a signature: `C = C_ - r * A`; `None` when that is the identity.
#[must_use]
pub fn unblind(signature: &Point, factor: &Scalar, public: &Point) -> Option<Point> {
    signature.plus(&Point::from_product(&public.times(factor)).negated())
}

/// Whether an unblinded signature is the mint's, told by whoever knows the blinding factor and
/// needs no mint for it.
#[must_use]
pub fn verify_proof_dleq(
    message: &[u8],
    signature: &Point,
    factor: &Scalar,
    dleq: &Dleq,
    public: &Point,
) -> bool {
    let blinded = blind(message, factor);
    let blind_signature = signature.plus(&Point::from_product(&public.times(factor)));
    match (blinded, blind_signature) {
        (Some(blinded), Some(blind_signature)) => dleq.proves(public, &blinded, &blind_signature),
        _ => false,
    }
}
