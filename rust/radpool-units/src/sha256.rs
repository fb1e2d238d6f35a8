//! SHA-256 of messages that are there as a whole: without a buffer in between, and several abreast.
//!
//! A processor's instructions for SHA-256 take several times as long to end as to begin, so hashes
//! that wait for each other leave it idle. Where blocks of messages that have nothing to do with each
//! other follow one another, it works on a few of them at a time by itself.

use core::slice;

use crate::Hash256;
use sha2::{compress256, digest::generic_array::GenericArray};

/// Length of a block.
const BLOCK_LEN: usize = 64;
/// How many messages go abreast. More gain nothing: no processor looks further ahead.
pub const ABREAST: usize = 8;

/// SHA-256's initial state. Source: FIPS 180-4, 5.3.3.
pub const INITIAL_STATE: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

type Block = [u8; BLOCK_LEN];

/// What is left of the whole blocks that messages begin with.
#[derive(Clone, Copy, Debug)]
pub struct Midstate {
    words: [u32; 8],
    blocks: u64,
}

impl Midstate {
    /// Before any block.
    pub const START: Self = Self { words: INITIAL_STATE, blocks: 0 };

    /// Takes in the whole blocks that `bytes` begins with, and returns what is behind them.
    pub fn take_blocks<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (blocks, rest) = bytes.as_chunks();
        blocks.iter().for_each(|block| self.take(block));
        rest
    }

    /// Length of what was taken in.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.blocks as usize * BLOCK_LEN
    }

    /// Whether nothing was taken in.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// The digest of what was taken in and `rest` behind it.
    pub(crate) fn finish(mut self, rest: &[u8]) -> [u8; 32] {
        let end = self.take_blocks(rest);
        let mut padded = Padded::EMPTY;
        padded.fill(end, self.len() as u64);
        padded.blocks().iter().for_each(|block| self.take(block));
        self.digest()
    }

    pub(crate) fn take(&mut self, block: &Block) {
        compress256(&mut self.words, slice::from_ref(GenericArray::from_slice(block)));
        self.blocks += 1;
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(self.words) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

/// The last bytes of a message with the padding: one block or two.
#[derive(Clone, Copy)]
struct Padded([Block; 2], usize);

impl Padded {
    const EMPTY: Self = Self([[0; BLOCK_LEN]; 2], 0);

    /// Pads `end`, which is shorter than a block and has `before` bytes before it.
    fn fill(&mut self, end: &[u8], before: u64) {
        let Self(blocks, count) = self;
        blocks[0][..end.len()].copy_from_slice(end);
        blocks[0][end.len()] = 0x80;
        *count = if end.len() < BLOCK_LEN - 8 { 1 } else { 2 };
        let bits = 8 * (before + end.len() as u64);
        blocks[*count - 1][BLOCK_LEN - 8..].copy_from_slice(&bits.to_be_bytes());
    }

    fn blocks(&self) -> &[Block] {
        &self.0[..self.1]
    }
}

/// Computes the digests of up to [`ABREAST`] messages, each behind what its midstate has taken in.
pub(crate) fn finish_abreast(states: &mut [Midstate], rests: &[&[u8]], digests: &mut [[u8; 32]]) {
    assert!(rests.len() <= ABREAST && rests.len() == states.len() && rests.len() == digests.len());
    let mut ends = [Padded::EMPTY; ABREAST];
    let mut longest = 0;
    for ((end, state), rest) in ends.iter_mut().zip(&*states).zip(rests) {
        let (whole, last) = rest.as_chunks::<BLOCK_LEN>();
        end.fill(last, (state.len() + rest.len() - last.len()) as u64);
        longest = longest.max(whole.len() + end.1);
    }
    for at in 0..longest {
        for ((state, rest), end) in states.iter_mut().zip(rests).zip(&ends) {
            let (whole, _) = rest.as_chunks();
            let block = whole.get(at).or_else(|| end.blocks().get(at - whole.len()));
            if let Some(block) = block {
                state.take(block);
            }
        }
    }
    for (digest, state) in digests.iter_mut().zip(states) {
        *digest = state.digest();
    }
}

/// Replaces each of up to [`ABREAST`] digests by its own digest.
pub(crate) fn digest_again(digests: &mut [[u8; 32]]) {
    let mut states = [Midstate::START; ABREAST];
    let mut block = [0; BLOCK_LEN];
    block[32] = 0x80;
    block[62] = 1;
    let mut blocks = [block; ABREAST];
    for (block, digest) in blocks.iter_mut().zip(&*digests) {
        block[..32].copy_from_slice(digest);
    }
    for ((state, block), _) in states.iter_mut().zip(&blocks).zip(&*digests) {
        state.take(block);
    }
    for (digest, state) in digests.iter_mut().zip(&states) {
        *digest = state.digest();
    }
}

/// Replaces each of up to [`ABREAST`] nodes of a block's merkle tree by the node above it and a
/// sibling on its right; those without a sibling stay.
pub(crate) fn join_abreast(nodes: &mut [Hash256], siblings: [Option<&[u8; 32]>; ABREAST]) {
    const PADDING: Block = {
        let mut block = [0; BLOCK_LEN];
        block[0] = 0x80;
        block[62] = 2;
        block
    };
    let mut states = [Midstate::START; ABREAST];
    let mut pairs = [[0; BLOCK_LEN]; ABREAST];
    let mut joined = [[0; 32]; ABREAST];
    let mut count = 0;
    for (node, sibling) in nodes.iter().zip(siblings) {
        if let Some(sibling) = sibling {
            pairs[count][..32].copy_from_slice(&node.0);
            pairs[count][32..].copy_from_slice(sibling);
            count += 1;
        }
    }
    let states = &mut states[..count];
    states.iter_mut().zip(&pairs).for_each(|(state, pair)| state.take(pair));
    states.iter_mut().for_each(|state| state.take(&PADDING));
    joined.iter_mut().zip(&*states).for_each(|(joined, state)| *joined = state.digest());
    digest_again(&mut joined[..count]);
    let with_sibling = nodes.iter_mut().zip(siblings).filter(|(_, sibling)| sibling.is_some());
    with_sibling.zip(joined).for_each(|((node, _), joined)| *node = Hash256(joined));
}
