//! `log2 c` and `c log2 c` of integers in fixed point, computed with integers only: the same bits on every machine.

use std::sync::LazyLock;

use crate::fixed::FRACTION_BITS;

/// Counts below this are looked up; above, 60 multiplications are done.
const TABLE_SIZE: usize = 4096;

static TABLE: LazyLock<Box<[i128]>> = LazyLock::new(|| (0..TABLE_SIZE as u64).map(compute).collect());

/// `log2 value` with 60 fractional bits, too small by at most 2^-59; exact for powers of two. `value` is at least 1.
pub(crate) fn log2(value: u64) -> i128 {
    debug_assert!(value > 0, "log2 of 0");
    let shift = value.leading_zeros();
    let mut mantissa = value << shift; // in [1, 2) with 63 fractional bits
    let mut bits = i128::from(63 - shift);
    // squaring doubles the logarithm: each overflow beyond 2 is its next binary digit
    for _ in 0..FRACTION_BITS {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let digit = square >> 127;
        bits = (bits << 1) | digit as i128;
        mantissa = (square >> (63 + digit)) as u64;
    }
    bits
}

/// `count log2 count` with 60 fractional bits; 0 for 0.
pub(crate) fn count_log2_count(count: u64) -> i128 {
    match TABLE.get(count as usize) {
        Some(product) => *product,
        None => compute(count),
    }
}

fn compute(count: u64) -> i128 {
    if count == 0 { 0 } else { log2(count) * i128::from(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: f64 = (1_u64 << 60) as f64;

    #[test]
    fn powers_of_two_are_exact() {
        for exponent in 0..64 {
            assert_eq!(log2(1 << exponent), i128::from(exponent) << 60);
        }
    }

    #[test]
    fn logarithms_agree_with_the_standard_library() {
        for value in (1..5000).chain([99_999, 1_000_003, u64::from(u32::MAX), 1 << 53]) {
            let got = log2(value) as f64 / ONE;
            assert!((got - (value as f64).log2()).abs() < 1e-14, "log2 {value} = {got}");
        }
    }

    #[test]
    fn the_digits_of_log2_3_are_right() {
        // log2 3 = 1.58496250072115618145373894394781650875981440769248... (OEIS A020857), times 2^60
        let expected = 1_827_337_351_076_866_169_i128;
        assert!((0..=2).contains(&(expected - log2(3))), "{}", expected - log2(3));
    }

    #[test]
    fn table_and_computation_are_one() {
        for count in [0, 1, 2, 4095, 4096, 70_000] {
            assert_eq!(count_log2_count(count), compute(count));
        }
        assert_eq!(count_log2_count(0), 0);
        assert_eq!(count_log2_count(1), 0);
        assert_eq!(count_log2_count(4), 8 << 60);
    }
}
