//! A high quantile of all values so far, from the largest of them alone.

use crate::Quantile;

/// Values kept: as many as the 0.995 quantile of 200,000 values needs.
const KEPT: usize = 1001;

/// The 0.995 quantile (nearest rank) of all values added. Only values that can still become it are kept, at most 1001: it
/// is exact for the first 200,000 values; beyond them it is the 1001st largest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpperTail {
    /// Ascending.
    largest: Vec<f64>,
    count: u64,
}

impl UpperTail {
    /// A tail as [`largest`](Self::largest) and [`count`](Self::count) have told it; `None` where they contradict each
    /// other.
    #[must_use]
    pub fn from_parts(largest: Vec<f64>, count: u64) -> Option<Self> {
        let fits = largest.len() as u64 == count.min(KEPT as u64);
        (fits && largest.is_sorted_by(|left, right| left.total_cmp(right).is_le())).then_some(Self { largest, count })
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let at = self.largest.partition_point(|other| other.total_cmp(&value).is_lt());
        if self.largest.len() < KEPT {
            self.largest.insert(at, value);
        } else if at > 0 {
            self.largest.remove(0);
            self.largest.insert(at - 1, value);
        }
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Those kept, ascending.
    #[must_use]
    pub fn largest(&self) -> &[f64] {
        &self.largest
    }

    /// The quantile; `None` without values.
    #[must_use]
    pub fn quantile(&self) -> Option<f64> {
        let above = (self.count - Quantile::P995.rank(self.count).min(self.count)) as usize;
        let at = self.largest.len().checked_sub(1)?.saturating_sub(above);
        self.largest.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_that_of_all_values_though_few_are_kept() {
        let (mut tail, mut all) = (UpperTail::default(), Vec::new());
        assert_eq!(tail.quantile(), None);
        let mut state = 1_u64;
        for added in 1..=20_000_usize {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = (state >> 40) as f64;
            tail.add(value);
            all.push(value);
            if added < 300 || added % 997 == 0 {
                let mut sorted = all.clone();
                sorted.sort_by(f64::total_cmp);
                assert_eq!(tail.quantile(), Some(sorted[(added * 995).div_ceil(1000) - 1]), "of {added}");
            }
        }
        assert_eq!(tail.largest().len(), KEPT);
        let same = UpperTail::from_parts(tail.largest().to_vec(), tail.count());
        assert_eq!(same, Some(tail));
    }

    #[test]
    fn parts_that_contradict_each_other_are_refused() {
        assert_eq!(UpperTail::from_parts(vec![2.0, 1.0], 2), None);
        assert_eq!(UpperTail::from_parts(vec![1.0], 2), None);
    }
}
