//! What alert rules see of the rows.

use alerting::{Metric, Row, RowKind};
use grouping::{Dimension, Grouping};

use crate::rows::GroupScores;
use crate::summary::Summary;

/// The name of the rows, that of their table.
pub const ROWS: &str = "session_entropy";

/// The fields of a row, in the order of [`row`]; windows and slide in ms.
#[must_use]
pub fn row_kind(dimensions: impl Iterator<Item = Dimension>, window: i64, slide: i64) -> RowKind {
    let metrics = vec![
        Metric::samples("sessions_total"),
        Metric::samples("events"),
        Metric::samples("sessions"),
        Metric::of("mean_entropy", 0.0, f64::INFINITY),
        Metric::share("mean_freshness"),
        Metric::share("freshness_p05"),
        Metric::share("freshness_p50"),
        Metric::share("freshness_p95"),
        Metric::share("share_focused"),
        Metric::share("share_balanced"),
        Metric::share("share_scattered"),
    ];
    let weight = 2;
    RowKind { name: ROWS, dimensions: dimensions.map(Dimension::name).collect(), metrics, weight, window, slide }
}

/// A group's row.
pub(crate) fn row(grouping: &Grouping, group: &[u8], summary: &Summary) -> Row {
    let values = grouping.values(group);
    let scores = GroupScores::of(summary);
    let score = |of: fn(&GroupScores) -> f64| scores.as_ref().map(of);
    let counts = [summary.sessions_total, summary.events, summary.sessions].map(|count| Some(count as f64));
    let scores = [
        score(|scores| scores.mean_entropy),
        score(|scores| scores.mean_freshness),
        score(|scores| scores.freshness_quantiles[0]),
        score(|scores| scores.freshness_quantiles[1]),
        score(|scores| scores.freshness_quantiles[2]),
        score(|scores| scores.shares[0]),
        score(|scores| scores.shares[1]),
        score(|scores| scores.shares[2]),
    ];
    Row {
        group: grouping.dimensions().map(|dimension| (*values[dimension as usize]).into()).collect(),
        values: counts.into_iter().chain(scores).collect(),
    }
}
