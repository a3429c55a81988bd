//! What alert rules see of the rows.

use alerting::{Metric, RowKind};
use grouping::Dimension;

/// The name of rows of pairs, that of their table.
pub const PAIRS: &str = "cosine_decay";
/// The name of rows of decay rates, that of their table.
pub const RATES: &str = "decay_rate";

/// The fields of rows of pairs; window and slide in ms.
#[must_use]
pub fn pairs_kind(dimensions: impl Iterator<Item = Dimension>, window: i64, slide: i64) -> RowKind {
    let metrics = vec![
        Metric::samples("pairs"),
        Metric::count("missing"),
        Metric::of("mean_cosine", -1.0, 1.0),
        Metric::of("mean_decayed", -1.0, 1.0),
        Metric::of("decayed_p05", -1.0, 1.0),
        Metric::of("decayed_p50", -1.0, 1.0),
        Metric::of("decayed_p95", -1.0, 1.0),
        Metric::of("mean_dt_seconds", 0.0, f64::INFINITY),
    ];
    let dimensions = dimensions.map(Dimension::name).collect();
    RowKind { name: PAIRS, dimensions, known_values: Vec::new(), metrics, weight: 0, window, slide }
}

/// The fields of rows of decay rates; window and slide in ms.
#[must_use]
pub fn rates_kind(window: i64, slide: i64) -> RowKind {
    let metrics = vec![
        Metric::samples("updates"),
        Metric::of("lambda_hat", f64::NEG_INFINITY, f64::INFINITY),
        Metric::of("half_life_hours", 0.0, f64::INFINITY),
        Metric::of("retention_24h", 0.0, f64::INFINITY),
    ];
    RowKind {
        name: RATES,
        dimensions: vec![Dimension::Domain.name()],
        known_values: Vec::new(),
        metrics,
        weight: 0,
        window,
        slide,
    }
}
