//! A second worker, to prove that the runtime knows no metric: sums of amounts by key over sliding windows.
//! Source records: the value is `event_time,amount` in text, the key is the group.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use records::{Reason, Rejection};
use streaming::config::{DEFAULTS, RuntimeConfig};
use streaming::operator::{Closing, Fold, Merge, NoTable, Record, RestoreError, Source, SourceError, StateSize, Timed};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;
use streaming::{Cleanup, EventTime, OutputTopic, Pipeline, Topology};

pub const WINDOW: i64 = 60;
pub const SLIDE: i64 = 20;
pub const BOUND: i64 = 10;
/// An amount at which the fold panics.
pub const BUG: i64 = i64::MIN;
/// An amount at which the first fold that comes to it stands still until [`GATE`] is opened.
pub const STANDSTILL: i64 = i64::MIN + 1;
pub static GATE: Gate = Gate { reached: AtomicBool::new(false), opened: AtomicBool::new(false) };

pub struct Gate {
    reached: AtomicBool,
    opened: AtomicBool,
}

impl Gate {
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    pub fn open(&self) {
        self.opened.store(true, Ordering::SeqCst);
    }

    fn pass(&self) {
        if !self.reached.swap(true, Ordering::SeqCst) {
            testkit::eventually("the gate is opened", Duration::from_secs(300), || {
                self.opened.load(Ordering::SeqCst).then_some(())
            });
        }
    }
}

pub struct Amount<'a> {
    pub time: i64,
    pub amount: i64,
    pub key: &'a [u8],
}

impl Timed for Amount<'_> {
    fn event_time(&self) -> i64 {
        self.time
    }
}

pub struct Amounts;

impl Source for Amounts {
    type Event<'a> = Amount<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<Amount<'a>, SourceError> {
        let text = std::str::from_utf8(record.value.unwrap_or_default()).unwrap_or_default();
        let (time, amount) = text.split_once(',').ok_or_else(|| Rejection::new(Reason::Undecodable, text))?;
        match (time.parse(), amount.parse(), record.key) {
            (Ok(time), Ok(amount), Some(key)) => Ok(Amount { time, amount, key }),
            _ => Err(Rejection::new(Reason::BadValue, text).into()),
        }
    }
}

type Sums = BTreeMap<Vec<u8>, (u64, i64)>;

/// Sums by pane and key; a window is the sum of its panes.
pub struct SumFold {
    windows: Windows,
    panes: BTreeMap<i64, Sums>,
}

impl Fold for SumFold {
    type Source = Amounts;
    type Table = NoTable;

    fn apply(&mut self, event: &Amount<'_>, _: &mut FoldOutput) {
        let pane = self.panes.entry(self.windows.pane_end(event.time)).or_default();
        let sum = pane.entry(event.key.to_vec()).or_default();
        sum.0 += 1;
        assert!(event.amount != BUG, "the amount that the operator has a bug with");
        if event.amount == STANDSTILL {
            GATE.pass();
            return;
        }
        sum.1 += event.amount;
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        let first = *self.panes.keys().next()?;
        Some(self.windows.pane_end(first.max(after.saturating_add(1))))
    }

    fn close(&mut self, end: i64, _: &NoTable, out: &mut FoldOutput) {
        let mut sums = Sums::new();
        for (_, pane) in self.panes.range(self.windows.start(end).saturating_add(1)..=end) {
            for (key, (count, amount)) in pane {
                let sum = sums.entry(key.clone()).or_default();
                sum.0 += count;
                sum.1 += amount;
            }
        }
        for (key, sum) in &sums {
            out.summary(end, key, key, |into| into.extend(postcard::to_stdvec(sum).unwrap()));
        }
        self.panes.retain(|pane, _| self.windows.leaves_at(*pane) > end.saturating_add(SLIDE));
    }

