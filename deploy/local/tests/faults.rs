//! What a worker writes does not depend on how it is run: one undisturbed process and one partition give the same rows and
//! alerts as two processes and four partitions with kills at the worst moments. A case a worker.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use stack::generator::{Generator, ItemVectors, Shape, UserVectors, Vector};
use stack::recording::{Content, Feed, Recording};
use stack::replay::{Plan, Protocol, Run, find_worker};
use stack::{Load, progress};

const START: i64 = 1_767_600_000_000;
/// Items of each department, those of the clicks and those that have vectors.
const ITEMS: u32 = 50;

/// One worker and what it is given.
struct Case {
    worker: &'static str,
    settings: &'static [&'static str],
    lines: fn() -> Vec<Lines>,
    /// Lines after which an instance is killed.
    kills: [u64; 2],
}

/// A whole replay is enough for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Lines of a recording; two of three events have a trace.
struct Lines {
    content: Content,
    events: Vec<Value>,
}

impl Lines {
    fn of<T: Serialize>(content: Content, events: impl Iterator<Item = T>) -> Self {
        let traced = |(number, event): (usize, T)| {
            let mut event = serde_json::to_value(event).unwrap();
            if number % 3 > 0 {
                event["traceparent"] = format!("00-{:032x}-{:016x}-01", number + 1, number + 1).into();
            }
            event
        };
        Self { content, events: events.enumerate().map(traced).collect() }
    }

    fn recording(&self) -> Recording {
        let lines: String = self.events.iter().map(|event| format!("{event}\n")).collect();
        Recording::from_reader("generated", self.content, Cursor::new(lines)).unwrap()
    }
}

fn shape(records: u64) -> Shape {
    Shape { items: ITEMS, ..Shape::load(17, START, records) }
}

fn clicks(records: usize) -> Lines {
    Lines::of(Content::Interactions, Generator::new(shape(records as u64)).take(records))
}

/// The versions of two hours.
fn items() -> Lines {
    let in_two_hours = |vector: &Vector| vector.event_time < START + 2 * 3_600_000;
    let is_met = |vector: &Vector| vector.entity_id.rsplit('-').next().unwrap().parse::<u32>().unwrap() < ITEMS;
    Lines::of(Content::ItemEmbeddings, ItemVectors::new(&shape(0)).take_while(in_two_hours).filter(is_met))
}

fn users(records: usize) -> Lines {
    Lines::of(Content::UserEmbeddings, UserVectors::load(&shape(0), records as u64).take(records))
}

impl Case {
    /// Replays it and gives the exported tables by name.
    fn replay(
        &self,
        lines: &[Lines],
        (partitions, instances): (i32, u32),
        kills: &[u64],
    ) -> BTreeMap<&'static str, String> {
        let worker = find_worker(self.worker).unwrap();
        let recordings: Vec<Recording> = lines.iter().map(Lines::recording).collect();
        let setting = |setting: &&str| format!("{}.{setting}", self.worker).parse().unwrap();
        let plan = Plan {
            workers: vec![worker],
            instances,
            partitions,
            protocol: Protocol::default(),
            settings: self.settings.iter().chain(&["idle_timeout=2s"]).map(setting).collect(),
            contents: recordings.iter().map(Recording::content).collect(),
            rate: None,
            faults: kills.iter().map(|after| format!("kill:{}:{after}", self.worker).parse().unwrap()).collect(),
            load: Load::Short,
            writer: true,
            router: true,
        };
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::start(plan, &progress::Lines).unwrap();
        run.publish(Feed::in_file_order(recordings)).unwrap();
        run.complete().unwrap();
        run.stop_workers().unwrap();
        run.account().unwrap();
        run.export(folder.path()).unwrap();
        assert_eq!(run.summary().problems, [""; 0]);
        let hits = run.summary().kills.iter().filter(|kill| kill.uncommitted > 0);
        assert_eq!(hits.count(), kills.len(), "{:?}", run.summary().kills);
        run.stop().unwrap();
        let rows = |table: &str| std::fs::read_to_string(folder.path().join(format!("{table}.ndjson"))).unwrap();
        let tables = worker.row_topics.iter().map(|topic| topic.table).chain(["alerts"]);
        tables.map(|table| (table, rows(table))).collect()
    }

    fn check(&self) {
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = (self.lines)();
        let undisturbed = self.replay(&lines, (1, 1), &[]);
        let disturbed = self.replay(&lines, (4, 2), &self.kills);
        for (table, rows) in &undisturbed {
            assert!(!rows.is_empty(), "{table} has no rows to compare");
            let mut pairs = rows.lines().zip(disturbed[table].lines());
            let other = pairs.find(|(one, other)| one != other);
            assert_eq!(other, None, "rows of {table}, undisturbed and disturbed");
            assert!(*rows == disturbed[table], "{table} does not end alike");
        }
        for alert in undisturbed["alerts"].lines() {
            check_trace(&serde_json::from_str(alert).unwrap(), &lines);
        }
    }
}

