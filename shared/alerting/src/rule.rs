//! Rules, checked and with everything said: what is remembered of them, and what they are when they run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::catalogue::{Group, RowKind};
use crate::config::Direction;

/// All rules over one kind of rows, and what holds for all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleSet {
    /// What holds for all of them.
    pub terms: Terms,
    /// The rules, by their names.
    pub rules: Vec<Rule>,
}

/// What holds for all rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Evaluations without data until a firing alert is resolved.
    pub no_data_windows: u32,
    /// Event time until a firing alert is sent again, ms.
    pub repeat_interval: i64,
    /// Series that each rule keeps.
    pub max_series: u64,
}

/// What held for all rules, for windows that end behind a time (epoch ms); ascending.
pub(crate) type TermsSince = Vec<(i64, Terms)>;

/// A rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The kind of rows that it watches.
    pub rows: String,
    /// The metric that it watches; empty for absence.
    pub metric: String,
    /// When it breaches.
    pub condition: Condition,
    /// Dimensions and the patterns that their values match.
    pub matching: BTreeMap<String, String>,
    /// Metrics and the least that they must be.
    pub require: BTreeMap<String, f64>,
    /// Breaches in a row until it fires.
    pub fire_after: u32,
    /// Clear evaluations in a row until it is resolved.
    pub resolve_after: u32,
    /// It evaluates windows that end at multiples of this, ms.
    pub every: i64,
    /// For those who route alerts.
    pub severity: String,
}

/// When a rule breaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    /// Beyond a bound.
    Threshold {
        /// On which side.
        comparison: Comparison,
        /// Which bound.
        bound: Bound,
    },
    /// Beyond the quantiles of the series' rows.
    Deviation {
        /// On which side.
        direction: Direction,
        /// In distances between the outer quantile and the median.
        margin: f64,
        /// Age of the rows, ms.
        history: i64,
    },
    /// CUSUM.
    Change {
        /// Which way it shifts.
        direction: Direction,
        /// Threshold of the sum.
        sigmas: f64,
        /// Whether the threshold is learned.
        learned: bool,
    },
    /// No row while others have some.
    Absence {
        /// So many evaluations in a row.
        windows: u32,
        /// Event time after which the group is given up, ms.
        history: i64,
    },
}

impl Condition {
    /// Its name in records.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "threshold",
            Self::Deviation { .. } => "deviation",
            Self::Change { .. } => "change",
            Self::Absence { .. } => "absence",
        }
    }
}

/// How a value is compared with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
}

impl Comparison {
    /// Whether a value is beyond a bound.
    #[must_use]
    pub fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Above => value > bound,
            Self::AtLeast => value >= bound,
            Self::Below => value < bound,
            Self::AtMost => value <= bound,
        }
    }

    /// In which direction values are beyond.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Above | Self::AtLeast => Direction::Up,
            Self::Below | Self::AtMost => Direction::Down,
        }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bound {
    /// A number.
    Fixed(f64),
    /// A factor of the median of the series' rows at evaluations.
    Median {
        /// The factor.
        factor: f64,
        /// Age of the rows, ms.
        history: i64,
    },
}

/// A rule with its names looked up.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) rule: Rule,
    /// Index of the metric; `None` for absence.
    pub(crate) metric: Option<usize>,
    matching: Vec<(usize, WildMatch)>,
    require: Vec<(usize, f64, bool)>,
}

/// What a row's other fields allow to be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// All that is required.
    Met,
    /// Too few samples: nothing can be said.
    TooFew,
    /// Something else is not as required: the condition does not hold.
    Unmet,
}

impl Compiled {
    /// Looks the names up.
    ///
    /// # Errors
    /// The name that these rows do not have.
    pub(crate) fn new(rule: Rule, rows: &RowKind) -> Result<Self, String> {
        let metric_of = |name: &str| rows.metric(name).ok_or_else(|| name.to_owned());
        let metric = match rule.condition {
            Condition::Absence { .. } => None,
            _ => Some(metric_of(&rule.metric)?),
        };
        let mut matching = Vec::new();
        for (dimension, pattern) in &rule.matching {
            let at = rows.dimension(dimension).ok_or_else(|| dimension.clone())?;
            matching.push((at, WildMatch::new(pattern)));
        }
        let mut require = Vec::new();
        for (name, least) in &rule.require {
            let at = metric_of(name)?;
            require.push((at, *least, rows.metrics[at].samples));
        }
        Ok(Self { rule, metric, matching, require })
    }

    /// Whether it is about this group.
    pub(crate) fn matches(&self, group: &Group) -> bool {
        self.matching.iter().all(|(at, pattern)| pattern.matches(&group[*at]))
    }

    /// Whether a row with these values can be judged.
    pub(crate) fn requirement(&self, values: &[Option<f64>]) -> Requirement {
        let mut requirement = Requirement::Met;
        for (at, least, samples) in &self.require {
            if values[*at].is_none_or(|value| value < *least) {
                if *samples {
                    return Requirement::TooFew;
                }
                requirement = Requirement::Unmet;
            }
        }
        requirement
    }

    /// Whether it evaluates windows that end at `end`.
    pub(crate) fn is_due(&self, end: i64) -> bool {
        end.rem_euclid(self.rule.every) == 0
    }

    /// Whether it keeps rows of windows that it does not evaluate, too.
    pub(crate) fn keeps_all_rows(&self) -> bool {
        matches!(self.rule.condition, Condition::Deviation { .. })
    }
}
