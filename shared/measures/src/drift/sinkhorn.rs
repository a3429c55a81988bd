//! The Sinkhorn divergence of two samples of vectors: an entropic optimal transport in all dimensions at once, to check
//! sliced distances against.

use nalgebra::{DMatrix, SymmetricEigen};

/// Vectors of more dimensions are reduced to as many principal ones.
const MAX_DIMENSIONS: usize = 32;

/// The marginals are looked at after each tenth iteration, and are as good as reached when they are off by less.
const TOLERANCE: f64 = 1e-9;

/// How a divergence is computed. It takes about `3 * 2 * iterations` exponentials for each pair of vectors: at 256 against
/// 256 and 50 iterations some 20 million.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinkhorn {
    /// The weight of the entropy, relative to the largest cost; above 0.
    pub epsilon: f64,
    /// The most iterations, at least 1.
    pub iterations: u32,
}

impl Sinkhorn {
    /// The debiased divergence `S(a, b) - (S(a, a) + S(b, b)) / 2` of two samples with equal weights, 0 for equal ones. `S` is
    /// the transport's cost: squared Euclidean distances divided by the largest of all, after a principal component analysis
    /// of both samples pooled where there are more than 32 dimensions. Iterates in the log domain, as POT's `ot.sinkhorn2` with
    /// `sinkhorn_log` does.
    ///
    /// `None` where a side is empty.
    #[must_use]
    pub fn divergence(&self, left: &[Vec<f64>], right: &[Vec<f64>]) -> Option<f64> {
        if left.is_empty() || right.is_empty() {
            return None;
        }
        let pooled: Vec<Vec<f64>> = left.iter().chain(right).cloned().collect();
        let pooled = if pooled[0].len() > MAX_DIMENSIONS { principal_components(&pooled) } else { pooled };
        let (left, right) = pooled.split_at(left.len());
        let costs = pooled.iter().flat_map(|one| pooled.iter().map(|other| squared_distance(one, other)));
        let largest = costs.fold(0.0, f64::max);
        if largest == 0.0 {
            return Some(0.0);
        }
        let cost = |left: &[Vec<f64>], right: &[Vec<f64>]| self.cost(left, right, largest);
        Some(cost(left, right) - (cost(left, left) + cost(right, right)) / 2.0)
    }

    /// The cost of the entropic transport between two samples.
    fn cost(&self, left: &[Vec<f64>], right: &[Vec<f64>], largest: f64) -> f64 {
        let costs: Vec<Vec<f64>> =
            left.iter().map(|one| right.iter().map(|other| squared_distance(one, other) / largest).collect()).collect();
        let kernel: Vec<Vec<f64>> =
            costs.iter().map(|row| row.iter().map(|cost| -cost / self.epsilon).collect()).collect();
        let log_left = -(left.len() as f64).ln();
        let log_right = -(right.len() as f64).ln();
        let (mut rows, mut columns) = (vec![0.0; left.len()], vec![0.0; right.len()]);
        for iteration in 0..self.iterations {
            for (j, column) in columns.iter_mut().enumerate() {
                *column = log_right - log_sum_exp(kernel.iter().zip(&rows).map(|(kernel, row)| kernel[j] + row));
            }
            for (kernel, row) in kernel.iter().zip(&mut rows) {
                *row = log_left - log_sum_exp(kernel.iter().zip(&columns).map(|(kernel, column)| kernel + column));
            }
            if iteration % 10 == 0 && marginal_error(&kernel, &rows, &columns) < TOLERANCE {
                break;
            }
        }
        let mut total = 0.0;
        for ((costs, kernel), row) in costs.iter().zip(&kernel).zip(&rows) {
            for ((cost, kernel), column) in costs.iter().zip(kernel).zip(&columns) {
                total += cost * (kernel + row + column).exp();
            }
        }
        total
    }
}

/// How far the plan's right marginal is from equal weights, as a Euclidean distance.
fn marginal_error(kernel: &[Vec<f64>], rows: &[f64], columns: &[f64]) -> f64 {
    let weight = 1.0 / columns.len() as f64;
    let mut squares = 0.0;
    for (j, column) in columns.iter().enumerate() {
        let sum: f64 = kernel.iter().zip(rows).map(|(kernel, row)| (kernel[j] + row + column).exp()).sum();
        squares += (sum - weight) * (sum - weight);
    }
    squares.sqrt()
}

