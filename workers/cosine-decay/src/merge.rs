//! The second step: the summaries of all source partitions become a closed window's rows.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use alerting::AlertStage;
use grouping::GroupLimit;
use streaming::operator::{Figure, Merge, RestoreError, StateSize};
use streaming::output::MergeOutput;
use streaming::window::Windows;

use crate::alerts;
use crate::rows::RowEncoder;
use crate::summary::{Group, Summary};

/// Adds summaries and emits a row for each group, as far as the limit allows.
pub struct GroupMerge<S, E> {
    windows: Windows,
    limit: GroupLimit,
    revision: i64,
    encoder: E,
    overflowed: u64,
    key: Vec<u8>,
    alerts: Option<AlertStage>,
    summary: PhantomData<fn() -> S>,
}

impl<S: Summary, E: RowEncoder> GroupMerge<S, E> {
    /// A merge of these windows.
    #[must_use]
    pub fn new(windows: Windows, limit: GroupLimit, revision: i64, encoder: E) -> Self {
        let (key, alerts) = (Vec::new(), None);
        Self { windows, limit, revision, encoder, overflowed: 0, key, alerts, summary: PhantomData }
    }

    /// The same merge, whose rows are judged by alert rules.
    #[must_use]
    pub fn with_alerts(self, alerts: AlertStage) -> Self {
        Self { alerts: Some(alerts), ..self }
    }
}

impl<S: Summary, E: RowEncoder> Merge for GroupMerge<S, E> {
    type Summary = S;

    fn decode(&self, bytes: &[u8]) -> Result<S, RestoreError> {
        S::decode(bytes)
    }

    fn encode(&self, summary: &S, into: &mut Vec<u8>) {
        summary.encode(into);
    }

    fn merge(&self, into: &mut S, other: S) {
        into.merge(&other);
    }

    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, S>, out: &mut MergeOutput) {
        let groups = self.limit.limit(groups);
        for (group, summary) in &groups {
            self.overflowed += summary.overflowed();
            let values = self.limit.grouping().values(group);
            let group = Group {
                window_start: self.windows.start(end),
                window_end: end,
                dimensions: &values,
                revision: self.revision,
            };
            self.limit.grouping().readable_key(&values, &mut self.key);
            let encoder = &mut self.encoder;
            out.records.push(S::TOPIC, None, &self.key, |into| summary.write_row(&group, encoder, into));
        }
        if let Some(stage) = &mut self.alerts {
            let grouping = self.limit.grouping();
            let rows = || groups.iter().map(|(group, summary)| alerts::row(grouping, group, summary)).collect();
            stage.close(end, rows, out);
        }
    }

    fn begin(&mut self, out: &mut MergeOutput) {
        if let Some(alerts) = &mut self.alerts {
            alerts.begin(out);
        }
    }

    fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        match &mut self.alerts {
            Some(alerts) => alerts.recall(key, bytes).map(|_| ()),
            None => Ok(()),
        }
    }

    /// What alert rules count.
    fn figures(&self) -> Vec<Figure<'_>> {
        self.alerts.iter().flat_map(AlertStage::figures).collect()
    }

    fn size(&self) -> StateSize {
        self.alerts.as_ref().map(AlertStage::size).unwrap_or_default()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        if let Some(alerts) = &self.alerts {
            alerts.snapshot(into);
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        match &mut self.alerts {
            Some(alerts) => alerts.restore(bytes),
            None => Ok(()),
        }
    }

    fn overflowed(&self) -> u64 {
        self.overflowed
    }
}
