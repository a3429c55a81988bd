//! In which bin of a histogram a gap lies. Gaps are durations in whole milliseconds, so every decision is exact.

/// The largest number of bins.
pub const MAX_BINS: u32 = 10_000;

/// How gaps are put into bins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bins(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Log2 {
        unit: u64,
        count: u32,
    },
    /// `starts[j]` is the smallest gap in ms that lies in bin `j` or above.
    Linear {
        max: i64,
        starts: Box<[i64]>,
    },
}

/// Why bins are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BinsError {
    /// The number of bins is 0 or above [`MAX_BINS`].
    Count(u32),
    /// The unit of logarithmic bins is not above 0 ms.
    Unit(i64),
    /// A linear range begins below 0, or does not end above its begin; in ms.
    Range(i64, i64),
}

impl std::fmt::Display for BinsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => write!(f, "count = {count}: it must be from 1 to {MAX_BINS}"),
            Self::Unit(unit) => write!(f, "unit = {unit} ms: it must be longer than 0 ms"),
            Self::Range(min, max) => write!(f, "min = {min} ms, max = {max} ms: it must be 0 ms <= min < max"),
        }
    }
}

impl std::error::Error for BinsError {}

fn check_count(count: u32) -> Result<(), BinsError> {
    if (1..=MAX_BINS).contains(&count) { Ok(()) } else { Err(BinsError::Count(count)) }
}

impl Bins {
    /// Bin 0 holds gaps below `unit` ms, bin `j >= 1` those from `2^(j-1)` to below `2^j` units; the last is open above.
    ///
    /// # Errors
    /// Where `unit` is not positive, or `count` not in `1..=MAX_BINS`.
    pub fn log2(unit: i64, count: u32) -> Result<Self, BinsError> {
        check_count(count)?;
        match u64::try_from(unit) {
            Ok(unit @ 1..) => Ok(Self(Kind::Log2 { unit, count })),
            _ => Err(BinsError::Unit(unit)),
        }
    }

    /// `count` bins of equal width from `min` to `max` ms, both included; gaps outside are not counted.
    ///
    /// A gap on an inner edge is decided as `numpy.histogram` decides it, which computes in seconds with floats: where
    /// an edge is no float (0.3 s of 10 bins over 1 s), the edge is what numpy's arithmetic makes of it.
    ///
    /// # Errors
    /// Where `0 <= min < max` does not hold, or `count` is not in `1..=MAX_BINS`.
    pub fn linear(min: i64, max: i64, count: u32) -> Result<Self, BinsError> {
        check_count(count)?;
        if min < 0 || max <= min {
            return Err(BinsError::Range(min, max));
        }
        let (first, last) = (seconds(min), seconds(max));
        let width = (last - first) / f64::from(count);
        let starts = (0..count).map(|bin| smallest_at_or_above(f64::from(bin) * width + first, min, max)).collect();
        Ok(Self(Kind::Linear { max, starts }))
    }

    /// Number of bins, `K`.
    #[must_use]
    pub fn count(&self) -> u32 {
        match &self.0 {
            Kind::Log2 { count, .. } => *count,
            Kind::Linear { starts, .. } => starts.len() as u32,
        }
    }

