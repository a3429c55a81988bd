//! Which bytes are which record, and which are refused for which reason.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use records::{
    AvroRecord, DecodeError, Decoder, DecoderConfig, EmbeddingUpdated, Encoder, FixedSchemas, Format, Interaction,
    InteractionKind, LookupError, Reason, Rejection, SchemaLookup, SessionEntropy, Text, wire,
};
use serde_json::{Value, json};

fn click() -> Interaction<'static> {
    Interaction {
        event_id: "e-1".into(),
        request_id: Some("r-1".into()),
        session_id: "s-1".into(),
        user_id: "u-1".into(),
        item_id: "i-1".into(),
        kind: InteractionKind::Click,
        domain: "books".into(),
        surface: None,
        user_segment: Some("new".into()),
        rec_strategy: None,
        ab_group: Some("a".into()),
        item_type: None,
        position: Some(2),
        event_time: 1_700_000_000_000,
    }
}

fn encoded(record: &Interaction<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<Interaction<'static>>::new(1).encode(record, &mut value).unwrap();
    value
}

fn decoder_with(lookup: FixedSchemas) -> Decoder<Interaction<'static>> {
    Decoder::new(DecoderConfig::default(), Box::new(lookup))
}

fn decoder() -> Decoder<Interaction<'static>> {
    decoder_with(FixedSchemas::default().with(1, Interaction::SCHEMA))
}

fn json_decoder() -> Decoder<Interaction<'static>> {
    let config = DecoderConfig { format: Format::Json, ..DecoderConfig::default() };
    Decoder::new(config, Box::new(FixedSchemas::default()))
}

