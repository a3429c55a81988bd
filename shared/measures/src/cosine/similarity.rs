//! Cosine similarity, and its decay with time.

use crate::vector::dot;

const MILLIS_PER_HOUR: f64 = 3_600_000.0;

/// The cosine of the angle between two vectors of one length, from -1 to 1; both have finite components, not all 0.
/// Exactly 1 for a vector with itself.
#[must_use]
#[inline]
pub fn cosine(left: &[f32], right: &[f32]) -> f64 {
    Side::new(left).cosine(right)
}

/// One side of many cosines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side<'a> {
    vector: &'a [f32],
    squares: f64,
}

impl<'a> Side<'a> {
    /// A vector with finite components, not all 0.
    #[must_use]
    #[inline]
    pub fn new(vector: &'a [f32]) -> Self {
        Self { vector, squares: dot(vector, vector) }
    }

    /// [`cosine`] with another vector.
    #[must_use]
    #[inline]
    pub fn cosine(&self, other: &[f32]) -> f64 {
        // one root of the product: sqrt(s * s) is s, the product of two roots need not be. Squares of f32 lie between
        // 1e-90 and 1e78, so that products of their sums are well inside of f64's range.
        (dot(self.vector, other) / (self.squares * dot(other, other)).sqrt()).clamp(-1.0, 1.0)
    }
}

/// The factor that is left after `millis` at a decay of `lambda` per hour: `exp(-lambda hours)`.
#[must_use]
#[inline]
pub fn decay(lambda: f64, millis: i64) -> f64 {
    (-lambda * millis as f64 / MILLIS_PER_HOUR).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(length: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1.0_f32..1.0, length).prop_filter("a direction", |v| v.iter().any(|x| x.abs() > 1e-3))
    }

    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1_usize..70).prop_flat_map(|length| (vector(length), vector(length)))
    }

    #[test]
    fn angles_by_hand() {
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
        assert_eq!(cosine(&[1.0, 0.0], &[-3.0, 0.0]), -1.0);
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5_f64.sqrt()).abs() < 1e-15);
        // 3-4-5: (3 * 4 + 4 * 3) / 25
        assert_eq!(cosine(&[3.0, 4.0], &[4.0, 3.0]), 0.96);
    }

    #[test]
    fn the_smallest_and_the_largest_vectors_have_angles() {
        let (small, large) = ([f32::from_bits(1), 0.0], [f32::MAX; 2]);
        for (left, right) in [(small, small), (small, large), (large, large)] {
            let expected = if left == right { 1.0 } else { 0.5_f64.sqrt() };
            assert!((cosine(&left, &right) - expected).abs() < 1e-15, "{left:?} {right:?}");
        }
        assert_eq!(cosine(&[f32::MAX; 4096], &[-f32::MAX; 4096]), -1.0);
    }

    #[test]
    fn the_decay_of_a_day() {
        let day = 24 * 3_600_000;
        assert_eq!(format!("{:.3} {:.3}", decay(0.01, day), decay(0.05, day)), "0.787 0.301");
        assert_eq!(decay(0.02, 0), 1.0);
        assert_eq!(decay(0.0, day), 1.0);
        // half of it after ln 2 / lambda: 3600 ms an hour here, so that the product is exact
        assert!((decay(std::f64::consts::LN_2 * 1000.0, 3600) - 0.5).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn a_cosine_is_that_of_the_definition((left, right) in pair()) {
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let expected = product(&left, &right) / product(&left, &left).sqrt() / product(&right, &right).sqrt();
            prop_assert!((cosine(&left, &right) - expected).abs() < 1e-14);
            prop_assert_eq!(cosine(&left, &right), cosine(&right, &left));
        }

        #[test]
        fn a_vector_is_wholly_like_itself_and_like_its_multiples((vector, _) in pair(), exponent in -10_i32..10) {
            let factor = 2_f32.powi(exponent);
            let multiple: Vec<f32> = vector.iter().map(|component| component * factor).collect();
            prop_assert_eq!(cosine(&vector, &vector), 1.0);
            prop_assert_eq!(cosine(&vector, &multiple), 1.0);
        }
    }
}
