//! What is mined: one job of one channel with the tip, target and extranonce that go with it.

use std::{
    fmt, mem,
    sync::{Arc, OnceLock},
};

use radpool_units::{Hash256, Target, merkle_root_from_path, sha256d};
use radpool_wire::message::NewExtendedMiningJob;
use sha2::{Digest, Sha256};

use crate::header::Header;

/// The version bits that a miner may roll. Source: BIP323.
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_ffe0;
/// The most bytes of extranonce that SV2 lets a channel have.
pub const EXTRANONCE_LEN_MAX: usize = 32;

/// With so many bytes two are left for the turn: the others last longer than any job.
const EXTRANONCE_LEN_OF_TURNS: usize = 4;

/// Which kind of channel a client opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The merkle root is fixed per job: version, time and nonce are rolled.
    Standard,
    /// The client builds the coinbase and rolls its extranonce too.
    Extended,
}

/// Where a job's merkle root comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobSource {
    /// The pool computed it.
    Root([u8; 32]),
    /// The client computes it from the coinbase around the extranonce.
    Coinbase(Arc<Coinbase>),
}

/// The coinbase around the extranonce, and the path from it to the merkle root.
#[derive(Clone)]
pub struct Coinbase {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    path: Vec<[u8; 32]>,
    /// The hash of the prefix, to go on from.
    begun: Sha256,
    /// The same for those who tell it in Stratum V1, written once for all of them.
    lines: OnceLock<CoinbaseLines>,
}

/// What a Stratum V1 job says of a coinbase, in hexadecimal.
#[derive(Clone, Debug)]
pub struct CoinbaseLines {
    pub prefix: Box<[u8]>,
    pub suffix: Box<[u8]>,
    /// In quotes and between commas.
    pub path: Box<[u8]>,
}

impl Coinbase {
    /// Hashes the prefix, so that no share has to.
    #[must_use]
    pub fn new(prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]>) -> Self {
        let begun = Sha256::new_with_prefix(&prefix);
        Self { prefix, suffix, path, begun, lines: OnceLock::new() }
    }

    /// That of a job, which loses it.
    #[must_use]
    pub fn take(job: &mut NewExtendedMiningJob) -> Self {
        let (prefix, suffix) = (&mut job.coinbase_tx_prefix, &mut job.coinbase_tx_suffix);
        Self::new(mem::take(prefix), mem::take(suffix), mem::take(&mut job.merkle_path))
    }

    /// Whether it is that of a job.
    #[must_use]
    pub fn is_of(&self, job: &NewExtendedMiningJob) -> bool {
        self.prefix == job.coinbase_tx_prefix
            && self.suffix == job.coinbase_tx_suffix
            && self.path == job.merkle_path
    }

    /// What stands before the extranonce.
    #[must_use]
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What stands behind the extranonce.
    #[must_use]
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// The hashes beside the way up to the root.
    #[must_use]
    pub fn path(&self) -> &[[u8; 32]] {
        &self.path
    }

    /// Returns what a Stratum V1 job says of it; whoever asks first writes it for all.
    pub fn lines(&self, write: impl FnOnce(&Self) -> CoinbaseLines) -> &CoinbaseLines {
        self.lines.get_or_init(|| write(self))
    }

    /// Computes the merkle root with both parts of the extranonce in the coinbase.
    #[must_use]
    pub fn merkle_root(&self, extranonce_prefix: &[u8], extranonce: &[u8]) -> Hash256 {
        let mut inner = self.begun.clone();
        inner.update(extranonce_prefix);
        inner.update(extranonce);
        inner.update(&self.suffix);
        let txid = Hash256(Sha256::digest(inner.finalize()).into());
        merkle_root_from_path(txid, &self.path)
    }
}

impl PartialEq for Coinbase {
    fn eq(&self, other: &Self) -> bool {
        (&self.prefix, &self.suffix, &self.path) == (&other.prefix, &other.suffix, &other.path)
    }
}

impl Eq for Coinbase {}

impl fmt::Debug for Coinbase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, suffix, path, begun: _, lines: _ } = self;
        let mut shown = formatter.debug_struct("Coinbase");
        shown.field("prefix", prefix).field("suffix", suffix).field("path", path).finish()
    }
}