    /// The bin of a gap of `gap` ms, which is not negative; `None` where it is not counted.
    #[must_use]
    #[inline]
    pub fn index(&self, gap: i64) -> Option<u32> {
        match &self.0 {
            Kind::Log2 { unit, count } => {
                let gap = gap.max(0) as u64;
                if gap < *unit {
                    return Some(0);
                }
                // doubled as often, the unit has as many binary digits as the gap; bin j begins at unit << (j - 1). A
                // division would say the same, but takes longer
                let doublings = unit.leading_zeros() - gap.leading_zeros();
                let bin = doublings + u32::from(gap >= unit << doublings);
                Some(bin.min(count - 1))
            }
            Kind::Linear { max, starts } => {
                if gap < starts[0] || gap > *max {
                    return None;
                }
                Some(starts.partition_point(|start| *start <= gap) as u32 - 1)
            }
        }
    }
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// The smallest time in ms whose value in seconds is at or above `edge`; it lies from `min` to `max`.
fn smallest_at_or_above(edge: f64, min: i64, max: i64) -> i64 {
    let mut guess = ((edge * 1000.0) as i64).clamp(min, max);
    while guess > min && seconds(guess - 1) >= edge {
        guess -= 1;
    }
    while guess < max && seconds(guess) < edge {
        guess += 1;
    }
    guess
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_bins_are_those_of_the_definition() {
        let bins = Bins::log2(1000, 10).unwrap();
        let cases = [
            (0, 0),
            (999, 0),
            (1000, 1),
            (1999, 1),
            (2000, 2),
            (3999, 2),
            (4000, 3),
            (127_999, 7),
            (128_000, 8),
            (255_999, 8),
            (256_000, 9),
            (512_000, 9),
            (i64::MAX, 9),
        ];
        for (gap, bin) in cases {
            assert_eq!(bins.index(gap), Some(bin), "gap {gap}");
        }
    }

    #[test]
    fn linear_bins_close_the_last_one_and_leave_out_what_lies_outside() {
        let bins = Bins::linear(1000, 601_000, 10).unwrap();
        let cases = [
            (0, None),
            (999, None),
            (1000, Some(0)),
            (60_999, Some(0)),
            (61_000, Some(1)),
            (540_999, Some(8)),
            (541_000, Some(9)),
            (601_000, Some(9)),
            (601_001, None),
        ];
        for (gap, bin) in cases {
            assert_eq!(bins.index(gap), bin, "gap {gap}");
        }
    }

    #[test]
    fn edges_lie_where_numpy_has_them() {
        // numpy 2.4: the first ms of each bin of numpy.histogram(ms / 1000, bins=10, range=(0, 1)), found by trying all
        let starts = [0, 100, 200, 301, 400, 500, 601, 701, 800, 900];
        let bins = Bins::linear(0, 1000, 10).unwrap();
        let got: Vec<i64> = (0..10).map(|bin| (0..1000).find(|gap| bins.index(*gap) == Some(bin)).unwrap()).collect();
        assert_eq!(got, starts);
        let starts = [100, 210, 319, 428, 537, 646, 755, 864, 973, 1082, 1191];
        let bins = Bins::linear(100, 1300, 11).unwrap();
        let got: Vec<i64> = (0..11).map(|bin| (0..1300).find(|gap| bins.index(*gap) == Some(bin)).unwrap()).collect();
        assert_eq!(got, starts);
    }

    #[test]
    fn a_single_bin_takes_everything_in_range() {
        assert_eq!(Bins::log2(1, 1).unwrap().index(77), Some(0));
        assert_eq!(Bins::linear(0, 10, 1).unwrap().index(10), Some(0));
    }

    #[test]
    fn bins_that_make_no_sense_are_refused_with_their_values() {
        assert_eq!(Bins::log2(0, 10), Err(BinsError::Unit(0)));
        assert_eq!(Bins::log2(1000, 0), Err(BinsError::Count(0)));
        assert_eq!(Bins::linear(5, 5, 3), Err(BinsError::Range(5, 5)));
        assert_eq!(Bins::linear(-1, 5, 3), Err(BinsError::Range(-1, 5)));
        let message = Bins::log2(1000, MAX_BINS + 1).unwrap_err().to_string();
        assert_eq!(message, "count = 10001: it must be from 1 to 10000");
    }

    proptest! {
        #[test]
        fn a_logarithmic_bin_is_found_as_by_doubling(unit in 1_i64..5000, count in 1_u32..40, gap in 0_i64..1_000_000_000) {
            let mut expected = 0;
            let mut bound = i128::from(unit);
            while expected < count - 1 && i128::from(gap) >= bound {
                expected += 1;
                bound *= 2;
            }
            prop_assert_eq!(Bins::log2(unit, count).unwrap().index(gap), Some(expected));
        }

        #[test]
        fn linear_bins_are_as_exact_arithmetic_has_them_but_for_the_edges(
            min in 0_i64..10_000, width in 1_i64..1_000_000, count in 1_u32..200, at in 0.0..=1.0_f64
        ) {
            let max = min + width;
            let gap = min + (at * width as f64) as i64;
            let bin = i64::from(Bins::linear(min, max, count).unwrap().index(gap).unwrap());
            let scaled = (gap - min) * i64::from(count);
            let exact = (scaled / width).min(i64::from(count) - 1);
            let on_an_edge = scaled % width == 0;
            prop_assert!(bin == exact || on_an_edge && (bin - exact).abs() <= 1, "gap {} in bin {}, not {}", gap, bin, exact);
        }
    }
}
