//! What a record or a schema costs is bounded by its bytes, whatever it holds.

mod support;

use records::inspect::{self, Judged};
use records::{
    AvroRecord, Decoder, DecoderConfig, FixedSchemas, Interaction, KeyRule, Reason, RegisteredSchema, Rejection,
    SCHEMAS, SchemaKind, SchemaRef, wire,
};
use serde_json::{Value, json};

use support::{click, decoder_with, encoded, rejected};

/// The schema of interactions with a further field `x` behind the others.
fn with_field(x: Value) -> String {
    let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
    schema["fields"].as_array_mut().unwrap().push(json!({"name": "x", "type": x}));
    schema.to_string()
}

/// A good interaction, and the bytes of `x` behind it.
fn value_with(x: &[u8]) -> Vec<u8> {
    [&encoded(&click()), x].concat()
}

fn refusal(schema: &str, value: &[u8]) -> Rejection {
    rejected(decoder_with(FixedSchemas::default().with(1, schema)).decode(None, Some(value)))
}

/// Records nested `depth` deep, ten fields each, `leaf` in the innermost.
fn nested(depth: usize, leaf: &str) -> Value {
    let last = json!({"type": "record", "name": format!("R{depth}"), "fields": [{"name": "f", "type": leaf}]});
    (0..depth).rev().fold(last, |inner, level| {
        let first = json!({"name": "f0", "type": inner});
        let again = (1..10).map(|field| json!({"name": format!("f{field}"), "type": format!("R{}", level + 1)}));
        let fields: Vec<Value> = std::iter::once(first).chain(again).collect();
        json!({"type": "record", "name": format!("R{level}"), "fields": fields})
    })
}

#[test]
fn values_without_bytes_that_are_nested_in_their_trillions_are_refused_with_their_schema() {
    for leaf in ["null", "long"] {
        let rejection = refusal(&with_field(nested(12, leaf)), &value_with(&[]));
        assert_eq!(rejection.reason, Reason::Undecodable);
        assert!(rejection.message.contains("more than 1000 values that take no bytes"), "{}", rejection.message);
    }
    // the same in a union, in an array and in a map, where a datum need not hold them
    for around in [json!(["null", nested(12, "null")]), json!({"type": "array", "items": nested(12, "null")})] {
        assert_eq!(refusal(&with_field(around), &value_with(&[0])).reason, Reason::Undecodable);
    }
    // a few are nothing unusual
    let schema = with_field(nested(2, "null"));
    assert_eq!(
        decoder_with(FixedSchemas::default().with(1, &schema)).decode(None, Some(&value_with(&[]))),
        Ok(click())
    );
}

