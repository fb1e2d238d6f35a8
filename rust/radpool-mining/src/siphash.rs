//! SipHash-2-4 of exactly 32 bytes, with an explicit key.

/// A key that clients must not know: with it they could fill one slot of a table with collisions.
#[derive(Clone, Copy)]
pub(crate) struct SipKey {
    k0: u64,
    k1: u64,
}

impl SipKey {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        let (low, high) = key.split_at(8);
        Self { k0: word(low), k1: word(high) }
    }

    /// Hashes 32 bytes.
    ///
    /// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", section 2.
    pub(crate) fn hash(self, bytes: &[u8; 32]) -> u64 {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        for chunk in bytes.chunks_exact(8) {
            absorb(&mut state, word(chunk));
        }
        absorb(&mut state, 32 << 56);
        state[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round(state: &mut [u64; 4]) {
    let [v0, v1, v2, v3] = state;
    *v0 = v0.wrapping_add(*v1);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v0 = v0.rotate_left(32);
    *v2 = v2.wrapping_add(*v3);
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.wrapping_add(*v3);
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v2 = v2.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(deprecated)]
    fn hashes_are_those_of_the_standard_library() {
        use std::hash::{Hasher, SipHasher};
        let key: [u8; 16] = core::array::from_fn(|index| index as u8);
        for seed in 0..100u8 {
            let bytes = core::array::from_fn(|index| (index as u8).wrapping_mul(seed));
            let mut oracle = SipHasher::new_with_keys(word(&key[..8]), word(&key[8..]));
            oracle.write(&bytes);
            assert_eq!(SipKey::new(key).hash(&bytes), oracle.finish());
        }
    }
}
