//! Keys and headers, against a plain reading of METRICS.md §1.

use std::ffi::CStr;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use records::{
    AvroRecord as _, DecodeError, Decoder, DecoderConfig, Encoder, FixedSchemas, Headers, Interaction, InteractionKind,
    Reason, wire,
};

use crate::input::Input;

/// The two headers that a decoder asks for.
struct Both<'a> {
    key: Option<Option<&'a [u8]>>,
    value: Option<Option<&'a [u8]>>,
}

impl Headers for Both<'_> {
    fn last(&self, name: &CStr) -> Option<Option<&[u8]>> {
        if name == wire::KEY_SCHEMA_ID { self.key } else { self.value }
    }
}

fn header<'a>(input: &mut Input<'a>) -> Option<Option<&'a [u8]>> {
    match input.below(4) {
        0 | 1 => None,
        2 => Some(Some(&[0, 0, 0, 0, 1])),
        _ => Some(Some(input.bytes(20)).filter(|value| value.len() != 7)),
    }
}

/// The text of an Avro string with nothing behind it, read by another library.
fn avro_text(mut datum: &[u8]) -> Option<String> {
    let schema = apache_avro::Schema::parse_str("\"string\"").unwrap();
    // the other library makes room for what a length claims
    if datum.len() > 40 {
        return None;
    }
    match GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut datum) {
        Ok(Value::String(text)) if datum.is_empty() => Some(text),
        _ => None,
    }
}

/// What METRICS.md says.
fn is_entity(key: &[u8], headers: &Both<'_>, entity: &str) -> bool {
    if key == entity.as_bytes() {
        return true;
    }
    match (headers.key, key) {
        (Some(_), _) => avro_text(key).as_deref() == Some(entity),
        (None, [0, _, _, _, _, datum @ ..]) => avro_text(datum).as_deref() == Some(entity),
        (None, [b'"', ..]) => serde_json::from_slice::<String>(key).is_ok_and(|text| text == entity),
        (None, _) => false,
    }
}

fn has_form(header: Option<Option<&[u8]>>) -> bool {
    match header {
        None | Some(Some([0, _, _, _, _])) => true,
        Some(Some(value)) => value.len() == 17 && value[0] == 1,
        Some(None) => false,
    }
}

#[test]
fn a_key_is_taken_where_it_is_the_entity_in_one_of_its_forms() {
    crate::fuzz("keys", |bytes: &[u8]| {
        let mut input = Input::new(bytes);
        let headers = Both { key: header(&mut input), value: header(&mut input) };
        let entity = String::from_utf8_lossy(input.bytes(8)).into_owned();
        let length = [entity.len() as u8 * 2];
        // now and then a key that is near to right
        let key = match input.below(6) {
            0 => entity.as_bytes().to_vec(),
            1 => serde_json::to_vec(&entity).unwrap(),
            2 => [wire::header(3).as_slice(), &length, entity.as_bytes()].concat(),
            3 => [&length, entity.as_bytes()].concat(),
            _ => Vec::new(),
        };
        let key = [&key, input.rest()].concat();
        let record = Interaction {
            event_id: "e".into(),
            session_id: entity.as_str().into(),
            user_id: "u".into(),
            item_id: "i".into(),
            kind: InteractionKind::Click,
            domain: "d".into(),
            request_id: None,
            surface: None,
            user_segment: None,
            rec_strategy: None,
            ab_group: None,
            item_type: None,
            position: None,
            event_time: 7,
        };
        let mut framed = Vec::new();
        Encoder::<Interaction<'static>>::new(1).encode(&record, &mut framed).unwrap();
        let value = if headers.value.is_some() { &framed[wire::HEADER_LENGTH..] } else { &framed };
        let lookup = FixedSchemas::default().with(1, Interaction::SCHEMA);
        let mut decoder = Decoder::<Interaction<'static>>::new(DecoderConfig::default(), Box::new(lookup));
        let result = decoder.decode_with_headers(Some(&key), Some(value), &headers);
        let reason = match &result {
            Ok(_) => None,
            Err(DecodeError::Rejected(rejection)) => Some(rejection.reason),
            Err(other) => panic!("{other}"),
        };
        let expected = match headers.value {
            value if !has_form(value) => Some(Reason::Undecodable),
            Some(Some(value)) if value != [0, 0, 0, 0, 1] => Some(Reason::UnknownSchema),
            _ if entity.is_empty() => Some(Reason::EmptyKey),
            _ if key == entity.as_bytes() => None,
            _ if !has_form(headers.key) => Some(Reason::Undecodable),
            _ if is_entity(&key, &headers, &entity) => None,
            _ => Some(Reason::BadKey),
        };
        assert_eq!(reason, expected, "{key:?} of {entity:?}: {result:?}");
        let _ = decoder.deleted_entity(Some(&key), &headers);
    });
}
