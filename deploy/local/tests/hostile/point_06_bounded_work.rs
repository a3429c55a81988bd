//! Point 6: what a record costs is bounded by its bytes, whatever it holds and whatever schema it names.

use records::{AvroRecord as _, Interaction};
use serde_json::{Value, json};
use testkit::{Outgoing, produce};

use crate::interactions::{click, datum, framed, register};
use crate::rig::{Rig, alone};

/// Our schema with a further field.
fn with_field(x: Value) -> Value {
    let mut schema: Value = serde_json::from_str(Interaction::<'static>::SCHEMA).unwrap();
    schema["fields"].as_array_mut().unwrap().push(json!({"name": "x", "type": x}));
    schema
}

/// Records nested twelve deep, ten fields each, all of them nulls in the end: 10^12 values in no bytes.
fn nested() -> Value {
    let last = json!({"type": "record", "name": "R12", "fields": [{"name": "f", "type": "null"}]});
    (0..12).rev().fold(last, |inner, level| {
        let first = json!({"name": "f0", "type": inner});
        let again = (1..10).map(|field| json!({"name": format!("f{field}"), "type": format!("R{}", level + 1)}));
        let fields: Vec<Value> = std::iter::once(first).chain(again).collect();
        json!({"type": "record", "name": format!("R{level}"), "fields": fields})
    })
}

fn value(schema: i32, x: &[u8]) -> Vec<u8> {
    [records::wire::header(schema).as_slice(), &datum(&click("bomb", 200)), x].concat()
}

/// Hostile input, point 6: work and memory bounded by the bytes of the record. A datum of no bytes and trillions of values is
/// refused, and neither its partition nor the other one of the thread stands.
#[test]
fn a_datum_of_trillions_of_values_stops_nobody() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 2).set("threads=1").set("idle_timeout=3s");
    let own = register(&serde_json::from_str(Interaction::<'static>::SCHEMA).unwrap(), "AVRO");
    let nested = register(&with_field(nested()), "AVRO");
    let arrays = register(&with_field(json!({"type": "array", "items": {"type": "array", "items": "null"}})), "AVRO");
    let good = |session: &str, number: i64| Outgoing::new(session, framed(own, &click(session, number)));
    let topic = rig.topic("source.topic");
    // 100,000 arrays of 400,000 nulls each, in 400 kB
    let many = [&[0x80, 0x9a, 0x0c][..], &[0x80, 0xea, 0x30, 0].repeat(100_000), &[0]].concat();
    let bombs = [value(nested, &[]), value(arrays, &many)].map(|value| Outgoing::new("bomb", value));
    let few = Outgoing::new("bomb", value(arrays, &[2, 4, 0, 0]));
    produce(topic, (0..200).map(|number| good("s-0", number).in_partition(0)));
    produce(topic, bombs.into_iter().chain([few]).map(|record| record.in_partition(0)));
    produce(topic, (200..400).map(|number| good("s-0", number).in_partition(0)));
    produce(topic, (0..200).map(|number| good("s-1", number).in_partition(1)));
    let instance = rig.start();
    instance.eventually("all good records are applied", || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == 601.0)
    });
    let refused =
        instance.eventually("the two bombs", || Some(rig.dead_letters()).filter(|refused| refused.len() >= 2));
    let reasons: Vec<&str> = refused.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["undecodable", "undecodable"]);
    for (_, record) in &refused {
        let message = record.header("__connect.errors.exception.message").unwrap_or_default();
        let message = String::from_utf8_lossy(message);
        assert!(message.contains("take no bytes"), "{message}");
    }
    instance.wait_until_ready();
    assert!(instance.terminate().success());
}
