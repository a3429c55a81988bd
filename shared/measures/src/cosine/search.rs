//! The nearest neighbours of several vectors in one pass over the candidates, exactly.
//!
//! An estimate in `f32` decides which cosines are worth computing. It misses the computed cosine by less than a
//! *margin*, so that a candidate whose estimate lies further than that below the least of the neighbours so far is none:
//! what is left out cannot change the result by a bit. Sixteen vectors share each look at a candidate, because memory and
//! instructions that are spent on one alone cost more than the multiplications.

use super::nearest::Nearest;
use super::similarity::Side;
use crate::vector::norm;

/// Vectors that are estimated side by side.
const LANES: usize = 16;

/// Below so many vectors each is estimated alone: lanes that nobody uses cost too.
const FEW: usize = 7;

/// The norms of candidates whose estimates neither overflow nor lose digits by underflow.
const ESTIMATED: std::ops::RangeInclusive<f64> = 1e-18..=1e18;

/// What [`Search::offer`] estimates a candidate's cosines with: the reciprocal of its norm. It is not a number where
/// estimates would be too bad; the cosines of such a candidate are all computed.
#[must_use]
pub fn reciprocal_norm(vector: &[f32]) -> f32 {
    let norm = norm(vector);
    if ESTIMATED.contains(&norm) { (1.0 / norm) as f32 } else { f32::NAN }
}

/// A search for the nearest neighbours of up to [`Search::MOST`] vectors at a time.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    sides: Vec<Side<'a>>,
    nearest: Vec<Nearest>,
    /// The vectors divided by their norms: [`FEW`] one behind the other, more with [`LANES`] values for each component.
    units: Vec<f32>,
    /// By vector: what is estimated below it is no neighbour. Lanes that nobody uses let nothing pass.
    floors: [f32; LANES],
    margin: f64,
}

impl<'a> Search<'a> {
    /// So many vectors at a time.
    pub const MOST: usize = LANES;

    /// Searches for the `count` (at least 1) nearest neighbours of each of the vectors: at most [`MOST`](Self::MOST), all of
    /// one length up to 4096, with finite components that are not all 0.
    #[must_use]
    pub fn new(vectors: impl IntoIterator<Item = &'a [f32]>, count: usize) -> Self {
        let vectors: Vec<&[f32]> = vectors.into_iter().collect();
        debug_assert!(vectors.len() <= LANES, "{} vectors at a time", vectors.len());
        let mut floors = [f32::INFINITY; LANES];
        floors[..vectors.len()].fill(f32::NEG_INFINITY);
        Self {
            nearest: vec![Nearest::new(count); vectors.len()],
            units: units(&vectors),
            floors,
            margin: margin(vectors.first().map_or(0, |vector| vector.len())),
            sides: vectors.into_iter().map(Side::new).collect(),
        }
    }

    /// A candidate of the vectors' length, with its [`reciprocal_norm`]. It counts for those vectors of which `counts_for`
    /// says so by their numbers; that is asked only where the candidate could be a neighbour.
    #[inline]
    pub fn offer(&mut self, candidate: &[f32], reciprocal_norm: f32, counts_for: impl Fn(usize) -> bool) {
        let estimates = self.products(candidate).map(|product| product * reciprocal_norm);
        // what is not a number is below nothing
        let is_below = |lane: usize, floors: &[f32; LANES]| estimates[lane] < floors[lane];
        if (0..LANES).fold(true, |all, lane| all & is_below(lane, &self.floors)) {
            return;
        }
        for lane in 0..self.sides.len() {
            if !is_below(lane, &self.floors) && counts_for(lane) {
                self.compute(lane, candidate);
            }
        }
    }

    /// The neighbours of the vectors, in their order.
    #[must_use]
    pub fn nearest(&self) -> &[Nearest] {
        &self.nearest
    }

