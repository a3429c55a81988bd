//! The second step of workers whose rows are groups: the summaries of all source partitions become a closed window's rows.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use alerting::{AlertStage, Row};
use streaming::operator::{Figure, Merge, RestoreError, StateSize};
use streaming::output::MergeOutput;
use streaming::window::Windows;

use crate::{Example, GroupLimit, Grouping, Share, Values, WithExample};

/// A group's share of one window that becomes a row.
pub trait Summary: Share + Clone + Send + 'static {
    /// Reads what [`encode`](Share::encode) has written.
    ///
    /// # Errors
    /// Where the bytes are none of it, or of another version.
    fn decode(bytes: &[u8]) -> Result<Self, RestoreError>;

    /// The numbers of its row as alert rules see them, in the order of the worker's catalogue.
    fn values(&self) -> Vec<Option<f64>>;
}

/// Whose row it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// Start of the window in epoch ms, itself not included.
    pub window_start: i64,
    /// End of the window in epoch ms, included.
    pub window_end: i64,
    /// The group.
    pub dimensions: &'a Values<'a>,
    /// As configured.
    pub revision: i64,
}

/// A summary whose row `E` turns into bytes. Two equal rows must give equal bytes.
pub trait WriteRow<E>: Summary {
    /// Index of the topic of its rows among the worker's output topics.
    const TOPIC: u16;

    /// Appends the row of a closed window.
    fn write_row(&self, group: &Group<'_>, encoder: &mut E, into: &mut Vec<u8>);
}

/// Adds summaries and emits a row for each group, as far as the limit allows.
pub struct GroupMerge<S, E> {
    windows: Windows,
    limit: GroupLimit,
    revision: i64,
    encoder: E,
    overflowed: u64,
    key: Vec<u8>,
    alerts: AlertStage,
    summary: PhantomData<fn() -> S>,
}

impl<S: WriteRow<E>, E: Send + 'static> GroupMerge<S, E> {
    /// A merge of these windows, whose rows are judged by `alerts`.
    #[must_use]
    pub fn new(windows: Windows, limit: GroupLimit, revision: i64, encoder: E, alerts: AlertStage) -> Self {
        Self { windows, limit, revision, encoder, overflowed: 0, key: Vec::new(), alerts, summary: PhantomData }
    }
}

impl<S: WriteRow<E>, E: Send + 'static> Merge for GroupMerge<S, E> {
    type Summary = WithExample<S>;

    /// Groups' shares that were merged into others because a window had too many groups. A group counts once a window and
    /// for each partition whose fold merged its share.
    fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn decode(&self, bytes: &[u8]) -> Result<WithExample<S>, RestoreError> {
        WithExample::decode(bytes, S::decode)
    }

    fn encode(&self, summary: &WithExample<S>, into: &mut Vec<u8>) {
        summary.encode(into);
    }

    fn merge(&self, into: &mut WithExample<S>, other: WithExample<S>) {
        into.merge(&other);
    }

    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, WithExample<S>>, out: &mut MergeOutput) {
        let groups = self.limit.limit(groups);
        if groups.is_empty() {
            // examples alone are no rows: whether events have traces must not decide what rules see
            return;
        }
        let Self { windows, limit, revision, encoder, overflowed, key, alerts, .. } = self;
        let grouping = limit.grouping();
        for (group, WithExample { share, .. }) in &groups {
            *overflowed += share.overflowed();
            let values = grouping.values(group);
            let group =
                Group { window_start: windows.start(end), window_end: end, dimensions: &values, revision: *revision };
            grouping.readable_key(&values, key);
            out.records.push(S::TOPIC, None, key, |into| share.write_row(&group, encoder, into));
        }
        let rows = groups.iter().map(|(group, summary)| row(grouping, group, summary));
        alerts.close(end, || rows.collect(), out);
    }

    /// Some partition has rows in the window: where this one has none, its rules have missed it.
    fn had_groups(&mut self, end: i64, out: &mut MergeOutput) {
        self.alerts.close_without_rows(end, out);
    }

    fn begin(&mut self, out: &mut MergeOutput) {
        self.alerts.begin(out);
    }

    fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        self.alerts.recall(key, bytes).map(|_| ())
    }

    /// What alert rules count.
    fn figures(&self) -> Vec<Figure<'_>> {
        self.alerts.figures()
    }

    fn size(&self) -> StateSize {
        self.alerts.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        self.alerts.snapshot(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.alerts.restore(bytes)
    }
}

/// A group's row as alert rules see it.
fn row<S: Summary>(grouping: &Grouping, group: &[u8], summary: &WithExample<S>) -> Row {
    let values = grouping.values(group);
    Row {
        group: grouping.dimensions().map(|dimension| (*values[dimension as usize]).into()).collect(),
        values: summary.share.values(),
        traceparent: summary.example.as_ref().map(Example::traceparent).map(Into::into),
    }
}