/// A job that can be mined now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub channel_id: u32,
    pub job_id: u32,
    /// The version that the job came with, nothing rolled.
    pub version: u32,
    pub version_rolling: bool,
    pub prev_hash: [u8; 32],
    pub nbits: u32,
    /// The earliest time that a header may carry.
    pub min_ntime: u32,
    /// What a share's hash must not exceed.
    pub target: Target,
    /// The pool's part of the extranonce.
    pub extranonce_prefix: Vec<u8>,
    /// How many bytes of extranonce the client rolls behind it: 0 on a standard channel.
    pub rollable: usize,
    pub source: JobSource,
}

impl Assignment {
    /// Computes the merkle root with `extranonce` (`rollable` bytes) in the coinbase.
    #[must_use]
    pub fn merkle_root(&self, extranonce: &[u8]) -> Hash256 {
        match &self.source {
            JobSource::Root(root) => Hash256(*root),
            JobSource::Coinbase(coinbase) => {
                coinbase.merkle_root(&self.extranonce_prefix, extranonce)
            }
        }
    }
}

/// A position in an assignment's search space above the nonce.
///
/// The nonce turns fastest, then the version bits, then the extranonce. Time is none of them: it
/// advances with the clock, and each second makes the whole space new.
#[derive(Clone, Debug)]
pub struct Roll {
    assignment: Arc<Assignment>,
    turn: u16,
    version_steps: u32,
    extranonce: [u8; EXTRANONCE_LEN_MAX],
    merkle_root: Hash256,
}

impl Roll {
    /// Starts at the job's own version and at extranonce 0.
    #[must_use]
    pub fn new(assignment: Arc<Assignment>) -> Self {
        Self::in_turn(assignment, 0)
    }

    /// Starts in a part of the space that belongs to `turn`, where the extranonce has room for it.
    ///
    /// A job may come again with every byte as before, as when a target goes up and down: in another
    /// turn none of its headers is hashed twice.
    #[must_use]
    pub fn in_turn(assignment: Arc<Assignment>, turn: u16) -> Self {
        let mut extranonce = [0; EXTRANONCE_LEN_MAX];
        if assignment.rollable >= EXTRANONCE_LEN_OF_TURNS {
            extranonce[..2].copy_from_slice(&turn.to_be_bytes());
        }
        let merkle_root = assignment.merkle_root(&extranonce[..assignment.rollable]);
        Self { assignment, turn, version_steps: 0, extranonce, merkle_root }
    }

    /// What is rolled.
    #[must_use]
    pub fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    /// The client's part of the extranonce.
    #[must_use]
    pub fn extranonce(&self) -> &[u8] {
        &self.extranonce[..self.assignment.rollable]
    }

    /// The version field with the rolled bits: counted upwards from the job's own bits.
    #[must_use]
    pub fn version(&self) -> u32 {
        let job = self.assignment.version;
        let shift = VERSION_ROLLING_MASK.trailing_zeros();
        let rolled = (job & VERSION_ROLLING_MASK).wrapping_add(self.version_steps << shift);
        (job & !VERSION_ROLLING_MASK) | (rolled & VERSION_ROLLING_MASK)
    }

    /// The header at this position.
    #[must_use]
    pub fn header(&self, ntime: u32) -> Header {
        Header {
            version: self.version(),
            prev_hash: self.assignment.prev_hash,
            merkle_root: self.merkle_root.0,
            ntime,
            nbits: self.assignment.nbits,
        }
    }

    /// Moves on once the nonces are used up; false when nothing is left but to wait for a second.
    pub fn advance(&mut self) -> bool {
        let versions = 1 << VERSION_ROLLING_MASK.count_ones();
        if self.assignment.version_rolling && self.version_steps + 1 < versions {
            self.version_steps += 1;
            return true;
        }
        for byte in self.extranonce[..self.assignment.rollable].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                self.version_steps = 0;
                self.merkle_root = self.assignment.merkle_root(self.extranonce());
                return true;
            }
        }
        false
    }

    /// Starts again from the beginning: for a new second.
    pub fn restart(&mut self) {
        *self = Self::in_turn(Arc::clone(&self.assignment), self.turn);
    }
}

