//! Point 2: time that one clock makes. A fast producer's clock, and records without a Kafka timestamp, are found by the
//! reader's clock; what that decided is obeyed by whoever replays; event times end with the year 2299.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use records::{Encoder, Interaction, InteractionKind, Registry, RegistryConfig};
use serde_json::{Value, json};
use testkit::{Outgoing, produce, read_committed};

use crate::rig::{Instance, Rig, alone};

const MINUTE: i64 = 60_000;
const RULES: [&str; 4] = ["record_timestamp", "reader_clock", "no_timestamp", "range"];

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A click, with its record's Kafka timestamp; `None` for the producer's own.
struct Click {
    session: String,
    event_time: i64,
    timestamp: Option<i64>,
}

fn click(session: &str, event_time: i64, timestamp: Option<i64>) -> Click {
    Click { session: session.to_owned(), event_time, timestamp }
}

impl Click {
    fn record(&self, encode: &mut Encode, partition: i32) -> Outgoing {
        let value = encode(self);
        let record = Outgoing::new(self.session.as_str(), value).in_partition(partition);
        Outgoing { timestamp: self.timestamp, ..record }
    }
}

type Encode = dyn FnMut(&Click) -> Vec<u8>;

fn as_json(click: &Click) -> Vec<u8> {
    let value = json!({
        "event_id": format!("{}-{}", click.session, click.event_time), "session_id": click.session, "user_id": "u",
        "item_id": "i", "kind": "CLICK", "domain": "shop", "event_time": click.event_time,
    });
    value.to_string().into_bytes()
}

/// Avro under the schema that the registry has for the topic.
fn as_avro(registry_url: &str, topic: &str) -> impl FnMut(&Click) -> Vec<u8> + use<> {
    let registry = Registry::new(RegistryConfig::new(registry_url), || false).unwrap();
    let schema = registry.register_for::<Interaction<'static>>(topic).unwrap();
    let mut encoder = Encoder::<Interaction<'static>>::new(schema);
    move |click| {
        let interaction = Interaction {
            event_id: format!("{}-{}", click.session, click.event_time).into(),
            request_id: None,
            session_id: click.session.clone().into(),
            user_id: "u".into(),
            item_id: "i".into(),
            kind: InteractionKind::Click,
            domain: "shop".into(),
            surface: None,
            user_segment: None,
            rec_strategy: None,
            ab_group: None,
            item_type: None,
            position: None,
            event_time: click.event_time,
        };
        let mut value = Vec::new();
        encoder.encode(&interaction, &mut value).unwrap();
        value
    }
}

/// The counts that the folds have committed, summed over the partitions.
fn committed_counts(rig: &Rig) -> BTreeMap<String, u64> {
    let topic = format!("recwatch.internal.session-entropy.{}.watermarks", rig.topic("source.topic"));
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    for record in read_committed(&topic).into_iter().filter(|record| record.key_text().starts_with("fold/")) {
        newest.insert(record.key_text(), serde_json::from_slice(&record.value.unwrap()).unwrap());
    }
    let mut counts = BTreeMap::new();
    for progress in newest.values() {
        let own = ["read", "applied", "late", "dead_lettered"].map(|name| (name, &progress["counts"][name]));
        for (name, count) in own.into_iter().chain(RULES.map(|rule| (rule, &progress["counts"]["refused_times"][rule])))
        {
            *counts.entry(name.to_owned()).or_default() += count.as_u64().unwrap();
        }
    }
    counts
}

/// Waits until that many records are committed as read, and shows what became of them.
fn counts_of(rig: &Rig, instance: &Instance, read: u64) -> BTreeMap<String, u64> {
    // until then its topics may be missing
    instance.wait_until_ready();
    instance.eventually("all records", || {
        Some(committed_counts(rig)).filter(|counts| counts.get("read").is_some_and(|found| *found >= read))
    })
}

fn counts(of: [(&str, u64); 8]) -> BTreeMap<String, u64> {
    of.map(|(name, count)| (name.to_owned(), count)).into()
}

/// The reasons of the dead letters, in order.
fn reasons(rig: &Rig) -> Vec<String> {
    let mut reasons: Vec<String> = rig.dead_letters().into_iter().map(|(reason, _)| reason).collect();
    reasons.sort();
    reasons
}

