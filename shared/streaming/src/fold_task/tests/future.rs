//! Events in the future: which clock refuses them, what is remembered of that, and that a replay judges alike without a
//! clock.

use std::sync::atomic::{AtomicBool, Ordering};

use records::{Reason, Rejection};

use super::*;
use crate::counts::RefusedTimes;
use crate::decisions::PendingDecisions;
use crate::operator::{Source, SourceError};
use crate::task::Reached;
use crate::toy::Amount;

const NOW: i64 = 200_000;

fn offer<F: Fold>(task: &mut FoldTask<F>, (offset, value): (i64, &str), timestamp: Option<i64>, now: i64) {
    let record = Record { timestamp, ..record(offset, value) };
    assert_eq!(task.process(&record, now).unwrap(), Processed::Done);
}

#[test]
fn the_earlier_of_the_records_timestamp_and_the_readers_clock_refuses() {
    // (event time, timestamp) and what refuses it
    let (early, late) = (NOW - 50_000, NOW + 3_000_000);
    let cases = [
        (early + SKEW, Some(early), RefusedTimes::default()),
        (early + SKEW + 1, Some(early), RefusedTimes { record_timestamp: 1, ..RefusedTimes::default() }),
        (late, Some(early), RefusedTimes { record_timestamp: 1, ..RefusedTimes::default() }),
        (NOW + SKEW, Some(late), RefusedTimes::default()),
        (NOW + SKEW + 1, Some(late), RefusedTimes { reader_clock: 1, ..RefusedTimes::default() }),
        (late + SKEW, Some(late), RefusedTimes { reader_clock: 1, ..RefusedTimes::default() }),
        (NOW + SKEW, None, RefusedTimes::default()),
        (NOW + SKEW + 1, None, RefusedTimes { no_timestamp: 1, ..RefusedTimes::default() }),
        (i64::MAX, None, RefusedTimes { no_timestamp: 1, ..RefusedTimes::default() }),
        (i64::MAX, Some(i64::MAX), RefusedTimes { reader_clock: 1, ..RefusedTimes::default() }),
    ];
    for (event_time, timestamp, expected) in cases {
        let mut task = task();
        offer(&mut task, (0, &format!("{event_time},1")), timestamp, NOW);
        let counts = task.counts().unwrap().clone();
        assert_eq!(counts.refused_times, expected, "{event_time} with {timestamp:?}");
        assert_eq!((counts.applied, counts.dead_lettered), (1 - expected.future(), expected.future()));
        let written = cut(&mut task);
        let decisions = written.iter().filter(|record| record.0 == TOPICS.state).count() as u64;
        assert_eq!(decisions, expected.reader_clock + expected.no_timestamp, "the record alone decides the rest");
        let letters = written.iter().filter(|record| record.0 == DEAD).count() as u64;
        assert_eq!(letters, expected.future());
    }
}

#[test]
fn a_fast_producer_makes_nobody_late() {
    let mut task = task();
    offer(&mut task, (0, "100,1"), Some(100), NOW);
    offer(&mut task, (1, "3200000,1"), Some(3_200_000), NOW);
    offer(&mut task, (2, "101,1"), Some(101), NOW);
    let counts = task.counts().unwrap();
    assert_eq!((counts.applied, counts.late, counts.refused_times.reader_clock), (2, 0, 1));
}

