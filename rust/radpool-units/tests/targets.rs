//! Targets and the ladder against plain definitions on big-endian digits.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::{
    prelude::*,
    test_runner::{FailurePersistence, FileFailurePersistence},
};
use radpool_units::{CompactTargetError, Exponent, Hash256, Target, Work};

fn kept() -> Option<Box<dyn FailurePersistence>> {
    Some(Box::new(FileFailurePersistence::Direct("tests/regressions/targets.txt")))
}

/// Numbers of every size, not only those near 2^256.
fn number() -> impl Strategy<Value = [u8; 32]> {
    (any::<[u8; 32]>(), 0usize..=32).prop_map(|(mut bytes, length)| {
        bytes[length..].fill(0);
        bytes
    })
}

/// Bitcoin's definition, byte by byte from the other end: `mantissa * 256^(size - 3)`.
fn expand(bits: u32) -> Option<[u8; 32]> {
    let size = (bits >> 24) as usize;
    let mut digits = (bits & 0x007f_ffff).to_be_bytes()[1..].to_vec();
    if size < 3 {
        digits.truncate(size);
    } else {
        digits.resize(size, 0);
    }
    let significant: Vec<_> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
    if significant.is_empty() || significant.len() > 32 || bits & 0x0080_0000 != 0 {
        return None;
    }
    let mut target = [0; 32];
    target[32 - significant.len()..].copy_from_slice(&significant);
    Some(target)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: kept(), ..ProptestConfig::with_cases(5000) })]

    #[test]
    fn order_is_that_of_the_numbers(left in number(), right in number()) {
        let (left, right) = (Target::from_le_bytes(left), Target::from_le_bytes(right));
        prop_assert_eq!(left.cmp(&right), left.to_be_bytes().cmp(&right.to_be_bytes()));
        prop_assert_eq!(left == right, left.cmp(&right).is_eq());
        prop_assert_eq!(right.is_met_by(&Hash256(left.to_le_bytes())), left <= right);
    }

    #[test]
    fn compact_targets_follow_the_definition(bits in prop_oneof![
        any::<u32>(),
        (0u32..36, any::<u32>()).prop_map(|(size, mantissa)| size << 24 | mantissa >> 8),
    ]) {
        let found = Target::from_compact(bits).map(Target::to_be_bytes);
        prop_assert_eq!(found, expand(bits).ok_or(CompactTargetError(bits)));
    }

    /// The step found is met by the target and the next easier one is not.
    #[test]
    fn the_ladder_step_is_the_easiest_that_fits(bytes in number()) {
        let target = Target::from_le_bytes(bytes);
        match target.exponent_at_most() {
            Some(exponent) => {
                prop_assert!(exponent.target() <= target);
                if let Some(easier) = exponent.get().checked_sub(1) {
                    prop_assert!(Exponent::new(u32::from(easier)).unwrap().target() > target);
                }
            }
            None => prop_assert!(Exponent::MAX.target() > target),
        }
    }

    #[test]
    fn counting_zeros_is_comparing_with_the_target(bytes in number(), zeros in 0u32..=120) {
        let (hash, exponent) = (Hash256(bytes), Exponent::new(zeros).unwrap());
        prop_assert_eq!(exponent.is_met_by(&hash), exponent.target().is_met_by(&hash));
    }
}

#[test]
fn work_times_target_is_the_whole_range() {
    for zeros in 0..=120 {
        let exponent = Exponent::new(zeros).unwrap();
        assert_eq!(exponent.work(), Work(1 << zeros));
        // target + 1 = 2^(256 - z): adding one carries into exactly that bit.
        let mut sum = exponent.target().to_le_bytes();
        let carried = sum.iter_mut().all(|byte| {
            let (next, carry) = byte.overflowing_add(1);
            *byte = next;
            carry
        });
        assert_eq!(carried, zeros == 0);
        let mut expected = [0; 32];
        if zeros > 0 {
            expected[(256 - zeros as usize) / 8] = 1 << ((256 - zeros) % 8);
        }
        assert_eq!(sum, expected, "{zeros}");
    }
}

#[test]
fn steps_outside_the_ladder_are_refused() {
    assert_eq!(Exponent::new(120).unwrap(), Exponent::MAX);
    for zeros in [121, 255, 256, u32::MAX] {
        let error = Exponent::new(zeros).unwrap_err();
        let text = format!("exponent z = {zeros} is outside the ladder: give 0 to 120");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_target_shows_its_most_significant_digits_first() {
    let mut bytes = [0; 32];
    bytes[31] = 0xab;
    let text = format!("Target(0xab{})", "0".repeat(62));
    assert_eq!(format!("{:?}", Target::from_le_bytes(bytes)), text);
}
