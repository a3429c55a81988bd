//! Plays the runtime for the operators: watermarks, window ends, the table, summaries on their way from folds to merges.

#![allow(dead_code, unreachable_pub)] // each test binary uses its share of it

use std::collections::BTreeMap;

use alerting::AlertStage;
use cosine_decay::clicks::{ClicksFold, PairSummary};
use cosine_decay::event::{ClickEvent, ItemEvent, NewVersion};
use cosine_decay::items::{ItemsFold, RateSummary};
use cosine_decay::rows::{PairsRow, RateRow, RetrainRow, RowEncoder};
use cosine_decay::settings::{Decay, Retraining, Settings};
use cosine_decay::table::ItemTable;
use cosine_decay::version::{VersionKey, encode_vector};
use grouping::{Dimension, Group, GroupLimit, GroupMerge, Grouping, WithExample, WriteRow};
use records::{Reason, Rejection};
use serde_json::{Value, json};
use streaming::operator::{Closing, Fold, Merge, Record, Source, SourceError, Table, Timed};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;

pub const HOUR: i64 = 3_600_000;

/// An interaction, as far as the worker looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Click {
    pub time: i64,
    pub session_id: String,
    pub event_id: String,
    pub item_id: String,
    /// In the order of [`Dimension::ALL`].
    pub dimensions: [String; 6],
}

impl Timed for &Click {
    fn event_time(&self) -> i64 {
        self.time
    }
}

impl ClickEvent for &Click {
    fn session_id(&self) -> &str {
        &self.session_id
    }
    fn event_id(&self) -> &str {
        &self.event_id
    }
    fn item_id(&self) -> &str {
        &self.item_id
    }
    fn dimension(&self, dimension: Dimension) -> &str {
        &self.dimensions[dimension as usize]
    }
}

/// Clicks come from memory here.
pub struct NoClicks;

impl Source for NoClicks {
    type Event<'a> = &'a Click;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<&'a Click, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

/// Rows as JSON; floats are written so that they read back to the same bits.
#[derive(Debug, Clone, Copy)]
pub struct JsonRows;

fn of_group(group: &Group<'_>, mut row: Value) -> Value {
    row["window_start"] = json!(group.window_start);
    row["window_end"] = json!(group.window_end);
    row["revision"] = json!(group.revision);
    for (dimension, value) in Dimension::ALL.iter().zip(group.dimensions) {
        row[dimension.name()] = json!(value);
    }
    row
}

impl RowEncoder for JsonRows {
    fn pairs(&mut self, row: &PairsRow<'_>, into: &mut Vec<u8>) {
        let scores = row.scores;
        let quantile = |at: usize| scores.map(|scores| scores.decayed_quantiles[at]);
        let value = json!({
            "pairs": row.pairs, "missing": row.missing, "mean_cosine": scores.map(|scores| scores.mean_cosine),
            "mean_decayed": scores.map(|scores| scores.mean_decayed), "decayed_p05": quantile(0),
            "decayed_p50": quantile(1), "decayed_p95": quantile(2),
            "mean_dt_seconds": scores.map(|scores| scores.mean_dt_seconds),
        });
        serde_json::to_writer(into, &of_group(row.group, value)).unwrap();
    }

    fn rate(&mut self, row: &RateRow<'_>, into: &mut Vec<u8>) {
        let value = json!({
            "updates": row.updates, "lambda_hat": row.lambda_hat, "half_life_hours": row.half_life_hours,
            "retention_24h": row.retention_24h,
        });
        serde_json::to_writer(into, &of_group(row.group, value)).unwrap();
    }

