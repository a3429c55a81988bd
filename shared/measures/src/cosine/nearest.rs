//! The nearest neighbours of a vector: whoever asks offers the cosine of every candidate that could be one.

/// The greatest of the cosines that were offered.
///
/// Equal cosines are alike, so the result does not depend on the order of the candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    count: usize,
    /// At most `count` cosines, descending.
    cosines: Vec<f64>,
}

impl Nearest {
    /// Keeps the `count` (at least 1) greatest.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { count, cosines: Vec::with_capacity(count) }
    }

    /// A candidate.
    #[inline]
    pub fn offer(&mut self, cosine: f64) {
        if self.cosines.len() == self.count {
            if cosine <= self.to_exceed() {
                return;
            }
            self.cosines.pop();
        }
        let at = self.cosines.partition_point(|greater| *greater >= cosine);
        self.cosines.insert(at, cosine);
    }

    /// What a cosine must exceed to be one of them.
    #[must_use]
    pub fn to_exceed(&self) -> f64 {
        self.cosines.get(self.count - 1).copied().unwrap_or(f64::NEG_INFINITY)
    }

    /// The neighbours' cosines, descending: fewer than asked for where there were fewer candidates.
    #[must_use]
    pub fn cosines(&self) -> &[f64] {
        &self.cosines
    }

    /// Their mean; `None` without candidates.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.cosines.len();
        (count > 0).then(|| self.cosines.iter().sum::<f64>() / count as f64)
    }

    /// Forgets the candidates, for the next search.
    pub fn clear(&mut self) {
        self.cosines.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(count: usize, cosines: &[f64]) -> Nearest {
        let mut nearest = Nearest::new(count);
        cosines.iter().for_each(|cosine| nearest.offer(*cosine));
        nearest
    }

    #[test]
    fn neighbours_by_hand() {
        let nearest = of(2, &[0.25, -1.0, 0.5, 0.25, 0.75]);
        assert_eq!((nearest.cosines(), nearest.mean()), (&[0.75, 0.5][..], Some(0.625)));
        assert_eq!(of(5, &[-1.0, 0.5]).mean(), Some(-0.25));
    }

    #[test]
    fn without_candidates_there_is_no_mean() {
        let mut nearest = of(5, &[1.0]);
        nearest.clear();
        assert_eq!((nearest.mean(), nearest.cosines()), (None, &[][..]));
    }

    proptest! {
        #[test]
        fn they_are_the_first_of_the_sorted_candidates_in_whatever_order_these_come(
            mut candidates in prop::collection::vec((-20_i32..=20).prop_map(|step| f64::from(step) / 20.0), 0..50), count in 1_usize..8
        ) {
            let nearest = of(count, &candidates);
            candidates.sort_unstable_by(|left, right| right.total_cmp(left));
            let expected = &candidates[..count.min(candidates.len())];
            prop_assert_eq!(nearest.cosines(), expected);
            let mean = expected.iter().sum::<f64>() / expected.len() as f64;
            prop_assert_eq!(nearest.mean(), (!expected.is_empty()).then_some(mean));
        }
    }
}
