//! Boxes that only one recipient opens, and that anyone opens once the recipient's key is shown.
//!
//! HPKE in base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, one
//! message per encapsulated key. What a box opens to, or that it does not open, follows from the
//! box and the recipient's secret alone; so who reveals a secret made for one purpose only lets
//! everyone see what was sealed to it, and no proof about it is needed.

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A scalar in a box: encapsulated key, ciphertext and tag.
pub(crate) const SEALED_LEN: usize = 32 + 32 + 16;

/// Seals 32 bytes; `info` names what they are for, from whom and to whom.
///
/// Returns `None` when the recipient's key is of low order, which [`is_low_order`] tells before.
pub(crate) fn seal(
    recipient: &[u8; 32],
    info: &[u8],
    secret: &[u8; 32],
    rng: &mut (impl RngCore + CryptoRng),
) -> Option<[u8; SEALED_LEN]> {
    let recipient = PublicKey::from_bytes(recipient).ok()?;
    let (encapped, ciphertext) = single_shot_seal::<
        ChaCha20Poly1305,
        HkdfSha256,
        X25519HkdfSha256,
        _,
    >(&OpModeS::Base, &recipient, info, secret, &[], rng)
    .ok()?;
    let mut sealed = [0; SEALED_LEN];
    sealed[..32].copy_from_slice(&encapped.to_bytes());
    sealed[32..].copy_from_slice(&ciphertext);
    Some(sealed)
}

/// Opens a box; `None` when it was not sealed to this key with this `info`.
pub(crate) fn open(
    recipient_secret: &[u8; 32],
    info: &[u8],
    sealed: &[u8; SEALED_LEN],
) -> Option<Zeroizing<[u8; 32]>> {
    let recipient = PrivateKey::from_bytes(recipient_secret).ok()?;
    let encapped = EncappedKey::from_bytes(&sealed[..32]).ok()?;
    let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &recipient,
        &encapped,
        info,
        &sealed[32..],
        &[],
    );
    let opened = Zeroizing::new(opened.ok()?);
    opened.as_slice().try_into().ok().map(Zeroizing::new)
}

/// Whether nothing can be sealed to a key. A low-order point is annulled by every secret, as each
/// is a multiple of eight; no other point is annulled by any. So one secret tells.
pub(crate) fn is_low_order(public: &[u8; 32]) -> bool {
    let secret = PrivateKey::from_bytes(&[1; 32]).expect("any 32 bytes are an X25519 secret");
    EncappedKey::from_bytes(public)
        .is_ok_and(|point| X25519HkdfSha256::decap(&secret, None, &point).is_err())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use rand_core::OsRng;

    use super::*;
    use crate::TransportKey;

    #[test]
    fn opens_for_its_recipient_and_purpose_only() {
        let (mine, other) =
            (TransportKey::generate(&mut OsRng), TransportKey::generate(&mut OsRng));
        let sealed = seal(mine.public(), b"info", &[7; 32], &mut OsRng).unwrap();
        assert_eq!(*open(mine.expose_secret(), b"info", &sealed).unwrap(), [7; 32]);
        assert!(open(other.expose_secret(), b"info", &sealed).is_none());
        assert!(open(mine.expose_secret(), b"other", &sealed).is_none());
        for bit in 0..SEALED_LEN * 8 {
            // The highest bit of the encapsulated key is none of the coordinate's, but it is
            // hashed with it.
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(mine.expose_secret(), b"info", &changed).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn low_order_keys_are_told() {
        let low = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for key in low {
            let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
            assert!(is_low_order(&key));
            assert!(seal(&key, b"", &[0; 32], &mut OsRng).is_none());
        }
        let key = TransportKey::generate(&mut OsRng);
        assert!(!is_low_order(key.public()));
    }
}
