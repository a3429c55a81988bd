//! Where in a range a projection lies, as an integer: what bins and moments are made of.

/// Fractional bits of a place.
const PLACE_BITS: u32 = 28;

/// The place of the range's upper end.
const END: i32 = 1 << PLACE_BITS;

/// A range of projections, cut into `Q` bins of equal width.
///
/// The *place* of a projection is its distance from the lower end in units of 2^-28 of the range: finer than the `f32`s
/// that vectors consist of. It fixes both the bin and what enters the moments, so that what was added can be taken back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    bins: u32,
    units: f64,
}

/// Why a scale is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleError {
    /// The number of bins is 0 or above [`Scale::MAX_BINS`].
    Bins,
    /// The ends are not finite, or the upper one is not above the lower one.
    Range,
}

impl Scale {
    /// The largest number of bins.
    pub const MAX_BINS: u32 = 1 << 16;

    /// The range from `low` to `high`, cut into `bins` bins.
    ///
    /// # Errors
    /// Where `low < high` does not hold for finite numbers, or `bins` is not in `1..=MAX_BINS`.
    pub fn new(low: f64, high: f64, bins: u32) -> Result<Self, ScaleError> {
        if bins == 0 || bins > Self::MAX_BINS {
            return Err(ScaleError::Bins);
        }
        let units = f64::from(END) / (high - low);
        if !(low.is_finite() && high.is_finite() && low < high && units.is_finite() && units > 0.0) {
            return Err(ScaleError::Range);
        }
        Ok(Self { low, high, bins, units })
    }

    /// Number of bins, `Q`.
    #[must_use]
    pub fn bins(&self) -> u32 {
        self.bins
    }

    /// The width of a bin, in the unit of projections.
    #[must_use]
    pub fn bin_width(&self) -> f64 {
        (self.high - self.low) / f64::from(self.bins)
    }

    /// How much a place's unit is, in the unit of projections.
    #[must_use]
    pub fn place_width(&self) -> f64 {
        (self.high - self.low) / f64::from(END)
    }

    /// The place of a finite projection. It is cut off towards the lower end, and limited to seven lengths of the range
    /// beyond either end.
    #[must_use]
    #[inline]
    pub fn place(&self, projection: f64) -> i32 {
        let units = (projection - self.low) * self.units;
        // `as` saturates, at eight lengths of the range; one less leaves the differences of places within 32 bits
        (units.clamp(-7.0 * f64::from(END), 7.99 * f64::from(END))) as i32
    }

    /// The bin of a place, from 0; what lies outside of the range is in the first or the last one.
    #[must_use]
    #[inline]
    pub fn bin(&self, place: i32) -> u32 {
        let inside = place.clamp(0, END - 1) as u64;
        ((inside * u64::from(self.bins)) >> PLACE_BITS) as u32
    }

    /// Whether the place is that of a projection outside of the range; both ends belong to it.
    #[must_use]
    #[inline]
    pub fn is_outside(&self, place: i32) -> bool {
        !(0..=END).contains(&place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_belong_to_the_range() {
        let scale = Scale::new(-1.0, 1.0, 2048).unwrap();
        assert_eq!(scale.bin_width(), 2.0 / 2048.0);
        let cases = [(-1.0, 0, false), (0.0, 1024, false), (1.0, 2047, false), (1.001, 2047, true), (-1.001, 0, true)];
        for (projection, bin, is_outside) in cases {
            let place = scale.place(projection);
            assert_eq!((scale.bin(place), scale.is_outside(place)), (bin, is_outside), "{projection}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        assert_eq!(Scale::new(1.0, 1.0, 8), Err(ScaleError::Range));
        assert_eq!(Scale::new(f64::NEG_INFINITY, 1.0, 8), Err(ScaleError::Range));
        assert_eq!(Scale::new(-f64::MAX, f64::MAX, 8), Err(ScaleError::Range));
        assert_eq!(Scale::new(0.0, 1.0, 0), Err(ScaleError::Bins));
        assert_eq!(Scale::new(0.0, 1.0, Scale::MAX_BINS + 1), Err(ScaleError::Bins));
    }

    proptest! {
        #[test]
        fn a_place_says_where_the_projection_lies(
            low in -1e3..1e3_f64, width in 1e-3..1e3_f64, bins in 1_u32..=Scale::MAX_BINS, at in -6.0..7.0_f64
        ) {
            let scale = Scale::new(low, low + width, bins).unwrap();
            let projection = low + at * width;
            let place = scale.place(projection);
            let back = low + f64::from(place) * scale.place_width();
            prop_assert!((back - projection).abs() <= 1.01 * scale.place_width() + 1e-9 * width, "{} is not {}", back, projection);
            let bin = f64::from(scale.bin(place));
            let expected = (at * f64::from(bins)).floor().clamp(0.0, f64::from(bins) - 1.0);
            // an edge may fall to either side of a place that is cut off
            prop_assert!((bin - expected).abs() <= 1.0, "bin {} is not {}", bin, expected);
        }

        #[test]
        fn no_number_is_too_large(projection in prop::num::f64::NORMAL) {
            let scale = Scale::new(-1.0, 1.0, 2048).unwrap();
            prop_assert!(scale.bin(scale.place(projection)) < 2048);
        }
    }
}
