//! Scalar products and norms of vectors of `f32` components, in `f64`.
//!
//! Eight sums run side by side and are added up pairwise at the end: an order that is fixed, so that all builds agree bit
//! for bit, and that the compiler can keep in vector registers.

/// The scalar product of two vectors of one length; finite where all components are.
#[must_use]
#[inline]
pub fn dot(left: &[f32], right: &[f32]) -> f64 {
    debug_assert_eq!(left.len(), right.len());
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += f64::from(left[lane]) * f64::from(right[lane]);
        }
    }
    for (sum, (left, right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum += f64::from(*left) * f64::from(*right);
    }
    pairwise(sums)
}

/// The Euclidean norm; finite for every vector of finite components.
#[must_use]
#[inline]
pub fn norm(vector: &[f32]) -> f64 {
    dot(vector, vector).sqrt()
}

pub(crate) fn pairwise(sums: [f64; 8]) -> f64 {
    ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_scalar_product_is_the_sum_of_the_products(
            vectors in prop::collection::vec((-1e38_f32..1e38, -1e38_f32..1e38), 1..70)
        ) {
            let (left, right): (Vec<f32>, Vec<f32>) = vectors.iter().copied().unzip();
            let products = || vectors.iter().map(|(left, right)| f64::from(*left) * f64::from(*right));
            let size = products().map(f64::abs).sum::<f64>();
            prop_assert!((dot(&left, &right) - products().sum::<f64>()).abs() <= 1e-14 * size);
            prop_assert_eq!(dot(&left, &right), dot(&right, &left));
        }

        #[test]
        fn a_norm_is_the_root_of_the_sum_of_squares(vector in prop::collection::vec(-1e38_f32..1e38, 1..70)) {
            let naive = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
            prop_assert!((norm(&vector) - naive).abs() <= 1e-14 * naive);
        }
    }

    #[test]
    fn the_sums_are_added_up_in_the_documented_order() {
        // 2^60 + 1 is 2^60: what order the ones meet the large numbers in decides what is left
        let (large, one) = (f32::from_bits((127 + 60) << 23), 1.0);
        let ones = [1.0; 9];
        assert_eq!(dot(&[large, one, -large, one, 0.0, 0.0, 0.0, 0.0, 0.0], &ones), 0.0);
        assert_eq!(dot(&[large, -large, one, one, 0.0, 0.0, 0.0, 0.0, 0.0], &ones), 2.0);
        // the ninth joins the first sum
        assert_eq!(dot(&[large, one, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -large], &ones), 1.0);
    }

    #[test]
    fn the_smallest_and_the_largest_vectors_have_norms() {
        assert!(norm(&[0.0, f32::from_bits(1)]) > 0.0);
        assert!(norm(&[f32::MAX; 4096]).is_finite());
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
        assert_eq!(norm(&[]), 0.0);
    }
}
