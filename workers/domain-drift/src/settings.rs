//! What the configuration says, checked and ready for use.

use measures::Sinkhorn;
use streaming::window::Windows;

use crate::distance::{Measure, ScaledBy};
use crate::limit::Limit;
use crate::pairs::Pairs;
use crate::projector::Projector;
use crate::summary::Shape;

/// Settings that the operators need. What is in here, but for `revision`, changes results.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Window and slide.
    pub windows: Windows,
    /// Directions, range, bins, normalisation.
    pub projector: Projector,
    /// What the coefficient is made of.
    pub scaled_by: ScaledBy,
    /// The distance at which the coefficient is 1; above 0.
    pub reference: f64,
    /// Users that either side needs for a coefficient.
    pub min_users: u64,
    /// Which domains are compared.
    pub pairs: Pairs,
    /// How much earlier the window lies that a domain is compared with, in ms: a positive multiple of the slide.
    pub self_offset: Option<i64>,
    /// The cross-check and the users of a sample for it; at least 1.
    pub sinkhorn: Option<(Sinkhorn, usize)>,
    /// Domains that are told apart in a window, besides those that pairs name.
    pub max_domains: usize,
    /// Written into every row.
    pub revision: i64,
}

impl Settings {
    /// How large a summary is.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let directions = self.projector.directions();
        Shape {
            directions: directions.count(),
            bins: self.projector.scale().bins(),
            dimensions: directions.dimensions(),
            sample: self.sinkhorn.map_or(0, |(_, sample)| sample),
        }
    }

    /// Which domains stay.
    #[must_use]
    pub fn limit(&self) -> Limit {
        Limit { max_domains: self.max_domains, named: self.pairs.named() }
    }

    /// How distances are measured.
    #[must_use]
    pub fn measure(&self) -> Measure {
        Measure {
            projector: self.projector.clone(),
            scaled_by: self.scaled_by,
            reference: self.reference,
            min_users: self.min_users,
            sinkhorn: self.sinkhorn.map(|(sinkhorn, _)| sinkhorn),
        }
    }
}