fn rejected<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Rejection {
    match result {
        Err(DecodeError::Rejected(rejection)) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Reason {
    rejected(result).reason
}

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

fn as_json(record: &Interaction<'_>) -> Value {
    serde_json::to_value(record).unwrap()
}

#[test]
fn texts_are_borrowed_from_the_bytes_also_inside_options() {
    let value = encoded(&click());
    for mut decoder in [decoder(), general_decoder()] {
        let record = decoder.decode(None, Some(&value)).unwrap();
        assert_eq!(record, click());
        for text in
            [Some(record.event_id), Some(record.session_id), record.request_id, record.user_segment, record.ab_group]
        {
            assert!(text.unwrap().is_borrowed());
        }
    }
}

#[test]
fn a_record_may_outlive_its_decoder_but_not_its_bytes() {
    let value = encoded(&click());
    let record = decoder().decode(None, Some(&value)).unwrap();
    assert_eq!(record.session_id, "s-1");
}

#[test]
fn escaped_json_texts_are_copied_and_plain_ones_borrowed() {
    let text = json!({"event_id": "a\"b", "session_id": "s", "user_id": "", "item_id": "", "kind": "CART", "domain": "", "event_time": 0});
    let text = text.to_string();
    let mut decoder = json_decoder();
    let record = decoder.decode(None, Some(text.as_bytes())).unwrap();
    assert_eq!(record.event_id, "a\"b");
    assert!(!record.event_id.is_borrowed());
    assert!(record.session_id.is_borrowed());
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
fn what_is_no_record_is_undecodable() {
    let good = encoded(&click());
    let with = |bytes: &[u8]| reason(decoder().decode(None, Some(bytes)));
    assert_eq!(reason(decoder().decode(None, None)), Reason::Undecodable);
    assert_eq!(with(b""), Reason::Undecodable);
    assert_eq!(with(&[0, 0, 0]), Reason::Undecodable);
    assert_eq!(with(b"{\"session_id\":\"s\"}"), Reason::Undecodable);
    for length in 5..good.len() {
        assert_eq!(with(&good[..length]), Reason::Undecodable, "cut behind {length} bytes");
    }
    assert_eq!(with(&[good.as_slice(), &[0]].concat()), Reason::Undecodable, "a byte too many");
    let mut no_utf8 = good.clone();
    let place = no_utf8.windows(3).position(|bytes| bytes == b"s-1").unwrap();
    no_utf8[place] = 0xff;
    assert_eq!(with(&no_utf8), Reason::Undecodable);
}

#[test]
fn a_length_that_lies_is_undecodable() {
    // zigzag varint of i64::MAX as the length of event_id
    let lie = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let value = [wire::header(1).as_slice(), &lie, b"e"].concat();
    assert_eq!(reason(decoder().decode(None, Some(&value))), Reason::Undecodable);

    let lookup = FixedSchemas::default().with(1, EmbeddingUpdated::SCHEMA);
    let mut decoder = Decoder::<EmbeddingUpdated<'static>>::new(DecoderConfig::default(), Box::new(lookup));
    // empty texts, the first symbol, then a vector of 2^62 numbers
    let value = [wire::header(1).as_slice(), &[0; 5], &lie, &[0; 16]].concat();
    assert_eq!(reason(decoder.decode(None, Some(&value))), Reason::Undecodable);
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
    assert!(rejection.message.contains("max sequence size"), "{}", rejection.message);
}

#[test]
fn a_schema_that_is_no_record_or_no_avro_makes_its_records_undecodable() {
    for schema in [r#""string""#, "{", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Elsewhere"}]}"#] {
        let mut decoder = decoder_with(FixedSchemas::default().with(1, schema));
        assert_eq!(reason(decoder.decode(None, Some(&encoded(&click())))), Reason::Undecodable, "{schema}");
    }
}

#[test]
fn an_unknown_schema_is_told_as_decided_outside() {
    let rejection = rejected(decoder_with(FixedSchemas::default()).decode(None, Some(&encoded(&click()))));
    assert_eq!((rejection.reason, rejection.outside), (Reason::UnknownSchema, true));
    let rejection = rejected(decoder().decode(None, Some(b"x")));
    assert!(!rejection.outside);
}

/// Answers from a list, and counts the questions.
struct Scripted {
    answers: Mutex<Vec<Result<Arc<str>, LookupError>>>,
    asked: Arc<AtomicUsize>,
}

impl SchemaLookup for Scripted {
    fn schema(&self, _: i32) -> Result<Arc<str>, LookupError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answers.lock().unwrap().remove(0)
    }
}

#[test]
fn a_schema_is_asked_for_once_and_an_unknown_or_unanswered_one_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = vec![
        Err(LookupError::Unavailable { id: 1, message: "down".to_owned() }),
        Err(LookupError::Unknown { id: 1 }),
        Ok(Interaction::SCHEMA.into()),
    ];
    let lookup = Scripted { answers: Mutex::new(answers), asked: asked.clone() };
    let mut decoder = Decoder::<Interaction<'static>>::new(DecoderConfig::default(), Box::new(lookup));
    let value = encoded(&click());
    let no_answer = decoder.decode(None, Some(&value)).unwrap_err();
    assert!(matches!(no_answer, DecodeError::NoAnswer(LookupError::Unavailable { .. })), "{no_answer:?}");
    assert_eq!(reason(decoder.decode(None, Some(&value))), Reason::UnknownSchema);
    for _ in 0..3 {
        assert_eq!(decoder.decode(None, Some(&value)).unwrap(), click());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3);
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

#[test]
fn key_and_value_together_are_measured_and_only_what_decodes_is_too_large() {
    let value = encoded(&click());
    let config = DecoderConfig { max_record_bytes: value.len() + 3, ..DecoderConfig::default() };
    let lookup = FixedSchemas::default().with(1, Interaction::SCHEMA);
    let mut decoder = Decoder::<Interaction<'static>>::new(config, Box::new(lookup));
    assert!(decoder.decode(Some(b"s-1"), Some(&value)).is_ok());
    assert_eq!(reason(decoder.decode(Some(b"s-1+"), Some(&value))), Reason::TooLarge);
    // undecodable and unknown_schema come before too_large, empty_key behind it
    assert_eq!(reason(decoder.decode(Some(b"s-1+"), Some(&value[..value.len() - 1]))), Reason::Undecodable);
    let mut unknown = value.clone();
    unknown[4] = 9;
    assert_eq!(reason(decoder.decode(Some(b"s-1+"), Some(&unknown))), Reason::UnknownSchema);
    let keyless = encoded(&Interaction { session_id: Text::default(), ..click() });
    assert_eq!(reason(decoder.decode(Some(b"0123456"), Some(&keyless))), Reason::TooLarge);
}

#[test]
fn two_megabytes_are_too_large_by_default() {
    let long = "x".repeat(2 * 1024 * 1024);
    let value = encoded(&Interaction { item_id: long.as_str().into(), ..click() });
    assert_eq!(reason(decoder().decode(None, Some(&value))), Reason::TooLarge);
    let text = as_json(&Interaction { item_id: long.as_str().into(), ..click() }).to_string();
    assert_eq!(reason(json_decoder().decode(None, Some(text.as_bytes()))), Reason::TooLarge);
}

#[test]
fn empty_keys_and_negative_times_are_refused() {
    let with = |record: Interaction<'static>| rejected(decoder().decode(None, Some(&encoded(&record))));
    assert_eq!(with(Interaction { session_id: "".into(), ..click() }).reason, Reason::EmptyKey);
    let negative = with(Interaction { event_time: -1, ..click() });
    assert_eq!(negative, Rejection::new(Reason::BadValue, "event_time is -1: a time in epoch ms is not negative"));
    assert_eq!(with(Interaction { session_id: "".into(), event_time: -1, ..click() }).reason, Reason::EmptyKey);
    let zero = Interaction { event_time: 0, user_id: "".into(), domain: "".into(), ..click() };
    assert_eq!(decoder().decode(None, Some(&encoded(&zero))).unwrap(), zero);
}

#[test]
fn json_records_are_judged_field_by_field() {
    // (field, its value or none to leave it out, the reason)
    let cases = [
        ("session_id", None, Reason::MissingField),
        ("session_id", Some(Value::Null), Reason::MissingField),
        ("session_id", Some(json!(5)), Reason::MissingField),
        ("session_id", Some(json!("")), Reason::EmptyKey),
        ("event_id", Some(json!(["e"])), Reason::MissingField),
        ("user_id", Some(json!({"id": 1})), Reason::MissingField),
        ("item_id", Some(json!(true)), Reason::MissingField),
        ("kind", None, Reason::MissingField),
        ("kind", Some(json!(1.5)), Reason::MissingField),
        ("kind", Some(json!("click")), Reason::BadValue),
        ("domain", None, Reason::MissingField),
        ("event_time", None, Reason::MissingField),
        ("event_time", Some(Value::Null), Reason::MissingField),
        ("event_time", Some(json!(-5)), Reason::BadValue),
        ("event_time", Some(json!(1.0)), Reason::BadValue),
        ("event_time", Some(json!("1700000000000")), Reason::BadValue),
        ("event_time", Some(json!(true)), Reason::BadValue),
        ("event_time", Some(json!([1])), Reason::BadValue),
        ("event_time", Some(json!(u64::MAX)), Reason::BadValue),
        ("surface", Some(json!(3)), Reason::BadValue),
        ("position", Some(json!("3")), Reason::BadValue),
        ("position", Some(json!(3_000_000_000_u32)), Reason::BadValue),
    ];
    for (name, value, expected) in cases {
        let mut record = as_json(&click());
        match &value {
            Some(value) => record[name] = value.clone(),
            None => drop(record.as_object_mut().unwrap().remove(name)),
        }
        let text = record.to_string();
        let rejection = rejected(json_decoder().decode(None, Some(text.as_bytes())));
        assert_eq!(rejection.reason, expected, "{name} = {value:?}: {}", rejection.message);
        assert!(rejection.message.contains(name), "{}", rejection.message);
    }
}

#[test]
fn json_ignores_unknown_fields_and_takes_absent_optionals_for_null() {
    let text = r#" {"event_id":"e","session_id":"s","user_id":"u","item_id":"i","kind":"PURCHASE","domain":"d","event_time":7,
        "surface":null,"note":{"deep":[1,{"x":null}]}} "#;
    let mut decoder = json_decoder();
    let record = decoder.decode(None, Some(text.as_bytes())).unwrap();
    assert_eq!((record.kind, record.event_time, record.surface), (InteractionKind::Purchase, 7, None));
}

#[test]
fn what_is_no_json_object_is_undecodable() {
    let text = as_json(&click()).to_string();
    let twice = text.replacen("{", "{\"domain\":\"d\",", 1);
    let fields_in_order = r#"["e","r","s","u","i","CLICK","d",null,null,null,null,null,1,7]"#;
    for bad in
        ["", "  ", "null", "5", "\"x\"", "{", fields_in_order, &format!("{text}x"), &format!("{text}{text}"), &twice]
    {
        assert_eq!(reason(json_decoder().decode(None, Some(bad.as_bytes()))), Reason::Undecodable, "{bad}");
    }
    let mut no_utf8 = text.into_bytes();
    let place = no_utf8.windows(3).position(|bytes| bytes == b"s-1").unwrap();
    no_utf8[place] = 0xff;
    assert_eq!(reason(json_decoder().decode(None, Some(&no_utf8))), Reason::Undecodable);
}

#[test]
fn vectors_are_checked_last() {
    let update = json!({"event_id": "e", "entity": "ITEM", "entity_id": "i", "domain": "d", "model_version": "m",
        "vector": [0.5, -1, 2e0], "event_time": 5});
    let config = DecoderConfig { format: Format::Json, vector_length: Some(3), ..DecoderConfig::default() };
    let mut decoder = Decoder::<EmbeddingUpdated<'static>>::new(config, Box::new(FixedSchemas::default()));
    let text = update.to_string();
    assert_eq!(decoder.decode(None, Some(text.as_bytes())).unwrap().vector, [0.5, -1.0, 2.0]);
    let bad = [
        Value::Null,
        json!("1,2,3"),
        json!([]),
        json!([1, 2]),
        json!([1, 2, 3, 4]),
        json!([0, 0.0, -0.0]),
        json!([1, 2, "3"]),
        json!([1, 2, null]),
        json!([1, 2, true]),
        json!([1, 2, [3]]),
        json!([1, 2, 1e39]),
    ];
    for vector in bad {
        let mut update = update.clone();
        update["vector"] = vector.clone();
        let text = update.to_string();
        assert_eq!(reason(decoder.decode(None, Some(text.as_bytes()))), Reason::BadVector, "{vector}");
        update["entity"] = "SHOP".into();
        let text = update.to_string();
        assert_eq!(reason(decoder.decode(None, Some(text.as_bytes()))), Reason::BadValue, "{vector}");
        update["entity_id"] = "".into();
        let text = update.to_string();
        assert_eq!(reason(decoder.decode(None, Some(text.as_bytes()))), Reason::EmptyKey, "{vector}");
        update["domain"] = Value::Null;
        let text = update.to_string();
        assert_eq!(reason(decoder.decode(None, Some(text.as_bytes()))), Reason::MissingField, "{vector}");
    }
}

#[test]
fn not_a_number_in_an_avro_vector_is_a_bad_vector() {
    let lookup = FixedSchemas::default().with(1, EmbeddingUpdated::SCHEMA);
    let mut decoder = Decoder::<EmbeddingUpdated<'static>>::new(DecoderConfig::default(), Box::new(lookup));
    let mut encoder = Encoder::<EmbeddingUpdated<'static>>::new(1);
    for (vector, good) in [(vec![1.0, 0.0], true), (vec![f32::NAN], false), (vec![1.0, f32::INFINITY], false)] {
        let update = EmbeddingUpdated {
            event_id: "e".into(),
            entity: records::EntityKind::User,
            entity_id: "u".into(),
            domain: "d".into(),
            model_version: "m".into(),
            vector,
            event_time: 1,
        };
        let mut value = Vec::new();
        encoder.encode(&update, &mut value).unwrap();
        let result = decoder.decode(None, Some(&value));
        if good {
            assert_eq!(result.unwrap(), update);
        } else {
            assert_eq!(reason(result), Reason::BadVector);
        }
    }
}

#[test]
fn an_encoder_appends_and_leaves_what_was_there() {
    let mut encoder = Encoder::<Interaction<'static>>::new(0x0a0b);
    let mut buffer = b"before".to_vec();
    encoder.encode(&click(), &mut buffer).unwrap();
    let first = buffer.len();
    encoder.encode(&click(), &mut buffer).unwrap();
    assert_eq!(&buffer[..11], b"before\x00\x00\x00\x0a\x0b");
    assert_eq!(buffer[6..first], buffer[first..]);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z0-9-]{0,16}"]
}

