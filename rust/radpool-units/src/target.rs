//! Targets, and the power-of-two ladder that weighs shares.

use core::{cmp::Ordering, fmt};

use thiserror::Error;

use crate::{Hash256, Work};

/// The number z of leading zero bits that a share needs: its target is `2^(256-z) - 1`, its work `2^z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exponent(u8);

/// An exponent outside the ladder was asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("exponent z = {0} is outside the ladder: give 0 to {max}", max = Exponent::MAX.0)]
pub struct ExponentError(pub u32);

impl Exponent {
    /// The easiest step: every hash is a share.
    pub const MIN: Self = Self(0);
    /// The hardest step. 2^120 hashes leave room for 2^7 of them in a `u128`, and are some 2^40
    /// times what the whole network does for one block.
    pub const MAX: Self = Self(120);

    /// Makes an exponent of a number of leading zero bits.
    ///
    /// # Errors
    /// `ExponentError` above [`Exponent::MAX`].
    pub fn new(zeros: u32) -> Result<Self, ExponentError> {
        match u8::try_from(zeros) {
            Ok(zeros) if zeros <= Self::MAX.0 => Ok(Self(zeros)),
            _ => Err(ExponentError(zeros)),
        }
    }

    /// The number of leading zero bits.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The work of one share at this step: `2^z` expected hashes.
    #[must_use]
    pub const fn work(self) -> Work {
        Work(1 << self.0)
    }

    /// The target of this step: `2^(256-z) - 1`.
    #[must_use]
    pub fn target(self) -> Target {
        let mut bytes = [0xff; 32];
        let whole = usize::from(self.0 / 8);
        for byte in bytes.iter_mut().rev().take(whole) {
            *byte = 0;
        }
        if !self.0.is_multiple_of(8) {
            bytes[31 - whole] = 0xff >> (self.0 % 8);
        }
        Target(bytes)
    }

    /// Whether `hash` has at least z leading zero bits, which is the same as `hash <= target`.
    #[must_use]
    pub fn is_met_by(self, hash: &Hash256) -> bool {
        hash.leading_zero_bits() >= u32::from(self.0)
    }
}

/// A 256-bit bound that a hash must not exceed; stored little-endian, as SV2 sends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target([u8; 32]);

/// `nBits` that no valid block can carry.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("nBits {0:#010x} is negative, zero or above 2^256: not a target")]
pub struct CompactTargetError(pub u32);

impl Target {
    /// The largest target: every hash meets it.
    pub const MAX: Self = Self([0xff; 32]);

    /// Reads 32 bytes, least significant first.
    #[must_use]
    pub const fn from_le_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, least significant first.
    #[must_use]
    pub const fn to_le_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The 32 bytes, most significant first.
    #[must_use]
    pub fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = self.0;
        bytes.reverse();
        bytes
    }

    /// Expands `nBits`.
    ///
    /// # Errors
    /// `CompactTargetError` when the number is negative, zero or overflows 256 bits.
    ///
    /// Source: Bitcoin Core, `arith_uint256::SetCompact`.
    pub fn from_compact(bits: u32) -> Result<Self, CompactTargetError> {
        let size = (bits >> 24) as usize;
        let mantissa = bits & 0x007f_ffff;
        let negative = bits & 0x0080_0000 != 0;
        let mut bytes = [0u8; 32];
        for index in 0..3 {
            let byte = (mantissa >> (8 * index)) as u8;
            // The mantissa's lowest byte stands at position size - 3; what falls below 0 is cut off.
            let Some(position) = (size + index).checked_sub(3) else { continue };
            if byte == 0 {
                continue;
            }
            if position >= 32 {
                return Err(CompactTargetError(bits));
            }
            bytes[position] = byte;
        }
        if negative || bytes == [0; 32] {
            return Err(CompactTargetError(bits));
        }
        Ok(Self(bytes))
    }

    /// The easiest step of the ladder that is not easier than this target: the least z with
    /// `2^(256-z) - 1 <= self`; `None` below the hardest step.
    #[must_use]
    pub fn exponent_at_most(self) -> Option<Exponent> {
        let zeros = Hash256(self.0).leading_zero_bits();
        let candidate = Exponent::new(zeros).ok()?;
        if candidate.target() <= self { Some(candidate) } else { Exponent::new(zeros + 1).ok() }
    }

    /// Whether `hash`, read as a little-endian number, is at most this target.
    #[must_use]
    pub fn is_met_by(&self, hash: &Hash256) -> bool {
        Self(hash.0) <= *self
    }
}

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Target(0x")?;
        for byte in self.0.iter().rev() {
            write!(formatter, "{byte:02x}")?;
        }
        formatter.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ladder_targets_are_one_below_a_power_of_two() {
        assert_eq!(Exponent::MIN.target(), Target::MAX);
        for zeros in 0..=u32::from(Exponent::MAX.get()) {
            let exponent = Exponent::new(zeros).unwrap();
            let target = exponent.target();
            assert_eq!(Hash256(target.to_le_bytes()).leading_zero_bits(), zeros);
            assert_eq!(target.exponent_at_most(), Some(exponent));
            assert!(exponent.is_met_by(&Hash256(target.to_le_bytes())));
        }
        assert_eq!(Exponent::new(121), Err(ExponentError(121)));
    }

    #[test]
    fn one_below_a_step_is_the_next_harder_step() {
        let mut bytes = Exponent::new(9).unwrap().target().to_le_bytes();
        bytes[0] -= 1;
        assert_eq!(Target::from_le_bytes(bytes).exponent_at_most().map(Exponent::get), Some(10));
        assert_eq!(Target::from_le_bytes([0; 32]).exponent_at_most(), None);
    }

    #[test]
    fn compact_targets_expand_as_bitcoin_core_does() {
        let regtest = Target::from_compact(0x207f_ffff).unwrap().to_be_bytes();
        assert_eq!(regtest[..4], [0x7f, 0xff, 0xff, 0]);
        let genesis = Target::from_compact(0x1d00_ffff).unwrap().to_be_bytes();
        assert_eq!(genesis[..7], [0, 0, 0, 0, 0xff, 0xff, 0]);
        assert_eq!(Target::from_compact(0x0112_3456).unwrap().to_le_bytes()[0], 0x12);
        for bits in [0, 0x0080_0001, 0x0412_3456 | 0x0080_0000, 0xff12_3456, 0x0100_3456] {
            assert_eq!(Target::from_compact(bits), Err(CompactTargetError(bits)));
        }
    }
}
