//! What alert rules see of the rows.

use alerting::{Metric, RowKind};
use grouping::Dimension;

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
    RowKind {
        name: ROWS,
        dimensions: dimensions.map(Dimension::name).collect(),
        known_values: Vec::new(),
        metrics,
        weight,
        window,
        slide,
    }
}
