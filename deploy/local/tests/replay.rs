//! A whole replay: real components, real worker processes, bad records among the good ones, and kills.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::Message;
use rdkafka::message::Headers;
use serde_json::{Value, json};
use stack::broker::Broker;
use stack::generator::{Generator, Shape};
use stack::recording::{Content, Feed, Recording};
use stack::replay::{Plan, Protocol, Run, find_worker};
use stack::{Load, progress};

const SLIDE: i64 = 10_000;
const OUT_OF_ORDERNESS: i64 = 5_000;

/// A line, the key that it must have, and the reason for which it must be refused.
type Bad = (String, String, &'static str);

/// One of each kind of bad record, made from a good one.
fn bad_lines(good: &Value) -> Vec<Bad> {
    let with = |field: &str, value: Value| {
        let mut line = good.clone();
        line[field] = value;
        line.to_string()
    };
    let key = good["session_id"].as_str().unwrap().to_owned();
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("domain");
    let time = good["event_time"].as_i64().unwrap();
    vec![
        ("no JSON".to_owned(), "line-2001".to_owned(), "undecodable"),
        (String::new(), "line-2002".to_owned(), "undecodable"),
        (without.to_string(), key.clone(), "undecodable"),
        (with("kind", json!("VIEW")), key.clone(), "undecodable"),
        (with("session_id", json!("")), String::new(), "empty_key"),
        (with("event_time", json!(-5)), key.clone(), "bad_value"),
        (with("event_time", json!(4_000_000_000_000_i64)), key.clone(), "future_timestamp"),
        (with("user_id", json!("x".repeat(2_000_000))), key.clone(), "too_large"),
        (with("event_time", json!(time - 600_000)), key, "late"),
    ]
}

/// The sessions' rows that the events call for: one for every slide that has an event of theirs and is over.
fn expected_rows(events: &[Value]) -> BTreeSet<(i64, String)> {
    let time = |event: &Value| event["event_time"].as_i64().unwrap();
    let last_end = (events.iter().map(time).max().unwrap() - OUT_OF_ORDERNESS).div_euclid(SLIDE) * SLIDE;
    let ends = events.iter().map(|event| {
        let end = (time(event) + SLIDE - 1).div_euclid(SLIDE) * SLIDE;
        (end, event["session_id"].as_str().unwrap().to_owned())
    });
    ends.filter(|(end, _)| *end <= last_end).collect()
}

#[test]
fn every_record_is_accounted_for_and_every_row_is_there_once_whatever_is_killed() {
    let good: Vec<Value> = Generator::new(Shape::load(11, 1_767_600_000_000, 40_000))
        .take(4_000)
        .map(|event| serde_json::to_value(event).unwrap())
        .collect();
    let bad = bad_lines(&good[1_000]);
    let lines = good[..2_000].iter().map(Value::to_string);
    let lines = lines.chain(bad.iter().map(|(line, _, _)| line.clone()));
    let lines: Vec<String> = lines.chain(good[2_000..].iter().map(Value::to_string)).collect();
    let recording = std::io::Cursor::new(lines.join("\n") + "\n");
    let recording = Recording::from_reader("test", Content::Interactions, recording).unwrap();

    let plan = Plan {
        workers: vec![find_worker("session-entropy").unwrap()],
        instances: 2,
        partitions: 3,
        protocol: Protocol::Consumer,
        settings: vec!["session-entropy.idle_timeout=3s".parse().unwrap()],
        contents: BTreeSet::from([Content::Interactions]),
        rate: None,
        faults: vec!["kill:session-entropy:1500".parse().unwrap(), "kill:clickhouse-writer:2500".parse().unwrap()],
        load: Load::Short,
        writer: true,
        router: false,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(plan, &progress::Lines).unwrap();
    run.publish(Feed::in_file_order(vec![recording])).unwrap();
    run.complete().unwrap();
    run.stop_workers().unwrap();
    run.account().unwrap();
    run.export(folder.path()).unwrap();

    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["problems"], json!([]));
    let worker = &summary["workers"]["session-entropy"];
    let counts = ["read", "applied", "late", "dead_lettered"].map(|name| worker[name].as_u64().unwrap());
    assert_eq!(counts, [4_009, 4_000, 1, 8]);
    let reasons = json!({"undecodable": 4, "empty_key": 1, "bad_value": 1, "future_timestamp": 1, "too_large": 1});
    assert_eq!(worker["dead_lettered_by_reason"], reasons);
    assert_eq!(worker["topics"]["recsys.interactions.v1"]["dead_lettered_by_reason"], reasons);
    assert_eq!((&worker["restarts"], &summary["workers"]["clickhouse-writer"]["restarts"]), (&json!(1), &json!(1)));
    let kills = summary["kills"].as_array().unwrap();
    assert!(kills[0]["process"].as_str().unwrap().starts_with("session-entropy-"), "{kills:?}");
    assert_eq!(kills[1]["process"], "clickhouse-writer");
    for kill in kills {
        let (read, uncommitted) = (kill["records_read"].as_u64().unwrap(), kill["uncommitted"].as_u64().unwrap());
        assert!(uncommitted > 0 && read >= uncommitted, "{kill}");
    }

    let exported = std::fs::read_to_string(folder.path().join("session_freshness.ndjson")).unwrap();
    let rows: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: BTreeSet<(i64, String)> = rows
        .iter()
        .map(|row| (row["window_end"].as_i64().unwrap(), row["session_id"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(keys.len(), rows.len(), "rows are there twice");
    assert_eq!(keys, expected_rows(&good));
    assert!(rows.iter().all(|row| row.get("inserted_at").is_none() && row["revision"] == 1));

    // Bad records are handed on as they came, each with its reason.
    let broker = Broker::new(&run.stack().brokers()).unwrap();
    let mut handed_on: BTreeMap<(String, String), usize> = BTreeMap::new();
    for topic in ["recwatch.dead-letters.v1", "recwatch.late.v1"] {
        broker
            .read_all(topic, |message| {
                let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
                let header = |name: &str| {
                    let headers = message.headers().unwrap();
                    let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
                    String::from_utf8(found.unwrap().to_vec()).unwrap()
                };
                assert_eq!(header("__connect.errors.topic"), "recsys.interactions.v1");
                assert_eq!(header("__connect.errors.connector.name"), "session-entropy");
                let reason = header("__connect.errors.exception.class.name");
                if reason == "undecodable" {
                    let value = message.payload().unwrap();
                    assert!(bad.iter().any(|(line, of, _)| line.as_bytes() == value && *of == key), "{key}");
                }
                *handed_on.entry((key, reason)).or_default() += 1;
                Ok(())
            })
            .unwrap();
    }
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (_, key, reason) in &bad {
        *expected.entry((key.clone(), (*reason).to_owned())).or_default() += 1;
    }
    assert_eq!(handed_on, expected);
    run.stop().unwrap();
}
