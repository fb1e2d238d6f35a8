//! Difficulty as SV1 knows it, on the ladder of powers of two.
//!
//! Step z of the ladder is difficulty 2^(z-32). Firmware compares with 0xffff * 2^208 / difficulty,
//! which is stricter than the step's target by one part in 65,536: no share of a device is below the
//! step. Many firmwares keep difficulty in an integer, so above 1 only whole numbers are sent; below
//! 1 an exact decimal fraction, without an exponent, which every reader of numbers takes.

use radpool_units::{Exponent, Hash256, Target};

/// The step of difficulty 1.
pub const DIFFICULTY_1: u8 = 32;

/// The hardest step that is told to a device: readers of JSON hold whole numbers below 2^63.
pub const EXPONENT_TOLD_MAX: u8 = DIFFICULTY_1 + 62;

/// The hardest step whose target is not stricter than `target`.
#[must_use]
pub fn exponent_of(target: Target) -> Exponent {
    let zeros = Hash256(target.to_le_bytes()).leading_zero_bits();
    Exponent::new(zeros.min(EXPONENT_TOLD_MAX.into())).expect("the cap is a step of the ladder")
}

/// Writes the difficulty of a step.
pub fn write_difficulty(exponent: Exponent, out: &mut Vec<u8>) {
    let zeros = exponent.get().min(EXPONENT_TOLD_MAX);
    let text = match zeros.checked_sub(DIFFICULTY_1) {
        Some(doublings) => (1_u64 << doublings).to_string(),
        None => {
            // 2^-k is 5^k / 10^k.
            let digits = usize::from(DIFFICULTY_1 - zeros);
            format!("0.{:0digits$}", 5_u128.pow(digits as u32))
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// The hardest step that is not harder than a difficulty which a device or its owner asks for;
/// `None` when the number is none that can be meant.
#[must_use]
pub fn exponent_asked(difficulty: f64) -> Option<Exponent> {
    if !difficulty.is_finite() || difficulty <= 0.0 {
        return None;
    }
    let step = difficulty.log2().floor() + f64::from(DIFFICULTY_1);
    let step = step.clamp(0.0, f64::from(EXPONENT_TOLD_MAX));
    Exponent::new(step as u32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(zeros: u32) -> String {
        let mut out = Vec::new();
        write_difficulty(Exponent::new(zeros).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn difficulties_are_whole_powers_of_two_or_exact_fractions() {
        assert_eq!(
            (told(32), told(42), told(94)),
            ("1".into(), "1024".into(), (1u64 << 62).to_string())
        );
        assert_eq!((told(31), told(29)), ("0.5".into(), "0.125".into()));
        assert_eq!(told(0), "0.00000000023283064365386962890625");
        assert_eq!(told(120), told(94));
        for zeros in 0..=32 {
            let value: f64 = told(zeros).parse().unwrap();
            assert_eq!(value, 2f64.powi(zeros as i32 - 32));
        }
    }

    #[test]
    fn targets_between_two_steps_are_rounded_to_the_easier_one() {
        for zeros in 1..=94 {
            let step = Exponent::new(zeros).unwrap();
            assert_eq!(exponent_of(step.target()), step);
            // A little stricter than the step, and a little easier.
            let mut below = step.target().to_le_bytes();
            below[0] = 0;
            assert_eq!(exponent_of(Target::from_le_bytes(below)), step);
        }
        // Difficulty 1000 as foreign pools compute it.
        let mut target = [0; 32];
        target[20..28].copy_from_slice(&(0xffff_0000_0000_0000 / 1000_u64).to_le_bytes());
        assert_eq!(exponent_of(Target::from_le_bytes(target)).get(), 32 + 9);
        assert_eq!(exponent_of(Target::from_le_bytes([0; 32])).get(), EXPONENT_TOLD_MAX);
        assert_eq!(exponent_of(Target::MAX).get(), 0);
    }

    #[test]
    fn a_device_at_the_told_difficulty_never_misses_the_step() {
        // 0xffff * 2^208 / 2^k <= 2^(224-k) - 1, as 0xffff < 2^16.
        for k in 0..=62 {
            let step = Exponent::new(32 + k).unwrap().target().to_be_bytes();
            let mut device = [0u8; 32];
            device[4..6].copy_from_slice(&[0xff, 0xff]);
            let mut device = device.to_vec();
            for _ in 0..k {
                let mut carry = 0;
                for byte in &mut device {
                    let next = *byte & 1;
                    *byte = *byte >> 1 | carry << 7;
                    carry = next;
                }
            }
            assert!(device.as_slice() <= step.as_slice(), "{k}");
        }
    }

    #[test]
    fn what_is_asked_for_is_rounded_down_and_kept_in_bounds() {
        let asked = |difficulty| exponent_asked(difficulty).map(|exponent| exponent.get());
        assert_eq!(asked(1.0), Some(32));
        assert_eq!((asked(1023.9), asked(1024.0), asked(1e30)), (Some(41), Some(42), Some(94)));
        assert_eq!((asked(0.001), asked(1e-12)), (Some(22), Some(0)));
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(asked(nonsense), None);
        }
    }
}
