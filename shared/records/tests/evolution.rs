//! Records of writers whose schema is not ours: newer, older, different, or useless.

mod support;

use records::{AvroRecord, Decoder, DecoderConfig, FixedSchemas, Interaction, Reason, SessionEntropy, wire};
use serde_json::{Value, json};

use support::{as_json, click, decoder_with, encoded, reason, rejected};

/// The schema of interactions, changed, as id 1, and a record written with it by apache-avro.
fn written_otherwise(change: impl FnOnce(&mut Value), record: &Value) -> (FixedSchemas, Vec<u8>) {
    let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
    change(&mut schema);
    let parsed = apache_avro::Schema::parse_str(&schema.to_string()).unwrap();
    let avro = apache_avro::types::Value::try_from(record.clone()).unwrap().resolve(&parsed).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&parsed).build().unwrap();
    let mut value = wire::header(1).to_vec();
    value.extend(writer.write_value_to_vec(avro).unwrap());
    (FixedSchemas::default().with(1, &schema.to_string()), value)
}

fn fields(schema: &mut Value) -> &mut Vec<Value> {
    schema["fields"].as_array_mut().unwrap()
}

fn remove_field(schema: &mut Value, name: &str) {
    fields(schema).retain(|field| field["name"] != name);
}

fn field<'a>(schema: &'a mut Value, name: &str) -> &'a mut Value {
    fields(schema).iter_mut().find(|field| field["name"] == name).unwrap()
}

#[test]
fn a_field_that_the_writer_has_added_is_passed_over_wherever_it_stands() {
    let added = r#"{"name":"added","type":{"type":"array","items":{"type":"record","name":"Pair","fields":[
        {"name":"a","type":["null","string"]},{"name":"b","type":{"type":"map","values":"double"}}]}}}"#;
    for place in [0, 5, 14] {
        let mut record = as_json(&click());
        record["added"] = json!([{"a": null, "b": {}}, {"a": "x", "b": {"y": 1.5}}]);
        let (lookup, value) =
            written_otherwise(|schema| fields(schema).insert(place, serde_json::from_str(added).unwrap()), &record);
        assert_eq!(decoder_with(lookup).decode(None, Some(&value)).unwrap(), click());
    }
}

#[test]
fn a_field_with_a_default_that_the_writer_lacks_has_its_default() {
    let defaulted = ["request_id", "surface", "user_segment", "rec_strategy", "ab_group", "item_type", "position"];
    let (lookup, value) =
        written_otherwise(|schema| defaulted.iter().for_each(|name| remove_field(schema, name)), &as_json(&click()));
    let expected = Interaction { request_id: None, user_segment: None, ab_group: None, position: None, ..click() };
    assert_eq!(decoder_with(lookup).decode(None, Some(&value)).unwrap(), expected);
}

#[test]
fn a_row_that_was_written_before_a_defaulted_field_existed_has_the_default() {
    let mut schema: Value = serde_json::from_str(SessionEntropy::SCHEMA).unwrap();
    for name in ["revision", "item_type", "share_focused"] {
        remove_field(&mut schema, name);
    }
    let text = schema.to_string();
    let parsed = apache_avro::Schema::parse_str(&text).unwrap();
    let row = json!({"window_start": 0, "window_end": 300_000, "domain": "d", "surface": "", "user_segment": "", "rec_strategy": "",
        "ab_group": "", "sessions_total": 1, "events": 2, "sessions": 1, "mean_entropy": 0.0, "mean_freshness": 1.0, "freshness_p05": 1.0,
        "freshness_p50": 1.0, "freshness_p95": 1.0, "share_balanced": 0.0, "share_scattered": 0.0});
    let avro = apache_avro::types::Value::try_from(row).unwrap().resolve(&parsed).unwrap();
    let mut value = wire::header(9).to_vec();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&parsed).build().unwrap();
    value.extend(writer.write_value_to_vec(avro).unwrap());
    let lookup = FixedSchemas::default().with(9, &text);
    let mut decoder = Decoder::<SessionEntropy<'static>>::new(DecoderConfig::default(), Box::new(lookup));
    let row = decoder.decode(None, Some(&value)).unwrap();
    assert_eq!((row.revision, row.item_type.as_str(), row.share_focused), (1, "", None));
    assert_eq!((row.events, row.mean_freshness), (2, Some(1.0)));
}

#[test]
fn a_row_schema_without_a_required_field_makes_missing_field() {
    let mut schema: Value = serde_json::from_str(SessionEntropy::SCHEMA).unwrap();
    remove_field(&mut schema, "sessions_total");
    let lookup = FixedSchemas::default().with(9, &schema.to_string());
    let mut decoder = Decoder::<SessionEntropy<'static>>::new(DecoderConfig::default(), Box::new(lookup));
    let mut value = wire::header(9).to_vec();
    // two times, six empty dimensions, two counts, eight nulls, the revision: all zero bytes
    value.extend([0; 19]);
    let rejection = rejected(decoder.decode(None, Some(&value)));
    assert_eq!(rejection.reason, Reason::MissingField);
    assert!(rejection.message.contains("sessions_total"), "{}", rejection.message);
}