prop_compose! {
    fn any_interaction()(
        texts in prop::collection::vec(any_text(), 5),
        session in any_text().prop_filter("a key", |text| !text.is_empty()),
        optionals in prop::collection::vec(prop::option::of(any_text()), 6),
        position in any::<Option<i32>>(),
        event_time in 0..=i64::MAX,
        kind in 0..4_usize,
    ) -> Interaction<'static> {
        let text = |index: usize| Text::from(texts[index].clone());
        let optional = |index: usize| optionals[index].clone().map(Text::from);
        use InteractionKind::{Cart, Click, Impression, Purchase};
        Interaction {
            event_id: text(0), request_id: optional(0), session_id: session.into(), user_id: text(1), item_id: text(2),
            kind: [Impression, Click, Cart, Purchase][kind], domain: text(3), surface: optional(1), user_segment: optional(2),
            rec_strategy: optional(3), ab_group: optional(4), item_type: optional(5), position, event_time,
        }
    }
}

/// The same layout under another name, so that the general way is taken.
fn general_decoder() -> Decoder<Interaction<'static>> {
    let renamed = Interaction::SCHEMA.replace("recwatch.v1", "elsewhere");
    assert_ne!(renamed, Interaction::SCHEMA);
    decoder_with(FixedSchemas::default().with(1, &renamed))
}

