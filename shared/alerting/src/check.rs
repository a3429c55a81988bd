//! Whether rules make sense.

use std::fmt::Display;

use service::{HumanDuration, Problems};
use wildmatch::WildMatch;

use crate::catalogue::{Metric, RowKind};
use crate::config::{AlertsConfig, Direction, Kind, RuleConfig};
use crate::rule::{Bound, Comparison, Condition, Rule};
use crate::series::LEAST_ROWS;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// Rows of the past are kept in memory.
const MAX_HISTORY: i64 = 31 * DAY;

pub(crate) fn check(alerts: &AlertsConfig, catalogue: &[RowKind], problems: &mut Problems) {
    if alerts.no_data_windows == 0 {
        problems.add("alerts.no_data_windows", alerts.no_data_windows, "1 or more");
    }
    if alerts.repeat_interval.as_millis() == 0 {
        problems.add("alerts.repeat_interval", alerts.repeat_interval, "longer than 0s");
    }
    if alerts.max_series == 0 {
        problems.add("alerts.max_series", alerts.max_series, "1 or more");
    }
    for (name, config) in &alerts.rules {
        let _ = rule(name, config, catalogue, problems);
    }
}

/// The rule, with everything said; `None`, and problems told, where it makes no sense.
pub(crate) fn rule(name: &str, config: &RuleConfig, catalogue: &[RowKind], problems: &mut Problems) -> Option<Rule> {
    let before = problems.len();
    let mut checker = Checker { prefix: format!("alerts.rules.{name}"), config, problems };
    let is_named = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.is_empty() || !name.chars().all(is_named) {
        checker.problems.add(
            format!("alerts.rules.{name}"),
            format!("{name:?}"),
            "a name of letters, digits, '-' and '_'",
        );
    }
    checker.keys();
    let (rows, metric) = checker.rows(catalogue)?;
    let every = checker.every(rows);
    let condition = checker.condition(rows, metric, every);
    checker.matching(rows);
    checker.require(rows);
    let change = config.kind == Kind::Change;
    let fire_after = checker.count("fire_after", config.fire_after, if change { 1 } else { 3 });
    let resolve_after = checker.count("resolve_after", config.resolve_after, 3);
    if change && fire_after != 1 {
        checker.wrong("fire_after", fire_after, "1 for a change: its sum begins anew once it has fired");
    }
    let severity = config.severity.clone().unwrap_or_else(|| "warning".to_owned());
    if severity.is_empty() {
        checker.wrong("severity", "\"\"", "a word, such as \"warning\"");
    }
    let condition = condition.filter(|_| problems.len() == before)?;
    Some(Rule {
        name: name.to_owned(),
        rows: rows.name.to_owned(),
        metric: metric.map(|metric| metric.name.to_owned()).unwrap_or_default(),
        condition,
        matching: config.matching.clone(),
        require: config.require.clone(),
        fire_after,
        resolve_after,
        every,
        severity,
    })
}

