//! Plays the runtime for the operators: watermarks, window ends, summaries on their way from folds to merges.

#![allow(dead_code, unreachable_pub)] // each test binary uses its share of it

use std::collections::{BTreeMap, BTreeSet};

use alerting::AlertStage;
use grouping::{Dimension, GroupMerge, Grouping, Values, WithExample};
use measures::{Bins, Estimator, Normalise, Scorer};
use records::{Reason, Rejection};
use serde_json::{Value, json};
use session_entropy::event::SessionEvent;
use session_entropy::fold::SessionFold;
use session_entropy::rows::{EntropyRow, FreshnessRow, RowEncoder};
use session_entropy::settings::Settings;
use session_entropy::summary::Summary;
use streaming::operator::SourceError;
use streaming::operator::{Fold, Merge, NoTable, Record, Source, Timed};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;

/// An event, as far as the worker looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    pub time: i64,
    pub session_id: String,
    pub event_id: String,
    /// In the order of [`Dimension::ALL`].
    pub dimensions: [String; 6],
}

/// The events as folds see them.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(pub &'a Event);

impl Timed for View<'_> {
    fn event_time(&self) -> i64 {
        self.0.time
    }
}

impl SessionEvent for View<'_> {
    fn session_id(&self) -> &str {
        &self.0.session_id
    }
    fn event_id(&self) -> &str {
        &self.0.event_id
    }
    fn dimension(&self, dimension: Dimension) -> &str {
        &self.0.dimensions[dimension as usize]
    }
}

/// Events come from memory here.
pub struct NoSource;

impl Source for NoSource {
    type Event<'a> = View<'a>;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<View<'a>, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

/// Rows as JSON; floats are written so that they read back to the same bits.
#[derive(Debug, Clone, Copy)]
pub struct JsonRows;

fn with_dimensions(mut row: Value, dimensions: &Values<'_>) -> Value {
    for (dimension, value) in Dimension::ALL.iter().zip(dimensions) {
        row[dimension.name()] = json!(value);
    }
    row
}

impl RowEncoder for JsonRows {
    fn freshness(&mut self, row: &FreshnessRow<'_>, into: &mut Vec<u8>) {
        let value = json!({
            "window_start": row.window_start, "window_end": row.window_end, "session_id": row.session_id,
            "events": row.events, "entropy": row.score.entropy, "normalised": row.score.normalised,
            "freshness": row.score.freshness(), "decay_factor": row.band().decay_factor(), "band": row.band().name(),
            "revision": row.revision,
        });
        serde_json::to_writer(into, &with_dimensions(value, row.dimensions)).unwrap();
    }

