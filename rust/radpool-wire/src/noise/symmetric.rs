//! The hash chain and the keys of a handshake in progress.

use ring::{aead, digest, hmac};
use zeroize::Zeroizing;

use super::transport::{self, MAC_LEN};

const PROTOCOL_NAME: &[u8] = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";

/// Noise's SymmetricState together with its CipherState.
pub(super) struct SymmetricState {
    chaining_key: Zeroizing<[u8; 32]>,
    hash: [u8; 32],
    key: Zeroizing<[u8; 32]>,
    nonce: u64,
}

/// A sealed field was not sealed with the key of this handshake, or was altered.
#[derive(Debug)]
pub(super) struct NotAuthentic;

impl SymmetricState {
    /// Starts a handshake: the protocol's name is longer than a hash, so its hash stands for it;
    /// the prologue is empty.
    pub(super) fn new() -> Self {
        let name = sha256(&[PROTOCOL_NAME]);
        Self {
            chaining_key: Zeroizing::new(name),
            hash: sha256(&[&name]),
            key: Zeroizing::default(),
            nonce: 0,
        }
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    pub(super) fn mix_key(&mut self, secret: &Zeroizing<[u8; 32]>) {
        (self.chaining_key, self.key) = hkdf(&self.chaining_key, secret.as_slice());
        self.nonce = 0;
    }

    /// Seals the first bytes of `field` in place; its last [`MAC_LEN`] bytes take the tag.
    pub(super) fn seal_and_mix(&mut self, field: &mut [u8]) {
        let (plain, tag) = field.split_at_mut(field.len() - MAC_LEN);
        let sealed = transport::aead_key(&self.key)
            .seal_in_place_separate_tag(
                transport::nonce(self.nonce),
                aead::Aad::from(self.hash),
                plain,
            )
            .expect("a handshake field is far below the cipher's limit");
        tag.copy_from_slice(sealed.as_ref());
        self.nonce += 1;
        self.mix_hash(field);
    }

    /// Opens `field` in place: all but its last [`MAC_LEN`] bytes become plain.
    pub(super) fn open_and_mix(&mut self, field: &mut [u8]) -> Result<(), NotAuthentic> {
        let hash = sha256(&[&self.hash, field]);
        transport::aead_key(&self.key)
            .open_in_place(transport::nonce(self.nonce), aead::Aad::from(self.hash), field)
            .map_err(|_| NotAuthentic)?;
        self.nonce += 1;
        self.hash = hash;
        Ok(())
    }

    /// Derives the transport keys: client to server, then server to client.
    pub(super) fn split(&self) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
        hkdf(&self.chaining_key, &[])
    }
}

pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    to_array(context.finish().as_ref())
}

/// Noise's HKDF with two outputs.
fn hkdf(chaining_key: &[u8; 32], input: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let extracted = hmac_sha256(chaining_key, &[input]);
    let first = hmac_sha256(&extracted, &[&[1]]);
    let second = hmac_sha256(&extracted, &[first.as_slice(), &[2]]);
    (first, second)
}

fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    Zeroizing::new(to_array(context.sign().as_ref()))
}

fn to_array(digest: &[u8]) -> [u8; 32] {
    digest.try_into().expect("SHA-256 has 32 bytes")
}