    fn retrain(&mut self, row: &RetrainRow<'_>, into: &mut Vec<u8>) {
        let value = json!({
            "event_time": row.event_time, "item_id": row.item_id, "domain": row.domain,
            "model_version": row.model_version, "observation": row.observation, "observations": row.observations,
            "slope": row.slope, "norm": row.norm, "condition": true, "requested": true, "revision": row.revision,
        });
        serde_json::to_writer(into, &value).unwrap();
    }
}

/// The defaults of METRICS, for vectors of 2 components.
pub fn default_settings() -> Settings {
    use Dimension::{AbGroup, Domain, RecStrategy, UserSegment};
    Settings {
        windows: Windows::new(300_000, 10_000).unwrap(),
        grouping: Grouping::new(&[Domain, UserSegment, RecStrategy, AbGroup], &[Domain]),
        max_groups: 10_000,
        session_gap: 1_800_000,
        decay: Decay { lambda: 0.02, by_domain: BTreeMap::new() },
        vector_dimensions: 2,
        rate_windows: Windows::new(24 * HOUR, 600_000).unwrap(),
        retraining: Some(Retraining { neighbours: 5, observations: 10, max_slope: -0.015, max_norm: 0.3 }),
        revision: 1,
    }
}

/// Puts a version into a table, as if it had come in time.
pub fn put(table: &mut ItemTable, item_id: &str, event_time: i64, event_id: &str, vector: &[f32]) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    VersionKey { item_id, event_time, event_id }.encode(&mut key);
    encode_vector(vector, &mut value);
    table.put(&key, &value, None).unwrap();
}

type Groups<S> = BTreeMap<Box<[u8]>, WithExample<S>>;

/// The merge partitions of one pipeline.
pub struct Merges<S: WriteRow<JsonRows>> {
    merges: Vec<GroupMerge<S, JsonRows>>,
    /// By merge partition and window end.
    open: Vec<BTreeMap<i64, Groups<S>>>,
    /// By merge partition: key and value.
    pub rows: Vec<Vec<(Vec<u8>, String)>>,
}

impl<S: WriteRow<JsonRows>> Merges<S> {
    pub fn new(windows: Windows, limit: &GroupLimit, revision: i64, partitions: usize) -> Self {
        let merge = |_| GroupMerge::new(windows, limit.clone(), revision, JsonRows, AlertStage::default());
        Self {
            merges: (0..partitions).map(merge).collect(),
            open: (0..partitions).map(|_| BTreeMap::new()).collect(),
            rows: vec![Vec::new(); partitions],
        }
    }

    /// Adds what a fold has emitted.
    pub fn take(&mut self, out: &FoldOutput) {
        for (partition, end, group, summary) in out.summaries() {
            let merge = &self.merges[partition];
            let summary = merge.decode(summary).unwrap();
            let groups = self.open[partition].entry(end).or_default();
            match groups.get_mut(group) {
                Some(sum) => merge.merge(sum, summary),
                None => {
                    groups.insert(group.into(), summary);
                }
            }
        }
    }

    /// Closes the windows up to `watermark`.
    pub fn close(&mut self, watermark: i64) {
        for ((merge, open), rows) in self.merges.iter_mut().zip(&mut self.open).zip(&mut self.rows) {
            while let Some(entry) = open.first_entry()
                && *entry.key() <= watermark
            {
                let (end, groups) = entry.remove_entry();
                let mut out = MergeOutput::default();
                merge.close(end, groups, &mut out);
                rows.extend(out.records.iter().map(|record| {
                    assert_eq!(record.topic, S::TOPIC);
                    (record.key.unwrap().to_vec(), String::from_utf8(record.value.unwrap().to_vec()).unwrap())
                }));
            }
        }
    }

    /// All values, sorted.
    pub fn sorted(&self) -> Vec<String> {
        let mut values: Vec<String> = self.rows.iter().flatten().map(|(_, value)| value.clone()).collect();
        values.sort_unstable();
        values
    }
}

/// A source partition of clicks.
struct Partition {
    fold: ClicksFold<NoClicks>,
    watermark: i64,
    closed: i64,
}

/// The pipeline of clicks without Kafka.
pub struct Clicks {
    settings: Settings,
    bound: i64,
    partitions: Vec<Partition>,
    pub merges: Merges<PairSummary>,
}

impl Clicks {
    pub fn new(settings: Settings, bound: i64, partitions: usize, merge_partitions: usize) -> Self {
        let partition = |_| Partition { fold: ClicksFold::new(&settings), watermark: i64::MIN, closed: i64::MIN };
        Self {
            bound,
            partitions: (0..partitions).map(partition).collect(),
            merges: Merges::new(settings.windows, &settings.pairs_limit(), settings.revision, merge_partitions),
            settings,
        }
    }