/// Hostile input, point 2: time that one clock makes. Five honest clicks, one of a host that is 50 minutes fast, with which
/// its Kafka timestamp agrees, ten honest ones; in two partitions.
fn a_fast_producer(rig: &Rig, encode: &mut Encode) {
    let start = now() - MINUTE;
    for partition in 0..2 {
        let honest = |at: i64| click(&format!("s{partition}"), start + at * 1_000, None);
        let fast = now() + 50 * MINUTE;
        let clicks = (0..5).map(honest).chain([click("fast", fast, Some(fast))]).chain((5..15).map(honest));
        produce(rig.topic("source.topic"), clicks.map(|click| click.record(encode, partition)).collect::<Vec<_>>());
    }
    let instance = rig.start();
    let expected = [
        ("read", 32),
        ("applied", 30),
        ("late", 0),
        ("dead_lettered", 2),
        ("record_timestamp", 0),
        ("reader_clock", 2),
        ("no_timestamp", 0),
        ("range", 0),
    ];
    assert_eq!(counts_of(rig, &instance, 32), counts(expected));
    assert_eq!(reasons(rig), ["future_timestamp"; 2]);
    assert_eq!(rig.late(), []);
    let refused = || instance.metric("recwatch_streaming_records_refused_event_time_total", &["rule=\"reader_clock\""]);
    instance.eventually("the metric", || refused().filter(|refused| *refused == 2.0));
    let log = instance.worker.log_tail(200);
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("future_timestamp")).collect();
    let names = |partition: i32| {
        let topic = rig.topic("source.topic");
        // in either format of the log
        let fields = [format!("partition={partition}"), format!("\"partition\":{partition}")];
        warnings.iter().any(|line| line.contains(topic) && fields.iter().any(|field| line.contains(field)))
    };
    assert!(warnings.len() == 2 && names(0) && names(1) && log.contains("LogAppendTime"), "{log}");
    assert!(instance.terminate().success());
}

#[test]
fn one_fast_producer_makes_nobody_late_in_json_and_in_avro() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 2).set("source.format=json").set("idle_timeout=3s");
    a_fast_producer(&rig, &mut as_json);
    let rig = Rig::new("session-entropy", 2).set("idle_timeout=3s");
    let mut encode = as_avro(&rig.registry_url(), rig.topic("source.topic"));
    a_fast_producer(&rig, &mut encode);
}

/// Hostile input, point 2: time that one clock makes. Records without a Kafka timestamp (-1), and event times beyond the year
/// 2299 with and without one, between honest clicks.
#[test]
fn a_record_without_a_timestamp_is_judged_by_the_readers_clock_and_times_end_with_2299() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("source.format=json").set("idle_timeout=3s");
    let start = now() - 10 * MINUTE;
    let (year_2200, year_3000) = (7_258_118_400_000, 32_503_680_000_000);
    let clicks = [
        click("s", start, None),
        click("s", start + 1_000, Some(-1)),
        click("x", year_3000, Some(-1)),
        click("s", start + 2_000, None),
        click("x", year_2200, Some(-1)),
        click("s", start + 3_000, Some(-1)),
        click("x", i64::MAX, Some(-1)),
        click("s", start + 4_000, None),
        click("x", i64::MAX, None),
        click("x", 10_413_792_000_000, None),
        click("x", 10_413_791_999_999, None),
        click("s", start + 5_000, None),
    ];
    produce(rig.topic("source.topic"), clicks.iter().map(|click| click.record(&mut as_json, 0)).collect::<Vec<_>>());
    let instance = rig.start();
    let expected = [
        ("read", 12),
        ("applied", 6),
        ("late", 0),
        ("dead_lettered", 6),
        ("record_timestamp", 1),
        ("reader_clock", 0),
        ("no_timestamp", 1),
        ("range", 4),
    ];
    assert_eq!(counts_of(&rig, &instance, 12), counts(expected));
    let expected = ["bad_value", "bad_value", "bad_value", "bad_value", "future_timestamp", "future_timestamp"];
    assert_eq!(reasons(&rig), expected);
    assert!(instance.terminate().success(), "it ends at once");
}

const FLOOD: i64 = 40_000;

/// A flood in two partitions: good clicks and refused ones in turn, some refused for themselves between them, and a last good one
/// that closes what is open.
fn flood(start: i64, fast: i64) -> Vec<Outgoing> {
    let mut records = Vec::new();
    for at in 0..FLOOD {
        let partition = (at / 2 % 2) as i32;
        records.push(match at % 8 {
            0 | 2 | 5 => click("fast", fast + at, Some(fast + at)).record(&mut as_json, partition),
            1 | 3 => click("none", fast + at, Some(-1)).record(&mut as_json, partition),
            4 => Outgoing::new("s", "nonsense").in_partition(partition),
            _ => click(&format!("s{}", at % 50), start + at, None).record(&mut as_json, partition),
        });
    }
    records.extend((0..2).map(|partition| click("last", start + FLOOD + MINUTE, None).record(&mut as_json, partition)));
    records
}

