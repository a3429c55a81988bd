//! A fold task without Kafka: what is late, what is counted, and that a replay takes every decision again.

mod extremes;
mod future;
mod pieces;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::{FoldTask, FoldTime, FoldTopics};
use crate::frame::{Frame, Frames};
use crate::headers::NONE;
use crate::operator::{Fold, NoTable, Record, RestoreError, StateSize, Table};
use crate::output::{FoldOutput, OutputBuffer};
use crate::refusal::Refusals;
use crate::state::{StateLog, encode, pack};
use crate::table::{AnyTable, SharedTable, TableRecord};
use crate::task::{Processed, Step, Task, TaskId};
use crate::toy::{Amounts, BOUND, SLIDE, SumFold, WINDOW, sum_fold};
use crate::window::Windows;

const LATE: u16 = 1;
const DEAD: u16 = 2;
const TOPICS: FoldTopics = FoldTopics { repartition: 3, watermarks: 4, state: 5, table: None };
const SKEW: i64 = 1_000;
const TIMESTAMP: i64 = 100_000;

fn task() -> FoldTask<SumFold> {
    task_with(sum_fold(), SharedTable::none())
}

fn task_with<F: Fold<Source = Amounts>>(fold: F, table: Arc<SharedTable<F::Table>>) -> FoldTask<F> {
    task_of(Amounts, fold, table)
}

fn task_of<F: Fold>(source: F::Source, fold: F, table: Arc<SharedTable<F::Table>>) -> FoldTask<F> {
    let id = TaskId { pipeline: 0, step: Step::Fold, partition: 0 };
    let refusals = Refusals {
        worker: "toy".into(),
        source_topic: "amounts".into(),
        partition: 0,
        late: LATE,
        dead_letters: DEAD,
        max_bytes: 1_000,
    };
    let windows = Windows::new(WINDOW, SLIDE).unwrap();
    let time = FoldTime { windows, bound: BOUND, max_future_skew: SKEW };
    FoldTask::new(id, TOPICS, refusals, (source, fold), table, time, 1)
}

fn process<F: Fold<Source = Amounts>>(task: &mut FoldTask<F>, offset: i64, value: &str) {
    assert_eq!(task.process(&record(offset, value), TIMESTAMP).unwrap(), Processed::Done);
}

fn record(offset: i64, value: &str) -> Record<'_> {
    Record { key: Some(b"k"), value: Some(value.as_bytes()), timestamp: Some(TIMESTAMP), offset, headers: NONE }
}

type Written = (u16, Vec<u8>, Option<Vec<u8>>);

/// The records of a cut as (topic, key, value).
fn cut<F: Fold>(task: &mut FoldTask<F>) -> Vec<Written> {
    let mut buffer = OutputBuffer::default();
    task.drain(&mut buffer);
    let own = |bytes: &[u8]| bytes.to_vec();
    buffer.iter().map(|record| (record.topic, own(record.key.unwrap_or_default()), record.value.map(own))).collect()
}

#[test]
fn every_record_is_applied_late_or_dead_lettered_by_the_record_alone() {
    let mut task = task();
    let future = TIMESTAMP + SKEW + 1;
    // watermark after the first: 1000 - 10
    for (offset, value) in
        ["1000,1", "990,1", "991,1", "nonsense", "x,y", &format!("{future},1"), &format!("{},1", future - 1)]
            .into_iter()
            .enumerate()
    {
        process(&mut task, offset as i64, value);
    }
    let counts = task.counts().unwrap();
    assert!(counts.add_up());
    assert_eq!((counts.read, counts.applied, counts.late, counts.dead_lettered), (7, 3, 1, 3));
    let reasons = [("bad_value", 1), ("future_timestamp", 1), ("undecodable", 1)];
    let reasons: BTreeMap<String, u64> =
        reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    assert_eq!(counts.dead_lettered_by_reason, reasons);
    let records = cut(&mut task);
    let sent = |topic| records.iter().filter(|record| record.0 == topic).count();
    assert_eq!((sent(LATE), sent(DEAD)), (1, 3));
}

#[test]
fn the_watermark_is_announced_behind_the_summaries_that_it_covers() {
    let mut task = task();
    process(&mut task, 0, "1000,5");
    process(&mut task, 1, "1031,7");
    let records = cut(&mut task);
    let (_, _, frames) = records.iter().find(|record| record.0 == TOPICS.repartition).unwrap();
    let frames: Vec<Frame<'_>> = Frames::new(frames.as_ref().unwrap()).map(Result::unwrap).collect();
    // watermark 1021: the windows that end at 1000 and 1020 are closed
    let ends: Vec<i64> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Summary { end, .. } => *end,
            Frame::Watermark { watermark, .. } => -*watermark,
            Frame::Command(_) | Frame::Groups { .. } => unreachable!("this fold sends none"),
        })
        .collect();
    assert_eq!(ends, [1000, 1020, -1020]);
    assert!(cut(&mut task).is_empty(), "nothing is announced twice");
}

