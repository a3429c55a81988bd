//! What the configuration says, checked and ready for use.

use grouping::{GroupLimit, Grouping};
use measures::Scorer;
use streaming::window::Windows;

/// Settings that the operators need. What is in here, but for `revision`, changes results.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Window and slide, both shorter than 2^32 ms.
    pub windows: Windows,
    /// Bins, estimator, normalisation.
    pub scorer: Scorer,
    /// Sessions with fewer events in a window are counted, but not scored; at least 1.
    pub min_events: u32,
    /// Dimensions and merge key.
    pub grouping: Grouping,
    /// Groups kept in each window and merge partition; at least 1.
    pub max_groups: usize,
    /// Written into every row.
    pub revision: i64,
}

impl Settings {
    /// Which groups stay.
    #[must_use]
    pub fn limit(&self) -> GroupLimit {
        GroupLimit::new(self.grouping.clone(), self.max_groups)
    }
}
