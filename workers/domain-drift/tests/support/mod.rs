//! Plays the runtime for the operators: watermarks, window ends, summaries on their way from folds to merges.

#![allow(dead_code, unreachable_pub)] // each test binary uses its share of it

use std::collections::BTreeMap;

use domain_drift::event::VectorEvent;
use domain_drift::fold::DriftFold;
use domain_drift::history::{Pin, Pinned};
use domain_drift::merge::DriftMerge;
use domain_drift::rows::{DRIFT_TOPIC, DriftRow, RowEncoder};
use domain_drift::settings::Settings;
use domain_drift::summary::Summary;
use records::{Reason, Rejection};
use serde_json::{Value, json};
use streaming::operator::{Fold, Merge, NoTable, Record, Source, SourceError, Timed};
use streaming::output::{FoldOutput, MergeOutput};

/// A user's new vector.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    pub time: i64,
    pub domain: String,
    pub user_id: String,
    pub event_id: String,
    pub vector: Vec<f32>,
}

/// The events as folds see them.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(pub &'a Event);

impl Timed for View<'_> {
    fn event_time(&self) -> i64 {
        self.0.time
    }
}

impl VectorEvent for View<'_> {
    fn user_id(&self) -> &str {
        &self.0.user_id
    }
    fn domain(&self) -> &str {
        &self.0.domain
    }
    fn event_id(&self) -> &str {
        &self.0.event_id
    }
    fn vector(&self) -> &[f32] {
        &self.0.vector
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

/// Rows as JSON.
pub struct JsonRows;

impl RowEncoder for JsonRows {
    fn drift(&mut self, row: &DriftRow<'_>, into: &mut Vec<u8>) {
        let (distance, coefficient) = (&row.distance, row.distance.coefficient);
        let value = json!({
            "window_start": row.window_start, "window_end": row.window_end, "kind": row.kind.name(),
            "sources": row.sources, "target": row.target, "n": distance.n, "m": distance.m, "w1": distance.w1,
            "max_sliced": distance.max_sliced, "w1_scaled": distance.w1_scaled, "noise_floor": distance.noise_floor,
            "significant": distance.significant, "gamma_raw": coefficient.and_then(|c| c.raw),
            "gamma": coefficient.map(|c| c.gamma), "traffic_share": coefficient.map(|c| c.traffic_share),
            "sinkhorn": distance.sinkhorn, "out_of_range": distance.out_of_range, "revision": row.revision,
        });
        serde_json::to_writer(into, &value).unwrap();
    }
}

pub type TestFold = DriftFold<NoSource>;

/// One source partition.
pub struct Partition {
    pub fold: TestFold,
    pub watermark: Option<i64>,
    pub closed: i64,
    pub late: u64,
}

/// A worker without Kafka.
pub struct Driver {
    pub settings: Settings,
    pub bound: i64,
    pub partitions: Vec<Partition>,
    pub merge: DriftMerge<JsonRows>,
    open: BTreeMap<i64, BTreeMap<Box<[u8]>, Summary>>,
    /// What the merge has written once and not forgotten.
    written_once: BTreeMap<String, Vec<u8>>,
    /// Keys and values of what was emitted, in order.
    pub rows: Vec<(String, String)>,
}

impl Driver {
    pub fn new(settings: Settings, bound: i64, partitions: usize) -> Self {
        let partition = |_| Partition { fold: DriftFold::new(&settings), watermark: None, closed: i64::MIN, late: 0 };
        Self {
            bound,
            partitions: (0..partitions).map(partition).collect(),
            merge: DriftMerge::new(&settings, JsonRows),
            open: BTreeMap::new(),
            written_once: BTreeMap::new(),
            rows: Vec::new(),
            settings,
        }
    }

    /// Takes an event in; false where it is late.
    pub fn push(&mut self, partition: usize, event: &Event) -> bool {
        let Partition { fold, watermark, late, .. } = &mut self.partitions[partition];
        if watermark.is_some_and(|watermark| event.time <= watermark) {
            *late += 1;
            return false;
        }
        fold.apply(&View(event), &mut FoldOutput::new(1));
        let risen = (*watermark).max(Some(event.time - self.bound));
        *watermark = risen;
        self.close_fold(partition, risen.unwrap());
        true
    }

    fn close_fold(&mut self, partition: usize, watermark: i64) {
        let Partition { fold, closed, .. } = &mut self.partitions[partition];
        while let Some(end) = fold.next_end(*closed).filter(|end| *end <= watermark) {
            assert!(end > *closed && end % self.settings.windows.slide() == 0, "{end} after {closed}");
            let mut out = FoldOutput::new(1);
            fold.close(end, &NoTable, &mut out);
            *closed = end;
            assert!(out.records.is_empty());
            for (_, end, group, summary) in out.summaries() {
                let summary = self.merge.decode(summary).unwrap();
                let groups = self.open.entry(end).or_default();
                match groups.get_mut(group) {
                    Some(sum) => self.merge.merge(sum, summary),
                    None => {
                        groups.insert(group.into(), summary);
                    }
                }
            }
        }
    }

    /// Closes in the merge what all partitions have closed up to `watermark`.
    fn close_merge(&mut self, watermark: i64) {
        while let Some(entry) = self.open.first_entry()
            && *entry.key() <= watermark
        {
            let (end, groups) = entry.remove_entry();
            let mut out = MergeOutput::default();
            self.merge.close(end, groups, &mut out);
            self.write_once(&out);
            self.rows.extend(out.records.iter().map(|record| {
                assert_eq!(record.topic, DRIFT_TOPIC);
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                (text(record.key), text(record.value))
            }));
        }
    }

    fn write_once(&mut self, out: &MergeOutput) {
        for (key, bytes) in out.remembered() {
            self.written_once.insert(String::from_utf8(key.to_vec()).unwrap(), bytes.to_vec());
        }
        for key in out.forgotten() {
            assert!(self.written_once.remove(key).is_some(), "{key} was never written");
        }
    }

    /// Pins a reference.
    pub fn pin(&mut self, pin: &Pin) -> Pinned {
        let mut out = MergeOutput::default();
        let pinned = self.merge.pin(pin, &mut out);
        self.write_once(&out);
        pinned
    }

    /// Closes what the slowest partition allows.
    pub fn advance_merge(&mut self) {
        if let Some(Some(slowest)) = self.partitions.iter().map(|partition| partition.watermark).min() {
            self.close_merge(slowest);
        }
    }

    /// All partitions are idle: they follow to the largest watermark, or, to see what is left, to `flush`.
    pub fn finish(&mut self, flush: Option<i64>) {
        let largest = self.partitions.iter().filter_map(|partition| partition.watermark).max();
        if let Some(watermark) = flush.or(largest) {
            (0..self.partitions.len()).for_each(|partition| self.close_fold(partition, watermark));
            self.close_merge(watermark);
        }
    }

    /// Replaces a partition's fold by one that is loaded from its snapshot.
    pub fn restart_fold(&mut self, partition: usize) {
        let fold = &mut self.partitions[partition].fold;
        let mut bytes = Vec::new();
        fold.snapshot(&mut bytes);
        let mut restored = DriftFold::new(&self.settings);
        restored.restore(&bytes).unwrap();
        *fold = restored;
    }

    /// The same for the merge, with its open summaries.
    pub fn restart_merge(&mut self) {
        let mut bytes = Vec::new();
        self.merge.snapshot(&mut bytes);
        let mut restored = DriftMerge::new(&self.settings, JsonRows);
        for (key, bytes) in &self.written_once {
            restored.recall(key, bytes).unwrap();
        }
        restored.restore(&bytes).unwrap();
        for summary in self.open.values_mut().flat_map(BTreeMap::values_mut) {
            bytes.clear();
            self.merge.encode(summary, &mut bytes);
            *summary = restored.decode(&bytes).unwrap();
        }
        self.merge = restored;
    }

    pub fn parsed(&self) -> Vec<Value> {
        self.rows.iter().map(|(_, row)| serde_json::from_str(row).unwrap()).collect()
    }

    pub fn live_keys(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.fold.size().keys).sum()
    }
}
