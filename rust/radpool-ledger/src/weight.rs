//! How shares are weighed: from the price of a template to the value of a share.
//!
//! Source: `spec/09-template-value.md`.

use radpool_units::{Exponent, Value};
use thiserror::Error;

/// What a template's price stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WeightMode {
    /// What a block of the template pays the pool, per expected hash of a block.
    Value = 1,
    /// The same for all templates of one difficulty.
    Difficulty = 2,
    /// The fees that a block of the template pays the pool; the subsidy is split by work.
    Slice = 3,
}

/// A rule that batches do not have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WeightError {
    /// No such mode.
    #[error("weight mode {0}: 1 value, 2 difficulty and 3 slice are defined")]
    Mode(u8),
    /// The base is beyond the ladder.
    #[error("a base of {0}: the ladder ends at 120")]
    Base(u8),
}

/// The rule that the shares of a batch are weighed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight {
    /// What prices stand for.
    pub mode: WeightMode,
    /// A price is in parts of 2^scale of a satoshi for each hash that a block takes.
    pub scale: u8,
    /// The lowest exponent: a share of it is worth the price.
    pub base: Exponent,
}

impl Weight {
    /// Reads a rule from its three bytes.
    ///
    /// # Errors
    /// [`WeightError`] when the mode is not defined or the base beyond the ladder.
    pub fn new(mode: u8, scale: u8, base: u8) -> Result<Self, WeightError> {
        let mode = match mode {
            1 => WeightMode::Value,
            2 => WeightMode::Difficulty,
            3 => WeightMode::Slice,
            other => return Err(WeightError::Mode(other)),
        };
        let base = Exponent::new(base.into()).map_err(|_| WeightError::Base(base))?;
        Ok(Self { mode, scale, base })
    }

    /// The three bytes: mode, scale, base.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        [self.mode as u8, self.scale, self.base.get()]
    }

    /// What a share is worth: `price * 2^(z - base)`; `None` below the base or past 2^128 - 1.
    #[must_use]
    pub fn value(self, price: u128, exponent: Exponent) -> Option<Value> {
        let doublings = exponent.get().checked_sub(self.base.get())?;
        (u32::from(doublings) <= price.leading_zeros()).then(|| Value(price << doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(base: u8) -> Weight {
        Weight::new(1, 112, base).unwrap()
    }

    fn z(zeros: u32) -> Exponent {
        Exponent::new(zeros).unwrap()
    }

    #[test]
    fn values_keep_to_both_sides_of_each_bound() {
        assert_eq!(weight(32).value(7, z(31)), None);
        assert_eq!(weight(32).value(7, z(32)), Some(Value(7)));
        assert_eq!(weight(32).value(7, z(52)), Some(Value(7 << 20)));
        assert_eq!(weight(0).value(u128::MAX, z(0)), Some(Value(u128::MAX)));
        assert_eq!(weight(0).value(u128::MAX, z(1)), None);
        assert_eq!(weight(0).value(1 << 7, z(120)), Some(Value(1 << 127)));
        assert_eq!(weight(0).value(1 << 8, z(120)), None);
        assert_eq!(weight(0).value(0, z(120)), Some(Value(0)));
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        for mode in 1..=3 {
            assert_eq!(Weight::new(mode, 112, 32).unwrap().to_bytes(), [mode, 112, 32]);
        }
        assert_eq!(Weight::new(0, 112, 32), Err(WeightError::Mode(0)));
        assert_eq!(Weight::new(4, 112, 32), Err(WeightError::Mode(4)));
        assert!(Weight::new(1, 255, 120).is_ok());
        assert_eq!(Weight::new(1, 0, 121), Err(WeightError::Base(121)));
    }
}
