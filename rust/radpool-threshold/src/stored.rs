//! A key share as it lies on its owner's disk.
//!
//! `b"RPKS"`, version (u8, 1), random nonce (24), ciphertext and tag (16): XChaCha20-Poly1305 under
//! a key that is hashed from the owner's identity secret, with everything before the ciphertext and
//! the owner's public key as associated data. The nonce is random and wide enough that no counter
//! has to survive a restored backup.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use radpool_identity::IdentityKey;
use radpool_units::tagged_hash;
use rand_core::{CryptoRng, RngCore};
use thiserror::Error;
use zeroize::Zeroizing;

const MAGIC: [u8; 4] = *b"RPKS";
const VERSION: u8 = 1;
const NONCE_LEN: usize = 24;
const HEADER_LEN: usize = MAGIC.len() + 1;
const TAG_LEN: usize = 16;
const STORAGE_TAG: &str = "radpool/key-storage";

/// A stored key share that cannot be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StoredKeyError {
    /// Another kind of file.
    #[error("the bytes are no stored key share: another file?")]
    Magic,
    /// Written by another version.
    #[error("a stored key share of version {0}: this program reads version {VERSION}")]
    Version(u8),
    /// The key does not open it.
    #[error("the stored key share does not open: damaged, or of another identity key")]
    Decrypt,
    /// It opens and holds something else.
    #[error("the stored key share holds no share that belongs to its key")]
    Content,
    /// The share is another member's.
    #[error("the key share is not that of this identity key")]
    Owner,
}

pub(crate) fn seal(
    owner: &IdentityKey,
    plain: &[u8],
    rng: &mut (impl RngCore + CryptoRng),
) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    let mut bytes = [MAGIC.as_slice(), &[VERSION], &nonce].concat();
    let aad = [bytes.as_slice(), owner.public()].concat();
    let sealed = cipher(owner)
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &aad })
        .expect("a key share is far shorter than the cipher's bound");
    bytes.extend(sealed);
    bytes
}

pub(crate) fn open(
    owner: &IdentityKey,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, StoredKeyError> {
    match bytes.strip_prefix(&MAGIC).ok_or(StoredKeyError::Magic)?.first() {
        None => return Err(StoredKeyError::Magic),
        Some(&VERSION) => {}
        Some(version) => return Err(StoredKeyError::Version(*version)),
    }
    if bytes.len() < HEADER_LEN + NONCE_LEN + TAG_LEN {
        return Err(StoredKeyError::Decrypt);
    }
    let (head, sealed) = bytes.split_at(HEADER_LEN + NONCE_LEN);
    let aad = [head, owner.public()].concat();
    let nonce = XNonce::from_slice(&head[HEADER_LEN..]);
    let plain = cipher(owner).decrypt(nonce, Payload { msg: sealed, aad: &aad });
    plain.map(Zeroizing::new).map_err(|_| StoredKeyError::Decrypt)
}

fn cipher(owner: &IdentityKey) -> XChaCha20Poly1305 {
    let secret = owner.expose_secret();
    let key = Zeroizing::new(tagged_hash(STORAGE_TAG, &[&*secret]));
    XChaCha20Poly1305::new(key.as_slice().into())
}
