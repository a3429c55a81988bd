//! Histograms of equal bins, and the distance between two of them.

use std::cmp::Ordering;

/// How many values lie in each bin: the bins that are not empty with their counts, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    bins: Vec<(u32, u32)>,
}

impl Histogram {
    /// The histogram with these counts, the first of bin 0.
    #[must_use]
    pub fn of_counts(counts: &[u32]) -> Self {
        Self { bins: (0..).zip(counts).filter(|(_, count)| **count > 0).map(|(bin, count)| (bin, *count)).collect() }
    }

    /// Counts `count` more values, at least 1, in a bin above all others so far.
    ///
    /// # Panics
    /// Where there is one at or above it already, or `count` is 0.
    pub fn push(&mut self, bin: u32, count: u32) {
        assert!(count > 0 && self.bins.last().is_none_or(|(last, _)| *last < bin), "bins are pushed in order");
        self.bins.push((bin, count));
    }

    /// The bins that are not empty, with their counts.
    #[must_use]
    pub fn bins(&self) -> &[(u32, u32)] {
        &self.bins
    }

    /// Number of values.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bins.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Adds another histogram of the same bins.
    pub fn merge(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.bins.len() + other.bins.len());
        merged.extend(Bins::new(self, other).map(|(bin, left, right)| (bin, left.saturating_add(right))));
        self.bins = merged;
    }

    /// The Wasserstein-1 distance, in widths of a bin: each value counts as if it lay in the middle of its bin. So it
    /// differs from the exact distance by at most one width. `None` where a side is empty.
    #[must_use]
    pub fn wasserstein(&self, other: &Self) -> Option<f64> {
        let (left_total, right_total) = (self.total(), other.total());
        if left_total == 0 || right_total == 0 {
            return None;
        }
        // as integers over the common denominator, so that the sum is exact
        let mut distance = 0_u128;
        for (left, right, bins) in Steps::new(self, other) {
            let left = u128::from(left) * u128::from(right_total);
            let right = u128::from(right) * u128::from(left_total);
            distance += left.abs_diff(right) * u128::from(bins);
        }
        Some(distance as f64 / (left_total as f64 * right_total as f64))
    }

    /// The distance that two samples of one distribution would show by chance, in widths of a bin: `sqrt(2 / pi)
    /// sqrt(1 / n + 1 / m)` times the integral of `sqrt(F (1 - F))`, with `F` the distribution function of both pooled. `None`
    /// where a side is empty.
    #[must_use]
    pub fn noise_floor(&self, other: &Self) -> Option<f64> {
        let (left_total, right_total) = (self.total(), other.total());
        if left_total == 0 || right_total == 0 {
            return None;
        }
        let pooled = left_total + right_total;
        let mut integral = 0.0;
        for (left, right, bins) in Steps::new(self, other) {
            let below = u128::from(left + right);
            let product = below * (u128::from(pooled) - below);
            integral += (product as f64).sqrt() * bins as f64;
        }
        let (n, m) = (left_total as f64, right_total as f64);
        Some((std::f64::consts::FRAC_2_PI * (1.0 / n + 1.0 / m)).sqrt() * integral / pooled as f64)
    }
}

/// The bins that are not empty on either side, with both counts.
struct Bins<'a> {
    left: &'a [(u32, u32)],
    right: &'a [(u32, u32)],
}

impl<'a> Bins<'a> {
    fn new(left: &'a Histogram, right: &'a Histogram) -> Self {
        Self { left: &left.bins, right: &right.bins }
    }

    fn take(side: &mut &[(u32, u32)]) -> u32 {
        let count = side[0].1;
        *side = &side[1..];
        count
    }
}

impl Iterator for Bins<'_> {
    type Item = (u32, u32, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.left.first(), self.right.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        Some(match order {
            Ordering::Less => (self.left[0].0, Self::take(&mut self.left), 0),
            Ordering::Greater => (self.right[0].0, 0, Self::take(&mut self.right)),
            Ordering::Equal => (self.left[0].0, Self::take(&mut self.left), Self::take(&mut self.right)),
        })
    }
}

/// The steps of both distribution functions: how many values lie below on either side, and over how many bins that holds.
struct Steps<'a> {
    bins: Bins<'a>,
    reached: Option<(u32, u64, u64)>,
}

impl<'a> Steps<'a> {
    fn new(left: &'a Histogram, right: &'a Histogram) -> Self {
        Self { bins: Bins::new(left, right), reached: None }
    }
}

impl Iterator for Steps<'_> {
    type Item = (u64, u64, u32);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reached.is_none() {
            let (bin, left, right) = self.bins.next()?;
            self.reached = Some((bin, u64::from(left), u64::from(right)));
        }
        let (from, left, right) = self.reached?;
        let (bin, more_left, more_right) = self.bins.next()?;
        self.reached = Some((bin, left + u64::from(more_left), right + u64::from(more_right)));
        Some((left, right, bin - from))
    }
}