proptest! {
    #[test]
    fn the_short_way_and_the_general_way_agree_on_every_record(
        record in any_interaction(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        more in prop::collection::vec(any::<u8>(), 0..2),
    ) {
        let mut value = encoded(&record);
        for (place, byte) in changes {
            let place = wire::HEADER_LENGTH + place.index(value.len() - wire::HEADER_LENGTH);
            value[place] = byte;
        }
        if let Some(cut) = cut {
            value.truncate(wire::HEADER_LENGTH + cut.index(value.len() - wire::HEADER_LENGTH));
        }
        value.extend(more);
        let (mut short, mut general) = (decoder(), general_decoder());
        prop_assert_eq!(short.decode(None, Some(&value)), general.decode(None, Some(&value)));
    }

    #[test]
    fn any_interaction_reads_back_as_written_in_both_formats(record in any_interaction()) {
        let value = encoded(&record);
        prop_assert_eq!(&decoder().decode(None, Some(&value)).unwrap(), &record);
        prop_assert_eq!(&general_decoder().decode(None, Some(&value)).unwrap(), &record);
        let text = as_json(&record).to_string();
        prop_assert_eq!(&json_decoder().decode(None, Some(text.as_bytes())).unwrap(), &record);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_say_why(bytes in prop::collection::vec(any::<u8>(), 0..200), framed in any::<bool>()) {
        let value = if framed { [wire::header(1).as_slice(), &bytes].concat() } else { bytes };
        prop_assert_eq!(decoder().decode(None, Some(&value)), general_decoder().decode(None, Some(&value)));
        for result in [decoder().decode(None, Some(&value)), json_decoder().decode(None, Some(&value))] {
            if let Err(error) = result {
                prop_assert!(matches!(error, DecodeError::Rejected(_)));
            }
        }
        let lookup = FixedSchemas::default().with(1, EmbeddingUpdated::SCHEMA);
        let mut embeddings = Decoder::<EmbeddingUpdated<'static>>::new(DecoderConfig::default(), Box::new(lookup));
        let _ = embeddings.decode(None, Some(&value));
        let lookup = FixedSchemas::default().with(1, SessionEntropy::SCHEMA);
        let mut rows = Decoder::<SessionEntropy<'static>>::new(DecoderConfig::default(), Box::new(lookup));
        let _ = rows.decode(None, Some(&value));
    }

    #[test]
    fn a_flipped_bit_never_panics(record in any_interaction(), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut value = encoded(&record);
        let place = place.index(value.len());
        value[place] ^= 1 << bit;
        prop_assert_eq!(decoder().decode(None, Some(&value)), general_decoder().decode(None, Some(&value)));
        if let Ok(other) = decoder().decode(None, Some(&value)) {
            // what still decodes is a record of its own that encodes to the same length or less
            prop_assert!(encoded(&other).len() <= value.len());
        }
    }
}