    /// Takes a click in and closes what the table allows, which is complete up to `complete`; false where the click is late.
    pub fn push(&mut self, partition: usize, click: &Click, table: &ItemTable, complete: i64) -> bool {
        let Partition { fold, watermark, .. } = &mut self.partitions[partition];
        if click.time <= *watermark {
            return false;
        }
        let mut out = FoldOutput::new(1);
        fold.apply(&click, &mut out);
        assert_eq!(out.entries().count() + out.summaries().count(), 0);
        *watermark = (*watermark).max(click.time - self.bound);
        let reached = complete.min(*watermark);
        self.close(partition, reached, table);
        true
    }

    fn close(&mut self, partition: usize, reached: i64, table: &ItemTable) {
        let Partition { fold, closed, .. } = &mut self.partitions[partition];
        while let Some(end) = fold.next_end(*closed).filter(|end| *end <= reached) {
            assert!(end > *closed && end % self.settings.windows.slide() == 0, "{end} after {closed}");
            let mut out = FoldOutput::new(self.merges.rows.len());
            fold.close(end, table, &mut out);
            *closed = end;
            assert!(out.records.is_empty());
            self.merges.take(&out);
        }
    }

    /// Closes everything up to `watermark`, in folds and merges.
    pub fn finish(&mut self, watermark: i64, table: &ItemTable) {
        (0..self.partitions.len()).for_each(|partition| self.close(partition, watermark, table));
        self.merges.close(watermark);
    }

    /// Replaces a partition's fold by one that is loaded from its snapshot.
    pub fn restart(&mut self, partition: usize) {
        let fold = &mut self.partitions[partition].fold;
        let mut bytes = Vec::new();
        fold.snapshot(&mut bytes);
        let mut restored = ClicksFold::new(&self.settings);
        restored.restore(&bytes).unwrap();
        *fold = restored;
    }

    pub fn figures(&self, partition: usize) -> Vec<(String, String, u64)> {
        let figures = self.partitions[partition].fold.figures();
        figures.iter().map(|figure| (figure.name.to_owned(), figure.of.to_owned(), figure.value)).collect()
    }

    pub fn live_keys(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.fold.size().keys).sum()
    }
}

/// A new version of an item, or its end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Version {
    pub time: i64,
    pub event_id: String,
    pub item_id: String,
    pub domain: String,
    /// Empty for a deletion.
    pub vector: Vec<f32>,
}

impl Timed for &Version {
    fn event_time(&self) -> i64 {
        self.time
    }
}

impl ItemEvent for &Version {
    fn item_id(&self) -> &str {
        &self.item_id
    }
    fn event_id(&self) -> &str {
        &self.event_id
    }
    fn version(&self) -> Option<NewVersion<'_>> {
        let version = NewVersion { domain: &self.domain, model_version: "model", vector: &self.vector };
        (!self.vector.is_empty()).then_some(version)
    }
}

/// Versions come from memory here.
pub struct NoVersions;

impl Source for NoVersions {
    type Event<'a> = &'a Version;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<&'a Version, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

/// A source partition of versions.
struct ItemPartition {
    fold: ItemsFold<NoVersions, JsonRows>,
    watermark: i64,
    closed: i64,
}

/// The pipeline of items without Kafka, and the table that it feeds.
pub struct Items {
    settings: Settings,
    bound: i64,
    partitions: Vec<ItemPartition>,
    pub table: ItemTable,
    pub merges: Merges<RateSummary>,
    /// Requests by item.
    pub requests: BTreeMap<String, Vec<String>>,
}

impl Items {
    pub fn new(settings: Settings, bound: i64, partitions: usize) -> Self {
        let partition =
            |_| ItemPartition { fold: ItemsFold::new(&settings, JsonRows), watermark: i64::MIN, closed: i64::MIN };
        Self {
            bound,
            partitions: (0..partitions).map(partition).collect(),
            table: ItemTable::new(settings.vector_dimensions),
            merges: Merges::new(settings.rate_windows, &settings.rate_limit(), settings.revision, 1),
            requests: BTreeMap::new(),
            settings,
        }
    }

    /// Lets folds close in pieces of so many comparisons.
    pub fn in_pieces_of(mut self, comparisons: usize) -> Self {
        for partition in &mut self.partitions {
            partition.fold = ItemsFold::new(&self.settings, JsonRows).in_pieces_of(comparisons);
        }
        self
    }

