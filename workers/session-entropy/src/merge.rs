//! The second step: the summaries of all source partitions become a closed window's rows.

use std::collections::BTreeMap;

use streaming::operator::{Merge, RestoreError};
use streaming::output::MergeOutput;
use streaming::window::Windows;

use crate::dimensions::Grouping;
use crate::rows::{ENTROPY_TOPIC, EntropyRow, GroupScores, RowEncoder};
use crate::settings::Settings;
use crate::summary::Summary;

/// Adds summaries and emits a row for each group.
///
/// Of a window's groups the `max_groups` smallest stay; the rest are one group for each merge key, whose other
/// dimensions are [`OTHER`](crate::dimensions::OTHER).
pub struct GroupMerge<E> {
    windows: Windows,
    grouping: Grouping,
    max_groups: usize,
    revision: i64,
    encoder: E,
    overflowed: u64,
    key: Vec<u8>,
}

impl<E: RowEncoder> GroupMerge<E> {
    /// A merge for these settings.
    #[must_use]
    pub fn new(settings: &Settings, encoder: E) -> Self {
        Self {
            windows: settings.windows,
            grouping: settings.grouping.clone(),
            max_groups: settings.max_groups,
            revision: settings.revision,
            encoder,
            overflowed: 0,
            key: Vec::new(),
        }
    }

    /// Merges what is too much.
    fn limit(&self, groups: BTreeMap<Box<[u8]>, Summary>) -> BTreeMap<Box<[u8]>, Summary> {
        let merged_by_folds = groups.keys().any(|key| Grouping::is_overflow(key));
        if groups.len() <= self.max_groups && !merged_by_folds {
            return groups;
        }
        let mut kept = BTreeMap::new();
        let mut rest: BTreeMap<Box<[u8]>, Summary> = BTreeMap::new();
        let mut other = Vec::new();
        for (key, summary) in groups {
            if !Grouping::is_overflow(&key) && kept.len() < self.max_groups {
                kept.insert(key, summary);
            } else {
                self.grouping.overflow_key(&key, &mut other);
                rest.entry(other.as_slice().into()).or_default().merge_overflow(&summary);
            }
        }
        // events may literally say `__other__`: two rows of one key would be one too many
        for (key, summary) in rest {
            let values = self.grouping.values(&key);
            self.grouping.group_key(|dimension| &values[dimension as usize], &mut other);
            match kept.get_mut(other.as_slice()) {
                Some(literal) => literal.merge(&summary),
                None => {
                    kept.insert(other.as_slice().into(), summary);
                }
            }
        }
        kept
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
        for (group, summary) in self.limit(groups) {
            self.overflowed += summary.overflowed;
            let values = self.grouping.values(&group);
            let row = EntropyRow {
                window_start: self.windows.start(end),
                window_end: end,
                dimensions: &values,
                sessions_total: summary.sessions_total,
                events: summary.events,
                sessions: summary.sessions,
                scores: GroupScores::of(&summary),
                revision: self.revision,
            };
            self.grouping.readable_key(&values, &mut self.key);
            let encoder = &mut self.encoder;
            out.records.push(ENTROPY_TOPIC, None, &self.key, |into| encoder.entropy(&row, into));
        }
    }
}