#[test]
fn a_value_that_no_topic_takes_is_cut_and_says_so() {
    let mut task = task();
    let long = "x".repeat(5_000);
    process(&mut task, 0, &long);
    let mut buffer = OutputBuffer::default();
    task.drain(&mut buffer);
    let letter = buffer.iter().find(|record| record.topic == DEAD).unwrap();
    assert!(letter.value.unwrap().len() <= 1_000);
    let length =
        crate::headers::read(letter.headers).find(|(name, _)| *name == records::truncation::VALUE_BYTES).unwrap().1;
    assert_eq!(length, Some(b"5000".as_slice()));
}

/// What happens to a task.
#[derive(Debug, Clone)]
enum Happening {
    Record(String),
    Follow(i64),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Happening>> {
    let step = prop_oneof![
        12 => (0_i64..60, -50_i64..50).prop_map(|(ahead, amount)| Happening::Record(format!("{ahead},{amount}"))),
        1 => Just(Happening::Record("nonsense".to_owned())),
        2 => (0_i64..80).prop_map(Happening::Follow),
        2 => Just(Happening::Snapshot),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// From any snapshot, with the decisions that were committed since, a replay ends in the same state, and the task
    /// goes on as if nothing had happened.
    #[test]
    fn a_replay_from_any_snapshot_ends_in_the_same_state(steps in steps(), later in steps()) {
        let mut original = task();
        let mut log = StateLog::default();
        let mut values: Vec<String> = Vec::new();
        let mut snapshots = vec![];
        let save = |task: &mut FoldTask<SumFold>, log: &mut StateLog, snapshots: &mut Vec<(Vec<u8>, i64)>| {
            for (topic, key, value) in cut(task) {
                if topic == TOPICS.state {
                    log.record(&key, value.as_deref(), 0);
                }
            }
            let mut state = Vec::new();
            task.snapshot(&mut state);
            snapshots.push((state, task.position()));
        };
        save(&mut original, &mut log, &mut snapshots);
        let apply = |task: &mut FoldTask<SumFold>, step: &Happening, values: &mut Vec<String>| match step {
            Happening::Record(value) => {
                // event times creep forward with the offsets, so that some are late
                let value = match value.split_once(',') {
                    Some((ahead, amount)) => {
                        format!("{},{amount}", ahead.parse::<i64>().unwrap() + values.len() as i64)
                    }
                    None => value.clone(),
                };
                process(task, values.len() as i64, &value);
                values.push(value);
            }
            Happening::Follow(ahead) => {
                task.follow((values.len() as i64 + ahead) / SLIDE * SLIDE);
            }
            Happening::Snapshot => {}
        };
        for step in &steps {
            apply(&mut original, step, &mut values);
            if matches!(step, Happening::Snapshot) {
                save(&mut original, &mut log, &mut snapshots);
            }
        }
        save(&mut original, &mut log, &mut snapshots);
        let (committed, reached) = (original.position(), original.reached());
        let mut expected_state = Vec::new();
        original.snapshot(&mut expected_state);

        let mut restored: Vec<FoldTask<SumFold>> = Vec::new();
        for (state, offset) in &snapshots {
            let loaded = log_with(&log, state, *offset).load().unwrap().unwrap();
            let mut task = task();
            task.restore(loaded, reached).unwrap();
            task.start_at(*offset);
            for offset in *offset..committed {
                process(&mut task, offset, &values[offset as usize]);
                task.discard_outputs();
            }
            task.end_replay(reached);
            task.start_at(committed);
            let mut state = Vec::new();
            task.snapshot(&mut state);
            prop_assert_eq!(&state, &expected_state);
            restored.push(task);
        }
        let start = values.clone();
        for step in &later {
            apply(&mut original, step, &mut values);
        }
        let expected = cut(&mut original);
        for task in &mut restored {
            let mut values = start.clone();
            for step in &later {
                apply(task, step, &mut values);
            }
            prop_assert_eq!(&cut(task), &expected);
        }
    }
}

/// The state log as if its newest snapshot were this one.
fn log_with(log: &StateLog, state: &[u8], offset: i64) -> StateLog {
    let packed = pack(state, 1, offset).unwrap();
    let mut with = log.clone();
    for (index, chunk) in packed.chunks.iter().enumerate() {
        with.record(crate::state::chunk_key(1, index as u32).as_bytes(), Some(chunk), 0);
    }
    with.record(crate::state::MANIFEST_KEY.as_bytes(), Some(&encode(&packed.manifest)), 0);
    with
}

/// Holds nothing; only how complete it is matters.
#[derive(Default)]
struct Empty;

impl Table for Empty {
    fn put(&mut self, _: &[u8], _: &[u8], _: Option<i64>) -> Result<(), RestoreError> {
        Ok(())
    }

    fn remove(&mut self, _: &[u8]) {}

    fn size(&self) -> StateSize {
        StateSize::default()
    }
}

/// The toy fold, waiting for a table.
struct Waiting(SumFold);

impl Fold for Waiting {
    type Source = Amounts;
    type Table = Empty;

    fn apply(&mut self, event: &crate::toy::Amount<'_>, out: &mut FoldOutput) {
        self.0.apply(event, out);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.0.next_end(after)
    }

    fn close(&mut self, end: i64, _: &Empty, out: &mut FoldOutput) {
        self.0.close(end, &NoTable, out);
    }

    fn size(&self) -> StateSize {
        self.0.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        self.0.snapshot(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(bytes)
    }
}

fn waiting() -> (FoldTask<Waiting>, Arc<SharedTable<Empty>>) {
    let table = SharedTable::new(Empty);
    table.begin(1);
    (task_with(Waiting(sum_fold()), table.clone()), table)
}

fn complete(table: &SharedTable<Empty>, to: i64) {
    let mark = TableRecord { key: b"m", value: Some(&to.to_le_bytes()), partition: 0, offset: 0 };
    table.take(&mut std::iter::once(mark)).unwrap();
}

/// The frames for the merge in the records of a cut, watermarks left out: they say how far each cut came.
fn summaries(records: &[Written]) -> Vec<(i64, Vec<u8>, Vec<u8>)> {
    let mut summaries = Vec::new();
    for (_, _, value) in records.iter().filter(|record| record.0 == TOPICS.repartition) {
        for frame in Frames::new(value.as_deref().unwrap()) {
            if let Frame::Summary { end, group, summary } = frame.unwrap() {
                summaries.push((end, group.to_vec(), summary.to_vec()));
            }
        }
    }
    summaries
}

proptest! {
    /// However late the table gets on, and wherever the task is broken off: what it emits altogether is what it would
    /// have emitted without a table, nothing twice and nothing left out.
    #[test]
    fn a_table_that_is_behind_delays_closing_and_a_replay_closes_no_more_than_was_committed(
        records in prop::collection::vec((0_i64..40, 1_i64..9), 1..80),
        completes in prop::collection::vec(0_i64..120, 1..80),
        snapshot_after in 0_usize..80,
        broken_off_after in 0_usize..80,
    ) {
        let records: Vec<String> =
            records.iter().enumerate().map(|(at, (ahead, amount))| format!("{},{amount}", ahead + at as i64)).collect();
        let mut free = task();
        for (offset, record) in records.iter().enumerate() {
            process(&mut free, offset as i64, record);
        }
        let expected = summaries(&cut(&mut free));

        let (mut original, table) = waiting();
        let (snapshot_after, broken_off_after) = (snapshot_after.min(broken_off_after), broken_off_after.max(1));
        let mut emitted = Vec::new();
        let mut saved = (Vec::new(), 0);
        original.snapshot(&mut saved.0);
        let step = |task: &mut FoldTask<Waiting>, table: &SharedTable<Empty>, at: usize| {
            process(task, at as i64, &records[at]);
            complete(table, completes[at % completes.len()]);
            task.advance();
        };
        let broken_off_after = broken_off_after.min(records.len());
        for at in 0..broken_off_after {
            step(&mut original, &table, at);
            if at == snapshot_after {
                emitted.extend(summaries(&cut(&mut original)));
                saved = (Vec::new(), at as i64 + 1);
                original.snapshot(&mut saved.0);
            }
        }
        emitted.extend(summaries(&cut(&mut original)));
        let (committed, reached) = (original.position(), original.reached());

        let (mut restored, table) = waiting();
        // by now the table may be far ahead of what was closed
        complete(&table, 1_000);
        let loaded = log_with(&StateLog::default(), &saved.0, saved.1).load().unwrap().unwrap();
        restored.restore(loaded, reached).unwrap();
        restored.start_at(saved.1);
        for at in saved.1..committed {
            process(&mut restored, at, &records[at as usize]);
            restored.discard_outputs();
        }
        restored.end_replay(reached);
        restored.start_at(committed);
        prop_assert_eq!(restored.reached(), reached);
        restored.advance();
        for at in broken_off_after..records.len() {
            step(&mut restored, &table, at);
        }
        emitted.extend(summaries(&cut(&mut restored)));
        prop_assert_eq!(emitted, expected);
    }
}
