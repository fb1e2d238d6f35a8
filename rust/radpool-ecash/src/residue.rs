//! Which token a share earns whose value need not be a round number of units.
//!
//! A claimant keeps an exact residue. A share's value joins it, the share's token is the largest
//! amount of the keyset that costs no more than the sum, and the rest stays. Values are hashes where
//! a unit costs `2^z0` of them, otherwise what templates pay.
//!
//! Source: `spec/06-work-tokens.md`, "What a share earns".

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
    /// What stays with the claimant.
    pub residue: u128,
}

/// A sum that has no exact answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ResidueError {
    /// Residue and value exceed 2^128 - 1.
    #[error("a residue of {residue} and a value of {value} exceed 2^128 - 1")]
    Overflow { residue: u128, value: u128 },
    /// The unit is no step of the ladder.
    #[error("the unit 2^{0} is outside the ladder: 2^{EXPONENT_MAX} is the largest")]
    Unit(u8),
    /// A unit costs nothing.
    #[error("a unit that costs nothing: every share would be worth any number of them")]
    Free,
}

/// The step of the largest token: 63 above the unit, or where the ladder ends.
#[must_use]
pub fn largest_exponent(unit_exponent: u8) -> u8 {
    unit_exponent.saturating_add(STEPS_MAX).min(EXPONENT_MAX)
}

/// Splits `residue + value` into one token and a rest: a unit, the token of exponent
/// `unit_exponent`, costs `unit_value`.
///
/// # Errors
/// [`ResidueError`] when the sum overflows, or a unit costs nothing or is outside the ladder.
pub fn denominate(
    residue: u128,
    value: u128,
    unit_exponent: u8,
    unit_value: u128,
) -> Result<Token, ResidueError> {
    if unit_exponent > EXPONENT_MAX {
        return Err(ResidueError::Unit(unit_exponent));
    }
    let sum = residue.checked_add(value).ok_or(ResidueError::Overflow { residue, value })?;
    let units = sum.checked_div(unit_value).ok_or(ResidueError::Free)?;
    let steps_max = largest_exponent(unit_exponent) - unit_exponent;
    // ilog2 of a u128 is at most 127.
    let steps = units.checked_ilog2().map(|log| (log as u8).min(steps_max));
    // 2^steps is at most the units that the sum pays for.
    let residue = sum - steps.map_or(0, |steps| unit_value << steps);
    Ok(Token { exponent: steps.map(|steps| unit_exponent + steps), residue })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_worth_its_work_leaves_nothing() {
        for exponent in 0..=63 {
            let token = denominate(0, 1 << exponent, 0, 1).unwrap();
            assert_eq!(token, Token { exponent: Some(exponent), residue: 0 });
        }
    }

    #[test]
    fn bounds_are_exact() {
        let token = |residue, value, unit| denominate(residue, value, unit, 1 << unit).unwrap();
        assert_eq!(token(0, 0, 0), Token { exponent: None, residue: 0 });
        assert_eq!(token(0, 255, 8), Token { exponent: None, residue: 255 });
        assert_eq!(token(1, 255, 8), Token { exponent: Some(8), residue: 0 });
        assert_eq!(token(0, 511, 8), Token { exponent: Some(8), residue: 255 });
        // The largest amount is 2^63 units, and no step is above 120.
        assert_eq!(token(0, 1 << 64, 0), Token { exponent: Some(63), residue: 1 << 63 });
        assert_eq!(token(0, 1 << 121, 100), Token { exponent: Some(120), residue: 1 << 120 });
        assert_eq!(
            denominate(u128::MAX, 1, 0, 1),
            Err(ResidueError::Overflow { residue: u128::MAX, value: 1 })
        );
        assert_eq!(denominate(0, 1, 121, 1), Err(ResidueError::Unit(121)));
        assert_eq!(denominate(0, 1, 0, 0), Err(ResidueError::Free));
    }

    #[test]
    fn units_may_cost_any_number() {
        let token = |residue, value, unit| denominate(residue, value, 8, unit).unwrap();
        assert_eq!(token(0, 999, 1000), Token { exponent: None, residue: 999 });
        assert_eq!(token(1, 999, 1000), Token { exponent: Some(8), residue: 0 });
        assert_eq!(token(0, 3999, 1000), Token { exponent: Some(9), residue: 1999 });
        assert_eq!(token(1, 3999, 1000), Token { exponent: Some(10), residue: 0 });
        // A cost of 2^127 leaves room for one unit, and the largest sum for no overflow.
        let most = denominate(0, u128::MAX, 0, 1 << 127).unwrap();
        assert_eq!(most, Token { exponent: Some(0), residue: (1 << 127) - 1 });
        let most = denominate(0, u128::MAX, 0, 3).unwrap();
        assert_eq!(most, Token { exponent: Some(63), residue: u128::MAX - (3 << 63) });
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_rest_is_small(
            values in prop::collection::vec(0u128..1 << 70, 1..50),
            unit in 0u8..40,
            cost in 1u128..1 << 60,
        ) {
            let (mut residue, mut earned) = (0, 0);
            for value in &values {
                let sum = residue + value;
                let token = denominate(residue, *value, unit, cost).unwrap();
                residue = token.residue;
                let price = token.exponent.map_or(0, |exponent| cost << (exponent - unit));
                earned += price;
                let is_largest = token.exponent == Some(unit + STEPS_MAX) || residue < price;
                prop_assert!(is_largest || (price == 0 && residue < cost));
                prop_assert_eq!(price + residue, sum);
            }
            prop_assert_eq!(earned + residue, values.iter().sum::<u128>());
        }
    }
}
