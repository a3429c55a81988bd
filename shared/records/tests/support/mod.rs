//! A record, its bytes, and decoders for them.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part of it")]

use records::{
    AvroRecord, DecodeError, Decoder, DecoderConfig, Encoder, FixedSchemas, Format, Interaction, InteractionKind,
    KeyRule, Reason, Rejection,
};
use serde_json::Value;

pub fn click() -> Interaction<'static> {
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

pub fn encoded(record: &Interaction<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<Interaction<'static>>::new(1).encode(record, &mut value).unwrap();
    value
}

pub fn decoder_with(lookup: FixedSchemas) -> Decoder<Interaction<'static>> {
    let config = DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() };
    Decoder::new(config, Box::new(lookup))
}

pub fn decoder() -> Decoder<Interaction<'static>> {
    decoder_with(FixedSchemas::default().with(1, Interaction::SCHEMA))
}

pub fn json_decoder() -> Decoder<Interaction<'static>> {
    let config = DecoderConfig { format: Format::Json, key: KeyRule::Ignore, ..DecoderConfig::default() };
    Decoder::new(config, Box::new(FixedSchemas::default()))
}

pub fn rejected<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Rejection {
    match result {
        Err(DecodeError::Rejected(rejection)) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

pub fn reason<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Reason {
    rejected(result).reason
}

pub fn as_json(record: &Interaction<'_>) -> Value {
    serde_json::to_value(record).unwrap()
}
