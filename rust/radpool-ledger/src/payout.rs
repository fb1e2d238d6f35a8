//! Splitting a reward by weight: largest remainder, exact to the satoshi.
//!
//! Source: `spec/04-epoch-accounting.md`.

use radpool_units::{Sats, TaggedHasher};
use thiserror::Error;

use crate::Rail;

/// Whom a part of a reward goes to, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The owner's commitment.
    pub commitment: [u8; 32],
    /// How the owner is paid.
    pub rail: Rail,
    /// The owner's value, or work, in the epochs that the reward pays for.
    pub weight: u128,
}

/// The work of all shares, or the weight of all claims, exceeds 2^128 - 1.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the weights together exceed 2^128 - 1")]
pub struct WorkOverflowError;

/// Splits `reward` over `claims` in proportion to their weight, by largest remainder.
///
/// Equal remainders go by the tagged hash of block hash, commitment and rail, the lowest first.
/// Returns the parts in the order of `claims`, or `None` when no claim has weight: then there is
/// nobody to pay, and the reward is carried.
///
/// # Errors
/// [`WorkOverflowError`] when the claims cannot be summed.
pub fn split_reward(
    reward: Sats,
    claims: &[Claim],
    block_hash: &[u8; 32],
) -> Result<Option<Vec<Sats>>, WorkOverflowError> {
    let total = claims
        .iter()
        .try_fold(0u128, |sum, claim| sum.checked_add(claim.weight))
        .ok_or(WorkOverflowError)?;
    if total == 0 {
        return Ok(None);
    }
    let tie = TaggedHasher::new("radpool/tie");
    let mut parts = Vec::with_capacity(claims.len());
    let mut order = Vec::with_capacity(claims.len());
    let mut left = reward.0;
    for (index, claim) in claims.iter().enumerate() {
        let (part, remainder) = multiply_divide(reward.0, claim.weight, total);
        left -= part;
        parts.push(Sats(part));
        let lot = tie.hash(&[block_hash, &claim.commitment, &[claim.rail as u8]]);
        order.push((core::cmp::Reverse(remainder), lot, index));
    }
    order.sort_unstable();
    // Fewer satoshis are left than claims have a remainder, so the zip hands all of them out.
    for (_, (_, _, index)) in (0..left).zip(order) {
        parts[index].0 += 1;
    }
    Ok(Some(parts))
}

/// Computes `factor * part / whole` rounded down, and what remains; `part <= whole`, `whole > 0`.
///
/// The product needs 192 bits, so it is built bit by bit and kept reduced.
fn multiply_divide(factor: u64, part: u128, whole: u128) -> (u64, u128) {
    let (mut quotient, mut remainder) = (0u64, 0u128);
    for bit in (0..u64::BITS - factor.leading_zeros()).rev() {
        quotient <<= 1;
        add_reduced(&mut quotient, &mut remainder, None, whole);
        if factor >> bit & 1 == 1 {
            add_reduced(&mut quotient, &mut remainder, Some(part), whole);
        }
    }
    (quotient, remainder)
}

/// Adds `addend`, or the remainder itself, to the remainder, and moves a whole into the quotient.
fn add_reduced(quotient: &mut u64, remainder: &mut u128, addend: Option<u128>, whole: u128) {
    let addend = addend.unwrap_or(*remainder);
    // remainder + addend may need 129 bits: compare with what is missing to a whole instead.
    if addend >= whole - *remainder {
        *remainder = addend - (whole - *remainder);
        *quotient += 1;
    } else {
        *remainder += addend;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(works: &[u128]) -> Vec<Claim> {
        let claim = |(index, work): (usize, &u128)| Claim {
            commitment: [index as u8; 32],
            rail: Rail::Account,
            weight: *work,
        };
        works.iter().enumerate().map(claim).collect()
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_reward_and_miss_the_quota_by_less_than_one(
            reward in 0u64..=u64::MAX / 2,
            works in prop::collection::vec(0u128..1 << 122, 1..40),
        ) {
            let total: u128 = works.iter().sum();
            let Some(parts) = split_reward(Sats(reward), &claims(&works), &[7; 32]).unwrap() else {
                prop_assert_eq!(total, 0);
                return Ok(());
            };
            prop_assert_eq!(parts.iter().map(|part| u128::from(part.0)).sum::<u128>(), reward.into());
            for (part, work) in parts.iter().zip(&works) {
                let (floor, remainder) = multiply_divide(reward, *work, total);
                prop_assert!(part.0 == floor || (part.0 == floor + 1 && remainder > 0));
            }
        }

        #[test]
        fn division_agrees_with_128_bits_where_they_suffice(
            factor in any::<u64>(), part in 0u128..=u64::MAX.into(), more in 1u128..=u64::MAX.into(),
        ) {
            let whole = part + more;
            let product = u128::from(factor) * part;
            let expected = ((product / whole) as u64, product % whole);
            prop_assert_eq!(multiply_divide(factor, part, whole), expected);
        }
    }

    #[test]
    fn sums_past_128_bits_are_refused_and_no_work_is_nobody() {
        let reward = Sats(5);
        let halves = claims(&[1 << 127, 1 << 127]);
        assert_eq!(split_reward(reward, &halves, &[0; 32]), Err(WorkOverflowError));
        assert_eq!(split_reward(reward, &claims(&[0, 0]), &[0; 32]), Ok(None));
        assert_eq!(split_reward(reward, &[], &[0; 32]), Ok(None));
        let alone = claims(&[u128::MAX]);
        assert_eq!(split_reward(Sats(u64::MAX), &alone, &[0; 32]), Ok(Some(vec![Sats(u64::MAX)])));
    }
}
