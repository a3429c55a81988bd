//! Delays and their quantiles.

use std::time::Duration;

/// How long records took, each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delays(Vec<Duration>);

impl Delays {
    pub(super) fn add(&mut self, delay: Duration) {
        let place = self.0.partition_point(|other| *other <= delay);
        self.0.insert(place, delay);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The smallest delay that at least this share (0 to 1) of the records did not exceed: nearest rank. Zero where there
    /// are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).or(self.0.last()).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantile(0.5), Duration::ZERO);
        for millis in [40, 10, 30, 20] {
            delays.add(Duration::from_millis(millis));
        }
        let millis = [0.0, 0.25, 0.5, 0.51, 0.99, 1.0].map(|share| delays.quantile(share).as_millis());
        assert_eq!((millis, delays.count()), ([10, 10, 20, 30, 40, 40], 4));
    }
}
