//! The standard deviation of places, from sums that can be added and taken back exactly.

/// Sum and sum of squares of up to 2^32 places, as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moments {
    /// The sum.
    pub sum: i64,
    /// The sum of the squares.
    pub squares: i128,
}

impl Moments {
    /// Adds a place.
    #[inline]
    pub fn add(&mut self, place: i32) {
        let place = i64::from(place);
        self.sum += place;
        self.squares += i128::from(place * place);
    }

    /// Takes back a place that [`add`](Self::add) has added.
    #[inline]
    pub fn remove(&mut self, place: i32) {
        let place = i64::from(place);
        self.sum -= place;
        self.squares -= i128::from(place * place);
    }

    /// Adds other places' sums.
    pub fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The standard deviation of the `count` places (of all of them, as a population), in their unit; 0 exactly where all
    /// are equal, and for none.
    #[must_use]
    pub fn standard_deviation(&self, count: u64) -> f64 {
        if count == 0 {
            return 0.0;
        }
        // n^2 var = n sum(x^2) - (sum x)^2: below 2^127 for 2^32 places below 2^31
        let scaled = i128::from(count) * self.squares - i128::from(self.sum) * i128::from(self.sum);
        (scaled as f64).sqrt() / count as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(places: &[i32]) -> Moments {
        let mut moments = Moments::default();
        places.iter().for_each(|place| moments.add(*place));
        moments
    }

    #[test]
    fn two_four_four_four_five_five_seven_nine_deviate_by_two() {
        assert_eq!(of(&[2, 4, 4, 4, 5, 5, 7, 9]).standard_deviation(8), 2.0);
        assert_eq!(of(&[-7; 3]).standard_deviation(3), 0.0);
        assert_eq!(Moments::default().standard_deviation(0), 0.0);
    }

    #[test]
    fn the_most_and_largest_places_do_not_overflow() {
        let many = 1_u64 << 32;
        let square = i128::from(i32::MIN) * i128::from(i32::MIN);
        let most = Moments { sum: i64::from(i32::MIN) << 31, squares: square * i128::from(many) };
        assert!(most.standard_deviation(many) > 0.0);
    }

    proptest! {
        #[test]
        fn the_deviation_is_that_of_two_passes_and_what_is_taken_back_leaves_nothing(
            places in prop::collection::vec(-1_000_000_i32..1_000_000, 1..200), gone in prop::collection::vec(any::<i32>(), 0..50)
        ) {
            let mut moments = of(&gone);
            moments.merge(of(&places));
            gone.iter().rev().for_each(|place| moments.remove(*place));
            prop_assert_eq!(moments, of(&places));

            let n = places.len() as f64;
            let mean = places.iter().map(|place| f64::from(*place)).sum::<f64>() / n;
            let variance = places.iter().map(|place| (f64::from(*place) - mean).powi(2)).sum::<f64>() / n;
            let deviation = moments.standard_deviation(places.len() as u64);
            prop_assert!((deviation - variance.sqrt()).abs() <= 1e-6 * (1.0 + deviation));
        }
    }
}
