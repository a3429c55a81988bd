//! What alert rules see of the rows.

use alerting::{Metric, Row, RowKind};
use grouping::Example;

use crate::rows::{DriftRow, Kind};

/// The name of the rows, that of their table.
pub const ROWS: &str = "domain_drift";

const KINDS: &[&str] = &[Kind::Pair.name(), Kind::SelfDrift.name()];

/// The fields of a row, in the order of [`row`]; window and slide in ms.
#[must_use]
pub fn row_kind(window: i64, slide: i64) -> RowKind {
    let positive = |name| Metric::of(name, 0.0, f64::INFINITY);
    let metrics = vec![
        Metric::samples("n"),
        Metric::samples("m"),
        positive("w1"),
        positive("max_sliced"),
        positive("w1_scaled"),
        positive("noise_floor"),
        Metric::flag("significant"),
        positive("gamma_raw"),
        Metric::of("gamma", 0.05, 0.95),
        Metric::share("traffic_share"),
        Metric::of("sinkhorn", f64::NEG_INFINITY, f64::INFINITY),
        Metric::count("out_of_range"),
    ];
    let known_values = vec![("kind", KINDS)];
    RowKind {
        name: ROWS,
        dimensions: vec!["kind", "sources", "target"],
        known_values,
        metrics,
        weight: 1,
        window,
        slide,
    }
}

/// What rules see of a row.
pub(crate) fn row(row: &DriftRow<'_>, example: Option<&Example>) -> Row {
    let (distance, coefficient) = (&row.distance, row.distance.coefficient);
    Row {
        group: [row.kind.name(), row.sources, row.target].map(Into::into).into(),
        values: vec![
            Some(distance.n as f64),
            Some(distance.m as f64),
            Some(distance.w1),
            Some(distance.max_sliced),
            distance.w1_scaled,
            Some(distance.noise_floor),
            Some(f64::from(u8::from(distance.significant))),
            coefficient.and_then(|coefficient| coefficient.raw),
            coefficient.map(|coefficient| coefficient.gamma),
            coefficient.map(|coefficient| coefficient.traffic_share),
            distance.sinkhorn,
            Some(distance.out_of_range as f64),
        ],
        traceparent: example.map(|example| example.traceparent().into()),
    }
}
