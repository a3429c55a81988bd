//! Nearest-rank quantiles of values from -1 to 1 on a grid of thousandths.

use crate::{GRID_STEPS, GridCounts, Quantile};

/// [`GridCounts`] of values that may be negative: its points are numbered from 0 for -1 to
/// [`HIGHEST`](Self::HIGHEST) for 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignedGridCounts(GridCounts);

impl SignedGridCounts {
    /// The point of 1.
    pub const HIGHEST: u16 = 2 * GRID_STEPS;

    /// The grid point of a value from -1 to 1: that of `round_half_up(1000 value)`.
    #[must_use]
    pub fn point(value: f64) -> u16 {
        let steps = f64::from(GRID_STEPS);
        let rounded = (steps * value + 0.5).floor().clamp(-steps, steps);
        (rounded + steps) as u16
    }

    /// Counts `count` more values on a point (at most [`HIGHEST`](Self::HIGHEST)).
    pub fn add(&mut self, point: u16, count: u64) {
        self.0.add(point, count);
    }

    /// Adds the counts of another grid.
    pub fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// Takes back the counts of another grid, which [`merge`](Self::merge) has added.
    ///
    /// # Panics
    /// Where a point has fewer values than are taken back: the caller's bookkeeping is wrong.
    pub fn subtract(&mut self, other: &Self) {
        self.0.subtract(&other.0);
    }

    /// The points with values, ascending, with their counts.
    #[must_use]
    pub fn points(&self) -> &[(u16, u64)] {
        self.0.points()
    }

    /// The smallest value with at least `ceil(q n)` of the `n` values at or below it; `None` without values.
    #[must_use]
    pub fn quantile(&self, quantile: Quantile) -> Option<f64> {
        let steps = i32::from(GRID_STEPS);
        self.0.quantile_point(quantile).map(|point| f64::from(i32::from(point) - steps) / f64::from(steps))
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> SignedGridCounts {
        let mut grid = SignedGridCounts::default();
        values.iter().for_each(|value| grid.add(SignedGridCounts::point(*value), 1));
        grid
    }

    #[test]
    fn values_are_rounded_half_up() {
        let cases = [(-1.0, -1.0), (-0.5625, -0.562), (-0.5635, -0.563), (-0.0005, 0.0), (-0.000_51, -0.001)];
        let cases =
            cases.into_iter().chain([(0.0, 0.0), (0.000_5, 0.001), (0.5625, 0.563), (0.9994, 0.999), (1.0, 1.0)]);
        for (value, rounded) in cases {
            assert_eq!(of(&[value]).quantile(Quantile::P50), Some(rounded), "{value}");
        }
        assert_eq!((SignedGridCounts::point(-1.0), SignedGridCounts::point(1.0)), (0, SignedGridCounts::HIGHEST));
    }

    #[test]
    fn no_values_have_no_quantiles() {
        assert_eq!(SignedGridCounts::default().quantile(Quantile::P50), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_rounded_values(mut values in prop::collection::vec(-1.0..=1.0_f64, 1..200)) {
            let grid = of(&values);
            values.sort_unstable_by(f64::total_cmp);
            for (quantile, per_cent) in [(Quantile::P05, 5), (Quantile::P50, 50), (Quantile::P95, 95)] {
                let value = values[(values.len() * per_cent).div_ceil(100) - 1];
                prop_assert_eq!(grid.quantile(quantile), Some((1000.0 * value + 0.5).floor() / 1000.0));
            }
        }

        #[test]
        fn parts_merge_to_the_whole_and_what_is_taken_back_leaves_no_trace(
            left in prop::collection::vec(-1.0..=1.0_f64, 0..60), right in prop::collection::vec(-1.0..=1.0_f64, 0..60)
        ) {
            let mut whole = of(&left);
            whole.merge(&of(&right));
            prop_assert_eq!(&whole, &of(&[left.as_slice(), right.as_slice()].concat()));
            whole.subtract(&of(&left));
            prop_assert_eq!(&whole, &of(&right));
        }
    }

    #[test]
    #[should_panic(expected = "no value on grid point 1500")]
    fn what_was_never_added_cannot_be_taken_back() {
        of(&[0.25]).subtract(&of(&[0.5]));
    }
}