#[test]
fn fields_in_another_order_and_of_promotable_types_read_right() {
    let (lookup, value) = written_otherwise(
        |schema| {
            fields(schema).reverse();
            field(schema, "user_id")["type"] = json!(["null", "string", "long"]);
            field(schema, "kind")["type"] = "string".into();
            field(schema, "event_id")["type"] = json!({"type": "string", "logicalType": "uuid"});
        },
        &{
            let mut record = as_json(&click());
            record["event_id"] = "8f3a1c52-0d0e-4d6b-9c55-0b6b9a3f1a01".into();
            record
        },
    );
    let expected = Interaction { event_id: "8f3a1c52-0d0e-4d6b-9c55-0b6b9a3f1a01".into(), ..click() };
    assert_eq!(decoder_with(lookup).decode(None, Some(&value)).unwrap(), expected);
}

#[test]
fn a_field_without_default_that_the_writer_lacks_is_missing() {
    for name in ["event_id", "session_id", "user_id", "item_id", "kind", "domain", "event_time"] {
        let (lookup, value) = written_otherwise(|schema| remove_field(schema, name), &as_json(&click()));
        let rejection = rejected(decoder_with(lookup).decode(None, Some(&value)));
        assert_eq!(rejection.reason, Reason::MissingField, "{name}");
        assert!(rejection.message.contains(name), "{}", rejection.message);
    }
}

#[test]
fn a_null_in_a_field_without_default_is_missing() {
    let mut record = as_json(&click());
    record["domain"] = Value::Null;
    let nullable = |schema: &mut Value| field(schema, "domain")["type"] = json!(["null", "string"]);
    let (lookup, value) = written_otherwise(nullable, &record);
    assert_eq!(reason(decoder_with(lookup).decode(None, Some(&value))), Reason::MissingField);
    let (lookup, value) = written_otherwise(nullable, &as_json(&click()));
    assert_eq!(decoder_with(lookup).decode(None, Some(&value)).unwrap(), click());
}

#[test]
fn an_event_time_in_microseconds_is_not_taken_for_milliseconds() {
    let (lookup, value) = written_otherwise(
        |schema| field(schema, "event_time")["type"]["logicalType"] = "timestamp-micros".into(),
        &as_json(&click()),
    );
    let rejection = rejected(decoder_with(lookup).decode(None, Some(&value)));
    assert_eq!(rejection.reason, Reason::BadValue);
    assert!(rejection.message.contains("timestamp-micros"), "{}", rejection.message);
    let plain = |schema: &mut Value| field(schema, "event_time")["type"] = "long".into();
    let (lookup, value) = written_otherwise(plain, &as_json(&click()));
    assert_eq!(decoder_with(lookup).decode(None, Some(&value)).unwrap(), click());
}

#[test]
fn a_kind_that_a_newer_writer_knows_is_a_bad_value() {
    let mut record = as_json(&click());
    record["kind"] = "RETURN".into();
    let (lookup, value) = written_otherwise(
        |schema| field(schema, "kind")["type"]["symbols"].as_array_mut().unwrap().push("RETURN".into()),
        &record,
    );
    let rejection = rejected(decoder_with(lookup).decode(None, Some(&value)));
    assert_eq!(rejection.reason, Reason::BadValue);
    assert_eq!(rejection.message, "kind is \"RETURN\", not one of IMPRESSION, CLICK, CART, PURCHASE");
}

#[test]
fn elements_that_take_no_bytes_cannot_be_claimed_by_the_billion() {
    let nulls = json!({"name": "nulls", "type": {"type": "array", "items": "null"}});
    let mut record = as_json(&click());
    record["nulls"] = json!([]);
    let (lookup, mut value) = written_otherwise(|schema| fields(schema).push(nulls), &record);
    assert_eq!(decoder_with(lookup.clone()).decode(None, Some(&value)).unwrap(), click());
    // instead of the empty list, a block of a billion and the end
    value.pop();
    value.extend([0x80, 0xa8, 0xd6, 0xb9, 0x07, 0x00]);
    let rejection = rejected(decoder_with(lookup).decode(None, Some(&value)));
    assert_eq!(rejection.reason, Reason::Undecodable);
    assert!(rejection.message.contains("most of which take no bytes"), "{}", rejection.message);
}

#[test]
fn a_schema_that_is_no_record_or_no_avro_makes_its_records_undecodable() {
    for schema in [r#""string""#, "{", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Elsewhere"}]}"#] {
        let mut decoder = decoder_with(FixedSchemas::default().with(1, schema));
        assert_eq!(reason(decoder.decode(None, Some(&encoded(&click())))), Reason::Undecodable, "{schema}");
    }
}

#[test]
fn records_of_two_schemas_may_alternate() {
    let mut older: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
    remove_field(&mut older, "position");
    let mut decoder = decoder_with(FixedSchemas::default().with(1, Interaction::SCHEMA).with(2, &older.to_string()));
    let new = encoded(&click());
    // position is the field before the last; its two bytes go
    let mut old = encoded(&click());
    old[4] = 2;
    let time_length = 6;
    let place = old.len() - time_length - 2;
    old.drain(place..place + 2);
    for _ in 0..2 {
        assert_eq!(decoder.decode(None, Some(&new)).unwrap(), click());
        assert_eq!(decoder.decode(None, Some(&old)).unwrap(), Interaction { position: None, ..click() });
    }
}
