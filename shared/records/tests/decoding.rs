//! Which bytes are which record, and which are refused for which reason.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use records::{
    AvroRecord, DecodeError, Decoder, DecoderConfig, EVENT_TIMES, EmbeddingUpdated, Encoder, FixedSchemas, Interaction,
    InteractionKind, KeyRule, LookupError, Reason, RegisteredSchema, Rejection, SchemaLookup, SchemaRef,
    SessionEntropy, Text, wire,
};

use support::{as_json, click, decoder, decoder_with, encoded, json_decoder, reason, rejected};

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
    let mut decoder = Decoder::<EmbeddingUpdated<'static>>::new(
        DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() },
        Box::new(lookup),
    );
    // empty texts, the first symbol, then a vector of 2^62 numbers
    let value = [wire::header(1).as_slice(), &[0; 5], &lie, &[0; 16]].concat();
    assert_eq!(reason(decoder.decode(None, Some(&value))), Reason::Undecodable);
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
    answers: Mutex<Vec<Result<RegisteredSchema, LookupError>>>,
    asked: Arc<AtomicUsize>,
}

impl SchemaLookup for Scripted {
    fn schema(&self, _: SchemaRef) -> Result<RegisteredSchema, LookupError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answers.lock().unwrap().remove(0)
    }
}

#[test]
fn a_schema_is_asked_for_once_and_an_unknown_or_unanswered_one_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let answers = vec![
        Err(LookupError::Unavailable { schema: SchemaRef::Id(1), message: "down".to_owned() }),
        Err(LookupError::Unknown { schema: SchemaRef::Id(1), message: "404".to_owned() }),
        Ok(RegisteredSchema::avro(Interaction::SCHEMA)),
    ];
    let lookup = Scripted { answers: Mutex::new(answers), asked: asked.clone() };
    let mut decoder = Decoder::<Interaction<'static>>::new(
        DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() },
        Box::new(lookup),
    );
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
fn key_and_value_together_are_measured_and_only_what_decodes_is_too_large() {
    let value = encoded(&click());
    let config = DecoderConfig { max_record_bytes: value.len() + 3, key: KeyRule::Ignore, ..DecoderConfig::default() };
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
fn empty_keys_and_times_outside_of_their_range_are_refused() {
    let with = |record: Interaction<'static>| rejected(decoder().decode(None, Some(&encoded(&record))));
    assert_eq!(with(Interaction { session_id: "".into(), ..click() }).reason, Reason::EmptyKey);
    let negative = with(Interaction { event_time: -1, ..click() });
    let message = "event_time is -1: a time in epoch ms is not negative";
    assert_eq!(negative, Rejection { out_of_time: true, ..Rejection::new(Reason::BadValue, message) });
    // 2299-12-31T23:59:59.999Z
    let last = 10_413_791_999_999;
    for event_time in [last + 1, 32_503_680_000_000, i64::MAX, i64::MIN] {
        let record = Interaction { event_time, ..click() };
        let text = as_json(&record).to_string();
        for refused in [with(record), rejected(json_decoder().decode(None, Some(text.as_bytes())))] {
            assert_eq!((refused.reason, refused.out_of_time), (Reason::BadValue, true), "{event_time}");
            assert!(refused.message.contains(&event_time.to_string()), "{}", refused.message);
        }
    }
    let newest = Interaction { event_time: last, ..click() };
    assert_eq!(decoder().decode(None, Some(&encoded(&newest))).unwrap(), newest);
    assert_eq!(with(Interaction { session_id: "".into(), event_time: -1, ..click() }).reason, Reason::EmptyKey);
    let zero = Interaction { event_time: 0, user_id: "".into(), domain: "".into(), ..click() };
    assert_eq!(decoder().decode(None, Some(&encoded(&zero))).unwrap(), zero);
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
        event_time in EVENT_TIMES,
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
        let mut embeddings = Decoder::<EmbeddingUpdated<'static>>::new(DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() }, Box::new(lookup));
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
