//! The rows that domain-drift emits.

use serde::{Deserialize, Serialize};

use crate::field::{Input, Limits};
use crate::rows::first_revision;
use crate::{Rejection, Text};

/// How far users of one domain lie from those of others, or from their own past, in one window
/// (`schemas/DomainDrift.avsc`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainDrift<'a> {
    /// Start of the window, exclusive, epoch ms.
    pub window_start: i64,
    /// End of the window, inclusive, epoch ms.
    pub window_end: i64,
    /// `pair` or `self`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// The source domains, joined with `+`.
    #[serde(borrow)]
    pub sources: Text<'a>,
    /// The target domain.
    #[serde(borrow)]
    pub target: Text<'a>,
    /// Users of the sources; of a self drift: users then.
    pub n: i64,
    /// Users of the target; of a self drift: users now.
    pub m: i64,
    /// Sliced Wasserstein-1 distance.
    pub w1: f64,
    /// The largest distance of all directions.
    pub max_sliced: f64,
    /// Mean of the distances in standard deviations of the target's projections; `None` where one of
    /// these is below 1e-6: the target has collapsed.
    pub w1_scaled: Option<f64>,
    /// The distance that two samples of one distribution would show.
    pub noise_floor: f64,
    /// Whether `w1` is above three times the noise floor.
    pub significant: bool,
    /// The coefficient; `None` below `min_users` on either side, and for a target that has collapsed unless distances are
    /// not scaled.
    pub gamma_raw: Option<f64>,
    /// The coefficient, limited to 0.05 to 0.95; 0.95 for a significant distance to a target that has collapsed.
    pub gamma: Option<f64>,
    /// Share of the traffic for the experiment's arm, 0 to 1.
    pub traffic_share: Option<f64>,
    /// Debiased Sinkhorn divergence of samples of both sides; `None` where not configured.
    pub sinkhorn: Option<f64>,
    /// Projections of both sides outside of the histograms' range.
    #[serde(default)]
    pub out_of_range: i64,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

impl Input for DomainDrift<'static> {
    type Raw<'a> = DomainDrift<'a>;

    const REQUIRED: &'static [&'static str] = &[
        "window_start",
        "window_end",
        "kind",
        "sources",
        "target",
        "n",
        "m",
        "w1",
        "max_sliced",
        "noise_floor",
        "significant",
    ];

    const TIMES: &'static [&'static str] = &["window_start", "window_end"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        Ok(raw)
    }
}
