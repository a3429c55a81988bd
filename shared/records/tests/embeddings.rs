//! Vectors: which bytes are which update, by the short way for our own schema and by the general one.

use proptest::prelude::*;
use records::{
    AvroRecord, DecodeError, Decoder, DecoderConfig, EVENT_TIMES, EmbeddingUpdated, Encoder, EntityKind, FixedSchemas,
    KeyRule, Reason, Text, wire,
};

const LENGTH: usize = 3;

fn encoded(record: &EmbeddingUpdated<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<EmbeddingUpdated<'static>>::new(1).encode(record, &mut value).unwrap();
    value
}

/// Under our schema, and the same layout under another name, so that the general way is taken.
fn decoders() -> [Decoder<EmbeddingUpdated<'static>>; 2] {
    let renamed = EmbeddingUpdated::SCHEMA.replace("recwatch.v1", "elsewhere");
    assert_ne!(renamed, EmbeddingUpdated::SCHEMA);
    let config = DecoderConfig { vector_length: Some(LENGTH), key: KeyRule::Ignore, ..DecoderConfig::default() };
    [EmbeddingUpdated::SCHEMA, &renamed]
        .map(|schema| Decoder::new(config, Box::new(FixedSchemas::default().with(1, schema))))
}

fn decoded(value: &[u8]) -> [Result<EmbeddingUpdated<'_>, DecodeError>; 2] {
    decoders().map(|mut decoder| decoder.decode(None, Some(value)))
}

fn update(vector: &[f32]) -> EmbeddingUpdated<'static> {
    EmbeddingUpdated {
        event_id: "e-1".into(),
        entity: EntityKind::User,
        entity_id: "u-1".into(),
        domain: "books".into(),
        model_version: "m".into(),
        vector: vector.to_vec(),
        event_time: 1_700_000_000_000,
    }
}

prop_compose! {
    fn any_update()(
        texts in prop::collection::vec("[a-z0-9-]{0,16}|\\PC{0,4}", 4),
        is_user: bool,
        vector in prop::collection::vec(prop_oneof![4 => prop::num::f32::ANY, 1 => Just(0.0_f32)], 0..=LENGTH + 1),
        event_time in prop_oneof![EVENT_TIMES, -5_i64..5, EVENT_TIMES.end() - 5..=EVENT_TIMES.end() + 5, any::<i64>()],
    ) -> EmbeddingUpdated<'static> {
        let text = |index: usize| Text::from(texts[index].clone());
        EmbeddingUpdated {
            event_id: text(0), entity: if is_user { EntityKind::User } else { EntityKind::Item }, entity_id: text(1),
            domain: text(2), model_version: text(3), vector, event_time,
        }
    }
}

#[test]
fn vectors_without_direction_or_of_another_length_are_bad() {
    let good = update(&[1.0, -0.0, f32::MIN_POSITIVE]);
    assert_eq!(decoded(&encoded(&good)), [Ok(good.clone()), Ok(good)]);
    let bad: [&[f32]; 6] =
        [&[], &[1.0; 2], &[1.0; 4], &[0.0, -0.0, 0.0], &[1.0, f32::NAN, 1.0], &[f32::INFINITY, 1.0, 1.0]];
    for vector in bad {
        for result in decoded(&encoded(&update(vector))) {
            let Err(DecodeError::Rejected(rejection)) = result else { panic!("{vector:?} is taken") };
            assert_eq!(rejection.reason, Reason::BadVector, "{vector:?}");
        }
    }
}

#[test]
fn an_array_in_two_blocks_is_the_same_array() {
    let good = update(&[1.0, 2.0, 3.0]);
    let one_block = encoded(&good);
    // zigzag: 6 is a block of three; then 4 and 2, of two and one
    let start = one_block.len() - 6 - 1 - 12 - 1;
    assert_eq!(one_block[start], 6);
    let floats = &one_block[start + 1..start + 13];
    let two_blocks = [&one_block[..start], &[4], &floats[..8], &[2], &floats[8..], &one_block[start + 13..]].concat();
    assert_eq!(decoded(&two_blocks), [Ok(good.clone()), Ok(good)]);
}

proptest! {
    #[test]
    fn the_short_way_and_the_general_way_agree_on_every_record(
        record in any_update(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut value = encoded(&record);
        for (place, byte) in changes {
            let place = wire::HEADER_LENGTH + place.index(value.len() - wire::HEADER_LENGTH);
            value[place] = byte;
        }
        if let Some(cut) = cut {
            value.truncate(wire::HEADER_LENGTH + cut.index(value.len() - wire::HEADER_LENGTH));
        }
        let [short, general] = decoded(&value);
        prop_assert_eq!(short, general);
    }

    #[test]
    fn a_good_update_reads_back_as_written(record in any_update(), vector in prop::array::uniform3(prop::num::f32::NORMAL)) {
        let entity_id = Text::from(format!("u{}", record.entity_id));
        let record = EmbeddingUpdated { entity_id, vector: vector.to_vec(), event_time: record.event_time.rem_euclid(1 << 43), ..record };
        let value = encoded(&record);
        prop_assert_eq!(decoded(&value), [Ok(record.clone()), Ok(record)]);
    }
}