/// Bytes of the state topic that a task has written.
fn state_bytes(task: &mut FoldTask<SumFold>) -> usize {
    let written = cut(task);
    let state = written.iter().filter(|record| record.0 == TOPICS.state);
    state.map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

#[test]
fn a_flood_of_a_million_refused_records_between_good_ones_adds_less_than_a_megabyte_of_state() {
    let mut task = task();
    let (future, mut bytes) = (format!("{},1", i64::MAX), 0);
    for offset in 0..2_000_000 {
        let (value, timestamp) = if offset % 2 == 0 { (future.as_str(), None) } else { ("1000,1", Some(NOW)) };
        offer(&mut task, (offset, value), timestamp, NOW);
        // dead letters make cuts frequent
        if offset % 10_000 == 0 {
            bytes += state_bytes(&mut task);
        }
    }
    bytes += state_bytes(&mut task);
    assert_eq!(task.counts().unwrap().refused_times.no_timestamp, 1_000_000);
    assert!(bytes < 1_000_000, "{bytes} bytes");
}

#[test]
fn a_flood_adds_less_than_a_megabyte_whatever_lies_between_its_records() {
    let mut random = 7_u64;
    let mut chance = move |of: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33).is_multiple_of(of)
    };
    // how many records lie between two refused ones, and whether these are refused for themselves
    for (name, between, refused) in [
        ("nothing", 0, false),
        ("records refused for themselves", 1, true),
        ("half of the records, by chance", 2, false),
        ("nine of ten records, by chance", 10, false),
    ] {
        let mut pending = PendingDecisions::default();
        let (mut offset, mut passed, mut bytes) = (0, 0, 0);
        for count in 0..1_000_000 {
            while between > 0 && !chance(between) {
                offset += 1;
                passed += u64::from(!refused);
            }
            pending.refuse_by_clock(offset, passed);
            offset += 1;
            if count % 5_000 == 4_999 {
                let (first, record) = pending.take().unwrap();
                bytes += crate::decisions::decisions_key(first).len() + encode(&record).len();
            }
        }
        assert!(bytes < 1_000_000, "{name}: {bytes} bytes");
    }
}

#[test]
fn a_flood_of_unknown_schemas_is_one_run_without_its_messages() {
    let mut pending = PendingDecisions::default();
    for offset in 0..1_000_000 {
        pending.refuse(Reason::UnknownSchema, offset, offset);
    }
    let (_, record) = pending.take().unwrap();
    assert!(encode(&record).len() < 64);
}

/// Asks outside about values that begin with `?`.
struct Asking {
    known: Arc<AtomicBool>,
}

impl Source for Asking {
    type Event<'a> = Amount<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<Amount<'a>, SourceError> {
        match record.value.and_then(|value| value.strip_prefix(b"?")) {
            Some(_) if !self.known.load(Ordering::Relaxed) => {
                Err(Rejection::by_outside(Reason::UnknownSchema, "schema 9").into())
            }
            Some(rest) => Amounts.decode(&Record { value: Some(rest), ..*record }),
            None => Amounts.decode(record),
        }
    }
}

/// The toy fold behind that source.
struct AskingFold(SumFold);

impl Fold for AskingFold {
    type Source = Asking;
    type Table = NoTable;

    fn apply(&mut self, event: &Amount<'_>, out: &mut FoldOutput) {
        self.0.apply(event, out);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.0.next_end(after)
    }

