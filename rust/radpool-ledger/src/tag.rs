//! The owner tag: the zero-value output that puts a share's owner and weight inside the proof of work.
//!
//! Source: `spec/02-owner-tag.md`.

use core::fmt;
use std::sync::LazyLock;

use radpool_units::{Exponent, TaggedHasher};
use thiserror::Error;

/// Length of the owner output's script: `OP_RETURN`, push of 38 bytes, the payload.
pub const OWNER_SCRIPT_LEN: usize = 40;
/// Length of the serialised owner output: value, script length, script.
pub const OWNER_OUTPUT_LEN: usize = 8 + 1 + OWNER_SCRIPT_LEN;

const MAGIC: [u8; 4] = *b"RADP";
const VERSION: u8 = 1;
const OP_RETURN: u8 = 0x6a;
const PUSH_38: u8 = 0x26;

static BINDING: LazyLock<TaggedHasher> = LazyLock::new(|| TaggedHasher::new("radpool/owner"));

/// How the owner of a share is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rail {
    /// An account in the MSP's ledger.
    #[default]
    Account = 0,
    /// Work tokens of the mint.
    Ecash = 1,
    /// A contract channel with the MSP.
    Contract = 2,
}

impl TryFrom<u8> for Rail {
    type Error = OwnerTagError;

    fn try_from(value: u8) -> Result<Self, Self::Error> {
        match value {
            0 => Ok(Self::Account),
            1 => Ok(Self::Ecash),
            2 => Ok(Self::Contract),
            _ => Err(OwnerTagError::Rail(value)),
        }
    }
}

/// Whom a job's shares belong to: what the binding hash of a tag commits to, besides z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The MSP's BIP340 public key, x only.
    pub msp_key: [u8; 32],
    /// A commitment to the owner that only the MSP and the owner can open.
    pub commitment: [u8; 32],
    /// The accounting period that the share counts in.
    pub epoch: u32,
    /// How the owner is paid.
    pub rail: Rail,
}

impl fmt::Debug for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Owner(epoch {}, {:?}, ", self.epoch, self.rail)?;
        for byte in &self.commitment[..4] {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str("..)")
    }
}

impl Owner {
    /// Makes the tag of this owner's jobs at exponent z.
    #[must_use]
    pub fn tag(&self, exponent: Exponent) -> OwnerTag {
        let binding = BINDING.hash(&[
            &self.msp_key,
            &self.commitment,
            &self.epoch.to_le_bytes(),
            &[self.rail as u8, exponent.get()],
        ]);
        OwnerTag { rail: self.rail, exponent, binding }
    }
}

/// The tag as it stands in a coinbase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerTag {
    /// How the owner is paid.
    pub rail: Rail,
    /// The number of zero bits that a share of this job needs; its work is `2^z`.
    pub exponent: Exponent,
    /// Hash over MSP key, owner commitment, epoch, rail and z.
    pub binding: [u8; 32],
}

/// A script that is no owner tag.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OwnerTagError {
    /// Not `OP_RETURN`, push of 38 bytes and the magic.
    #[error("the script is no owner tag: it must be OP_RETURN, a push of 38 bytes and \"RADP\"")]
    Shape,
    /// A version other than 1.
    #[error("owner tag of version {0}: only version 1 is known")]
    Version(u8),
    /// A rail that is not defined.
    #[error("owner tag with rail {0}: 0 account, 1 ecash and 2 contract are defined")]
    Rail(u8),
    /// An exponent outside the ladder.
    #[error("owner tag with exponent {0}: the ladder ends at 120")]
    Exponent(u8),
}

impl OwnerTag {
    /// Writes the output script.
    #[must_use]
    pub fn to_script(&self) -> [u8; OWNER_SCRIPT_LEN] {
        let mut script = [0; OWNER_SCRIPT_LEN];
        script[0] = OP_RETURN;
        script[1] = PUSH_38;
        script[2..6].copy_from_slice(&MAGIC);
        script[6] = (VERSION << 4) | self.rail as u8;
        script[7] = self.exponent.get();
        script[8..].copy_from_slice(&self.binding);
        script
    }

    /// Writes the whole transaction output: value 0, script length, script.
    #[must_use]
    pub fn to_output(&self) -> [u8; OWNER_OUTPUT_LEN] {
        let mut output = [0; OWNER_OUTPUT_LEN];
        output[8] = OWNER_SCRIPT_LEN as u8;
        output[9..].copy_from_slice(&self.to_script());
        output
    }

    /// Reads an output script.
    ///
    /// # Errors
    /// [`OwnerTagError`] says what is not as the specification has it.
    pub fn from_script(script: &[u8]) -> Result<Self, OwnerTagError> {
        let Ok(script) = <&[u8; OWNER_SCRIPT_LEN]>::try_from(script) else {
            return Err(OwnerTagError::Shape);
        };
        if script[0] != OP_RETURN || script[1] != PUSH_38 || script[2..6] != MAGIC {
            return Err(OwnerTagError::Shape);
        }
        if script[6] >> 4 != VERSION {
            return Err(OwnerTagError::Version(script[6] >> 4));
        }
        let rail = Rail::try_from(script[6] & 0x0f)?;
        let exponent =
            Exponent::new(script[7].into()).map_err(|_| OwnerTagError::Exponent(script[7]))?;
        let mut binding = [0; 32];
        binding.copy_from_slice(&script[8..]);
        Ok(Self { rail, exponent, binding })
    }
}