    fn entropy(&mut self, row: &EntropyRow<'_>, into: &mut Vec<u8>) {
        let scores = row.scores;
        let quantiles = scores.map(|scores| scores.freshness_quantiles);
        let shares = scores.map(|scores| scores.shares);
        let value = json!({
            "window_start": row.group.window_start, "window_end": row.group.window_end, "sessions_total": row.sessions_total,
            "events": row.events, "sessions": row.sessions, "mean_entropy": scores.map(|scores| scores.mean_entropy),
            "mean_freshness": scores.map(|scores| scores.mean_freshness),
            "freshness_p05": quantiles.map(|q| q[0]), "freshness_p50": quantiles.map(|q| q[1]),
            "freshness_p95": quantiles.map(|q| q[2]), "share_focused": shares.map(|shares| shares[0]),
            "share_balanced": shares.map(|shares| shares[1]), "share_scattered": shares.map(|shares| shares[2]),
            "revision": row.group.revision,
        });
        serde_json::to_writer(into, &with_dimensions(value, row.group.dimensions)).unwrap();
    }
}

/// The defaults of METRICS: 5 min, 10 s, log2 bins.
pub fn default_settings() -> Settings {
    use Dimension::{AbGroup, Domain, RecStrategy, UserSegment};
    Settings {
        windows: Windows::new(300_000, 10_000).unwrap(),
        scorer: Scorer::new(Bins::log2(1000, 10).unwrap(), Estimator::PlugIn, Normalise::All),
        min_events: 2,
        grouping: Grouping::new(&[Domain, UserSegment, RecStrategy, AbGroup], &[Domain]),
        max_groups: 10_000,
        revision: 1,
    }
}

pub type TestFold = SessionFold<NoSource, JsonRows>;
pub type TestMerge = GroupMerge<Summary, JsonRows>;

/// A merge whose rows are judged by `alerts`.
pub fn merge(settings: &Settings, alerts: AlertStage) -> TestMerge {
    GroupMerge::new(settings.windows, settings.limit(), settings.revision, JsonRows, alerts)
}

/// One source partition.
pub struct Partition {
    pub fold: TestFold,
    pub watermark: Option<i64>,
    pub closed: i64,
    pub late: u64,
}

/// What a run has emitted, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// By source partition: key and value.
    pub freshness: Vec<Vec<(Vec<u8>, String)>>,
    /// By merge partition: key and value.
    pub entropy: Vec<Vec<(Vec<u8>, String)>>,
    /// Encoded alerts.
    pub alerts: Vec<Vec<u8>>,
}

impl Rows {
    /// All values of session rows, sorted.
    pub fn sorted_freshness(&self) -> Vec<String> {
        sorted(&self.freshness)
    }

    /// All values of group rows, sorted.
    pub fn sorted_entropy(&self) -> Vec<String> {
        sorted(&self.entropy)
    }
}

fn sorted(rows: &[Vec<(Vec<u8>, String)>]) -> Vec<String> {
    let mut values: Vec<String> = rows.iter().flatten().map(|(_, value)| value.clone()).collect();
    values.sort_unstable();
    values
}

type Groups = BTreeMap<Box<[u8]>, WithExample<Summary>>;

/// A worker without Kafka.
pub struct Driver {
    pub settings: Settings,
    pub bound: i64,
    pub partitions: Vec<Partition>,
    pub merges: Vec<TestMerge>,
    /// By merge partition and window end.
    open: Vec<BTreeMap<i64, Groups>>,
    /// Ends of windows that have groups, as merge partitions are told.
    told_of_groups: Vec<BTreeSet<i64>>,
    pub rows: Rows,
    out: FoldOutput,
}

impl Driver {
    pub fn new(settings: Settings, bound: i64, partitions: usize, merge_partitions: usize) -> Self {
        let partition =
            |_| Partition { fold: SessionFold::new(&settings, JsonRows), watermark: None, closed: i64::MIN, late: 0 };
        Self {
            bound,
            partitions: (0..partitions).map(partition).collect(),
            merges: (0..merge_partitions).map(|_| merge(&settings, AlertStage::default())).collect(),
            open: vec![BTreeMap::new(); merge_partitions],
            told_of_groups: vec![BTreeSet::new(); merge_partitions],
            rows: Rows {
                freshness: vec![Vec::new(); partitions],
                entropy: vec![Vec::new(); merge_partitions],
                alerts: Vec::new(),
            },
            out: FoldOutput::new(merge_partitions),
            settings,
        }
    }

    /// The same, whose merges judge their rows.
    pub fn with_alerts(self, alerts: impl Fn() -> AlertStage) -> Self {
        let merge = |_: &TestMerge| {
            let mut merge = merge(&self.settings, alerts());
            merge.begin(&mut MergeOutput::default());
            merge
        };
        Self { merges: self.merges.iter().map(merge).collect(), ..self }
    }