/// A proof of work under an assignment's target.
#[derive(Clone, Debug)]
pub struct Share {
    pub assignment: Arc<Assignment>,
    pub version: u32,
    pub ntime: u32,
    pub nonce: u32,
    pub extranonce: [u8; EXTRANONCE_LEN_MAX],
}

impl Share {
    /// The hash of the share's header.
    #[must_use]
    pub fn hash(&self) -> Hash256 {
        let job = &self.assignment;
        let header = Header {
            version: self.version,
            prev_hash: job.prev_hash,
            merkle_root: job.merkle_root(&self.extranonce[..job.rollable]).0,
            ntime: self.ntime,
            nbits: job.nbits,
        };
        sha256d(&header.to_bytes(self.nonce))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn assignment(rollable: usize, version_rolling: bool) -> Arc<Assignment> {
        Arc::new(Assignment {
            channel_id: 1,
            job_id: 2,
            version: 0x2000_0000,
            version_rolling,
            prev_hash: [3; 32],
            nbits: 0x1d00_ffff,
            min_ntime: 4,
            target: Target::MAX,
            extranonce_prefix: vec![9, 9, 9, 9],
            rollable,
            source: JobSource::Coinbase(Arc::new(Coinbase::new(
                vec![1; 40],
                vec![2; 60],
                vec![[5; 32], [6; 32]],
            ))),
        })
    }

    #[test]
    fn merkle_root_hashes_the_coinbase_around_both_parts_of_the_extranonce() {
        let assignment = assignment(3, false);
        let coinbase = [&[1; 40][..], &[9; 4], &[7, 7, 7], &[2; 60]].concat();
        let expected = merkle_root_from_path(sha256d(&coinbase), &[[5; 32], [6; 32]]);
        assert_eq!(assignment.merkle_root(&[7, 7, 7]), expected);
    }

    #[test]
    fn one_extranonce_byte_gives_256_distinct_headers() {
        let mut roll = Roll::new(assignment(1, false));
        let mut roots = HashSet::from([roll.header(4).merkle_root]);
        while roll.advance() {
            assert_eq!(roll.version(), 0x2000_0000);
            assert!(roots.insert(roll.header(4).merkle_root));
        }
        assert_eq!(roots.len(), 256);
    }

    #[test]
    fn same_job_gives_other_headers_in_another_turn() {
        let first = Roll::in_turn(assignment(4, false), 1);
        let mut second = Roll::in_turn(assignment(4, false), 2);
        assert_ne!(first.header(4).merkle_root, second.header(4).merkle_root);
        assert_eq!(
            (first.extranonce(), second.extranonce()),
            (&[0, 1, 0, 0][..], &[0, 2, 0, 0][..])
        );
        second.advance();
        second.restart();
        assert_eq!(second.extranonce(), [0, 2, 0, 0]);
        assert_eq!(Roll::in_turn(assignment(3, false), 2).extranonce(), [0; 3]);
    }

    #[test]
    fn version_turns_before_the_extranonce_and_stays_inside_the_mask() {
        let mut roll = Roll::new(assignment(1, true));
        let root = roll.header(4).merkle_root;
        let mut versions = HashSet::from([roll.version()]);
        for _ in 1..1000 {
            assert!(roll.advance());
            assert_eq!(roll.version() & !VERSION_ROLLING_MASK, 0x2000_0000);
            assert!(versions.insert(roll.version()));
        }
        assert_eq!(roll.header(4).merkle_root, root);
        roll.version_steps = (1 << VERSION_ROLLING_MASK.count_ones()) - 1;
        assert!(roll.advance());
        assert_eq!(roll.version(), 0x2000_0000);
        assert_eq!(roll.extranonce(), [1]);
    }

    #[test]
    fn without_anything_to_roll_only_time_is_left() {
        let mut roll = Roll::new(assignment(0, false));
        assert!(!roll.advance());
        roll.restart();
        assert_eq!(roll.version(), 0x2000_0000);
    }
}
