//! A rule that runs, and its series.

use std::collections::BTreeMap;

use crate::catalogue::Group;
use crate::rule::Compiled;
use crate::series::Series;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct LiveRule {
    pub(crate) rule: Compiled,
    /// It evaluates windows that end behind this: the last one that was closed when it began.
    pub(crate) since: i64,
    pub(crate) series: BTreeMap<Group, Series>,
}

impl LiveRule {
    pub(crate) fn new(rule: Compiled, since: i64) -> Self {
        Self { rule, since, series: BTreeMap::new() }
    }

    /// Whether the rows of a window matter to it.
    pub(crate) fn wants(&self, end: i64) -> bool {
        end > self.since && (self.rule.keeps_all_rows() || self.rule.is_due(end))
    }

    /// Forgets series of which nothing counts any more.
    pub(crate) fn evict(&mut self, end: i64) {
        let memory = self.rule.rule.condition.memory();
        self.series.retain(|_, series| {
            series.firing.is_some() || series.breaches > 0 || end.saturating_sub(series.last) < memory
        });
    }
}