    /// Takes an event in; false where it is late.
    pub fn push(&mut self, partition: usize, event: &Event) -> bool {
        let Partition { fold, watermark, late, .. } = &mut self.partitions[partition];
        if watermark.is_some_and(|watermark| event.time <= watermark) {
            *late += 1;
            return false;
        }
        fold.apply(&View(event), &mut self.out);
        let risen = (*watermark).max(Some(event.time - self.bound));
        *watermark = risen;
        self.close_folds(partition, risen.unwrap());
        true
    }

    fn close_folds(&mut self, partition: usize, watermark: i64) {
        let Partition { fold, closed, .. } = &mut self.partitions[partition];
        while let Some(end) = fold.next_end(*closed).filter(|end| *end <= watermark) {
            assert!(end > *closed && end % self.settings.windows.slide() == 0, "{end} after {closed}");
            let mut out = std::mem::replace(&mut self.out, FoldOutput::new(self.merges.len()));
            fold.close(end, &NoTable, &mut out);
            *closed = end;
            for (merge_partition, end, group, summary) in out.summaries() {
                let merge = &self.merges[merge_partition];
                let summary = merge.decode(summary).unwrap();
                let groups = self.open[merge_partition].entry(end).or_default();
                match groups.get_mut(group) {
                    Some(sum) => merge.merge(sum, summary),
                    None => {
                        groups.insert(group.into(), summary);
                    }
                }
            }
            for (merge_partition, end) in out.told_of_groups() {
                self.told_of_groups[merge_partition].insert(end);
            }
            let records = out.records.iter().map(|record| {
                assert_eq!(record.topic, session_entropy::rows::FRESHNESS_TOPIC);
                (record.key.unwrap().to_vec(), String::from_utf8(record.value.unwrap().to_vec()).unwrap())
            });
            self.rows.freshness[partition].extend(records);
        }
    }

    /// Closes in the merges what all partitions have closed up to `watermark`.
    fn close_merges(&mut self, watermark: i64) {
        let Rows { entropy, alerts, .. } = &mut self.rows;
        let parts = self.merges.iter_mut().zip(&mut self.open).zip(&mut self.told_of_groups).zip(entropy);
        for (((merge, open), told), rows) in parts {
            let ends = open.range(..=watermark).map(|(end, _)| *end).chain(told.range(..=watermark).copied());
            for end in ends.collect::<BTreeSet<i64>>() {
                let mut out = MergeOutput::default();
                if let Some(groups) = open.remove(&end) {
                    merge.close(end, groups, &mut out);
                }
                if told.remove(&end) {
                    merge.had_groups(end, &mut out);
                }
                for record in out.records.iter() {
                    let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
                    if record.topic == session_entropy::rows::ALERTS_TOPIC {
                        alerts.push(value);
                    } else {
                        assert_eq!(record.topic, session_entropy::rows::ENTROPY_TOPIC);
                        rows.push((key, String::from_utf8(value).unwrap()));
                    }
                }
            }
        }
    }

    /// Closes what the slowest partition allows.
    pub fn advance_merges(&mut self) {
        if let Some(Some(slowest)) = self.partitions.iter().map(|partition| partition.watermark).min() {
            self.close_merges(slowest);
        }
    }

    /// All partitions are idle: they follow to the largest watermark, or, to see what is left, to `flush`.
    pub fn finish(&mut self, flush: Option<i64>) {
        let largest = self.partitions.iter().filter_map(|partition| partition.watermark).max();
        if let Some(watermark) = flush.or(largest) {
            (0..self.partitions.len()).for_each(|partition| self.close_folds(partition, watermark));
            self.close_merges(watermark);
        }
    }

    /// Replaces a partition's fold by one that is loaded from its snapshot.
    pub fn restart(&mut self, partition: usize) {
        let fold = &mut self.partitions[partition].fold;
        let mut bytes = Vec::new();
        fold.snapshot(&mut bytes);
        let mut restored = SessionFold::new(&self.settings, JsonRows);
        restored.restore(&bytes).unwrap();
        *fold = restored;
    }

    pub fn live_keys(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.fold.size().keys).sum()
    }
}