/// Against a search through all events: an alert about a window's row has the trace of the least of the group's events there
/// that have one.
fn check_trace(alert: &Value, lines: &[Lines]) {
    if alert["value"].is_null() {
        assert_eq!(alert["traceparent"], Value::Null, "{alert}");
        return;
    }
    let times = ["window_start", "window_end"].map(|time| alert[time].as_i64().unwrap());
    let group = alert["group"].as_object().unwrap();
    let is_in_group = |event: &Value| match group.get("kind") {
        Some(kind) => group["target"] == event["domain"] || (kind == "pair" && group["sources"] == event["domain"]),
        None => group.iter().all(|(name, value)| value.as_str() == Some(event[name].as_str().unwrap_or_default())),
    };
    // of decay rates, which are by domain alone, the events are items
    let content = if group.len() == 1 { Content::ItemEmbeddings } else { lines[lines.len() - 1].content };
    let events = lines.iter().filter(|lines| lines.content == content).flat_map(|lines| &lines.events);
    let in_window = events.filter(|event| {
        let time = event["event_time"].as_i64().unwrap();
        times[0] < time && time <= times[1] && is_in_group(event)
    });
    let least =
        in_window.filter(|event| event.get("traceparent").is_some()).min_by_key(|event| event["event_id"].as_str());
    assert_eq!(alert["traceparent"], least.map_or(Value::Null, |event| event["traceparent"].clone()), "{alert}");
}

#[test]
fn session_entropy_writes_the_same_rows_whatever_is_killed() {
    let case = Case {
        worker: "session-entropy",
        // a rule that groups come to breach, and to breach no more, all the time
        settings: &[
            r#"alerts.rules.busy={ kind = "threshold", metric = "events", above = 8, fire_after = 1, resolve_after = 1 }"#,
        ],
        lines: || vec![clicks(4_000)],
        kills: [1_300, 2_600],
    };
    case.check();
}

#[test]
fn cosine_decay_writes_the_same_rows_whatever_is_killed() {
    let case = Case {
        worker: "cosine-decay",
        // so that some items ask for retraining
        settings: &[
            "observations=3",
            "max_slope=0.0",
            "max_norm=1000.0",
            r#"alerts.rules.busy={ kind = "threshold", metric = "pairs", above = 6, fire_after = 1, resolve_after = 1 }"#,
            r#"alerts.rules.changing={ kind = "threshold", metric = "updates", at_least = 1, fire_after = 1 }"#,
        ],
        lines: || vec![items(), clicks(4_000)],
        // among the items' 1,400 versions and among the clicks
        kills: [900, 3_000],
    };
    case.check();
}

#[test]
fn domain_drift_writes_the_same_rows_whatever_is_killed() {
    let case = Case {
        worker: "domain-drift",
        // the past is kept, and compared with
        settings: &[
            "self_offset=30m",
            r#"alerts.rules.far={ kind = "deviation", metric = "w1", direction = "up", margin = 0.1, every = "5m", fire_after = 1, resolve_after = 1 }"#,
        ],
        lines: || vec![users(4_000)],
        kills: [1_300, 2_600],
    };
    case.check();
}