/// A zigzag varint.
fn long(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// An array of so many arrays of so many elements without bytes.
fn arrays_of(arrays: usize, elements: usize) -> Vec<u8> {
    let inner = [long(elements as i64), vec![0]].concat();
    [long(arrays as i64), inner.repeat(arrays), vec![0]].concat()
}

#[test]
fn arrays_of_values_without_bytes_cost_what_their_bytes_pay_for() {
    let nothing = json!({"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]});
    let empty = json!({"type": "fixed", "name": "Empty", "size": 0});
    for element in [json!("null"), nothing, empty] {
        let schema = with_field(json!({"type": "array", "items": {"type": "array", "items": element}}));
        let mut decoder = decoder_with(FixedSchemas::default().with(1, &schema));
        assert_eq!(decoder.decode(None, Some(&value_with(&arrays_of(3, 20)))), Ok(click()), "a few are read");
        // n / 4 arrays of n elements each, n²/4 in all
        let value = value_with(&arrays_of(50_000, 200_000));
        let rejection = rejected(decoder.decode(None, Some(&value)));
        assert_eq!(rejection.reason, Reason::Undecodable);
        assert!(rejection.message.contains("most of which take no bytes"), "{}", rejection.message);
        assert_eq!(decoder.decode(None, Some(&value_with(&[0]))), Ok(click()), "an empty one is read");
    }
}

#[test]
fn arrays_of_empty_arrays_are_read_since_each_has_its_byte() {
    let schema = with_field(json!({"type": "array", "items": {"type": "array", "items": "long"}}));
    let x = [long(200_000), vec![0; 200_000], vec![0]].concat();
    assert_eq!(decoder_with(FixedSchemas::default().with(1, &schema)).decode(None, Some(&value_with(&x))), Ok(click()));
    let judged = Judged::parse(&schema, &[]).unwrap();
    let datum = &value_with(&x)[wire::HEADER_LENGTH..];
    assert!(judged.is_linear() && judged.visits(datum).unwrap() < datum.len() + 20);
}

#[test]
fn a_budget_is_thirty_two_values_a_byte_and_a_thousand() {
    assert_eq!((inspect::budget(0), inspect::budget(100)), (1000, 4200));
    let schema =
        json!({"type": "record", "name": "R", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]});
    let judged = Judged::parse(&schema.to_string(), &[]).unwrap();
    assert!(!judged.is_linear());
    // two bytes of count and one of the end; the record, the array and the elements
    let most = 1000 + 32 * 3;
    assert_eq!(judged.visits(&[long(most - 2), vec![0]].concat()), Some(most as usize));
    assert_eq!(judged.visits(&[long(most - 1), vec![0]].concat()), None);
    assert_eq!(judged.visits(&[long(i64::MAX), vec![0]].concat()), None);
}

#[test]
fn a_block_that_has_another_length_than_it_says_hides_nothing() {
    // who passes over the block by its length finds other values behind it than who reads it
    let schema = with_field(json!({"type": "array", "items": ["null", {"type": "array", "items": "null"}]}));
    let honest = [long(-1), long(1), vec![0, 0]].concat();
    let mut decoder = decoder_with(FixedSchemas::default().with(1, &schema));
    assert_eq!(decoder.decode(None, Some(&value_with(&honest))), Ok(click()));
    for length in [-1, 0, 2, i64::MAX] {
        let lying = [long(-1), long(length), vec![0, 0]].concat();
        assert_eq!(rejected(decoder.decode(None, Some(&value_with(&lying)))).reason, Reason::Undecodable, "{length}");
    }
}

#[test]
fn what_our_own_and_ordinary_schemas_write_is_not_walked_before_it_is_decoded() {
    for (name, schema) in SCHEMAS {
        assert!(Judged::parse(schema, &[]).unwrap().is_linear(), "{name}");
    }
    let ordinary = [
        json!({"type": "array", "items": {"type": "record", "name": "A", "fields": [{"name": "n", "type": "null"}, {"name": "s", "type": "string"}]}}),
        json!({"type": "map", "values": "null"}),
        json!(["null", {"type": "record", "name": "A", "fields": []}]),
        json!({"type": "record", "name": "List", "fields": [{"name": "next", "type": ["null", "List"]}]}),
    ];
    for type_ in ordinary {
        assert!(Judged::parse(&with_field(type_.clone()), &[]).unwrap().is_linear(), "{type_}");
    }
}

#[test]
fn a_datum_is_read_as_deep_as_sixty_four_levels() {
    let schema =
        with_field(json!({"type": "record", "name": "List", "fields": [{"name": "next", "type": ["null", "List"]}]}));
    let mut decoder = decoder_with(FixedSchemas::default().with(1, &schema));
    let list = |length: usize| value_with(&[vec![2; length], vec![0]].concat());
    assert_eq!(decoder.decode(None, Some(&list(20))), Ok(click()));
    for length in [64, 100_000] {
        assert_eq!(rejected(decoder.decode(None, Some(&list(length)))).reason, Reason::Undecodable);
    }
}

#[test]
fn a_schemas_own_text_names_and_depth_are_bounded() {
    let parse = |text: &str| Judged::parse(text, &[]).err().unwrap_or_default();
    let record =
        |name: &str, type_: Value| json!({"type": "record", "name": name, "fields": [{"name": "f", "type": type_}]});
    // a text of 50 MB, and a type in a type in a type
    assert!(parse(&" ".repeat(50_000_000)).contains("more than 1048576"));
    assert!(parse(&"[".repeat(500_000)).contains("recursion limit"));
    assert!(parse(&r#"{"type":"#.repeat(100_000)).contains("recursion limit"));
    // names
    assert!(parse(&record(&"n".repeat(300), "long".into()).to_string()).contains("more than 256"));
    let namespace = json!({"type": "record", "name": "R", "namespace": "n".repeat(300), "fields": []});
    assert!(parse(&namespace.to_string()).contains("more than 256"));
    // many types
    assert!(parse(&record("R", vec![json!("long"); 10_001].into()).to_string()).contains("more than 10000 types"));
    // a chain along names, which lies flat in the text: each record is in the next one, or in a union of it
    for is_union in [false, true] {
        let link = |number: usize| {
            let next = Value::from(format!("R{}", number + 1));
            record(&format!("R{number}"), if is_union { json!(["null", next]) } else { next })
        };
        let mut types: Vec<Value> = (0..2000).map(link).collect();
        types.push(record("R2000", "long".into()));
        assert!(parse(&record("Root", types.clone().into()).to_string()).contains("deep"), "{is_union}");
        types.reverse();
        let parsed = parse(&record("Root", types.into()).to_string());
        assert!(is_union || parsed.contains("deep"), "{parsed}");
    }
    // what holds itself has no end
    assert!(parse(&record("R", "R".into()).to_string()).contains("without end"));
    assert!(parse(&record("R", record("S", "R".into())).to_string()).contains("without end"));
}

#[test]
fn logical_types_that_are_not_valid_are_ignored_as_avro_says() {
    let valid_value = value_with(&[2, b'x']);
    let ignored = [
        json!({"type": "string", "logicalType": "timestamp-millis"}),
        json!({"type": "string", "logicalType": "decimal"}),
        json!({"type": "bytes", "logicalType": "decimal"}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": -4, "scale": 9}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": "ten"}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": 99, "scale": 98}),
        json!({"type": "bytes", "logicalType": "big-decimal"}),
        json!({"type": "string", "logicalType": "no-such-type", "size": "large", "items": 7, "symbols": {}}),
        json!({"type": "string", "logicalType": 7}),
        json!({"type": {"type": "string"}, "logicalType": "uuid"}),
        json!({"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "string", "logicalType": "date"}}]}),
        json!({"type": "fixed", "name": "F", "size": 2, "logicalType": "duration"}),
        json!({"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 1000}),
    ];
    for x in ignored {
        let schema = with_field(x.clone());
        let mut decoder = decoder_with(FixedSchemas::default().with(1, &schema));
        assert_eq!(decoder.decode(None, Some(&valid_value)), Ok(click()), "{x}");
    }
}

#[test]
fn a_times_logical_type_counts_where_it_is_valid_and_known() {
    let with_time = |type_: Value| {
        let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
        schema["fields"].as_array_mut().unwrap().last_mut().unwrap()["type"] = type_;
        schema.to_string()
    };
    let read = |type_: Value| {
        decoder_with(FixedSchemas::default().with(1, &with_time(type_))).decode(None, Some(&encoded(&click()))).is_ok()
    };
    assert!(read(json!({"type": "long", "logicalType": "local-timestamp-millis"})));
    assert!(read(json!({"type": "long", "logicalType": "date"})), "not valid for a long");
    assert!(read(json!({"type": "long", "logicalType": "my-own-time"})), "not known");
    for other in ["timestamp-micros", "timestamp-nanos", "local-timestamp-micros", "time-micros"] {
        let schema = with_time(json!({"type": "long", "logicalType": other}));
        let rejection = refusal(&schema, &encoded(&click()));
        assert_eq!(rejection.reason, Reason::BadValue);
        assert!(rejection.message.contains(other), "{}", rejection.message);
    }
}

#[test]
fn a_schema_of_another_kind_is_refused_with_what_it_is_and_what_is_read() {
    for kind in ["JSON", "PROTOBUF"] {
        let kind = SchemaKind::of_schema_type(Some(kind));
        let registered = RegisteredSchema { kind: kind.clone(), ..RegisteredSchema::avro(Interaction::SCHEMA) };
        let lookup = FixedSchemas::default().with_registered(SchemaRef::Id(1), registered);
        let rejection = rejected(decoder_with(lookup).decode(None, Some(&encoded(&click()))));
        let SchemaKind::Other(kind) = kind else { panic!("it is another kind") };
        assert_eq!(rejection.reason, Reason::Undecodable);
        assert!(rejection.message.contains(&*kind) && rejection.message.contains("AVRO"), "{}", rejection.message);
    }
}

#[test]
fn named_types_of_other_schemas_are_found_among_the_references_and_make_the_same_schema() {
    let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    let kind = fields.iter_mut().find(|field| field["name"] == "kind").unwrap();
    let inner = std::mem::replace(&mut kind["type"], "Renamed".into());
    let name = inner["name"].as_str().unwrap().to_owned();
    kind["type"] = name.clone().into();
    let mut kind = inner;
    kind["namespace"] = schema["namespace"].clone();
    let registered =
        RegisteredSchema { references: [kind.to_string().into()].into(), ..RegisteredSchema::avro(schema.to_string()) };
    let lookup = FixedSchemas::default().with_registered(SchemaRef::Id(1), registered);
    assert_eq!(decoder_with(lookup).decode(None, Some(&encoded(&click()))), Ok(click()));
    let rejection = refusal(&schema.to_string(), &encoded(&click()));
    assert!(rejection.message.contains(&format!("{name} is defined nowhere")), "{}", rejection.message);
}

#[test]
fn numbers_texts_and_lists_that_are_long_are_read_or_refused_within_their_bytes() {
    let config = DecoderConfig { format: records::Format::Json, key: KeyRule::Ignore, ..DecoderConfig::default() };
    let mut decoder = Decoder::<Interaction<'static>>::new(config, Box::new(FixedSchemas::default()));
    let digits = "1".repeat(1_000_000);
    let times = [
        digits.clone(),
        format!("0.{digits}"),
        format!("1e{digits}"),
        "1e999999999".to_owned(),
        format!("{}1", "[".repeat(500_000)),
        format!("\"{digits}\""),
    ];
    for time in times {
        let record = serde_json::to_string(&click()).unwrap().replace("1700000000000", &time);
        let rejection = rejected(decoder.decode(None, Some(record.as_bytes())));
        assert!(matches!(rejection.reason, Reason::BadValue | Reason::Undecodable), "{rejection}");
        assert!(rejection.message.len() < 300, "{}", rejection.message.len());
    }
    let nothing = serde_json::to_string(&click()).unwrap().replace("1700000000000", &format!("1e-{digits}"));
    assert_eq!(
        decoder.decode(None, Some(nothing.as_bytes())).map(|record| record.event_time),
        Ok(0),
        "to a double's precision"
    );
    let twice = serde_json::to_string(&click()).unwrap().replacen('{', r#"{"event_id":"x","#, 1);
    assert_eq!(rejected(decoder.decode(None, Some(twice.as_bytes()))).reason, Reason::Undecodable);
}