    /// The scalar products of the unit vectors with a candidate.
    #[inline]
    fn products(&self, candidate: &[f32]) -> [f32; LANES] {
        let mut products = [0.0; LANES];
        if self.sides.len() < FEW {
            for (product, unit) in products.iter_mut().zip(self.units.chunks_exact(candidate.len())) {
                *product = product_of(unit, candidate);
            }
        } else {
            for (component, units) in candidate.iter().zip(self.units.as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    products[lane] += component * units[lane];
                }
            }
        }
        products
    }

    #[inline(never)]
    fn compute(&mut self, lane: usize, candidate: &[f32]) {
        let nearest = &mut self.nearest[lane];
        nearest.offer(self.sides[lane].cosine(candidate));
        self.floors[lane] = match nearest.to_exceed() {
            // nothing does
            1.0 => f32::INFINITY,
            least => (least - self.margin) as f32,
        };
    }
}

/// How far an estimate may lie from the computed cosine of vectors of that length, and a bit more.
///
/// In units of `f32`'s rounding error `u` = 2^-24: a sum of `d` products of components is off by at most `d u` and some
/// `u^2`, relative to the product of the norms; the rounded unit vector, the rounded reciprocal, their product, and the
/// floor that the estimate is compared with each add `u`. Errors of `f64` are below all that.
fn margin(dimensions: usize) -> f64 {
    (dimensions + 8) as f64 * f64::from(f32::EPSILON) / 2.0
}

fn units(vectors: &[&[f32]]) -> Vec<f32> {
    let unit = |vector: &[f32]| {
        let norm = norm(vector);
        vector.iter().map(move |component| (f64::from(*component) / norm) as f32).collect::<Vec<f32>>()
    };
    let rows: Vec<Vec<f32>> = vectors.iter().map(|vector| unit(vector)).collect();
    if rows.len() < FEW {
        return rows.concat();
    }
    let mut lanes = vec![0.0; rows[0].len() * LANES];
    for (lane, row) in rows.iter().enumerate() {
        for (component, value) in row.iter().enumerate() {
            lanes[component * LANES + lane] = *value;
        }
    }
    lanes
}