    fn size(&self) -> StateSize {
        StateSize { keys: self.panes.values().map(|pane| pane.len() as u64).sum(), bytes: 0 }
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        into.extend(postcard::to_stdvec(&self.panes).unwrap());
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.panes = postcard::from_bytes(bytes).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

/// Adds; rows are `end,key,count,amount` in text.
pub struct SumMerge;

impl Merge for SumMerge {
    type Summary = (u64, i64);

    fn decode(&self, bytes: &[u8]) -> Result<(u64, i64), RestoreError> {
        postcard::from_bytes(bytes).map_err(|error| RestoreError(error.to_string()))
    }

    fn encode(&self, summary: &(u64, i64), into: &mut Vec<u8>) {
        into.extend(postcard::to_stdvec(summary).unwrap());
    }

    fn merge(&self, into: &mut (u64, i64), other: (u64, i64)) {
        into.0 += other.0;
        into.1 += other.1;
    }

    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, (u64, i64)>, out: &mut MergeOutput) {
        for (key, (count, amount)) in groups {
            let row = format!("{end},{},{count},{amount}", String::from_utf8_lossy(&key));
            out.records.push(0, None, &key, |into| into.extend_from_slice(row.as_bytes()));
        }
    }
}

/// A fold without state.
pub fn sum_fold() -> SumFold {
    SumFold { windows: Windows::new(WINDOW, SLIDE).unwrap(), panes: BTreeMap::new() }
}

/// The same fold, each of whose windows closes in several pieces.
pub struct InPieces {
    pub fold: SumFold,
    /// Pieces besides the last one.
    pub pieces: usize,
    left: usize,
}

impl InPieces {
    pub fn new(pieces: usize) -> Self {
        Self { fold: sum_fold(), pieces, left: 0 }
    }
}

impl Fold for InPieces {
    type Source = Amounts;
    type Table = NoTable;

    fn apply(&mut self, event: &Amount<'_>, out: &mut FoldOutput) {
        assert_eq!(self.left, 0, "no event comes while a window is half closed");
        self.fold.apply(event, out);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.fold.next_end(after)
    }

    fn close(&mut self, end: i64, table: &NoTable, out: &mut FoldOutput) {
        self.fold.close(end, table, out);
        self.left = self.pieces;
    }

    fn go_on_closing(&mut self, _: i64, _: &NoTable, _: &mut FoldOutput) -> Closing {
        match self.left.checked_sub(1) {
            None => Closing::Done,
            Some(left) => {
                self.left = left;
                Closing::Unfinished
            }
        }
    }

    fn size(&self) -> StateSize {
        self.fold.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        assert_eq!(self.left, 0, "no snapshot is taken while a window is half closed");
        self.fold.snapshot(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.fold.restore(bytes)
    }
}

/// A topology on topics of its own.
pub fn topology(worker: &str, source: &str, idle_timeout: Duration) -> Topology {
    let windows = Windows::new(WINDOW, SLIDE).unwrap();
    let time = EventTime { windows, out_of_orderness: BOUND, max_future_skew: 30_000, idle_timeout };
    let fold = || (Amounts, sum_fold());
    Topology {
        worker: worker.to_owned(),
        group: String::new(),
        outputs: vec![OutputTopic { name: format!("{worker}.sums"), cleanup: Cleanup::Delete }],
        late_topic: format!("{worker}.late"),
        dead_letter_topic: format!("{worker}.dead-letters"),
        semantics: format!("window = {WINDOW}\nslide = {SLIDE}"),
        pipelines: vec![Pipeline::new(source, time, fold, || SumMerge)],
    }
}

/// The same one with windows that close in pieces.
pub fn topology_in_pieces(worker: &str, source: &str, idle_timeout: Duration) -> Topology {
    let plain = topology(worker, source, idle_timeout);
    let fold = || (Amounts, InPieces::new(3));
    Topology { pipelines: vec![Pipeline::new(source, plain.pipelines[0].time, fold, || SumMerge)], ..plain }
}

/// The default runtime with short intervals.
pub fn config(instance: &str) -> RuntimeConfig {
    #[derive(serde::Deserialize)]
    struct File {
        runtime: RuntimeConfig,
    }
    let mut config = toml::from_str::<File>(DEFAULTS).unwrap().runtime;
    config.instance = instance.to_owned();
    config.snapshot_interval = service::HumanDuration::from_millis(500).unwrap();
    config.transaction_timeout = service::HumanDuration::from_millis(5_000).unwrap();
    config
}

/// The end of the last window that these events close.
pub fn closed(events: &[(String, i64, i64)]) -> i64 {
    (events.iter().map(|(_, time, _)| *time).max().unwrap() - BOUND).div_euclid(SLIDE) * SLIDE
}

/// What a batch job computes: rows of all windows with data that end at or before `watermark`.
pub fn batch(accepted: &[(String, i64, i64)], watermark: i64) -> Vec<String> {
    let mut rows = Vec::new();
    let first = accepted.iter().map(|(_, time, _)| *time).min().unwrap();
    let mut end = first.div_euclid(SLIDE) * SLIDE;
    while end <= watermark {
        let mut sums: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
        for (key, time, amount) in accepted.iter().filter(|(_, time, _)| end - WINDOW < *time && *time <= end) {
            let _ = time;
            let sum = sums.entry(key).or_default();
            sum.0 += 1;
            sum.1 += if *amount == STANDSTILL { 0 } else { *amount };
        }
        rows.extend(sums.into_iter().map(|(key, (count, amount))| format!("{end},{key},{count},{amount}")));
        end += SLIDE;
    }
    rows.sort();
    rows
}
