//! JSON values, and vectors in either format.

mod support;

use records::{
    AvroRecord, Decoder, DecoderConfig, EVENT_TIMES, EmbeddingUpdated, Encoder, FixedSchemas, Format, InteractionKind,
    KeyRule, Reason,
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
        ("event_time", Some(json!(1.5)), Reason::BadValue),
        ("event_time", Some(json!(10_413_792_000_000_i64)), Reason::BadValue),
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

/// `event_time` and `position` of a record in whose text they are written so.
fn read_numbers(event_time: &str, position: &str) -> Result<(i64, Option<i32>), String> {
    let text = format!(
        r#"{{"event_id":"e","session_id":"s","user_id":"u","item_id":"i","kind":"CLICK","domain":"d",
            "event_time":{event_time},"position":{position}}}"#
    );
    let mut decoder = json_decoder();
    match decoder.decode(None, Some(text.as_bytes())) {
        Ok(record) => Ok((record.event_time, record.position)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn whole_numbers_are_read_in_every_form_that_json_has_for_them() {
    let forms = [
        "1780000001000",
        "1780000001000.0",
        "1780000001000.000000",
        "1.780000001e12",
        "1.780000001E+12",
        "17800000010000e-1",
    ];
    for form in forms {
        assert_eq!(read_numbers(form, "3"), Ok((1_780_000_001_000, Some(3))), "{form}");
    }
    for (form, position) in
        [("3.0", 3), ("-3.0", -3), ("3e0", 3), ("0.3e1", 3), ("-0", 0), ("-0.0", 0), ("2.147483647e9", i32::MAX)]
    {
        assert_eq!(read_numbers("7", form), Ok((7, Some(position))), "{form}");
    }
    let last = "10413791999999.0";
    assert_eq!(read_numbers(last, "null"), Ok((10_413_791_999_999, None)));
}

#[test]
fn a_number_that_is_no_integer_or_out_of_range_says_so() {
    let cases = [
        ("1780000001000.5", "3", "event_time is 1.7800000010005e12, not a whole number; an integer is expected"),
        ("1e300", "3", "event_time is 1e300, out of the range in which a double is exact; an integer is expected"),
        ("9007199254740992.0", "3", "event_time is 9.007199254740992e15, out of the range in which a double is exact"),
        ("18446744073709551615", "3", "beyond a 64-bit integer"),
        ("32503680000000", "3", "event_time is 32503680000000: a time in epoch ms ends with the year 2299"),
        ("10413792000000.0", "3", "event_time is 10413792000000: a time in epoch ms ends with"),
        ("9223372036854775807", "3", "event_time is 9223372036854775807: a time"),
        ("-1.0", "3", "event_time is -1: a time"),
        ("7", "0.5", "position is 5e-1, not a whole number"),
        ("7", "3000000000.0", "position is 3000000000, beyond a 32-bit integer"),
    ];
    for (event_time, position, expected) in cases {
        let error = read_numbers(event_time, position).unwrap_err();
        assert!(error.starts_with("bad_value") && error.contains(expected), "{error}");
    }
    let beyond = read_numbers("1e400", "3").unwrap_err();
    assert!(beyond.contains("number out of range"), "{beyond}");
}

proptest::proptest! {
    /// As C's `%.6f`, Python's `repr`, Java's `Double.toString` and so on write what a double holds.
    #[test]
    fn any_whole_number_below_the_end_of_time_is_read_whatever_its_form(time in EVENT_TIMES) {
        let double = time as f64;
        let forms = [format!("{double:.1}"), format!("{double:.6}"), format!("{double:.9}"), format!("{double:e}"), format!("{double:E}")];
        for form in forms {
            proptest::prop_assert_eq!(read_numbers(&form, "null"), Ok((time, None)), "{}", form);
        }
        let half = read_numbers(&format!("{time}.5"), "null");
        proptest::prop_assert!(half.is_err_and(|error| error.contains("not a whole number")));
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
    let config = DecoderConfig {
        format: Format::Json,
        vector_length: Some(3),
        key: KeyRule::Ignore,
        ..DecoderConfig::default()
    };
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
    let mut decoder = Decoder::<EmbeddingUpdated<'static>>::new(
        DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() },
        Box::new(lookup),
    );
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
