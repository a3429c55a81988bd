//! The rows that session-entropy emits.

use serde::{Deserialize, Serialize};

use crate::field::{Input, Limits, check_key};
use crate::{Rejection, Text};

/// Freshness of one session in one window (`schemas/SessionFreshness.avsc`). Key: `session_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionFreshness<'a> {
    /// Start of the window, exclusive, epoch ms.
    pub window_start: i64,
    /// End of the window, inclusive, epoch ms.
    pub window_end: i64,
    /// The session.
    #[serde(borrow)]
    pub session_id: Text<'a>,
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
    /// Events of the session in the window, at least 1.
    pub events: i64,
    /// Entropy of the gaps between events, bits.
    pub entropy: f64,
    /// Entropy as a share of its maximum, 0 to 1.
    pub normalised: f64,
    /// `1 - normalised`.
    pub freshness: f64,
    /// Factor for item rank, by band.
    pub decay_factor: f64,
    /// `focused`, `balanced` or `scattered`.
    #[serde(borrow)]
    pub band: Text<'a>,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

/// Session entropy of one group in one window (`schemas/SessionEntropy.avsc`). Means, quantiles and shares are `None`
/// where `sessions` is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEntropy<'a> {
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
    /// Sessions with an event in the window.
    pub sessions_total: i64,
    /// Their events.
    pub events: i64,
    /// Sessions with at least `min_events` events; the fields below are over them.
    pub sessions: i64,
    /// Mean entropy, bits.
    pub mean_entropy: Option<f64>,
    /// Mean freshness, 0 to 1.
    pub mean_freshness: Option<f64>,
    /// 5 % quantile of freshness by nearest rank, in thousandths.
    pub freshness_p05: Option<f64>,
    /// Median of freshness by nearest rank, in thousandths.
    pub freshness_p50: Option<f64>,
    /// 95 % quantile of freshness by nearest rank, in thousandths.
    pub freshness_p95: Option<f64>,
    /// Share of sessions that are focused, 0 to 1.
    pub share_focused: Option<f64>,
    /// Share of sessions that are balanced, 0 to 1.
    pub share_balanced: Option<f64>,
    /// Share of sessions that are scattered, 0 to 1.
    pub share_scattered: Option<f64>,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

pub(crate) fn first_revision() -> i64 {
    1
}

impl Input for SessionFreshness<'static> {
    type Raw<'a> = SessionFreshness<'a>;

    const REQUIRED: &'static [&'static str] = &[
        "window_start",
        "window_end",
        "session_id",
        "events",
        "entropy",
        "normalised",
        "freshness",
        "decay_factor",
        "band",
    ];

    const TIMES: &'static [&'static str] = &["window_start", "window_end"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        check_key("session_id", &raw.session_id)?;
        Ok(raw)
    }
}

impl Input for SessionEntropy<'static> {
    type Raw<'a> = SessionEntropy<'a>;

    const REQUIRED: &'static [&'static str] = &["window_start", "window_end", "sessions_total", "events", "sessions"];

    const TIMES: &'static [&'static str] = &["window_start", "window_end"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        Ok(raw)
    }
}
