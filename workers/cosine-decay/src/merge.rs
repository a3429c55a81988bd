//! The second step: the summaries of all source partitions become a closed window's rows.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use grouping::GroupLimit;
use streaming::operator::{Merge, RestoreError};
use streaming::output::MergeOutput;
use streaming::window::Windows;

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
    summary: PhantomData<fn() -> S>,
}

impl<S: Summary, E: RowEncoder> GroupMerge<S, E> {
    /// A merge of these windows.
    #[must_use]
    pub fn new(windows: Windows, limit: GroupLimit, revision: i64, encoder: E) -> Self {
        Self { windows, limit, revision, encoder, overflowed: 0, key: Vec::new(), summary: PhantomData }
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
        for (group, summary) in self.limit.limit(groups) {
            self.overflowed += summary.overflowed();
            let values = self.limit.grouping().values(&group);
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
    }

    fn overflowed(&self) -> u64 {
        self.overflowed
    }
}
