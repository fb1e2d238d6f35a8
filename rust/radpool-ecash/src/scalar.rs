//! Secret scalars: numbers from 1 to n - 1, n the order of the curve, wiped when dropped.

use core::fmt;

use secp256k1::{SecretKey, constants::CURVE_ORDER};
use thiserror::Error;
use zeroize::Zeroizing;

/// A secret number from 1 to n - 1.
pub struct Scalar(SecretKey);

/// 32 bytes that are no scalar.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a scalar is 32 bytes, big-endian, above 0 and below the order of the curve")]
pub struct ScalarError;

/// 2^256 mod n, big-endian.
const TWO_256: [u8; 32] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x45, 0x51, 0x23, 0x19, 0x50, 0xb7, 0x5f,
    0xc4, 0x40, 0x2d, 0xa1, 0x73, 0x2f, 0xc9, 0xbe, 0xbf,
];

/// Subtracts the order from a 32-byte number that is not below it, in constant time.
fn reduced(number: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut difference = Zeroizing::new([0; 32]);
    let mut borrow = 0;
    for index in (0..32).rev() {
        let digit = 0x100 + u16::from(number[index]) - u16::from(CURVE_ORDER[index]) - borrow;
        difference[index] = (digit & 0xff) as u8;
        borrow = 1 - (digit >> 8);
    }
    // All ones when the number is below the order and stays as it is.
    let keep = 0u8.wrapping_sub(borrow as u8);
    for (digit, original) in difference.iter_mut().zip(number) {
        *digit = (*digit & !keep) | (original & keep);
    }
    difference
}

impl Scalar {
    /// Reads 32 big-endian bytes.
    ///
    /// # Errors
    /// [`ScalarError`] for 0, n and above, and for any other length.
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Self, ScalarError> {
        SecretKey::from_slice(bytes).map(Self).map_err(|_| ScalarError)
    }

    /// Reads 32 big-endian bytes modulo n; `None` when that is 0.
    pub(crate) fn from_be_bytes_mod_order(bytes: &[u8; 32]) -> Option<Self> {
        Self::from_be_bytes(reduced(bytes).as_slice()).ok()
    }

    /// Reads 64 big-endian bytes modulo n; `None` when that is 0.
    pub(crate) fn from_wide_be_bytes(bytes: &[u8; 64]) -> Option<Self> {
        let (high, low) = bytes.split_at(32);
        let high = Self::from_be_bytes_mod_order(high.try_into().expect("32 of 64 bytes"));
        let low = Self::from_be_bytes_mod_order(low.try_into().expect("32 of 64 bytes"));
        let two_256 = secp256k1::Scalar::from_be_bytes(TWO_256).expect("below the order");
        let shifted = high.map(|high| {
            Self(high.0.mul_tweak(&two_256).expect("a product of units of a field is not 0"))
        });
        match (shifted, low) {
            (Some(shifted), Some(low)) => shifted.plus(&low),
            (one, other) => one.or(other),
        }
    }

    /// The sum modulo n; `None` when that is 0.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        let mut addend = secp256k1::Scalar::from(other.0);
        let sum = self.0.add_tweak(&addend).map(Self).ok();
        addend.non_secure_erase();
        sum
    }

    /// The product with a public number modulo n.
    pub(crate) fn times(&self, factor: &Self) -> Self {
        Self(self.0.mul_tweak(&factor.0.into()).expect("a product of units of a field is not 0"))
    }

    /// The number, big-endian.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret_bytes())
    }

    pub(crate) const fn key(&self) -> &SecretKey {
        &self.0
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Scalar(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 64 bytes: 2^256 * high + low.
    fn wide(high: &[u8; 32], low: &[u8; 32]) -> [u8; 64] {
        [*high, *low].concat().try_into().unwrap()
    }

    fn small(number: u8) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[31] = number;
        bytes
    }

    fn order_plus(number: i8) -> [u8; 32] {
        let mut bytes = CURVE_ORDER;
        bytes[31] = bytes[31].checked_add_signed(number).unwrap();
        bytes
    }

    #[test]
    fn numbers_outside_1_to_n_are_refused() {
        assert!(Scalar::from_be_bytes(&order_plus(-1)).is_ok());
        assert!(Scalar::from_be_bytes(&small(1)).is_ok());
        for bytes in [&small(0), &order_plus(0), &order_plus(1), &[0xff; 32]] {
            assert_eq!(Scalar::from_be_bytes(bytes).unwrap_err(), ScalarError);
        }
        for len in [0, 31, 33] {
            assert_eq!(Scalar::from_be_bytes(&vec![1; len]).unwrap_err(), ScalarError);
        }
    }

    #[test]
    fn reduction_subtracts_the_order_once_and_only_when_it_must() {
        assert_eq!(*reduced(&order_plus(-1)), order_plus(-1));
        assert_eq!(*reduced(&order_plus(0)), [0; 32]);
        assert_eq!(*reduced(&order_plus(5)), small(5));
        assert_eq!(*reduced(&[0; 32]), [0; 32]);
        // 2^256 - 1 - n, one less than 2^256 mod n.
        let mut expected = TWO_256;
        expected[31] -= 1;
        assert_eq!(*reduced(&[0xff; 32]), expected);
        assert!(Scalar::from_be_bytes_mod_order(&order_plus(0)).is_none());
    }

    #[test]
    fn sixty_four_bytes_are_taken_modulo_the_order() {
        let value = |high: &[u8; 32], low: &[u8; 32]| {
            Scalar::from_wide_be_bytes(&wide(high, low)).map(|scalar| *scalar.expose())
        };
        assert_eq!(value(&small(0), &small(7)), Some(small(7)));
        assert_eq!(value(&small(1), &small(0)), Some(TWO_256));
        assert_eq!(value(&order_plus(0), &order_plus(3)), Some(small(3)));
        assert_eq!(value(&order_plus(0), &order_plus(0)), None);
        // 2^256 + (n - (2^256 mod n)) = n * something: 0.
        let opposite = Scalar::from_be_bytes(&TWO_256).unwrap().0.negate().secret_bytes();
        assert_eq!(value(&small(1), &opposite), None);
    }

    /// secrets: the text of a scalar does not show it.
    #[test]
    fn debug_is_redacted() {
        let scalar = Scalar::from_be_bytes(&[0x77; 32]).unwrap();
        assert_eq!(format!("{scalar:?}"), "Scalar(redacted)");
    }
}
