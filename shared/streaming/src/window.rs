//! Sliding event-time windows.
//!
//! **The boundary rule**: a window is `(end - size, end]`, open on the left and closed on the right; ends are the
//! multiples of the slide counted from the epoch. A *pane* is one slide's worth of events, `(end - slide, end]`.
//! All times are event times in epoch milliseconds.

use serde::{Deserialize, Serialize};

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
    /// Where either is not positive, or `size` is not a multiple of `slide`.
    pub fn new(size: i64, slide: i64) -> Result<Self, WindowError> {
        if size <= 0 || slide <= 0 {
            return Err(WindowError::NotPositive { size, slide });
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

    /// End of the pane that holds `time`: the smallest multiple of the slide at or above it. It is also the end of the
    /// first window that covers `time`.
    #[must_use]
    pub fn pane_end(&self, time: i64) -> i64 {
        self.floor(time.saturating_add(self.slide - 1))
    }

    /// The greatest multiple of the slide at or below `time`.
    #[must_use]
    pub fn floor(&self, time: i64) -> i64 {
        time.div_euclid(self.slide).saturating_mul(self.slide)
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
    use super::*;

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
