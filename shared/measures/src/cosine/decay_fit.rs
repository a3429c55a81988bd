//! The rate at which vectors lose their likeness to what they were, from successive versions of them.

use crate::Fixed;

const MILLIS_PER_HOUR: f64 = 3_600_000.0;

/// Cosines below this are taken for it, so that their logarithm is finite.
const LEAST_COSINE: f64 = 1e-6;

/// Sums for the line through the origin that fits `y = -ln(cosine)` over the time between two versions best (least
/// squares): its slope is the rate.
///
/// Times are summed in milliseconds, the squares as integers: exact for versions a millisecond or years apart. The sums hold
/// 2^28 updates a year apart, whatever their cosines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecayFit {
    /// Number of updates.
    pub updates: u64,
    /// Sum of time times `y`, ms.
    pub products: Fixed,
    /// Sum of squared times, ms^2.
    pub squares: u128,
}

impl DecayFit {
    /// Adds an update, `millis` (above 0) after the version before it, with the cosine between the two.
    pub fn add(&mut self, millis: i64, cosine: f64) {
        debug_assert!(millis > 0, "{millis} ms between two versions");
        let y = -cosine.max(LEAST_COSINE).ln();
        self.updates += 1;
        self.products += Fixed::from_f64(millis as f64 * y);
        self.squares += u128::from(millis.unsigned_abs()).pow(2);
    }

    /// Adds other updates.
    pub fn merge(&mut self, other: Self) {
        self.updates += other.updates;
        self.products += other.products;
        self.squares += other.squares;
    }

    /// Takes back updates that [`merge`](Self::merge) has added.
    pub fn subtract(&mut self, other: Self) {
        self.updates -= other.updates;
        self.products -= other.products;
        self.squares -= other.squares;
    }

    /// The rate per hour, `lambda`, at least 0; `None` without updates.
    #[must_use]
    pub fn lambda(&self) -> Option<f64> {
        let products = self.products.mean(1)?;
        (self.updates > 0).then(|| products / self.squares as f64 * MILLIS_PER_HOUR)
    }
}

/// Hours until half of a similarity is left, `ln 2 / lambda`; `None` where it does not decay.
#[must_use]
pub fn half_life_hours(lambda: f64) -> Option<f64> {
    (lambda > 0.0).then(|| std::f64::consts::LN_2 / lambda)
}

/// The share of a similarity that is left after some hours, `exp(-hours lambda)`.
#[must_use]
pub fn retention(lambda: f64, hours: f64) -> f64 {
    (-hours * lambda).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn of(updates: &[(i64, f64)]) -> DecayFit {
        let mut rate = DecayFit::default();
        updates.iter().for_each(|(millis, cosine)| rate.add(*millis, *cosine));
        rate
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-13 * right.abs()
    }

    #[test]
    fn rates_by_hand() {
        // cos 45 degrees after 12 h: y = ln 2 / 2, half is left after a day
        let half = 0.5_f64.sqrt();
        let y = std::f64::consts::LN_2 / 2.0;
        let one = of(&[(12 * HOUR, half)]).lambda().unwrap();
        assert!(near(one, y / 12.0), "{one}");
        assert!(near(half_life_hours(one).unwrap(), 24.0) && near(retention(one, 24.0), 0.5));
        // a second one that did not change, after 18 h
        let both = of(&[(12 * HOUR, half), (18 * HOUR, 1.0)]).lambda().unwrap();
        assert!(near(both, 12.0 * y / (144.0 + 324.0)), "{both}");
    }

    #[test]
    fn what_does_not_change_has_no_half_life() {
        let still = of(&[(HOUR, 1.0)]).lambda().unwrap();
        assert_eq!((still, half_life_hours(still), retention(still, 24.0)), (0.0, None, 1.0));
        assert_eq!(DecayFit::default().lambda(), None);
    }

    #[test]
    fn opposite_vectors_count_as_nearly_orthogonal_ones() {
        let opposite = of(&[(HOUR, -1.0)]).lambda().unwrap();
        assert!(near(opposite, 1e6_f64.ln()), "{opposite}");
        assert_eq!(of(&[(HOUR, -1.0)]), of(&[(HOUR, 0.0)]));
    }

    #[test]
    fn a_day_of_a_rate_of_a_hundredth_keeps_787_thousandths() {
        assert_eq!(format!("{:.3} {:.3}", retention(0.01, 24.0), retention(0.05, 24.0)), "0.787 0.301");
    }

    #[test]
    fn many_updates_far_apart_do_not_overflow() {
        let mut rate = of(&[(366 * 24 * HOUR, -1.0)]);
        let one = rate.lambda().unwrap();
        (0..28).for_each(|_| rate.merge(rate));
        assert_eq!(rate.updates, 1 << 28);
        assert!(near(rate.lambda().unwrap(), one));
    }

    proptest! {
        #[test]
        fn the_rate_is_that_of_the_definition_also_for_versions_a_millisecond_apart(
            updates in prop::collection::vec((1_i64..1000, 0.0..=1.0_f64, prop::sample::select(vec![1, 1000, HOUR])), 1..50)
        ) {
            let updates: Vec<_> = updates.into_iter().map(|(times, cosine, unit)| (times * unit, cosine)).collect();
            let (mut xy, mut xx) = (0.0, 0.0);
            for (millis, cosine) in &updates {
                let x = *millis as f64 / 3_600_000.0;
                xy += x * -cosine.max(1e-6).ln();
                xx += x * x;
            }
            let lambda = of(&updates).lambda().unwrap();
            prop_assert!((lambda - xy / xx).abs() <= 1e-12 * (1e-9 + xy / xx), "{} is not {}", lambda, xy / xx);
        }

        #[test]
        fn parts_merge_to_the_whole_and_what_is_taken_back_leaves_no_trace(
            updates in prop::collection::vec((1_i64..1 << 40, -1.0..=1.0_f64), 0..50), cut in any::<prop::sample::Index>()
        ) {
            let (left, right) = updates.split_at(cut.index(updates.len() + 1));
            let mut whole = of(right);
            whole.merge(of(left));
            prop_assert_eq!(whole, of(&updates));
            whole.subtract(of(left));
            prop_assert_eq!(whole, of(right));
        }
    }
}