/// Rows of groups, each with what it counted.
fn rows(rig: &Rig) -> Vec<String> {
    let mut rows: Vec<String> = rig.rows("topics.session_entropy").iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// Hostile input, point 2: time that one clock makes. Killed in the middle of a flood, a worker's successor judges as it did:
/// each record ends once, the same as in a run that nothing disturbs. The state topic stays small.
#[test]
fn a_worker_that_is_killed_in_a_flood_of_refused_records_has_the_rows_and_counts_of_one_that_was_not() {
    let _alone = alone();
    let start = now() - 10 * MINUTE;
    let records = flood(start, now() + 50 * MINUTE);
    let read = records.len() as u64;
    // no partition is idle, so that rows depend on the records alone
    let rig = || Rig::new("session-entropy", 2).set("source.format=json").set("idle_timeout=1h");
    let run = |rig: &Rig, kills: usize| {
        let (quarter, half) = (records.len() / 4, records.len() / 2);
        produce(rig.topic("source.topic"), records[..quarter].to_vec());
        let mut instance = rig.start();
        counts_of(rig, &instance, 1_000);
        produce(rig.topic("source.topic"), records[quarter..half].to_vec());
        for _ in 0..kills {
            instance.worker.kill9().unwrap();
            instance = rig.start();
            instance.wait_until_ready();
        }
        produce(rig.topic("source.topic"), records[half..].to_vec());
        let counts = counts_of(rig, &instance, read);
        let last = (start + FLOOD + MINUTE - 5_000) / 10_000 * 10_000;
        instance.eventually("the last window", || {
            let ends = rig.rows("topics.session_entropy");
            ends.iter().any(|row| row["window_end"] == json!(last)).then_some(())
        });
        assert!(instance.terminate().success());
        (counts, rows(rig))
    };
    let (undisturbed, killed) = (rig(), rig());
    let expected = run(&undisturbed, 0);
    let eighth = FLOOD as u64 / 8;
    let by_hand = [
        ("read", read),
        ("applied", 2 * eighth + 2),
        ("late", 0),
        ("dead_lettered", 6 * eighth),
        ("record_timestamp", 0),
        ("reader_clock", 3 * eighth),
        ("no_timestamp", 2 * eighth),
        ("range", 0),
    ];
    assert_eq!(expected.0, counts(by_hand));
    assert!(!expected.1.is_empty());
    assert_eq!(run(&killed, 3), expected);
    let letters = killed.dead_letters();
    let places: std::collections::BTreeSet<Vec<u8>> = letters
        .iter()
        .map(|(_, letter)| {
            let header = |name: &str| letter.header(&format!("__connect.errors.{name}")).unwrap().to_vec();
            [header("partition"), b"/".to_vec(), header("offset")].concat()
        })
        .collect();
    assert_eq!((letters.len() as u64, places.len()), (6 * eighth, letters.len()), "each once");
    let state = format!("recwatch.internal.session-entropy.{}.fold-state", killed.topic("source.topic"));
    let decisions = read_committed(&state).into_iter().filter(|record| record.key_text().starts_with("decisions/"));
    let bytes: usize =
        decisions.map(|record| record.key.map_or(0, |key| key.len()) + record.value.map_or(0, |v| v.len())).sum();
    assert!(bytes > 0 && bytes < FLOOD as usize, "less than a byte a record: {bytes}");
}

/// Hostile input, point 2: time that one clock makes. A watermark of somebody else's on an internal topic is left out and
/// counted; a frame of somebody else's in the repartition topic ends the worker with a message that says where.
#[test]
fn records_of_others_on_internal_topics_are_left_out_or_named() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("source.format=json").set("idle_timeout=3s");
    let start = now() - MINUTE;
    let clicks: Vec<Outgoing> =
        (0..10).map(|at| click("s", start + at * 1_000, None).record(&mut as_json, 0)).collect();
    produce(rig.topic("source.topic"), clicks);
    let instance = rig.start();
    counts_of(&rig, &instance, 10);
    let internal = |what: &str| format!("recwatch.internal.session-entropy.{}.{what}", rig.topic("source.topic"));
    produce(&internal("watermarks"), [Outgoing::new("fold/0", "garbage")]);
    let left_out = || instance.metric("recwatch_streaming_foreign_records_total", &[]).filter(|count| *count == 1.0);
    instance.eventually("the garbage to be counted", left_out);
    produce(&internal("repartition"), [Outgoing::new("k", "garbage").in_partition(0)]);
    let exit = instance.worker.wait(Duration::from_secs(120)).unwrap();
    let log = instance.worker.log_tail(200);
    assert!(!exit.success());
    for part in [&internal("repartition"), "partition 0", "offset", "--reset-state"] {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
}
