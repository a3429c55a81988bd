//! What the configuration says, checked and ready for use.

use std::collections::BTreeMap;

use grouping::{Dimension, GroupLimit, Grouping};
use streaming::window::Windows;

/// Settings that the operators need. What is in here, but for `revision`, changes results.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Window and slide of pairs.
    pub windows: Windows,
    /// Dimensions and merge key of pairs.
    pub grouping: Grouping,
    /// Groups kept in each window and merge partition; at least 1.
    pub max_groups: usize,
    /// Events of a session that lie further apart make no pair, ms.
    pub session_gap: i64,
    /// Decay of similarity per hour, by domain.
    pub decay: Decay,
    /// Components of a vector.
    pub vector_dimensions: usize,
    /// Window and slide of decay rates.
    pub rate_windows: Windows,
    /// When an item asks for retraining; `None`: never.
    pub retraining: Option<Retraining>,
    /// Written into every row.
    pub revision: i64,
}

/// Decay of similarity per hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Decay {
    /// Where nothing else is said.
    pub lambda: f64,
    /// Of domains with one of their own.
    pub by_domain: BTreeMap<String, f64>,
}

impl Decay {
    /// The rate of a domain.
    #[must_use]
    pub fn of(&self, domain: &str) -> f64 {
        self.by_domain.get(domain).copied().unwrap_or(self.lambda)
    }
}

/// When an item asks for retraining.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retraining {
    /// The nearest other items that an observation looks at; at least 1.
    pub neighbours: usize,
    /// The newest observations that make a slope; at least 2.
    pub observations: usize,
    /// The slope lies below it,
    pub max_slope: f64,
    /// and the vector's norm below that.
    pub max_norm: f64,
}

impl Settings {
    /// Which groups of pairs stay.
    #[must_use]
    pub fn pairs_limit(&self) -> GroupLimit {
        GroupLimit::new(self.grouping.clone(), self.max_groups)
    }

    /// Which domains' decay rates stay. They all compete, so they meet in one merge partition.
    #[must_use]
    pub fn rate_limit(&self) -> GroupLimit {
        GroupLimit::new(Grouping::new(&[Dimension::Domain], &[]), self.max_groups)
    }
}
