//! The second step: the summaries of all source partitions become a closed window's rows.

use std::collections::BTreeMap;

use alerting::AlertStage;
use grouping::{GroupLimit, Share};
use streaming::operator::{Figure, Merge, RestoreError, StateSize};
use streaming::output::MergeOutput;
use streaming::window::Windows;

use crate::alerts;
use crate::rows::{ENTROPY_TOPIC, EntropyRow, GroupScores, RowEncoder};
use crate::settings::Settings;
use crate::summary::Summary;

/// Adds summaries and emits a row for each group, as far as the limit allows.
pub struct GroupMerge<E> {
    windows: Windows,
    limit: GroupLimit,
    revision: i64,
    encoder: E,
    overflowed: u64,
    key: Vec<u8>,
    alerts: Option<AlertStage>,
}

impl<E: RowEncoder> GroupMerge<E> {
    /// A merge for these settings.
    #[must_use]
    pub fn new(settings: &Settings, encoder: E) -> Self {
        Self {
            windows: settings.windows,
            limit: settings.limit(),
            revision: settings.revision,
            encoder,
            overflowed: 0,
            key: Vec::new(),
            alerts: None,
        }
    }

    /// The same merge, whose rows are judged by alert rules.
    #[must_use]
    pub fn with_alerts(self, alerts: AlertStage) -> Self {
        Self { alerts: Some(alerts), ..self }
    }
}

impl<E: RowEncoder> Merge for GroupMerge<E> {
    type Summary = Summary;

    /// Groups' shares that were merged into others because a window had too many groups. A group counts once a window and
    /// for each partition whose fold merged its share.
    fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn decode(&self, bytes: &[u8]) -> Result<Summary, RestoreError> {
        Summary::decode(bytes)
    }

    fn encode(&self, summary: &Summary, into: &mut Vec<u8>) {
        summary.encode(into);
    }

    fn merge(&self, into: &mut Summary, other: Summary) {
        into.merge(&other);
    }

    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, Summary>, out: &mut MergeOutput) {
        let groups = self.limit.limit(groups);
        for (group, summary) in &groups {
            self.overflowed += summary.overflowed;
            let values = self.limit.grouping().values(group);
            let row = EntropyRow {
                window_start: self.windows.start(end),
                window_end: end,
                dimensions: &values,
                sessions_total: summary.sessions_total,
                events: summary.events,
                sessions: summary.sessions,
                scores: GroupScores::of(summary),
                revision: self.revision,
            };
            self.limit.grouping().readable_key(&values, &mut self.key);
            let encoder = &mut self.encoder;
            out.records.push(ENTROPY_TOPIC, None, &self.key, |into| encoder.entropy(&row, into));
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
}