    fn close(&mut self, end: i64, table: &NoTable, out: &mut FoldOutput) {
        self.0.close(end, table, out);
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

fn asking(known: &Arc<AtomicBool>) -> FoldTask<AskingFold> {
    let source = Asking { known: known.clone() };
    task_of(source, AskingFold(sum_fold()), SharedTable::none())
}

/// What happens to a task that reads live.
#[derive(Debug, Clone)]
enum Step {
    /// A record: its event time relative to the offset, its timestamp relative to that, and whether a schema is needed.
    Record { ahead: i64, timestamp: Option<i64>, asks: bool },
    /// One that is refused for itself.
    Nonsense,
    /// The reader's clock jumps.
    Clock(i64),
    /// The registry learns or forgets the schema.
    Registry(bool),
    /// The idle partition follows others.
    Follow(i64),
    /// What was produced is committed; with a snapshot or without.
    Commit { snapshot: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (-40_i64..60, prop::option::of(prop::sample::select(vec![0, 30, 100_000])), prop::bool::weighted(0.2));
    let far = (2 * SKEW..3 * SKEW, prop::sample::select(vec![None, Some(0)]), Just(false));
    let record = prop_oneof![3 => record, 2 => far];
    let step = prop_oneof![
        20 => record.prop_map(|(ahead, timestamp, asks)| Step::Record { ahead, timestamp, asks }),
        2 => Just(Step::Nonsense),
        2 => (-2 * SKEW..4 * SKEW).prop_map(Step::Clock),
        1 => any::<bool>().prop_map(Step::Registry),
        1 => (0_i64..80).prop_map(Step::Follow),
        4 => any::<bool>().prop_map(|snapshot| Step::Commit { snapshot }),
    ];
    prop::collection::vec(step, 1..150)
}

/// What is committed at a point, and the task's state there.
struct Committed {
    offset: i64,
    reached: Reached,
    state: Vec<u8>,
    is_snapshot: bool,
    /// Records of the state topic that came with it.
    decisions: Vec<(Vec<u8>, Vec<u8>)>,
}

fn committed(task: &mut FoldTask<AskingFold>, is_snapshot: bool) -> Committed {
    let written = cut(task).into_iter().filter(|record| record.0 == TOPICS.state);
    let decisions = written.map(|(_, key, value)| (key, value.unwrap())).collect();
    let mut state = Vec::new();
    task.snapshot(&mut state);
    Committed { offset: task.position(), reached: task.reached(), state, is_snapshot, decisions }
}

proptest! {
    /// Killed behind any commit, a task is brought back from any snapshot before it: the same state and counts as those of
    /// the live run, whatever the reader's clock and the registry say by then.
    #[test]
    fn a_replay_to_any_commit_from_any_snapshot_judges_as_the_live_run_did(steps in steps()) {
        let known = Arc::new(AtomicBool::new(true));
        let mut live = asking(&known);
        let mut records: Vec<(String, Option<i64>)> = Vec::new();
        let mut now = 0;
        let mut commits = vec![committed(&mut live, true)];
        for step in &steps {
            let offset = records.len() as i64;
            match step {
                Step::Record { ahead, timestamp, asks } => {
                    let time = offset + ahead;
                    let value = format!("{}{time},1", if *asks { "?" } else { "" });
                    records.push((value, timestamp.map(|relative| time + relative)));
                }
                Step::Nonsense => records.push(("nonsense".to_owned(), None)),
                Step::Clock(time) => now = *time,
                Step::Registry(knows) => known.store(*knows, Ordering::Relaxed),
                Step::Follow(ahead) => {
                    live.follow((offset + ahead) / SLIDE * SLIDE);
                }
                Step::Commit { snapshot } => commits.push(committed(&mut live, *snapshot)),
            }
            if let Some((value, timestamp)) = records.get(offset as usize) {
                offer(&mut live, (offset, value), *timestamp, now);
            }
        }
        for (at, snapshot) in commits.iter().enumerate().filter(|(_, commit)| commit.is_snapshot) {
            let mut log = StateLog::default();
            for (until, commit) in commits.iter().enumerate() {
                for (key, value) in &commit.decisions {
                    log.record(key, Some(value), 0);
                }
                if until < at {
                    continue;
                }
                // by now the registry knows the schema
                known.store(true, Ordering::Relaxed);
                let mut task = asking(&known);
                let loaded = log_with(&log, &snapshot.state, snapshot.offset).load().unwrap().unwrap();
                task.restore(loaded, commit.reached).unwrap();
                task.start_at(snapshot.offset);
                for offset in snapshot.offset..commit.offset {
                    let (value, timestamp) = &records[offset as usize];
                    offer(&mut task, (offset, value), *timestamp, i64::MIN);
                    task.discard_outputs();
                }
                task.end_replay(commit.reached);
                let mut state = Vec::new();
                task.snapshot(&mut state);
                prop_assert_eq!(&state, &commit.state, "from {} to {}", snapshot.offset, commit.offset);
                prop_assert!(task.counts().unwrap().add_up());
            }
        }
    }
}
