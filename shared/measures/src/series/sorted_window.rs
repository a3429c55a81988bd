//! Nearest-rank quantiles of the values of a sliding time window.

use std::collections::VecDeque;

use crate::Quantile;

/// The values of a window in the order of time and in the order of size; 24 bytes a value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SortedWindow {
    values: VecDeque<(i64, f64)>,
    sorted: Vec<f64>,
}

impl SortedWindow {
    /// Adds a value; times (epoch ms) come ascending, values are finite.
    pub fn push(&mut self, time: i64, value: f64) {
        debug_assert!(value.is_finite() && self.values.back().is_none_or(|(last, _)| *last <= time));
        let at = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(at, value);
        self.values.push_back((time, value));
    }

    /// Forgets the values at or before `time`.
    pub fn evict(&mut self, time: i64) {
        while let Some((_, value)) = self.values.pop_front_if(|(oldest, _)| *oldest <= time) {
            if let Ok(at) = self.sorted.binary_search_by(|other| other.total_cmp(&value)) {
                self.sorted.remove(at);
            }
        }
    }

    /// The value of rank `ceil(q n)`; `None` without values.
    #[must_use]
    pub fn quantile(&self, quantile: Quantile) -> Option<f64> {
        let rank = quantile.rank(self.sorted.len() as u64) as usize;
        self.sorted.get(rank - 1).copied()
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values with their times, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i64, f64)> {
        self.values.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_values_that_are_left(
            steps in prop::collection::vec((0_i64..10, -3_i32..3), 1..100), length in 1_i64..50
        ) {
            let (mut window, mut all, mut time) = (SortedWindow::default(), Vec::new(), 0);
            for (step, value) in steps {
                time += step;
                let value = f64::from(value) / 2.0;
                window.push(time, value);
                window.evict(time - length);
                all.push((time, value));
                let mut left: Vec<f64> = all.iter().filter(|(at, _)| *at > time - length).map(|(_, value)| *value).collect();
                left.sort_by(f64::total_cmp);
                prop_assert_eq!(window.len(), left.len());
                for (quantile, per_cent) in [(Quantile::P05, 5), (Quantile::P50, 50), (Quantile::P95, 95)] {
                    let rank = (left.len() * per_cent).div_ceil(100);
                    prop_assert_eq!(window.quantile(quantile), Some(left[rank - 1]));
                }
            }
            window.evict(time);
            prop_assert!(window.is_empty() && window.quantile(Quantile::P50).is_none());
        }
    }
}
