//! Sealed frames: 6 + 16 bytes of header, then the payload in chunks of at most 65519 + 16 bytes.
//!
//! A half keeps 32 bytes of key and a counter: 40 bytes. The cipher's own key object has half a
//! kilobyte, mostly room for other ciphers; making it costs some 40 ns, a fifth of sealing a share.
//! So it is made per frame, or per run of frames, and never kept. It is not wiped, as its crate
//! does not offer that; the 32 bytes are.

use core::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::frame::{FrameHeader, Frames, HEADER_LEN};

/// Length of a tag in bytes.
pub const MAC_LEN: usize = 16;
/// Length of a sealed header in bytes.
pub const SEALED_HEADER_LEN: usize = HEADER_LEN + MAC_LEN;
/// The most plain bytes in a chunk: a sealed chunk has at most 65535.
pub const PLAIN_CHUNK_LEN_MAX: usize = 65535 - MAC_LEN;

const SEALED_CHUNK_LEN_MAX: usize = PLAIN_CHUNK_LEN_MAX + MAC_LEN;

/// Where a counter ends. Also the mark of a half that failed: nothing passes through it any more.
const NONCE_END: u64 = u64::MAX;

/// A frame that cannot be sealed: our own mistake, or a connection that is used up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The bytes are not whole frames: the length in a header disagrees with what follows.
    #[error("{length} bytes are not whole frames: {rest} are left behind the last")]
    NotAFrame { length: usize, rest: usize },
    /// The connection has sealed 2^64 - 1 pieces.
    #[error("the connection's nonces are used up: open a new one")]
    NonceExhausted,
}

/// Bytes that were not sealed by the peer in this order, or were altered. The connection is dead:
/// every later call fails as well.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a frame's {part} does not open: altered, out of order, or not sealed by the peer")]
pub struct OpenError {
    /// `header` or `payload`.
    pub part: &'static str,
}

/// The length of a sealed payload of `plain` bytes; an empty payload has no chunk.
#[must_use]
pub const fn sealed_payload_len(plain: usize) -> usize {
    plain + plain.div_ceil(PLAIN_CHUNK_LEN_MAX) * MAC_LEN
}

/// The sending half of a connection.
pub struct Sealer {
    key: Zeroizing<[u8; 32]>,
    nonce: u64,
}

/// The receiving half of a connection.
pub struct Opener {
    key: Zeroizing<[u8; 32]>,
    nonce: u64,
}

impl Sealer {
    pub(super) const fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key, nonce: 0 }
    }

    /// The transport key, for vectors.
    #[cfg(test)]
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Appends one plain frame, header and payload, to `out` in sealed form.
    ///
    /// # Errors
    /// `NotAFrame` when `frame` is not exactly one whole frame, `NonceExhausted`. `out` is as before.
    pub fn seal_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        match FrameHeader::of_frame(frame) {
            Some(_) => self.seal_frames(frame, out),
            None => Err(SealError::NotAFrame { length: frame.len(), rest: frame.len() }),
        }
    }

    /// Appends plain frames that stand back to back to `out` in sealed form.
    ///
    /// # Errors
    /// `NotAFrame` when `frames` ends inside a frame, `NonceExhausted`. `out` is as before.
    pub fn seal_frames(&mut self, frames: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut whole = Frames::new(frames);
        let (mut length, mut pieces) = (0, 0);
        for (_, payload) in whole.by_ref() {
            length += SEALED_HEADER_LEN + sealed_payload_len(payload.len());
            pieces += 1 + payload.len().div_ceil(PLAIN_CHUNK_LEN_MAX) as u64;
        }
        if !whole.rest().is_empty() {
            return Err(SealError::NotAFrame { length: frames.len(), rest: whole.rest().len() });
        }
        if NONCE_END - self.nonce < pieces {
            return Err(SealError::NonceExhausted);
        }
        out.reserve(length);
        let key = aead_key(&self.key);
        for (header, payload) in Frames::new(frames) {
            self.seal_piece(&key, &header.to_bytes(), out);
            for chunk in payload.chunks(PLAIN_CHUNK_LEN_MAX) {
                self.seal_piece(&key, chunk, out);
            }
        }
        Ok(())
    }

    fn seal_piece(&mut self, key: &LessSafeKey, plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(nonce(self.nonce), Aad::empty(), &mut out[start..])
            .expect("a chunk is far below the cipher's limit");
        out.extend_from_slice(tag.as_ref());
        self.nonce += 1;
    }
}

