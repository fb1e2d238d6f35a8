//! Which key is generated, by whom: what every hash of a run begins with.

use core::fmt;

use frost_secp256k1_tr::Identifier;
use radpool_units::TaggedHasher;
use thiserror::Error;

use crate::read::Reader;

/// Most members of one key: what a committee is bounded to, so that work and messages are.
pub const MEMBERS_MAX: usize = 256;
/// FROST has no key of one signer.
const THRESHOLD_MIN: u16 = 2;

const RUN_TAG: &str = "radpool/dkg-run";
const IDENTIFIER_TAG: &str = "radpool/dkg-identifier";

/// What a key is for. Keys of different purposes share nothing: a signature under one says nothing
/// to who reads another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Signs certified state roots.
    Checkpoint = 1,
    /// Spends the syndicate's outputs; the only purpose whose key is tweaked.
    Treasury = 2,
    /// Attests outcomes by shares under a nonce that is announced before. Never signs by FROST: a
    /// key with announced nonces can be made to sign anything (ROS), so it must mean nothing else.
    Oracle = 3,
}

impl Purpose {
    /// The purpose of a number on the wire.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Checkpoint),
            2 => Some(Self::Treasury),
            3 => Some(Self::Oracle),
            _ => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Treasury => "treasury",
            Self::Oracle => "oracle",
        })
    }
}

/// A run that cannot be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RunError {
    /// Too few or too many members.
    #[error("{0} members: a threshold key has {THRESHOLD_MIN} to {MEMBERS_MAX}")]
    Members(usize),
    /// The threshold does not fit the members.
    #[error("a threshold of {threshold} of {members}: give {THRESHOLD_MIN} to {members}")]
    Threshold { threshold: u16, members: usize },
    /// The members are not in order, or one is twice.
    #[error("member {0} does not come after the one before: sort by identity key, each once")]
    Order(usize),
    /// Bytes that encode no run.
    #[error("the bytes encode no key generation run")]
    Encoding,
}

/// One attempt to generate one key. Members are known by their position in `members`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    committee: [u8; 32],
    purpose: Purpose,
    attempt: u32,
    threshold: u16,
    members: Vec<[u8; 32]>,
    id: [u8; 32],
    identifiers: Vec<Identifier>,
}

impl Run {
    /// Names a run.
    ///
    /// `members` are x-only identity keys, ascending; after a failed attempt the culprit is left
    /// out and `attempt` is one higher.
    ///
    /// # Errors
    /// [`RunError`] says what does not fit.
    pub fn new(
        committee: [u8; 32],
        purpose: Purpose,
        attempt: u32,
        threshold: u16,
        members: Vec<[u8; 32]>,
    ) -> Result<Self, RunError> {
        let count = members.len();
        if !(usize::from(THRESHOLD_MIN)..=MEMBERS_MAX).contains(&count) {
            return Err(RunError::Members(count));
        }
        if threshold < THRESHOLD_MIN || usize::from(threshold) > count {
            return Err(RunError::Threshold { threshold, members: count });
        }
        if let Some(at) = members.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(RunError::Order(at + 1));
        }
        let mut run = Self {
            committee,
            purpose,
            attempt,
            threshold,
            members,
            id: [0; 32],
            identifiers: Vec::new(),
        };
        run.id = TaggedHasher::new(RUN_TAG).hash(&[&run.encode()]);
        let hasher = TaggedHasher::new(IDENTIFIER_TAG);
        // The proof of possession hashes its prover's identifier and no context of its own. An
        // identifier that is made of the run's id makes it worthless in every other run.
        run.identifiers = (0..run.size())
            .map(|index| hasher.hash(&[&run.id, &index.to_le_bytes()]))
            .map(|name| Identifier::derive(&name).expect("no known input hashes to zero"))
            .collect();
        Ok(run)
    }

    /// The run as bytes: committee (32), purpose (u8), attempt (u32), threshold (u16), number of
    /// members (u16), their keys (32 each); numbers little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(41 + 32 * self.members.len());
        bytes.extend_from_slice(&self.committee);
        bytes.push(self.purpose as u8);
        bytes.extend_from_slice(&self.attempt.to_le_bytes());
        bytes.extend_from_slice(&self.threshold.to_le_bytes());
        bytes.extend_from_slice(&self.size().to_le_bytes());
        self.members.iter().for_each(|member| bytes.extend_from_slice(member));
        bytes
    }

    /// Reads a run and leaves what follows it.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, RunError> {
        let mut read = || {
            let committee = reader.array()?;
            let purpose = Purpose::from_u8(reader.u8()?)?;
            let (attempt, threshold) = (reader.u32()?, reader.u16()?);
            let size = usize::from(reader.u16()?);
            if size > MEMBERS_MAX {
                return None;
            }
            let members = (0..size).map(|_| reader.array()).collect::<Option<_>>()?;
            Some((committee, purpose, attempt, threshold, members))
        };
        let (committee, purpose, attempt, threshold, members) = read().ok_or(RunError::Encoding)?;
        Self::new(committee, purpose, attempt, threshold, members)
    }

    /// The hash that every message of the run begins with.
    #[must_use]
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// The committee whose key it is.
    #[must_use]
    pub const fn committee(&self) -> &[u8; 32] {
        &self.committee
    }

    /// What the key is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The number of this attempt.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How many members sign.
    #[must_use]
    pub const fn threshold(&self) -> u16 {
        self.threshold
    }

    /// The members' identity keys.
    #[must_use]
    pub fn members(&self) -> &[[u8; 32]] {
        &self.members
    }

    /// How many members there are.
    #[must_use]
    pub fn size(&self) -> u16 {
        u16::try_from(self.members.len()).expect("there are at most MEMBERS_MAX")
    }

    /// The position of a member.
    #[must_use]
    pub fn index_of(&self, member: &[u8; 32]) -> Option<u16> {
        self.members.binary_search(member).ok().and_then(|index| u16::try_from(index).ok())
    }

    pub(super) fn identifier(&self, index: u16) -> Option<Identifier> {
        self.identifiers.get(usize::from(index)).copied()
    }

    /// Positions with their identifiers, ascending by position.
    pub(super) fn identifiers(&self) -> impl Iterator<Item = (u16, Identifier)> + '_ {
        (0..).zip(self.identifiers.iter().copied())
    }

    pub(super) fn index_of_identifier(&self, identifier: &Identifier) -> Option<u16> {
        self.identifiers().find(|(_, known)| known == identifier).map(|(index, _)| index)
    }
}