/// `ln sum exp` of finite values, without overflow.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + values.map(|value| (value - largest).exp()).sum::<f64>().ln()
}

fn squared_distance(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum()
}

/// The vectors in the coordinates of their principal axes of largest variance.
fn principal_components(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut centred = DMatrix::from_fn(vectors.len(), vectors[0].len(), |row, column| vectors[row][column]);
    for mut column in centred.column_iter_mut() {
        let mean = column.iter().sum::<f64>() / vectors.len() as f64;
        column.add_scalar_mut(-mean);
    }
    let eigen = SymmetricEigen::new(centred.transpose() * &centred);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|one, other| eigen.eigenvalues[*other].total_cmp(&eigen.eigenvalues[*one]).then(one.cmp(other)));
    let axes = eigen.eigenvectors.select_columns(&order[..MAX_DIMENSIONS]);
    (centred * axes).row_iter().map(|row| row.iter().copied().collect()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SplitMix64;
    use super::*;

    const DEFAULT: Sinkhorn = Sinkhorn { epsilon: 0.01, iterations: 50 };

    const POT: [f64; 3] = [0.08780297490275082, 0.36580501950210514, 0.5454764633389414];

    fn normals(sequence: &mut SplitMix64, count: usize, dimensions: usize, shift: f64) -> Vec<Vec<f64>> {
        let pairs = std::iter::from_fn(|| Some(sequence.next_normals())).flatten();
        let values: Vec<f64> = pairs.take(count * dimensions).collect();
        values.chunks(dimensions).map(|values| values.iter().map(|value| value + shift).collect()).collect()
    }

    /// The values are those of POT 0.9.7 and numpy on the same samples.
    #[test]
    fn divergences_are_those_of_pot() {
        let cases = [(40, 50, 5, 0.5, POT[0]), (20, 30, 40, 0.3, POT[1]), (60, 10, 64, 1.0, POT[2])];
        for (left, right, dimensions, shift, expected) in cases {
            let mut sequence = SplitMix64::new(9);
            let left = normals(&mut sequence, left, dimensions, 0.0);
            let right = normals(&mut sequence, right, dimensions, shift);
            let divergence = DEFAULT.divergence(&left, &right).unwrap();
            assert!((divergence - expected).abs() < 1e-9, "{dimensions} dimensions: {divergence}, not {expected}");
        }
    }

    #[test]
    fn degenerate_samples_have_an_answer() {
        let one = vec![vec![1.0, 2.0]];
        assert_eq!(DEFAULT.divergence(&one, &one), Some(0.0));
        assert_eq!(DEFAULT.divergence(&one, &[]), None);
        // all cost of the only plan, which is the largest cost itself
        let divergence = DEFAULT.divergence(&one, &[vec![4.0, 6.0]]).unwrap();
        assert!((divergence - 1.0).abs() < 1e-12, "{divergence}");
        // fewer vectors than dimensions that stay
        let mut sequence = SplitMix64::new(3);
        let (left, right) = (normals(&mut sequence, 2, 50, 0.0), normals(&mut sequence, 3, 50, 0.0));
        assert!(DEFAULT.divergence(&left, &right).unwrap().is_finite());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn equal_samples_do_not_diverge_and_principal_axes_keep_distances_of_few_vectors(seed: u64, count in 2_usize..12) {
            let sample = normals(&mut SplitMix64::new(seed), count, 40, 0.0);
            prop_assert!(DEFAULT.divergence(&sample, &sample).unwrap().abs() < 1e-12);
            let reduced = principal_components(&sample);
            for (one, one_reduced) in sample.iter().zip(&reduced) {
                for (other, other_reduced) in sample.iter().zip(&reduced) {
                    let (before, after) = (squared_distance(one, other), squared_distance(one_reduced, other_reduced));
                    prop_assert!((before - after).abs() < 1e-9 * (1.0 + before), "{} became {}", before, after);
                }
            }
        }
    }
}
