//! Double SHA-256 of block headers, as fast as one CPU thread does it.
//!
//! A header has 80 bytes. Its first 64 do not contain the nonce, so their compression is done once
//! (the midstate) and each nonce costs two compressions instead of three.

use core::ops::Range;

use radpool_units::{Hash256, INITIAL_STATE, Target};
use sha2::{
    compress256,
    digest::generic_array::{GenericArray, typenum::U64},
};

/// Where the nonce stands in the second block of a header.
const NONCE_AT: Range<usize> = 12..16;

/// The fields of a block header but the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version field, rolled bits included.
    pub version: u32,
    /// Hash of the block before, internal byte order.
    pub prev_hash: [u8; 32],
    /// The merkle root, internal byte order.
    pub merkle_root: [u8; 32],
    /// Seconds since 1970.
    pub ntime: u32,
    /// The network's target in compact form.
    pub nbits: u32,
}

impl Header {
    /// Writes the 80 bytes that are hashed.
    #[must_use]
    pub fn to_bytes(&self, nonce: u32) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.prev_hash);
        bytes[36..68].copy_from_slice(&self.merkle_root);
        bytes[68..72].copy_from_slice(&self.ntime.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        bytes
    }
}

/// Hashes one header at many nonces.
#[derive(Clone, Debug)]
pub struct HeaderHasher {
    midstate: [u32; 8],
    /// The header's last 16 bytes with SHA-256's padding for 80 bytes.
    second_block: GenericArray<u8, U64>,
    /// The first hash with SHA-256's padding for 32 bytes.
    outer_block: GenericArray<u8, U64>,
}

impl HeaderHasher {
    /// Takes in a header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let bytes = header.to_bytes(0);
        let mut first_block = GenericArray::<u8, U64>::default();
        first_block.copy_from_slice(&bytes[..64]);
        let mut midstate = INITIAL_STATE;
        compress256(&mut midstate, &[first_block]);
        let mut second_block = GenericArray::<u8, U64>::default();
        second_block[..16].copy_from_slice(&bytes[64..]);
        pad(&mut second_block, 16, 80);
        let mut outer_block = GenericArray::<u8, U64>::default();
        pad(&mut outer_block, 32, 32);
        Self { midstate, second_block, outer_block }
    }

    /// Computes the header's double SHA-256 at `nonce`.
    #[must_use]
    pub fn hash(&mut self, nonce: u32) -> Hash256 {
        let mut bytes = [0; 32];
        for (word, slot) in self.state(nonce).iter().zip(bytes.chunks_exact_mut(4)) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        Hash256(bytes)
    }

    /// Hashes each nonce of `nonces` and hands those whose hash is at most `target` to `found`.
    pub fn scan(&mut self, nonces: Range<u64>, target: &Target, mut found: impl FnMut(u32)) {
        let bound = target.to_be_bytes();
        let bound = u32::from_be_bytes([bound[0], bound[1], bound[2], bound[3]]);
        for nonce in nonces {
            let Ok(nonce) = u32::try_from(nonce) else { return };
            // The hash is a little-endian number: its last word, bytes swapped, is the most
            // significant one and settles nearly every nonce.
            if self.state(nonce)[7].swap_bytes() <= bound && target.is_met_by(&self.hash(nonce)) {
                found(nonce);
            }
        }
    }

    fn state(&mut self, nonce: u32) -> [u32; 8] {
        self.second_block[NONCE_AT].copy_from_slice(&nonce.to_le_bytes());
        let mut inner = self.midstate;
        compress256(&mut inner, core::slice::from_ref(&self.second_block));
        for (word, slot) in inner.iter().zip(self.outer_block.chunks_exact_mut(4)) {
            slot.copy_from_slice(&word.to_be_bytes());
        }
        let mut outer = INITIAL_STATE;
        compress256(&mut outer, core::slice::from_ref(&self.outer_block));
        outer
    }
}

/// Ends a message of `message_len` bytes whose last `used` bytes stand in `block`.
fn pad(block: &mut GenericArray<u8, U64>, used: usize, message_len: u64) {
    block[used] = 0x80;
    block[56..].copy_from_slice(&(message_len * 8).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use radpool_units::{Exponent, sha256d};

    use super::*;

    fn header() -> Header {
        Header {
            version: 0x2000_1000,
            prev_hash: core::array::from_fn(|index| index as u8),
            merkle_root: core::array::from_fn(|index| 200 - index as u8),
            ntime: 1_700_000_000,
            nbits: 0x1d00_ffff,
        }
    }

    #[test]
    fn hash_is_the_double_sha256_of_the_header() {
        let mut hasher = HeaderHasher::new(&header());
        for nonce in [0, 1, 0xdead_beef, u32::MAX] {
            assert_eq!(hasher.hash(nonce), sha256d(&header().to_bytes(nonce)));
        }
    }

    #[test]
    fn genesis_hash_is_found_at_its_nonce_only() {
        let mut merkle_root = [0; 32];
        let text = b"3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a";
        for (byte, pair) in merkle_root.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        let genesis = Header {
            version: 1,
            prev_hash: [0; 32],
            merkle_root,
            ntime: 1_231_006_505,
            nbits: 0x1d00_ffff,
        };
        let target = Target::from_compact(genesis.nbits).unwrap();
        let mut found = Vec::new();
        let nonce = 2_083_236_893_u64;
        HeaderHasher::new(&genesis)
            .scan(nonce - 500..nonce + 500, &target, |nonce| found.push(nonce));
        assert_eq!(found, [2_083_236_893]);
    }

    #[test]
    fn scan_finds_exactly_the_nonces_under_the_target() {
        let target = Exponent::new(6).unwrap().target();
        let mut hasher = HeaderHasher::new(&header());
        let mut found = Vec::new();
        hasher.clone().scan(0..5_000, &target, |nonce| found.push(nonce));
        let expected: Vec<u32> =
            (0..5_000).filter(|nonce| target.is_met_by(&hasher.hash(*nonce))).collect();
        assert!(!expected.is_empty());
        assert_eq!(found, expected);
    }

    #[test]
    fn scan_ends_with_the_nonce_space() {
        let mut found = Vec::new();
        let end = u64::from(u32::MAX) + 1;
        HeaderHasher::new(&header())
            .scan(end - 2..end + 2, &Target::MAX, |nonce| found.push(nonce));
        assert_eq!(found, [u32::MAX - 1, u32::MAX]);
    }
}