fn product_of(left: &[f32], right: &[f32]) -> f32 {
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    for (sum, (left, right)) in sums.iter_mut().zip(left_rest.iter().zip(right_rest)) {
        *sum += left * right;
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_direction(vector: &[f32]) -> bool {
        vector.iter().any(|component| *component != 0.0)
    }

    /// Every finite vector with a direction: of all sizes, down to the smallest components.
    fn any_vector(length: usize) -> impl Strategy<Value = Vec<f32>> {
        let bits = any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |component| component.is_finite());
        prop::collection::vec(bits, length).prop_filter("a direction", |vector| is_direction(vector))
    }

    /// Components of sizes far apart, as far as estimates are made.
    fn wide_vector(length: usize) -> impl Strategy<Value = Vec<f32>> {
        let component = (-1.0_f32..1.0, -50_i32..55).prop_map(|(value, exponent)| value * 2_f32.powi(exponent));
        prop::collection::vec(component, length).prop_map(|mut vector| {
            vector[0] += 1e-16;
            vector
        })
    }

    /// Vectors as they come: spread, or close to a few centres, or equal ones and multiples, and some of the above.
    fn vectors(length: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
        let plain =
            prop::collection::vec(-1.0_f32..1.0, length).prop_filter("a direction", |vector| is_direction(vector));
        let centres = prop::collection::vec(plain.clone(), 3);
        let kinds = (0_usize..3, 0_usize..12, -1e-3_f32..1e-3, plain, any_vector(length));
        (centres, prop::collection::vec(kinds, 1..120)).prop_map(|(centres, kinds)| {
            let one = |(centre, kind, offset, plain, any): (usize, usize, f32, Vec<f32>, Vec<f32>)| {
                let mut vector = centres[centre].clone();
                match kind {
                    0 | 1 => vector = plain,
                    2 => vector = any,
                    3 | 4 => {}
                    5 => vector.iter_mut().for_each(|component| *component *= 2.0 + offset),
                    // so near that estimates cannot tell them apart
                    6..9 => vector[0] += offset * 1e-4,
                    _ => vector[0] += offset,
                }
                if is_direction(&vector) { vector } else { centres[centre].clone() }
            };
            kinds.into_iter().map(one).collect()
        })
    }

    fn naive<'a>(vector: &[f32], candidates: impl Iterator<Item = &'a [f32]>, count: usize) -> Nearest {
        let mut nearest = Nearest::new(count);
        candidates.for_each(|candidate| nearest.offer(Side::new(vector).cosine(candidate)));
        nearest
    }

    proptest! {
        #[test]
        fn neighbours_are_bit_for_bit_those_of_computing_every_cosine(
            vectors in (1_usize..20).prop_flat_map(|half| vectors(half * 2 - 1)),
            asking in 1_usize..=Search::MOST, count in 1_usize..7, order in 0_u8..3
        ) {
            let asking = asking.min(vectors.len());
            let mut candidates: Vec<(usize, &[f32])> = vectors.iter().map(Vec::as_slice).enumerate().collect();
            // from the worst to the best is the order in which every candidate is a neighbour for a while
            let first = Side::new(&vectors[0]);
            match order {
                0 => {}
                1 => candidates.sort_by(|left, right| first.cosine(left.1).total_cmp(&first.cosine(right.1))),
                _ => candidates.reverse(),
            }
            let mut search = Search::new(vectors[..asking].iter().map(Vec::as_slice), count);
            let counts_for = |candidate: usize, lane: usize| candidate != lane && !(candidate + lane).is_multiple_of(5);
            for (number, candidate) in &candidates {
                search.offer(candidate, reciprocal_norm(candidate), |lane| counts_for(*number, lane));
            }
            prop_assert_eq!(search.nearest().len(), asking);
            for (lane, nearest) in search.nearest().iter().enumerate() {
                let others = candidates.iter().filter(|(number, _)| counts_for(*number, lane));
                prop_assert_eq!(nearest, &naive(&vectors[lane], others.map(|(_, candidate)| *candidate), count));
            }
        }

        #[test]
        fn an_estimate_misses_the_cosine_by_less_than_the_margin(
            (vector, candidate) in (1_usize..300).prop_flat_map(|length| (any_vector(length), wide_vector(length))),
            few: bool
        ) {
            let vectors = vec![vector.as_slice(); if few { 1 } else { LANES }];
            let search = Search::new(vectors, 1);
            let reciprocal = reciprocal_norm(&candidate);
            prop_assert!(!reciprocal.is_nan());
            let cosine = Side::new(&vector).cosine(&candidate);
            let estimate = f64::from(search.products(&candidate)[0] * reciprocal);
            prop_assert!((estimate - cosine).abs() < search.margin, "{} for {}", estimate, cosine);
        }
    }

    #[test]
    fn the_margin_holds_for_long_vectors_whose_rounding_errors_add_up() {
        // all products round the same way
        let (vector, candidate) = (vec![1.0 + f32::EPSILON; 4096], vec![1.0 - f32::EPSILON * 0.5; 4096]);
        for asking in [1, LANES] {
            let search = Search::new(vec![vector.as_slice(); asking], 1);
            let estimate = search.products(&candidate)[asking - 1] * reciprocal_norm(&candidate);
            assert!((f64::from(estimate) - 1.0).abs() < search.margin, "{estimate} is not within {}", search.margin);
        }
    }

    #[test]
    fn candidates_that_cannot_be_estimated_are_computed() {
        let (largest, smallest) = ([f32::MAX; 3], [f32::from_bits(1); 3]);
        assert!(reciprocal_norm(&largest).is_nan() && reciprocal_norm(&smallest).is_nan());
        let mut search = Search::new([[1.0, 0.0, 0.0].as_slice()], 2);
        for candidate in [[1.0, 0.1, 0.1], [1.0, 0.2, 0.2], largest, smallest] {
            search.offer(&candidate, reciprocal_norm(&candidate), |_| true);
        }
        let expected = naive(&[1.0, 0.0, 0.0], [&[1.0, 0.1, 0.1][..], &[1.0, 0.2, 0.2]].into_iter(), 2);
        assert_eq!(search.nearest(), [expected]);
    }
}
