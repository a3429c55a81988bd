//! Point 9, what is read beside plain records: schema ids in headers, numbers as JSON writers write them, logical types that are
//! not valid, and what is said of a schema of another kind.

use records::Interaction;
use serde_json::{Value, json};
use testkit::{Outgoing, produce};

use crate::interactions::{START, click, datum, framed, json_click, register};
use crate::rig::{Instance, Rig, alone};

const SCHEMA: &str = <Interaction<'static> as records::AvroRecord>::SCHEMA;

fn wait_for_applied(instance: &Instance, count: f64) {
    instance.eventually(&format!("{count} records are applied"), || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == count)
    });
}

fn messages(rig: &Rig) -> Vec<(String, String)> {
    let message = |record: testkit::Recorded| {
        let message = record.header("__connect.errors.exception.message").unwrap_or_default().to_vec();
        String::from_utf8(message).unwrap()
    };
    rig.dead_letters().into_iter().map(|(reason, record)| (reason, message(record))).collect()
}

/// Hostile input, point 9: a schema's id may travel in a header, where it counts, and a header without an id is named.
#[test]
fn a_schema_id_in_a_header_is_read() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("idle_timeout=3s");
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let own = register(&schema, "AVRO");
    // another schema whose first text may be empty: a bare datum then begins like a frame
    schema["fields"].as_array_mut().unwrap().insert(0, json!({"name": "note", "type": "string"}));
    let noted = register(&schema, "AVRO");
    let id = |id: i32| [&[0], id.to_be_bytes().as_slice()].concat();
    let bare = |number: i64| Outgoing::new("s1", datum(&click("s1", number)));
    let begins_with_zero = Outgoing::new("s1", [&[0], datum(&click("s1", 3)).as_slice()].concat());
    let records = [
        Outgoing::new("s1", framed(own, &click("s1", 1))),
        bare(2).with_header("__value_schema_id", id(own)),
        begins_with_zero.with_header("__value_schema_id", id(noted)),
        bare(4).with_header("__value_schema_id", "4"),
        Outgoing::new("s1", framed(own, &click("s1", 5))).with_header("traceparent", "00-1-2-01"),
    ];
    produce(rig.topic("source.topic"), records);
    let instance = rig.start();
    wait_for_applied(&instance, 4.0);
    let refused =
        instance.eventually("the header without an id", || Some(messages(&rig)).filter(|all| !all.is_empty()));
    assert!(refused.len() == 1 && refused[0].0 == "undecodable", "{refused:?}");
    assert!(refused[0].1.contains("header __value_schema_id"), "{refused:?}");
    assert!(instance.terminate().success());
}

/// Hostile input, point 9: a logical type that is not valid is ignored, and a schema of another kind is named.
#[test]
fn logical_types_that_are_not_valid_are_ignored_and_schemas_of_another_kind_are_named() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("idle_timeout=3s");
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    schema["fields"][0]["type"] = json!({"type": "string", "logicalType": "timestamp-millis"});
    let invalid = register(&schema, "AVRO");
    let kind = register(
        &json!({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "title": testkit::unique("other")}),
        "JSON",
    );
    let records = [invalid, kind].map(|id| Outgoing::new("s1", framed(id, &click("s1", 1))));
    produce(rig.topic("source.topic"), records);
    let instance = rig.start();
    wait_for_applied(&instance, 1.0);
    let refused = instance.eventually("the other kind", || Some(messages(&rig)).filter(|all| !all.is_empty()));
    assert!(refused.len() == 1 && refused[0].0 == "undecodable", "{refused:?}");
    assert!(refused[0].1.contains("JSON") && refused[0].1.contains("AVRO"), "{refused:?}");
    assert!(instance.terminate().success());
}

/// Hostile input, points 9 and 2: whole numbers are read in every form, and event times end with the year 2299.
#[test]
fn whole_numbers_as_json_writers_write_them_are_read_up_to_the_end_of_time() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("source.format=json").set("idle_timeout=3s");
    let with = |field: &str, text: String| {
        let value = click("s1", 1).to_string().replacen('{', "{\"position\":0,", 1);
        let old =
            if field == "position" { "\"position\":0".to_owned() } else { format!("\"event_time\":{}", START + 1000) };
        assert!(value.contains(&old));
        Outgoing::new("s1", value.replace(&old, &format!("\"{field}\":{text}")))
    };
    let records = [
        json_click("s1", 1),
        with("event_time", format!("{START}.0")),
        with("event_time", "1.767600002e12".to_owned()),
        with("position", "3.0".to_owned()),
        with("event_time", format!("{START}.5")),
        with("event_time", "32503680000000".to_owned()),
        with("event_time", "9223372036854775807".to_owned()),
        json_click("s1", 2),
    ];
    produce(rig.topic("source.topic"), records);
    let instance = rig.start();
    wait_for_applied(&instance, 5.0);
    let refused = instance.eventually("what is out of range", || Some(messages(&rig)).filter(|all| all.len() >= 3));
    assert!(refused.iter().all(|(reason, _)| reason == "bad_value"), "{refused:?}");
    assert!(refused[0].1.contains("not a whole number"), "{refused:?}");
    assert!(refused[1].1.contains("2299") && refused[2].1.contains("2299"), "{refused:?}");
    assert!(instance.terminate().success());
}