impl Opener {
    pub(super) const fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key, nonce: 0 }
    }

    /// The transport key, for vectors.
    #[cfg(test)]
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Makes the cipher's key, for the pieces of one frame.
    pub(crate) fn cipher(&self) -> LessSafeKey {
        aead_key(&self.key)
    }

    /// Opens a sealed header.
    ///
    /// # Errors
    /// `OpenError`: the connection is dead.
    pub fn open_header(
        &mut self,
        sealed: &mut [u8; SEALED_HEADER_LEN],
    ) -> Result<FrameHeader, OpenError> {
        self.open_header_by(&self.cipher(), sealed)
    }

    /// As [`Opener::open_header`], with this half's [`Opener::cipher`].
    pub(crate) fn open_header_by(
        &mut self,
        key: &LessSafeKey,
        sealed: &mut [u8; SEALED_HEADER_LEN],
    ) -> Result<FrameHeader, OpenError> {
        let plain = self.open_piece(key, sealed, 0, "header")?;
        Ok(FrameHeader::from_bytes(plain.first_chunk().expect("22 - 16 bytes are a header")))
    }

    /// Opens a sealed payload in place and returns the plain bytes, which stand at its beginning.
    ///
    /// `sealed` has exactly [`sealed_payload_len`] of the length that the header announced.
    ///
    /// # Errors
    /// `OpenError`: the connection is dead.
    pub fn open_payload<'bytes>(
        &mut self,
        sealed: &'bytes mut [u8],
    ) -> Result<&'bytes mut [u8], OpenError> {
        self.open_payload_by(&self.cipher(), sealed)
    }

    /// As [`Opener::open_payload`], with this half's [`Opener::cipher`].
    pub(crate) fn open_payload_by<'bytes>(
        &mut self,
        key: &LessSafeKey,
        sealed: &'bytes mut [u8],
    ) -> Result<&'bytes mut [u8], OpenError> {
        let (mut read, mut written) = (0, 0);
        while read < sealed.len() {
            let end = sealed.len().min(read + SEALED_CHUNK_LEN_MAX);
            // The cipher writes a chunk's plain bytes down to where the last chunk's ended.
            let region = &mut sealed[written..end];
            written += self.open_piece(key, region, read - written, "payload")?.len();
            read = end;
        }
        Ok(&mut sealed[..written])
    }

    /// Opens what stands in `region` from `start` on, down to the beginning of `region`.
    fn open_piece<'bytes>(
        &mut self,
        key: &LessSafeKey,
        region: &'bytes mut [u8],
        start: usize,
        part: &'static str,
    ) -> Result<&'bytes mut [u8], OpenError> {
        let number = core::mem::replace(&mut self.nonce, NONCE_END);
        let length = region.len();
        if number == NONCE_END || length < start + MAC_LEN {
            return Err(OpenError { part });
        }
        let (sealed, tag) = region.split_at_mut(length - MAC_LEN);
        let tag = Tag::try_from(&*tag).expect("a tag has 16 bytes");
        let plain = key
            .open_in_place_separate_tag(nonce(number), Aad::empty(), tag, sealed, start..)
            .map_err(|_| OpenError { part })?;
        self.nonce = number + 1;
        Ok(plain)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealer(redacted, nonce {})", self.nonce)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Opener(redacted, nonce {})", self.nonce)
    }
}

pub(super) fn aead_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

/// Four zero bytes, then the counter, little-endian.
pub(super) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
