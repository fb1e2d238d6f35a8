//! Which token a share earns whose value is not the work of its tag.
//!
//! A channel keeps an exact residue in hashes. A share's value joins it, the share's token is the
//! largest step of the ladder not above the sum, and the rest stays.

use thiserror::Error;

/// Most steps above the unit: the largest amount of a keyset is 2^63 units.
const STEPS_MAX: u8 = 63;
/// The hardest step of the ladder.
const EXPONENT_MAX: u8 = 120;

/// What a share earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token's step of the ladder; `None` when the sum is below one unit.
    pub exponent: Option<u8>,
    /// What stays with the channel, in hashes.
    pub residue: u128,
}

/// A sum that has no exact answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ResidueError {
    /// Residue and value exceed 2^128 - 1.
    #[error("a residue of {residue} and a value of {value} hashes exceed 2^128 - 1")]
    Overflow { residue: u128, value: u128 },
    /// The unit is no step of the ladder.
    #[error("the unit 2^{0} is outside the ladder: 2^{EXPONENT_MAX} is the largest")]
    Unit(u8),
}

/// The step of the largest token: 63 above the unit, or where the ladder ends.
#[must_use]
pub fn largest_exponent(unit_exponent: u8) -> u8 {
    unit_exponent.saturating_add(STEPS_MAX).min(EXPONENT_MAX)
}

/// Splits `residue + value` hashes into one token and a rest; the unit is `2^unit_exponent` hashes.
///
/// # Errors
/// [`ResidueError`] when the sum overflows or the unit is outside the ladder.
pub fn denominate(residue: u128, value: u128, unit_exponent: u8) -> Result<Token, ResidueError> {
    if unit_exponent > EXPONENT_MAX {
        return Err(ResidueError::Unit(unit_exponent));
    }
    let sum = residue.checked_add(value).ok_or(ResidueError::Overflow { residue, value })?;
    let largest = largest_exponent(unit_exponent);
    // ilog2 of a u128 is at most 127.
    let exponent = sum.checked_ilog2().map(|log| (log as u8).min(largest));
    let exponent = exponent.filter(|exponent| *exponent >= unit_exponent);
    let residue = sum - exponent.map_or(0, |exponent| 1 << exponent);
    Ok(Token { exponent, residue })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_worth_its_work_leaves_nothing() {
        for exponent in 0..=63 {
            let token = denominate(0, 1 << exponent, 0).unwrap();
            assert_eq!(token, Token { exponent: Some(exponent), residue: 0 });
        }
    }

    #[test]
    fn bounds_are_exact() {
        let token = |residue, value, unit| denominate(residue, value, unit).unwrap();
        assert_eq!(token(0, 0, 0), Token { exponent: None, residue: 0 });
        assert_eq!(token(0, 255, 8), Token { exponent: None, residue: 255 });
        assert_eq!(token(1, 255, 8), Token { exponent: Some(8), residue: 0 });
        assert_eq!(token(0, 511, 8), Token { exponent: Some(8), residue: 255 });
        // The largest amount is 2^63 units, and no step is above 120.
        assert_eq!(token(0, 1 << 64, 0), Token { exponent: Some(63), residue: 1 << 63 });
        assert_eq!(token(0, 1 << 121, 100), Token { exponent: Some(120), residue: 1 << 120 });
        assert_eq!(
            denominate(u128::MAX, 1, 0),
            Err(ResidueError::Overflow { residue: u128::MAX, value: 1 })
        );
        assert_eq!(denominate(0, 1, 121), Err(ResidueError::Unit(121)));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_rest_is_small(
            values in prop::collection::vec(0u128..1 << 70, 1..50), unit in 0u8..40,
        ) {
            let (mut residue, mut earned) = (0, 0);
            for value in &values {
                let token = denominate(residue, *value, unit).unwrap();
                residue = token.residue;
                earned += token.exponent.map_or(0, |exponent| 1u128 << exponent);
            }
            prop_assert_eq!(earned + residue, values.iter().sum::<u128>());
        }
    }
}
