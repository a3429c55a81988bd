//! Point 3: a record's key is its entity, so that what is kept by key is kept in one partition.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::{Outgoing, produce};

use crate::interactions::{START, click, json_click};
use crate::rig::{Instance, Rig, alone};

/// A producer that keys by user and spreads a session over two partitions, then a good event of another session in each, so late
/// that the windows close.
fn spread(topic: &str) {
    let spread = |number: i64| {
        let partition = i32::try_from(number % 2).unwrap();
        Outgoing::new(format!("user-{partition}"), click("s1", number).to_string()).in_partition(partition)
    };
    // five events of each partition in each slide
    produce(topic, (1..=40).map(spread));
    produce(topic, (0..2).map(|partition| json_click(&format!("later-{partition}"), 400).in_partition(partition)));
}

fn deployment() -> Rig {
    Rig::new("session-entropy", 2).set("source.format=json").set("idle_timeout=3s")
}

/// Rows of `s1` by window end, once a window of the later sessions' has closed behind them.
fn rows_of_session(rig: &Rig, instance: &Instance) -> BTreeMap<i64, usize> {
    instance.eventually("two partitions' records are processed", || {
        let of = |name: &str| instance.metric(&format!("recwatch_streaming_records_{name}_total"), &[]);
        (of("applied").unwrap_or(0.0) + of("dead_lettered").unwrap_or(0.0) >= 42.0).then_some(())
    });
    // both partitions have reached 395 s, so the rows up to then have been written or never will be
    instance.eventually("the last window of the later sessions", || {
        let rows = rig.rows("topics.session_freshness");
        rows.iter().any(|row| row["session_id"] == "later-0").then_some(())
    });
    let mut found = BTreeMap::new();
    for row in rig.rows("topics.session_freshness").iter().filter(|row| row["session_id"] == "s1") {
        *found.entry(row["window_end"].as_i64().unwrap()).or_default() += 1;
    }
    found
}

/// Hostile input, point 3: a record's key is its entity. Where it is not, no session is silently two.
#[test]
fn a_session_that_is_keyed_by_user_is_refused_and_counted() {
    let _alone = alone();
    let rig = deployment();
    spread(rig.topic("source.topic"));
    let instance = rig.start();
    instance.eventually("all 40 are refused", || (rig.dead_letters().len() == 40).then_some(()));
    for (reason, record) in rig.dead_letters() {
        let message = record.header("__connect.errors.exception.message").unwrap_or_default();
        let message = String::from_utf8_lossy(message);
        assert_eq!(reason, "bad_key", "{message}");
        assert!(message.contains("user-") && message.contains(r#"session_id, "s1""#), "{message}");
        assert!(record.key.is_some_and(|key| key.starts_with(b"user-")), "the key is handed on as it is");
    }
    let refused = instance.metric("recwatch_streaming_records_dead_lettered_total", &[r#"reason="bad_key""#]);
    assert_eq!(refused, Some(40.0));
    assert_eq!(instance.metric("recwatch_streaming_records_applied_total", &[]), Some(2.0));
    assert!(instance.terminate().success());
}

/// Hostile input, point 3: with `source.key=ignore` any key is taken, and each partition's part of a session is one.
#[test]
fn a_source_whose_keys_are_ignored_takes_them_all_and_has_a_row_for_each_partition() {
    let _alone = alone();
    let rig = deployment().set("source.key=ignore");
    spread(rig.topic("source.topic"));
    // a further event in each partition closes the windows of those before
    let last = |partition: i32| json_click(&format!("last-{partition}"), 800).in_partition(partition);
    produce(rig.topic("source.topic"), (0..2).map(last));
    let instance = rig.start();
    let rows = rows_of_session(&rig, &instance);
    assert!(rig.dead_letters().is_empty());
    assert!(!rows.is_empty() && rows.values().all(|rows| *rows == 2), "a row for each of the two partitions: {rows:?}");
    assert!(instance.terminate().success());
}

/// Hostile input, point 3: the same text in every form that producers write keys in is the same key.
#[test]
fn a_key_may_be_text_or_json_or_avro() {
    let _alone = alone();
    let rig = deployment();
    let avro = b"\x04s1".to_vec();
    let keys = [
        b"s1".to_vec(),
        b"\"s1\"".to_vec(),
        b"\"\\u0073\\u0031\"".to_vec(),
        [&[0, 0, 0, 0, 9], avro.as_slice()].concat(),
    ];
    let topic = rig.topic("source.topic");
    let mut records: Vec<Outgoing> =
        (0..).zip(keys).map(|(number, key)| Outgoing { key: Some(key), ..json_click("s1", number) }).collect();
    let by_header = Outgoing { key: Some(avro), ..json_click("s1", 4) };
    records.push(by_header.with_header("__key_schema_id", [0, 0, 0, 0, 9]));
    records.push(json_click("s1", 5).with_header("__value_schema_id", "of no matter to JSON"));
    produce(topic, records.into_iter().map(|record| record.in_partition(0)));
    let instance = rig.start();
    instance.eventually("all six are applied", || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == 6.0)
    });
    assert!(rig.dead_letters().is_empty());
    assert!(instance.terminate().success());
}

fn embedding(entity: &str, id: &str) -> Value {
    json!({
        "event_id": "e", "entity": entity, "entity_id": id, "domain": "books", "model_version": "1", "vector": [1.0, 0.5],
        "event_time": START,
    })
}

/// Hostile input, point 3: every source of every metric worker asks for its own entity.
#[test]
fn every_source_refuses_keys_that_are_not_its_entity() {
    let _alone = alone();
    let sources = [
        ("cosine-decay", "source", click("s1", 1), "s1"),
        ("cosine-decay", "items", embedding("ITEM", "i1"), "i1"),
        ("domain-drift", "source", embedding("USER", "u1"), "u1"),
    ];
    for (worker, source, record, key) in sources {
        let rig = Rig::new(worker, 1).set("vector_dimensions=2").set(&format!("{source}.format=json"));
        let topic = rig.topic(&format!("{source}.topic"));
        let value = record.to_string();
        let absent = Outgoing { key: None, ..Outgoing::new("", value.clone()) };
        let mut records = vec![Outgoing::new(key, value.clone()), Outgoing::new("another", value), absent];
        if source == "items" {
            // a deletion has its key alone
            records.push(Outgoing { value: None, ..Outgoing::new("\"i1\"", "") });
            records.push(Outgoing { value: None, key: Some(vec![0xff]), ..Outgoing::default() });
        }
        let (good, bad) = if source == "items" { (2.0, 3) } else { (1.0, 2) };
        produce(topic, records.into_iter().map(|record| record.in_partition(0)));
        let instance = rig.start();
        instance.eventually("what is good is applied", || {
            instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == good)
        });
        let refused = instance
            .eventually("what is bad is refused", || Some(rig.dead_letters()).filter(|refused| refused.len() >= bad));
        assert!(refused.len() == bad && refused.iter().all(|(reason, _)| reason == "bad_key"), "{worker} {source}");
        assert!(instance.terminate().success());
    }
}
