//! Rules as people write them.

use std::collections::BTreeMap;

use serde::Deserialize;
use service::{HumanDuration, Problems};

use crate::catalogue::RowKind;
use crate::check;
use crate::rule::{Rule, RuleSet, Terms};

/// The section `[alerts]` with its defaults, without rules.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[alerts]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml explains each key
pub struct AlertsConfig {
    pub no_data_windows: u32,
    pub repeat_interval: HumanDuration,
    pub max_series: u64,
    pub rules: BTreeMap<String, RuleConfig>,
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A value beyond a bound.
    Threshold,
    /// A value beyond what the last hour had.
    Deviation,
    /// A shift that lasts.
    Change,
    /// A group whose rows stay away.
    Absence,
}

/// In which direction a value is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher than usual.
    Up,
    /// Lower than usual.
    Down,
}

impl Direction {
    /// 1 or -1.
    #[must_use]
    pub fn sign(self) -> f64 {
        match self {
            Self::Up => 1.0,
            Self::Down => -1.0,
        }
    }
}

/// One rule; which keys it may have depends on its kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml explains each key
pub struct RuleConfig {
    pub kind: Kind,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub metric: Option<String>,
    pub rows: Option<String>,
    pub above: Option<f64>,
    pub at_least: Option<f64>,
    pub below: Option<f64>,
    pub at_most: Option<f64>,
    pub above_median: Option<f64>,
    pub below_median: Option<f64>,
    pub direction: Option<Direction>,
    pub margin: Option<f64>,
    pub history: Option<HumanDuration>,
    pub learned: Option<bool>,
    pub sigmas: Option<f64>,
    pub windows: Option<u32>,
    #[serde(default, rename = "match")]
    pub matching: BTreeMap<String, String>,
    #[serde(default)]
    pub require: BTreeMap<String, f64>,
    pub fire_after: Option<u32>,
    pub resolve_after: Option<u32>,
    pub every: Option<HumanDuration>,
    pub severity: Option<String>,
}

fn yes() -> bool {
    true
}

impl AlertsConfig {
    /// Checks everything against the rows that there are, under the key `alerts`.
    pub fn validate(&self, catalogue: &[RowKind], problems: &mut Problems) {
        check::check(self, catalogue, problems);
    }

    /// The enabled rules over rows of this kind. Rules that [`validate`](Self::validate) refuses are left out.
    #[must_use]
    pub fn rules(&self, catalogue: &[RowKind], rows: &str) -> RuleSet {
        let enabled = self.rules.iter().filter(|(_, rule)| rule.enabled);
        let rules = enabled.filter_map(|(name, rule)| check::rule(name, rule, catalogue, &mut Problems::new()));
        RuleSet {
            terms: Terms {
                no_data_windows: self.no_data_windows,
                repeat_interval: self.repeat_interval.as_millis(),
                max_series: self.max_series,
            },
            rules: rules.filter(|rule: &Rule| rule.rows == rows).collect(),
        }
    }
}
