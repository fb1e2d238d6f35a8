//! Proofs that two points have the same logarithm to two bases: the mint signed with its public
//! key.
//!
//! Source: NUT-12.

use secp256k1::Scalar as PublicScalar;
use sha2::{Digest, Sha256};

use crate::{
    Point, Scalar,
    hmac::hmac_sha256,
    point::{UNCOMPRESSED_LEN, compress},
};

const NONCE_TAG: &[u8] = b"Cashu_DLEQ_R_v1";

/// Challenge and response, 32 big-endian bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dleq {
    pub e: [u8; 32],
    pub s: [u8; 32],
}

type Uncompressed = [u8; UNCOMPRESSED_LEN];

/// The challenge over both commitments, the public key and the signature.
#[must_use]
pub fn dleq_challenge(r1: &Point, r2: &Point, public: &Point, signature: &Point) -> [u8; 32] {
    let [r1, r2, public, signature] =
        [r1, r2, public, signature].map(|point| point.to_uncompressed());
    challenge([&r1, &r2, &public, &signature])
}

/// SHA-256 of the hexadecimal digits of four uncompressed points.
fn challenge(points: [&Uncompressed; 4]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 4 * 2 * UNCOMPRESSED_LEN];
    let bytes = points.into_iter().flatten();
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    Sha256::digest(text).into()
}

/// Signs `blinded` and proves it: the compressed `C_ = a * B_` and the proof.
///
/// The nonce is an HMAC of everything that the challenge covers, under the secret: two different
/// challenges never share one, and a machine without randomness makes the same proof.
pub(crate) fn sign(
    secret: &Scalar,
    public: &Uncompressed,
    blinded: &Point,
) -> ([u8; crate::POINT_LEN], Dleq) {
    let signature = blinded.times(secret);
    let blinded_bytes = blinded.to_uncompressed();
    let dleq = (0..=u8::MAX)
        .find_map(|counter| {
            let covered: [&[u8]; 5] = [NONCE_TAG, public, &blinded_bytes, &signature, &[counter]];
            let digest = hmac_sha256(secret.expose().as_slice(), &covered);
            let nonce = Scalar::from_be_bytes(digest.as_slice()).ok()?;
            let r1 = Point::generator_times(&nonce).to_uncompressed();
            let r2 = blinded.times(&nonce);
            let e = challenge([&r1, &r2, public, &signature]);
            let s = secret.times(&Scalar::from_be_bytes(&e).ok()?).plus(&nonce)?;
            Some(Dleq { e, s: *s.expose() })
        })
        .expect("256 hashes in a row are not all outside the order of the curve");
    (compress(&signature), dleq)
}

impl Dleq {
    /// Whether the proof shows that `signature` is `blinded` times the logarithm of `public`.
    #[must_use]
    pub fn proves(&self, public: &Point, blinded: &Point, signature: &Point) -> bool {
        self.challenge_again(public, blinded, signature) == Some(self.e)
    }

    fn challenge_again(
        &self,
        public: &Point,
        blinded: &Point,
        signature: &Point,
    ) -> Option<[u8; 32]> {
        // The challenge and the response are numbers from 1 to n - 1: others have no second reading.
        let e = PublicScalar::from_be_bytes(self.e).ok().filter(|e| *e != PublicScalar::ZERO)?;
        let s = PublicScalar::from_be_bytes(self.s).ok().filter(|s| *s != PublicScalar::ZERO)?;
        let r1 = public.times_public(&e)?.negated().plus_generator_times_public(&s)?;
        let r2 = blinded.times_public(&s)?.plus(&signature.times_public(&e)?.negated())?;
        Some(dleq_challenge(&r1, &r2, public, signature))
    }
}