struct Checker<'a> {
    prefix: String,
    config: &'a RuleConfig,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn wrong(&mut self, key: &str, value: impl Display, allowed: impl AsRef<str>) {
        self.problems.add(format!("{}.{key}", self.prefix), value, allowed);
    }

    /// Keys that the rule's kind does not have.
    fn keys(&mut self) {
        use Kind::{Absence, Change, Deviation, Threshold};
        let config = self.config;
        let given: [(&str, bool, &[Kind]); 16] = [
            ("metric", config.metric.is_some(), &[Threshold, Deviation, Change]),
            ("rows", config.rows.is_some(), &[Absence]),
            ("above", config.above.is_some(), &[Threshold]),
            ("at_least", config.at_least.is_some(), &[Threshold]),
            ("below", config.below.is_some(), &[Threshold]),
            ("at_most", config.at_most.is_some(), &[Threshold]),
            ("above_median", config.above_median.is_some(), &[Threshold]),
            ("below_median", config.below_median.is_some(), &[Threshold]),
            ("direction", config.direction.is_some(), &[Deviation, Change]),
            ("margin", config.margin.is_some(), &[Deviation]),
            ("history", config.history.is_some(), &[Threshold, Deviation, Absence]),
            ("learned", config.learned.is_some(), &[Change]),
            ("sigmas", config.sigmas.is_some(), &[Change]),
            ("windows", config.windows.is_some(), &[Absence]),
            ("fire_after", config.fire_after.is_some(), &[Threshold, Deviation, Change]),
            ("resolve_after", config.resolve_after.is_some(), &[Threshold, Deviation, Change]),
        ];
        for (key, _, kinds) in given.iter().filter(|(_, given, kinds)| *given && !kinds.contains(&config.kind)) {
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
            let message = format!("only rules of kind {} have it", kinds.join(", "));
            self.problems.tell(format!("{}.{key}", self.prefix), message);
        }
    }

    /// The rows that the rule is about, and the metric that it watches.
    fn rows<'c>(&mut self, catalogue: &'c [RowKind]) -> Option<(&'c RowKind, Option<&'c Metric>)> {
        let tables = || catalogue.iter().map(|rows| format!("{:?}", rows.name)).collect::<Vec<_>>().join(", ");
        if self.config.kind == Kind::Absence {
            let Some(name) = &self.config.rows else { return catalogue.first().map(|rows| (rows, None)) };
            let found = catalogue.iter().find(|rows| rows.name == name);
            if found.is_none() {
                self.wrong("rows", format!("{name:?}"), format!("one of {}", tables()));
            }
            return found.map(|rows| (rows, None));
        }
        let all = || {
            let names = catalogue.iter().flat_map(|rows| rows.metrics.iter().map(|metric| metric.name));
            let mut names: Vec<&str> = names.collect();
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(*name));
            names.join(", ")
        };
        let Some(name) = &self.config.metric else {
            self.problems
                .tell(format!("{}.metric", self.prefix), format!("the key metric is missing: one of {}", all()));
            return None;
        };
        let found = catalogue.iter().find_map(|rows| Some((rows, Some(&rows.metrics[rows.metric(name)?]))));
        if found.is_none() {
            self.wrong("metric", format!("{name:?}"), format!("one of {}", all()));
        }
        found
    }

    fn every(&mut self, rows: &RowKind) -> i64 {
        let every = self.config.every.map_or(rows.window, HumanDuration::as_millis);
        // the window itself is checked where it is configured
        if let Some(shown) = self.config.every
            && (every <= 0 || every % rows.slide.max(1) != 0)
        {
            self.wrong("every", shown, format!("a multiple of the slide ({})", duration(rows.slide)));
            return rows.window.max(1);
        }
        // twice as many as it needs, lest a few that are missing make it blind
        if self.config.kind == Kind::Change && every > HOUR / 2 {
            let allowed = "at most 30m for a change: its baseline needs 24 values of a day";
            self.wrong("every", duration(every), allowed);
        }
        every.max(1)
    }

    fn condition(&mut self, rows: &RowKind, metric: Option<&Metric>, every: i64) -> Option<Condition> {
        let config = self.config;
        match config.kind {
            Kind::Threshold => self.threshold(metric?, every),
            Kind::Deviation => {
                let direction = self.direction();
                let margin = self.positive("margin", config.margin, 1.0, true);
                let history = self.past(HOUR, rows.slide, "slides");
                Some(Condition::Deviation { direction: direction?, margin, history })
            }
            Kind::Change => {
                let direction = self.direction();
                let sigmas = self.positive("sigmas", config.sigmas, 8.0, false);
                Some(Condition::Change { direction: direction?, sigmas, learned: config.learned.unwrap_or(false) })
            }
            Kind::Absence => {
                let windows = self.count("windows", config.windows, 3);
                // a group is forgotten after its history, and must be missed before
                let least = every.saturating_mul(i64::from(windows) + 1);
                let history = self.history(DAY.max(least), least, &format!("{} evaluations", i64::from(windows) + 1));
                if config.history.is_none() && history > MAX_HISTORY {
                    self.wrong("windows", windows, format!("such that it takes less than {}", duration(MAX_HISTORY)));
                }
                Some(Condition::Absence { windows, history })
            }
        }
    }

    fn threshold(&mut self, metric: &Metric, every: i64) -> Option<Condition> {
        use Comparison::{Above, AtLeast, AtMost, Below};
        let config = self.config;
        let given: Vec<(&str, Comparison, bool, f64)> = [
            ("above", Above, false, config.above),
            ("at_least", AtLeast, false, config.at_least),
            ("below", Below, false, config.below),
            ("at_most", AtMost, false, config.at_most),
            ("above_median", Above, true, config.above_median),
            ("below_median", Below, true, config.below_median),
        ]
        .into_iter()
        .filter_map(|(key, comparison, of_median, value)| Some((key, comparison, of_median, value?)))
        .collect();
        let [(key, comparison, of_median, value)] = given[..] else {
            let keys: Vec<&str> = given.iter().map(|(key, ..)| *key).collect();
            let found = if keys.is_empty() { "none".to_owned() } else { keys.join(" and ") };
            let message = "a threshold has exactly one of above, at_least, below, at_most, above_median, below_median";
            self.problems.tell(self.prefix.clone(), format!("{message}, not {found}"));
            return None;
        };
        if of_median {
            let factor = self.positive(key, Some(value), 1.0, false);
            let is_beyond = if comparison == Above { factor > 1.0 } else { factor < 1.0 };
            if !is_beyond {
                let allowed = if comparison == Above { "above 1" } else { "below 1" };
                self.wrong(key, value, format!("{allowed}, or what is usual would breach"));
            }
            if metric.low < 0.0 {
                let message = format!("{} can be negative, and a factor of its median says nothing then", metric.name);
                self.problems.tell(format!("{}.{key}", self.prefix), message);
            }
            let history = self.past(DAY, every, "evaluations");
            return Some(Condition::Threshold { comparison, bound: Bound::Median { factor, history } });
        }
        if config.history.is_some() {
            let message = "only above_median and below_median look back";
            self.problems.tell(format!("{}.history", self.prefix), message);
        }
        // a bound at which some values are beyond and some are not
        let (low, high) = (metric.low, metric.high);
        let sensible = match comparison {
            Above | AtMost => value >= low && value < high,
            AtLeast | Below => value > low && value <= high,
        };
        if !value.is_finite() || !sensible {
            let range = format!(
                "such that some values of {} are beyond it and some are not: it goes from {low} to {high}",
                metric.name
            );
            self.wrong(key, value, range);
        }
        Some(Condition::Threshold { comparison, bound: Bound::Fixed(value) })
    }

    fn direction(&mut self) -> Option<Direction> {
        if self.config.direction.is_none() {
            let message = "the key direction is missing: \"up\" or \"down\"";
            self.problems.tell(format!("{}.direction", self.prefix), message);
        }
        self.config.direction
    }

    fn positive(&mut self, key: &str, given: Option<f64>, default: f64, or_zero: bool) -> f64 {
        let value = given.unwrap_or(default);
        if !value.is_finite() || value < 0.0 || (value == 0.0 && !or_zero) {
            self.wrong(key, value, if or_zero { "0 or more" } else { "above 0" });
        }
        value
    }

    fn count(&mut self, key: &str, given: Option<u32>, default: u32) -> u32 {
        let value = given.unwrap_or(default);
        if !(1..=1000).contains(&value) {
            self.wrong(key, value, "from 1 to 1000");
        }
        value
    }

    /// The history of a rule that looks back: enough steps to say what is usual.
    fn past(&mut self, default: i64, step: i64, steps: &str) -> i64 {
        let least = step.saturating_mul(LEAST_ROWS as i64);
        self.history(default.max(least), least, &format!("{LEAST_ROWS} {steps}"))
    }

    /// The history, `least` at least, which are so many `steps`.
    fn history(&mut self, default: i64, least: i64, steps: &str) -> i64 {
        let Some(history) = self.config.history.map(HumanDuration::as_millis) else { return default };
        if history < least || history > MAX_HISTORY {
            let allowed = format!("from {} ({steps}) to {}", duration(least), duration(MAX_HISTORY));
            self.wrong("history", duration(history), allowed);
        }
        history
    }

    fn matching(&mut self, rows: &RowKind) {
        for (dimension, pattern) in &self.config.matching {
            if rows.dimension(dimension).is_none() {
                let allowed = format!("about the dimensions of rows of {}: {}", rows.name, rows.dimensions.join(", "));
                self.wrong(&format!("match.{dimension}"), format!("{pattern:?}"), allowed);
            }
            let known = rows.known_values.iter().find(|(of, _)| of == dimension).map(|(_, values)| *values);
            if let Some(known) = known
                && !known.iter().any(|value| WildMatch::new(pattern).matches(value))
            {
                let allowed = format!("such that it matches one of {}", known.join(", "));
                self.wrong(&format!("match.{dimension}"), format!("{pattern:?}"), allowed);
            }
        }
    }

    fn require(&mut self, rows: &RowKind) {
        if self.config.kind == Kind::Absence && !self.config.require.is_empty() {
            let message = "an absence is about whether there are rows, whatever they say";
            self.problems.tell(format!("{}.require", self.prefix), message);
        }
        for (name, least) in &self.config.require {
            let key = format!("require.{name}");
            match rows.metric(name).map(|at| &rows.metrics[at]) {
                Some(metric) if self.config.kind == Kind::Change && !metric.samples => {
                    let message = "a change requires samples only: its sum begins anew once it has fired, met or not";
                    self.problems.tell(format!("{}.{key}", self.prefix), message);
                }
                None => {
                    let names: Vec<&str> = rows.metrics.iter().map(|metric| metric.name).collect();
                    self.wrong(&key, least, format!("about one of {}", names.join(", ")));
                }
                Some(metric) if !least.is_finite() || *least > metric.high => {
                    self.wrong(&key, least, format!("at most {}, the most that it can be", metric.high));
                }
                Some(_) => {}
            }
        }
    }
}

fn duration(millis: i64) -> HumanDuration {
    HumanDuration::from_millis(millis).unwrap_or_default()
}
