//! Rules as they are written, rows as they come, and what is told.

#![allow(dead_code, unreachable_pub)] // each test binary uses its share of it

use alerting::{AlertsConfig, DEFAULTS, Evaluator, Metric, Row, RowKind, RuleSet};
use records::Alert;
use service::Problems;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// Windows do not overlap at these distances.
pub const WINDOW: i64 = 5 * MINUTE;

/// Rows with two dimensions: sessions, freshness, significant, level.
pub fn rows() -> RowKind {
    RowKind {
        name: "rows",
        dimensions: vec!["domain", "segment"],
        known_values: vec![("segment", &["new", "old", "x", "y"])],
        metrics: vec![
            Metric::samples("sessions"),
            Metric::share("freshness"),
            Metric::flag("significant"),
            Metric::of("level", 0.0, f64::INFINITY),
            Metric::of("difference", f64::NEG_INFINITY, f64::INFINITY),
        ],
        weight: 0,
        window: WINDOW,
        slide: 10_000,
    }
}

#[derive(serde::Deserialize)]
struct File {
    alerts: AlertsConfig,
}

/// The section with these rules.
pub fn written(rules: &str) -> AlertsConfig {
    let rules = if rules.is_empty() { "[alerts.rules]" } else { rules };
    toml::from_str::<File>(&format!("{DEFAULTS}\n{rules}")).unwrap_or_else(|error| panic!("{error}")).alerts
}

/// Those rules, found good.
pub fn rules(text: &str) -> RuleSet {
    let (alerts, kinds) = (written(text), [rows()]);
    let mut problems = Problems::new();
    alerts.validate(&kinds, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    alerts.rules(&kinds, "rows")
}

/// A row of a domain and a segment: sessions, freshness, significant, level.
pub fn row(group: [&str; 2], values: [f64; 4]) -> Row {
    Row {
        group: group.map(Into::into).into(),
        values: values.into_iter().map(Some).chain([None]).collect(),
        traceparent: None,
    }
}

/// An alert, owned.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub alert_id: String,
    pub fingerprint: String,
    pub sequence: i64,
    pub reason: String,
    pub rule: String,
    pub group: Vec<String>,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub baseline: Option<f64>,
    pub window_end: i64,
    pub started_at: i64,
    pub samples: Vec<(String, i64)>,
    pub attribution: Vec<(String, String)>,
    pub summary: String,
}

impl Told {
    pub fn of(alert: &Alert<'_>) -> Self {
        let attribution = alert.attribution.iter();
        Self {
            alert_id: alert.alert_id.to_string(),
            fingerprint: alert.fingerprint.to_string(),
            sequence: alert.sequence,
            reason: alert.reason.to_string(),
            rule: alert.rule.to_string(),
            group: alert.group.iter().map(|label| label.value.to_string()).collect(),
            value: alert.value,
            threshold: alert.threshold,
            baseline: alert.baseline,
            window_end: alert.window_end,
            started_at: alert.started_at,
            samples: alert.samples.iter().map(|sample| (sample.name.to_string(), sample.count)).collect(),
            attribution: attribution.map(|it| (it.dimensions.to_string(), it.values.to_string())).collect(),
            summary: alert.summary.to_string(),
        }
    }
}

/// An evaluator and what it has told.
pub struct Player {
    pub evaluator: Evaluator,
    pub told: Vec<Told>,
    /// As a merge's history has them.
    pub remembered: Option<Vec<u8>>,
}

impl Player {
    /// Live under these rules.
    pub fn new(text: &str) -> Self {
        Self::under(rules(text))
    }

    pub fn under(rules: RuleSet) -> Self {
        let mut player = Self { evaluator: evaluator(rules), told: Vec::new(), remembered: None };
        player.begin();
        player
    }

    pub fn begin(&mut self) {
        let told = &mut self.told;
        if self.evaluator.begin(&mut |alert| told.push(Told::of(alert))) {
            let mut bytes = Vec::new();
            self.evaluator.remembered(&mut bytes);
            self.remembered = Some(bytes);
        }
    }

    pub fn close(&mut self, end: i64, rows: &[Row]) {
        let told = &mut self.told;
        let rows = if self.evaluator.wants(end) { rows } else { &[] };
        self.evaluator.close(end, rows, &mut |alert| told.push(Told::of(alert)));
    }

    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.evaluator.snapshot(&mut bytes);
        bytes
    }

    /// As after a crash, not live yet: rules as configured now, the state of `snapshot`, what is remembered.
    pub fn restored(text: &str, snapshot: &[u8], remembered: Option<&Vec<u8>>) -> Self {
        Self::restored_under(rules(text), snapshot, remembered)
    }

    pub fn restored_under(rules: RuleSet, snapshot: &[u8], remembered: Option<&Vec<u8>>) -> Self {
        let mut evaluator = evaluator(rules);
        if let Some(remembered) = remembered {
            evaluator.recall(remembered).unwrap();
        }
        evaluator.restore(snapshot).unwrap();
        Self { evaluator, told: Vec::new(), remembered: remembered.cloned() }
    }

    /// What was told since the last call, as `reason group`.
    pub fn news(&mut self) -> Vec<String> {
        self.told.drain(..).map(|told| format!("{} {}", told.reason, told.group.join("/"))).collect()
    }
}

fn evaluator(rules: RuleSet) -> Evaluator {
    Evaluator::new("worker", rows(), 1, rules)
}
