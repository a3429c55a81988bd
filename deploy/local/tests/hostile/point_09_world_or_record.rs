//! Point 9: dead letters are for what the record itself cannot mend. What the world has yet to say is waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use records::{AvroRecord as _, Encoder, Interaction};
use serde_json::{Value, json};
use stack::http;
use testkit::{Outgoing, produce};

use crate::rig::{PATIENCE, Rig, alone};

const T: i64 = 1_767_600_000_000;

fn deployment(partitions: i32) -> Rig {
    Rig::new("session-entropy", partitions).set("idle_timeout=2s").set("threads=1")
}

/// An interaction whose schema has the id `schema`.
fn click(session: &str, number: i64, schema: i32) -> Outgoing {
    let value = json!({
        "event_id": format!("{session}-{number}"), "session_id": session, "user_id": "u", "item_id": "i", "kind": "CLICK",
        "domain": "books", "event_time": T + number * 1000,
    });
    let text = value.to_string();
    let interaction: Interaction<'_> = serde_json::from_str(&text).unwrap();
    let mut bytes = Vec::new();
    Encoder::<Interaction<'static>>::new(schema).encode(&interaction, &mut bytes).unwrap();
    Outgoing::new(session, bytes)
}

/// Registers a schema with the process's registry; its id.
fn register(subject: &str, schema: &Value, references: &Value) -> i32 {
    let body = json!({ "schema": schema.to_string(), "references": references }).to_string();
    let url = format!("{}/subjects/{subject}/versions", registry());
    let answer = http::post(&url, "application/vnd.schemaregistry.v1+json", body, PATIENCE).unwrap().ok().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    i32::try_from(answer["id"].as_i64().unwrap()).unwrap()
}

fn registry() -> String {
    testkit::stack(crate::rig::COMPONENTS).registry_url()
}

/// The schema of interactions, as one that the registry has not seen.
fn fresh_schema() -> Value {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut schema: Value = serde_json::from_str(Interaction::<'static>::SCHEMA).unwrap();
    schema["doc"] = json!(testkit::unique(&NEXT.fetch_add(1, Ordering::Relaxed).to_string()));
    schema
}

/// The id that the registry will give to the next schema that it has not seen.
fn next_id() -> i32 {
    let name = testkit::unique("probe").replace(['.', '-'], "_");
    register(&name, &json!({ "type": "fixed", "name": name, "size": 1 }), &json!([])) + 1
}

/// Hostile input, point 9: the record's fault, or the world's? A schema that is registered after its first record was read
/// is waited for by that partition alone, and nothing is refused.
#[test]
fn a_schema_that_is_registered_late_costs_no_record() {
    let _alone = alone();
    let rig = deployment(2);
    let own = register(&testkit::unique("own"), &fresh_schema(), &json!([]));
    let instance = rig.start();
    instance.wait_until_ready();
    let late = next_id();
    let topic = rig.topic("source.topic");
    produce(topic, (0..3).map(|number| click("s-0", number, late).in_partition(0)));
    produce(topic, (0..50).map(|number| click("s-1", number, own).in_partition(1)));
    let applied = |count: f64| {
        let of =
            || instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied >= count);
        instance.eventually(&format!("{count} records are applied"), of)
    };
    // The other partition of the thread goes on meanwhile.
    assert_eq!(applied(50.0), 50.0);
    assert_eq!(register(&testkit::unique("late"), &fresh_schema(), &json!([])), late, "the id that was waited for");
    assert_eq!(applied(53.0), 53.0);
    assert!(rig.dead_letters().is_empty());
    assert!(instance.terminate().success());
}

/// Hostile input, point 9: the record's fault, or the world's? A schema may use named types of other subjects.
#[test]
fn a_schema_that_refers_to_other_subjects_is_read() {
    let _alone = alone();
    let rig = deployment(1);
    let mut click_schema = fresh_schema();
    let fields = click_schema["fields"].as_array_mut().unwrap();
    let kind = fields.iter_mut().find(|field| field["name"] == "kind").unwrap();
    let mut kind_schema = std::mem::replace(&mut kind["type"], json!("recwatch.v1.InteractionKind"));
    kind_schema["namespace"] = json!("recwatch.v1");
    let (kind_subject, click_subject) = (testkit::unique("kind"), testkit::unique("click"));
    register(&kind_subject, &kind_schema, &json!([]));
    let references = json!([{ "name": "recwatch.v1.InteractionKind", "subject": kind_subject, "version": 1 }]);
    let id = register(&click_subject, &click_schema, &references);
    produce(rig.topic("source.topic"), (0..3).map(|number| click("s", number, id)));
    let instance = rig.start();
    instance.eventually("all are applied", || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied >= 3.0)
    });
    assert!(rig.dead_letters().is_empty());
    assert!(instance.terminate().success());
}

/// Hostile input, point 9: the record's fault, or the world's? A flood of ids that nobody registers is refused without a
/// wait for each, and every record is accounted for.
#[test]
fn a_flood_of_unknown_ids_does_not_stop_its_partition() {
    const FLOOD: i64 = 2_000;
    let _alone = alone();
    let rig = deployment(1).set("registry.unknown_schema_wait=2s");
    let own = register(&testkit::unique("own"), &fresh_schema(), &json!([]));
    let topic = rig.topic("source.topic");
    produce(topic, (0..FLOOD).map(|number| click("s", 0, 1_000_000 + i32::try_from(number).unwrap())));
    produce(topic, (0..3).map(|number| click("s", number, own)));
    let instance = rig.start();
    let begun = Instant::now();
    instance.eventually("the records behind the flood are applied", || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied >= 3.0)
    });
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    let letters = instance.eventually("the dead letters are committed", || {
        Some(rig.dead_letters()).filter(|letters| letters.len() as i64 >= FLOOD)
    });
    assert!(letters.iter().all(|(reason, _)| reason == "unknown_schema"));
    assert_eq!(letters.len() as i64, FLOOD);
    assert!(instance.terminate().success());
}
