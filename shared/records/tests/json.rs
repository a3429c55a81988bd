//! JSON values, and vectors in either format.

mod support;

use records::{
    AvroRecord, Decoder, DecoderConfig, EmbeddingUpdated, Encoder, FixedSchemas, Format, InteractionKind, Reason,
};
use serde_json::{Value, json};

use support::{as_json, click, json_decoder, reason, rejected};

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