    /// Takes a version in and closes what the slowest partition allows; false where the version is late.
    pub fn push(&mut self, partition: usize, version: &Version) -> bool {
        let ItemPartition { fold, watermark, .. } = &mut self.partitions[partition];
        if version.time <= *watermark {
            return false;
        }
        let mark = Some(*watermark).filter(|watermark| *watermark > i64::MIN);
        let mut out = FoldOutput::new(1).with_mark(mark);
        fold.apply(&version, &mut out);
        *watermark = (*watermark).max(version.time - self.bound);
        self.write(&out, mark);
        self.close(self.complete());
        true
    }

    /// The table is complete up to there.
    pub fn complete(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.watermark).min().unwrap()
    }

    fn write(&mut self, out: &FoldOutput, mark: Option<i64>) {
        for (key, value) in out.entries() {
            match value {
                Some(value) => self.table.put(key, value, mark).unwrap(),
                None => self.table.remove(key),
            }
        }
    }

    fn close(&mut self, reached: i64) {
        for partition in 0..self.partitions.len() {
            loop {
                let ItemPartition { fold, closed, .. } = &mut self.partitions[partition];
                let before = *closed;
                let Some(end) = fold.next_end(before).filter(|end| *end <= reached) else { break };
                assert!(end > before && end % self.settings.rate_windows.slide() == 0, "{end} after {before}");
                let mut out = FoldOutput::new(1);
                fold.close(end, &self.table, &mut out);
                *closed = end;
                self.go_on_closing(partition, end, before, reached, &mut out);
                self.merges.take(&out);
                for record in out.records.iter() {
                    assert_eq!(record.topic, cosine_decay::rows::RETRAIN_TOPIC);
                    let [key, value] =
                        [record.key, record.value].map(|text| String::from_utf8(text.unwrap().to_vec()).unwrap());
                    self.requests.entry(key).or_default().push(value);
                }
            }
        }
    }

    /// Between the pieces the table does not stand still: entries go that the other partitions need no more, and there are
    /// entries that came below the mark for a while.
    fn go_on_closing(&mut self, partition: usize, end: i64, before: i64, reached: i64, out: &mut FoldOutput) {
        let passing = [("item-0", end - 1, &[3.0, 1.0][..]), ("item-0", 0, &[]), ("another", 0, &[-0.5, 1.0])];
        let passing = passing.map(|(item_id, event_time, vector)| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            VersionKey { item_id, event_time, event_id: "zz" }.encode(&mut key);
            encode_vector(vector, &mut value);
            (key, value)
        });
        let mut is_there = false;
        while self.partitions[partition].fold.go_on_closing(end, &self.table, out) == Closing::Unfinished {
            assert_eq!(out.summaries().count(), 0, "summaries come with the end");
            for other in (0..self.partitions.len()).filter(|other| *other != partition) {
                self.prune_one(other, before);
            }
            for (key, value) in &passing {
                match is_there {
                    false => self.table.put(key, value, Some(reached)).unwrap(),
                    true => self.table.remove(key),
                }
            }
            is_there = !is_there;
        }
        if is_there {
            passing.iter().for_each(|(key, _)| self.table.remove(key));
        }
    }

    /// Closes everything up to `watermark`, in folds and merges.
    pub fn finish(&mut self, watermark: i64) {
        self.close(watermark);
        self.merges.close(watermark);
    }

    /// Lets entries go that no lookup as of `horizon` or later needs.
    pub fn prune(&mut self, horizon: i64) {
        (0..self.partitions.len()).for_each(|partition| self.prune_one(partition, horizon));
    }

    fn prune_one(&mut self, partition: usize, horizon: i64) {
        let ItemPartition { fold, watermark, .. } = &mut self.partitions[partition];
        let mut out = FoldOutput::new(1).with_mark(Some(*watermark));
        fold.prune(horizon, &mut out);
        self.write(&out, None);
    }

    /// Replaces a partition's fold by one that is loaded from its snapshot.
    pub fn restart(&mut self, partition: usize) {
        let fold = &mut self.partitions[partition].fold;
        let mut bytes = Vec::new();
        fold.snapshot(&mut bytes);
        // also where there was another state before
        for _ in 0..2 {
            fold.restore(&bytes).unwrap();
        }
    }

    pub fn live_keys(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.fold.size().keys).sum()
    }
}
