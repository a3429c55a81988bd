//! Directions on which vectors are projected.

use super::split_mix::SplitMix64;
use crate::vector::pairwise;

/// Directions that are projected on at a time: their sums fit the registers of every 64-bit machine.
const LANES: usize = 16;

/// Unit vectors, drawn from a seed.
///
/// Every sum has one fixed order, and no operation is left to the compiler to fuse: all builds project alike, bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct Directions {
    count: usize,
    dimensions: usize,
    /// Blocks of [`LANES`] directions: for each component the values of the block's directions. Those that the last
    /// block has too many are zero.
    blocks: Box<[f64]>,
}

impl Directions {
    /// `count` directions in `dimensions` dimensions, both at least 1: normal values of one [`SplitMix64`] fill them one
    /// after the other, then each is divided by its norm.
    #[must_use]
    pub fn new(count: usize, dimensions: usize, seed: u64) -> Self {
        let mut sequence = SplitMix64::new(seed);
        let mut normals = Vec::with_capacity(count * dimensions + 1);
        while normals.len() < count * dimensions {
            normals.extend(sequence.next_normals());
        }
        let mut blocks = vec![0.0; count.div_ceil(LANES) * LANES * dimensions].into_boxed_slice();
        for (number, direction) in normals.chunks_exact(dimensions).take(count).enumerate() {
            let norm = sum_of_squares(direction).sqrt();
            for (component, value) in direction.iter().enumerate() {
                blocks[place(dimensions, number, component)] = value / norm;
            }
        }
        Self { count, dimensions, blocks }
    }

    /// Number of directions, `K`.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Components of a vector.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// A component of one of the directions.
    #[must_use]
    pub fn component(&self, direction: usize, component: usize) -> f64 {
        self.blocks[place(self.dimensions, direction, component)]
    }

    /// Projects a vector of [`dimensions`](Self::dimensions) components: one scalar product a direction, each summed up in
    /// the order of the components.
    #[inline]
    pub fn project(&self, vector: &[f32], into: &mut [f64]) {
        debug_assert_eq!((vector.len(), into.len()), (self.dimensions, self.count));
        for (block, into) in self.blocks.chunks_exact(LANES * self.dimensions).zip(into.chunks_mut(LANES)) {
            let mut sums = [0.0; LANES];
            for (component, directions) in vector.iter().zip(block.chunks_exact(LANES)) {
                let component = f64::from(*component);
                for (sum, direction) in sums.iter_mut().zip(directions) {
                    *sum += component * direction;
                }
            }
            into.copy_from_slice(&sums[..into.len()]);
        }
    }
}

fn place(dimensions: usize, direction: usize, component: usize) -> usize {
    (direction / LANES * dimensions + component) * LANES + direction % LANES
}

/// Eight sums side by side, then the remainder: as numpy sums up to 128 values, so that directions are the same bits.
fn sum_of_squares(values: &[f64]) -> f64 {
    let whole = values.chunks_exact(8);
    let rest = whole.remainder();
    let mut sums = [0.0; 8];
    for eight in whole {
        for (sum, value) in sums.iter_mut().zip(eight) {
            *sum += value * value;
        }
    }
    rest.iter().fold(pairwise(sums), |sum, value| sum + value * value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh64::xxh64;

    use super::*;

    fn bytes(directions: &Directions) -> Vec<u8> {
        let pairs = (0..directions.count()).flat_map(|k| (0..directions.dimensions()).map(move |j| (k, j)));
        pairs.flat_map(|(k, j)| directions.component(k, j).to_le_bytes()).collect()
    }

    /// Computed by numpy from the definition. They depend on the C library's sine, cosine and logarithm in the last bit:
    /// instances on libraries that differ there would disagree here.
    #[test]
    fn directions_are_the_same_bits_as_a_computation_in_python() {
        let small = Directions::new(3, 5, 42);
        let expected = [0x3fde_a52b_db66_549f, 0x3fe8_1d52_1674_6988, 0xbfcf_5222_0916_2621, 0x3fd7_4c2c_5e5f_6238];
        assert_eq!([0, 1, 2, 3].map(|component| small.component(0, component).to_bits()), expected);
        let digests = [(3, 5, 0x1db7_6541_e9b6_7519), (32, 32, 0xcd25_a2d0_135a_f5f3), (32, 64, 0x4a53_5491_b055_d3e8)];
        for (count, dimensions, digest) in digests {
            assert_eq!(xxh64(&bytes(&Directions::new(count, dimensions, 42)), 0), digest, "{count} x {dimensions}");
        }
    }

    proptest! {
        #[test]
        fn a_projection_is_the_scalar_product_with_a_unit_vector(
            count in 1_usize..40, vector in prop::collection::vec(-100.0_f32..100.0, 1..70), seed: u64
        ) {
            let directions = Directions::new(count, vector.len(), seed);
            let mut projections = vec![f64::NAN; count];
            directions.project(&vector, &mut projections);
            for (number, projection) in projections.iter().enumerate() {
                let direction: Vec<f64> = (0..vector.len()).map(|j| directions.component(number, j)).collect();
                let length: f64 = direction.iter().map(|value| value * value).sum();
                prop_assert!((length - 1.0).abs() < 1e-12, "|u|^2 = {}", length);
                let product: f64 = direction.iter().zip(&vector).map(|(u, x)| u * f64::from(*x)).sum();
                prop_assert_eq!(product, *projection);
            }
        }
    }
}
