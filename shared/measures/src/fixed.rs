//! Sums that do not depend on their order: fixed point with 60 fractional bits in an `i128`.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// Fractional bits of a [`Fixed`].
pub(crate) const FRACTION_BITS: i32 = 60;

/// A number with 60 fractional bits; its range is about ±1.4e20, its resolution 8.7e-19.
///
/// Additions are exact, so what has been added can be taken back without a trace. Sums of up to 2^60 values below 128
/// cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fixed(i128);

impl Fixed {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The nearest fixed-point number (ties to even). `value` must be finite; values out of range saturate.
    #[must_use]
    pub fn from_f64(value: f64) -> Self {
        debug_assert!(value.is_finite(), "{value} is no number to sum");
        // scaling by a power of two is exact, so there is this one rounding only
        Self((value * power_of_two(FRACTION_BITS)).round_ties_even() as i128)
    }

    /// The number of units of 2^-60, for storing it.
    #[must_use]
    pub fn to_raw(self) -> i128 {
        self.0
    }

    /// The inverse of [`to_raw`](Self::to_raw).
    #[must_use]
    pub fn from_raw(raw: i128) -> Self {
        Self(raw)
    }

    /// `self / count` as the nearest `f64` (one rounding); `None` where `count` is 0.
    #[must_use]
    pub fn mean(self, count: u64) -> Option<f64> {
        if count == 0 {
            return None;
        }
        let magnitude = self.0.unsigned_abs();
        if magnitude == 0 {
            return Some(0.0);
        }
        // shifted to the top, the quotient has at least 64 bits: more than f64 keeps, so that the remainder only has
        // to break ties, which its lowest bit does
        let shift = magnitude.leading_zeros();
        let dividend = magnitude << shift;
        let divisor = u128::from(count);
        let quotient = (dividend / divisor) | u128::from(!dividend.is_multiple_of(divisor));
        let mean = quotient as f64 * power_of_two(-FRACTION_BITS - shift as i32);
        Some(if self.0 < 0 { -mean } else { mean })
    }
}

/// `2^exponent` for a normal exponent.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

impl Add for Fixed {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Fixed {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Fixed {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl SubAssign for Fixed {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Neg for Fixed {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mean_is_rounded_once() {
        let third = (Fixed::from_f64(1.0) + Fixed::ZERO).mean(3);
        assert_eq!(third, Some(1.0 / 3.0), "the nearest f64 to a third");
        assert_eq!(Fixed::from_f64(-7.0).mean(10), Some(-0.7));
        assert_eq!(Fixed::from_f64(2.5).mean(1), Some(2.5));
        assert_eq!(Fixed::ZERO.mean(5), Some(0.0));
        assert_eq!(Fixed::from_f64(2.5).mean(0), None);
    }

    #[test]
    fn the_smallest_unit_survives() {
        let unit = Fixed::from_raw(1);
        assert_eq!(unit.mean(1), Some(power_of_two(-60)));
        assert_eq!(Fixed::from_f64(power_of_two(-61)).to_raw(), 0, "half a unit goes to even");
        assert_eq!(Fixed::from_f64(3.0 * power_of_two(-61)).to_raw(), 2);
    }

    proptest! {
        #[test]
        fn a_quotient_of_integers_is_the_nearest_f64(numerator in -(1_i64 << 53)..(1_i64 << 53), count in 1_u64..(1 << 53)) {
            // both are exact in f64, and IEEE division rounds to the nearest
            prop_assert_eq!(Fixed::from_raw(i128::from(numerator) << 60).mean(count), Some(numerator as f64 / count as f64));
        }

        #[test]
        fn values_of_entropies_size_survive_unchanged(value in -16.0..16.0_f64) {
            let back = Fixed::from_f64(value).mean(1).unwrap();
            prop_assert!((back - value).abs() <= power_of_two(-61), "{} became {}", value, back);
        }

        #[test]
        fn what_is_added_in_any_order_and_taken_back_leaves_nothing(values in prop::collection::vec(-1e9..1e9_f64, 0..40)) {
            let mut sum = Fixed::ZERO;
            values.iter().for_each(|value| sum += Fixed::from_f64(*value));
            values.iter().rev().for_each(|value| sum -= Fixed::from_f64(*value));
            prop_assert_eq!(sum, Fixed::ZERO);
        }
    }
}
