//! Sliding event-time windows.
//!
//! **The boundary rule**: a window is `(end - size, end]`, open on the left and closed on the right; ends are the
//! multiples of the slide counted from the epoch. A *pane* is one slide's worth of events, `(end - slide, end]`.
//! All times are event times in epoch milliseconds.

use records::EVENT_TIMES;
use serde::{Deserialize, Serialize};

/// The longest time that can be computed with, in ms: ten years of 365 days. No sum of event times
/// ([`EVENT_TIMES`](records::EVENT_TIMES)) and a few such spans comes near the ends of `i64`.
pub const MAX_SPAN: i64 = 3_650 * 24 * 3_600_000;

/// The most slides of a window: while an event is in it, each of them is closed.
pub const MAX_SLIDES: i64 = 100_000;

/// Whether a time can be a watermark or a window's end: event times, and what lies a bound or a window and a slide around
/// them.
#[must_use]
pub fn is_computable(time: i64) -> bool {
    (EVENT_TIMES.start() - 2 * MAX_SPAN..=EVENT_TIMES.end() + 2 * MAX_SPAN).contains(&time)
}

/// Why a window specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Size or slide is zero or negative.
    #[error("window and slide must be longer than 0 ms (window = {size} ms, slide = {slide} ms)")]
    NotPositive {
        /// Window length in ms.
        size: i64,
        /// Slide in ms.
        slide: i64,
    },
    /// The window is longer than [`MAX_SPAN`].
    #[error("window must be at most {MAX_SPAN} ms (window = {size} ms)")]
    TooLong {
        /// Window length in ms.
        size: i64,
    },
    /// The window has more than [`MAX_SLIDES`].
    #[error("window must have at most {MAX_SLIDES} slides (window = {size} ms, slide = {slide} ms)")]
    TooManySlides {
        /// Window length in ms.
        size: i64,
        /// Slide in ms.
        slide: i64,
    },
    /// The size is not a multiple of the slide.
    #[error("window must be a multiple of slide (window = {size} ms, slide = {slide} ms)")]
    NotAMultiple {
        /// Window length in ms.
        size: i64,
        /// Slide in ms.
        slide: i64,
    },
}

/// Length and slide of a family of sliding windows, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    size: i64,
    slide: i64,
}

impl Windows {
    /// Windows of `size` ms that end every `slide` ms.
    ///
    /// # Errors
    /// Where either is not positive, `size` is not a multiple of `slide`, or more than can be computed with.
    pub fn new(size: i64, slide: i64) -> Result<Self, WindowError> {
        if size <= 0 || slide <= 0 {
            return Err(WindowError::NotPositive { size, slide });
        }
        if size > MAX_SPAN {
            return Err(WindowError::TooLong { size });
        }
        if size / slide > MAX_SLIDES {
            return Err(WindowError::TooManySlides { size, slide });
        }
        if size % slide != 0 {
            return Err(WindowError::NotAMultiple { size, slide });
        }
        Ok(Self { size, slide })
    }

    /// Length of a window in ms.
    #[must_use]
    pub fn size(&self) -> i64 {
        self.size
    }

    /// Distance between two window ends in ms.
    #[must_use]
    pub fn slide(&self) -> i64 {
        self.slide
    }

    /// End of the pane that holds `time`: the smallest multiple of the slide at or above it; `i64::MAX` where `i64` has
    /// none. It is also the end of the first window that covers `time`.
    #[must_use]
    pub fn pane_end(&self, time: i64) -> i64 {
        let after_start = time.rem_euclid(self.slide);
        if after_start == 0 { time } else { time.saturating_add(self.slide - after_start) }
    }

    /// The greatest multiple of the slide at or below `time`; `i64::MIN` where `i64` has none.
    #[must_use]
    pub fn floor(&self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.slide))
    }

    /// End of the first window that no longer covers the events of the pane ending at `pane_end`.
    #[must_use]
    pub fn leaves_at(&self, pane_end: i64) -> i64 {
        pane_end.saturating_add(self.size)
    }

    /// Start of the window that ends at `end` (exclusive).
    #[must_use]
    pub fn start(&self, end: i64) -> i64 {
        end.saturating_sub(self.size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_windows() -> impl Strategy<Value = Windows> {
        let slide = prop_oneof![1_i64..100, 1..=MAX_SPAN];
        (slide, 1..=MAX_SLIDES)
            .prop_map(|(slide, slides)| Windows::new(slide * slides.min(MAX_SPAN / slide), slide).unwrap())
    }

    /// All of `i64`, its ends often.
    fn any_time() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => any::<i64>(),
            1 => (0..1_000_000_i64).prop_map(|below| i64::MAX - below),
            1 => (0..1_000_000_i64).prop_map(|above| i64::MIN + above),
            1 => -1_000_000..1_000_000_i64,
        ]
    }

    proptest! {
        /// Against arithmetic that has room.
        #[test]
        fn ends_of_panes_and_floors_are_right_at_all_times(windows in any_windows(), time in any_time()) {
            let (size, slide, exact) = (i128::from(windows.size()), i128::from(windows.slide()), i128::from(time));
            let within = |wide: i128| i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX });
            let (floor, ceiling) = (exact.div_euclid(slide) * slide, -(-exact).div_euclid(slide) * slide);
            prop_assert!(ceiling - floor == 0 || ceiling - floor == slide);
            prop_assert_eq!(windows.floor(time), within(floor));
            prop_assert_eq!(windows.pane_end(time), within(ceiling));
            prop_assert_eq!(windows.leaves_at(time), within(exact + size));
            prop_assert_eq!(windows.start(time), within(exact - size));
        }

        /// So a loop over the ends always comes to its end.
        #[test]
        fn the_end_behind_a_time_lies_above_it(windows in any_windows(), after in any_time()) {
            let end = windows.pane_end(after.saturating_add(1));
            prop_assert!(end > after || after == i64::MAX);
            prop_assert!(windows.floor(after) <= after);
        }
    }

    #[test]
    fn spans_that_cannot_be_computed_with_are_refused() {
        assert_eq!(Windows::new(MAX_SPAN + 1, 1), Err(WindowError::TooLong { size: MAX_SPAN + 1 }));
        assert_eq!(Windows::new(i64::MAX, i64::MAX), Err(WindowError::TooLong { size: i64::MAX }));
        assert_eq!(Windows::new(MAX_SLIDES + 1, 1), Err(WindowError::TooManySlides { size: MAX_SLIDES + 1, slide: 1 }));
        assert!(Windows::new(MAX_SPAN, MAX_SPAN).is_ok());
    }

    #[test]
    fn a_time_on_the_end_belongs_to_the_window_that_ends_there() {
        let windows = Windows::new(300_000, 10_000).unwrap();
        assert_eq!(windows.pane_end(10_000), 10_000);
        assert_eq!(windows.pane_end(10_001), 20_000);
        assert_eq!(windows.pane_end(0), 0);
        assert_eq!(windows.leaves_at(10_000), 310_000);
        assert_eq!(windows.floor(19_999), 10_000);
        assert_eq!(windows.floor(-1), -10_000);
    }

    #[test]
    fn a_window_that_is_no_multiple_of_the_slide_is_refused() {
        assert_eq!(Windows::new(25, 10), Err(WindowError::NotAMultiple { size: 25, slide: 10 }));
        assert!(Windows::new(0, 10).is_err());
        assert!(Windows::new(10, 0).is_err());
    }
}
