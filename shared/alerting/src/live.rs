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
    /// How many of them fire.
    pub(crate) firing: u64,
    /// What they take, estimated.
    pub(crate) bytes: u64,
}

impl LiveRule {
    pub(crate) fn new(rule: Compiled, since: i64) -> Self {
        Self { rule, since, series: BTreeMap::new(), firing: 0, bytes: 0 }
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
        self.measure();
    }

    /// Counts what is asked more often than it changes.
    pub(crate) fn measure(&mut self) {
        (self.firing, self.bytes) = (0, 0);
        for (group, series) in &self.series {
            self.firing += u64::from(series.firing.is_some());
            let texts: usize = group.iter().map(|value| size_of::<Box<str>>() + value.len()).sum();
            self.bytes += (size_of::<(Group, Series)>() + texts + series.past.heap_bytes()) as u64;
        }
    }
}
