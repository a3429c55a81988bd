//! Avro data under generated writer's schemas.

use records::inspect::Judged;
use records::{AvroRecord, DecodeError, Decoder, DecoderConfig, FixedSchemas, Input as _, Interaction, KeyRule, wire};
use serde_json::{Value, json};

use crate::counting::assert_bounded;
use crate::generated_schema::Schemas;
use crate::input::Input;

/// An interaction's own fields, written: three empty texts and so on, one byte each; the rest of a datum is what follows.
const OWN_FIELDS: usize = 14;

fn decoder(schema: &str) -> Decoder<Interaction<'static>> {
    let config = DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() };
    Decoder::new(config, Box::new(FixedSchemas::default().with(1, schema)))
}

#[test]
fn data_of_any_schema_cost_what_their_bytes_pay_for() {
    crate::fuzz("avro_data", |bytes: &[u8]| {
        let mut input = Input::new(bytes);
        let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
        let fields = schema["fields"].as_array_mut().unwrap();
        let mut schemas = Schemas::default();
        for number in 0..=input.below(3) {
            let added = json!({"name": format!("x{number}"), "type": schemas.type_(&mut input, 0)});
            let place = if input.byte() < 64 { input.below(fields.len()) } else { fields.len() };
            fields.insert(place, added);
        }
        let text = schema.to_string();
        let datum = [&[0; OWN_FIELDS], input.rest()].concat();
        let value = [wire::header(1).as_slice(), &datum].concat();
        let judged = Judged::parse(&text, &[]);
        match decoder(&text).decode(None, Some(&value)) {
            Ok(_) => assert!(judged.is_ok(), "{text}"),
            Err(DecodeError::Rejected(rejection)) => assert!(!rejection.outside),
            Err(other) => panic!("{other}"),
        }
        let Ok(judged) = judged else { return };
        match judged.visits(&datum) {
            Some(_) => assert_bounded(&judged, &datum),
            // refused by the walk, which has a budget itself; what is linear is not walked
            None if judged.is_linear() => assert_bounded(&judged, &datum),
            None => {}
        }
    });
}

#[test]
fn the_short_way_and_the_general_way_agree() {
    // the same layout under another name, so that the general way is taken
    let renamed = Interaction::SCHEMA.replace("recwatch.v1", "elsewhere");
    assert!(Interaction::REQUIRED.contains(&"session_id") && renamed != Interaction::SCHEMA);
    crate::fuzz("short_way", |bytes: &[u8]| {
        let value = [wire::header(1).as_slice(), bytes].concat();
        let short = decoder(Interaction::SCHEMA).decode(None, Some(&value)).map(|record| format!("{record:?}"));
        let general = decoder(&renamed).decode(None, Some(&value)).map(|record| format!("{record:?}"));
        assert_eq!(short, general);
    });
}
