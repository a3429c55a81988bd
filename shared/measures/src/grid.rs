//! Nearest-rank quantiles of values from 0 to 1 on a grid of thousandths: mergeable, and exact on the grid.

/// The highest point of the grid: values are rounded to `0..=GRID_STEPS` thousandths.
pub const GRID_STEPS: u16 = 1000;

/// A quantile as a fraction, so that ranks are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantile {
    numerator: u64,
    denominator: u64,
}

impl Quantile {
    /// 0.05
    pub const P05: Self = Self { numerator: 1, denominator: 20 };
    /// 0.5
    pub const P50: Self = Self { numerator: 1, denominator: 2 };
    /// 0.95
    pub const P95: Self = Self { numerator: 19, denominator: 20 };
    /// 0.995
    pub const P995: Self = Self { numerator: 199, denominator: 200 };

    /// `ceil(q n)`, at least 1.
    pub(crate) fn rank(self, n: u64) -> u64 {
        let product = u128::from(n) * u128::from(self.numerator);
        (product.div_ceil(u128::from(self.denominator)) as u64).max(1)
    }
}

/// How many values lie on each point of the grid; points without values take no room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GridCounts {
    /// Points with their counts above 0, by point.
    points: Vec<(u16, u64)>,
}

impl GridCounts {
    /// The grid point of a value from 0 to 1: `round_half_up(1000 value)`.
    #[must_use]
    pub fn point(value: f64) -> u16 {
        ((f64::from(GRID_STEPS) * value + 0.5).floor() as u16).min(GRID_STEPS)
    }

    /// Counts `count` more values on a point (at most [`GRID_STEPS`]).
    pub fn add(&mut self, point: u16, count: u64) {
        match self.find(point) {
            _ if count == 0 => {}
            Ok(at) => self.points[at].1 += count,
            Err(at) => self.points.insert(at, (point, count)),
        }
    }

    /// Takes back one value from a point.
    ///
    /// # Panics
    /// Where there is none: the caller's bookkeeping is wrong.
    pub fn remove(&mut self, point: u16) {
        let Ok(at) = self.find(point) else { panic!("no value on grid point {point}") };
        if self.points[at].1 == 1 {
            self.points.remove(at);
        } else {
            self.points[at].1 -= 1;
        }
    }

    /// Takes back the counts of another grid, which [`merge`](Self::merge) has added.
    ///
    /// # Panics
    /// Where a point has fewer values than are taken back: the caller's bookkeeping is wrong.
    pub fn subtract(&mut self, other: &Self) {
        for (point, count) in &other.points {
            let Ok(at) = self.find(*point) else { panic!("no value on grid point {point}") };
            let own = &mut self.points[at].1;
            assert!(*own >= *count, "{own} values on grid point {point}, fewer than {count}");
            *own -= count;
        }
        self.points.retain(|(_, count)| *count > 0);
    }

    fn find(&self, point: u16) -> Result<usize, usize> {
        self.points.binary_search_by_key(&point, |(point, _)| *point)
    }

    /// Adds the counts of another grid.
    pub fn merge(&mut self, other: &Self) {
        other.points.iter().for_each(|(point, count)| self.add(*point, *count));
    }

    /// The points with values, ascending, with their counts.
    #[must_use]
    pub fn points(&self) -> &[(u16, u64)] {
        &self.points
    }

    /// The smallest value with at least `ceil(q n)` of the `n` values at or below it; `None` without values.
    #[must_use]
    pub fn quantile(&self, quantile: Quantile) -> Option<f64> {
        self.quantile_point(quantile).map(|point| f64::from(point) / f64::from(GRID_STEPS))
    }

    /// The point on which a quantile lies.
    pub(crate) fn quantile_point(&self, quantile: Quantile) -> Option<u16> {
        let total = self.points.iter().map(|(_, count)| count).sum();
        let rank = quantile.rank(total);
        let mut seen = 0;
        let point = self.points.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        point.map(|(point, _)| *point)
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<(u16, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_rounded_half_up() {
        let cases = [(0.0, 0), (0.000_49, 0), (0.000_5, 1), (0.5625, 563), (0.9994, 999), (0.9995, 1000), (1.0, 1000)];
        for (value, point) in cases {
            assert_eq!(GridCounts::point(value), point, "{value}");
        }
    }

    #[test]
    fn no_values_have_no_quantiles() {
        assert_eq!(GridCounts::default().quantile(Quantile::P50), None);
    }

    #[test]
    fn ranks_are_exact_where_a_product_of_floats_is_not() {
        // 0.95 * 20 is 19 exactly; in floats 0.05 * 60 = 3.0000000000000004 would ask for the fourth
        assert_eq!(Quantile::P95.rank(20), 19);
        assert_eq!(Quantile::P05.rank(60), 3);
        assert_eq!(Quantile::P05.rank(61), 4);
        assert_eq!(Quantile::P50.rank(1), 1);
        assert_eq!(Quantile::P50.rank(5), 3);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            kept in prop::collection::vec(0_u16..=1000, 1..200), taken_back in prop::collection::vec(0_u16..=1000, 0..50)
        ) {
            let mut whole = GridCounts::default();
            let mut halves = [GridCounts::default(), GridCounts::default()];
            for point in kept.iter().chain(&taken_back) {
                whole.add(*point, 1);
            }
            for (at, point) in kept.iter().enumerate() {
                halves[at % 2].add(*point, 1);
            }
            taken_back.iter().for_each(|point| whole.remove(*point));
            let [mut merged, other] = halves;
            merged.merge(&other);
            prop_assert_eq!(&merged, &whole);

            let mut sorted = kept;
            sorted.sort_unstable();
            for (quantile, per_cent) in [(Quantile::P05, 5), (Quantile::P50, 50), (Quantile::P95, 95)] {
                let at = (sorted.len() * per_cent).div_ceil(100) - 1;
                prop_assert_eq!(whole.quantile(quantile), Some(f64::from(sorted[at]) / 1000.0));
            }
        }
    }
}
