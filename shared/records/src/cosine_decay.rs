//! The rows that cosine-decay emits.

use serde::{Deserialize, Serialize};

use crate::field::{Input, Limits, check_key};
use crate::rows::first_revision;
use crate::{Rejection, Text};

/// Similarity of the items that sessions visit one after the other, decayed with the time between, of one group in one window
/// (`schemas/CosineDecay.avsc`). Means and quantiles are `None` where `pairs` is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CosineDecay<'a> {
    /// Start of the window, exclusive, epoch ms.
    pub window_start: i64,
    /// End of the window, inclusive, epoch ms.
    pub window_end: i64,
    /// Empty where not configured or absent; so are the other dimensions.
    #[serde(borrow, default)]
    pub domain: Text<'a>,
    /// Dimension.
    #[serde(borrow, default)]
    pub surface: Text<'a>,
    /// Dimension.
    #[serde(borrow, default)]
    pub user_segment: Text<'a>,
    /// Dimension.
    #[serde(borrow, default)]
    pub rec_strategy: Text<'a>,
    /// Dimension.
    #[serde(borrow, default)]
    pub ab_group: Text<'a>,
    /// Dimension.
    #[serde(borrow, default)]
    pub item_type: Text<'a>,
    /// Pairs of successive events on different items whose vectors are both known; the fields below are over them.
    pub pairs: i64,
    /// Pairs without one or both vectors.
    pub missing: i64,
    /// Mean cosine similarity, -1 to 1.
    pub mean_cosine: Option<f64>,
    /// Mean decayed similarity, -1 to 1.
    pub mean_decayed: Option<f64>,
    /// 5 % quantile of the decayed similarity by nearest rank, in thousandths.
    pub decayed_p05: Option<f64>,
    /// Median of the decayed similarity by nearest rank, in thousandths.
    pub decayed_p50: Option<f64>,
    /// 95 % quantile of the decayed similarity by nearest rank, in thousandths.
    pub decayed_p95: Option<f64>,
    /// Mean time between the two events, seconds.
    pub mean_dt_seconds: Option<f64>,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

/// How fast the item vectors of one domain lose their likeness to what they were, in one window (`schemas/DecayRate.avsc`).
/// Key: `domain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecayRate<'a> {
    /// Start of the window, exclusive, epoch ms.
    pub window_start: i64,
    /// End of the window, inclusive, epoch ms.
    pub window_end: i64,
    /// Domain of the newer versions.
    #[serde(borrow)]
    pub domain: Text<'a>,
    /// New versions that have one before them, at least 1.
    pub updates: i64,
    /// Decay rate per hour, at least 0.
    pub lambda_hat: f64,
    /// Hours until half is left; `None` where `lambda_hat` is 0.
    pub half_life_hours: Option<f64>,
    /// Share that is left after 24 hours, 0 to 1.
    pub retention_24h: f64,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

/// A version of an item's vector that asks for retraining (`schemas/RetrainRequest.avsc`). Key: `item_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetrainRequest<'a> {
    /// Time of the version, epoch ms.
    pub event_time: i64,
    /// The item.
    #[serde(borrow)]
    pub item_id: Text<'a>,
    /// Its domain.
    #[serde(borrow)]
    pub domain: Text<'a>,
    /// The model that made the version.
    #[serde(borrow)]
    pub model_version: Text<'a>,
    /// Mean cosine to the nearest other items as of then, -1 to 1.
    pub observation: f64,
    /// Observations of the item so far, this one included.
    pub observations: i64,
    /// Mean step of the newest observations.
    pub slope: f64,
    /// Euclidean norm of the vector.
    pub norm: f64,
    /// Whether slope and norm are both below their limits: true in a request.
    pub condition: bool,
    /// Whether this version is the first for which they are: true in a request.
    pub requested: bool,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

impl Input for CosineDecay<'static> {
    type Raw<'a> = CosineDecay<'a>;

    const REQUIRED: &'static [&'static str] = &["window_start", "window_end", "pairs", "missing"];

    const TIMES: &'static [&'static str] = &["window_start", "window_end"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        Ok(raw)
    }
}

impl Input for DecayRate<'static> {
    type Raw<'a> = DecayRate<'a>;

    const REQUIRED: &'static [&'static str] =
        &["window_start", "window_end", "domain", "updates", "lambda_hat", "retention_24h"];

    const TIMES: &'static [&'static str] = &["window_start", "window_end"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        Ok(raw)
    }
}

impl Input for RetrainRequest<'static> {
    type Raw<'a> = RetrainRequest<'a>;

    const REQUIRED: &'static [&'static str] = &[
        "event_time",
        "item_id",
        "domain",
        "model_version",
        "observation",
        "observations",
        "slope",
        "norm",
        "condition",
        "requested",
    ];

    const TIMES: &'static [&'static str] = &["event_time"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        check_key("item_id", &raw.item_id)?;
        Ok(raw)
    }
}
