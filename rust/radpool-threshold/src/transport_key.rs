//! The key that a member's links are made with.

use core::fmt;

use hpke::{Deserializable, Kem, Serializable, kem::X25519HkdfSha256};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

/// An X25519 key pair: the static key of a member's Noise links. It is nobody's identity and is
/// never made of the bytes of another key: the member record binds it to the identity key.
pub struct TransportKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl TransportKey {
    /// Draws a key.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        Self::from_secret(secret)
    }

    /// Takes a secret; any 32 bytes are one, as RFC 7748 clamps them.
    #[must_use]
    pub fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let public = public_of(&secret);
        Self { secret, public }
    }

    /// The public key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The secret, to be stored where only its owner can read it.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TransportKey(secret, public ")?;
        self.public.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        formatter.write_str(")")
    }
}

/// The X25519 public key of a secret.
pub(crate) fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
    let secret = PrivateKey::from_bytes(secret).expect("any 32 bytes are an X25519 secret");
    X25519HkdfSha256::sk_to_pk(&secret).to_bytes().into()
}
