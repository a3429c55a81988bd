//! What decoding costs, written with our own schema (the short way) and with another one of the same layout.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use records::{
    Decoder, DecoderConfig, EmbeddingUpdated, Encoder, EntityKind, FixedSchemas, Input, Interaction, InteractionKind,
    KeyRule,
};

const RECORDS: usize = 1000;

fn click(number: usize) -> Interaction<'static> {
    Interaction {
        event_id: format!("16b122c3-27ba-5127-85c7-{number:012x}").into(),
        request_id: None,
        session_id: format!("session-{number:08x}").into(),
        user_id: format!("user-{number:08x}").into(),
        item_id: format!("item-{number:08x}").into(),
        kind: InteractionKind::Click,
        domain: "books".into(),
        surface: Some("home".into()),
        user_segment: Some("new".into()),
        rec_strategy: None,
        ab_group: Some("a".into()),
        item_type: None,
        position: Some(2),
        event_time: 1_700_000_000_000,
    }
}

fn vector(number: usize) -> EmbeddingUpdated<'static> {
    EmbeddingUpdated {
        event_id: format!("16b122c3-27ba-5127-85c7-{number:012x}").into(),
        entity: EntityKind::User,
        entity_id: format!("user-{number:08x}").into(),
        domain: "books".into(),
        model_version: "two-tower-7".into(),
        vector: (0..64).map(|component| (number * 64 + component) as f32).collect(),
        event_time: 1_700_000_000_000,
    }
}

fn bench<R: Input>(criterion: &mut Criterion, name: &str, make: impl Fn(usize) -> R::Of<'static>) {
    let values: Vec<Vec<u8>> = (1..=RECORDS)
        .map(|number| {
            let mut value = Vec::new();
            Encoder::<R>::new(1).encode(&make(number), &mut value).unwrap();
            value
        })
        .collect();
    let mut group = criterion.benchmark_group("decoding");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let renamed = R::SCHEMA.replace("recwatch.v1", "elsewhere");
    for (way, schema) in [("own schema", R::SCHEMA), ("another schema", &renamed)] {
        let lookup = FixedSchemas::default().with(1, schema);
        let mut decoder =
            Decoder::<R>::new(DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() }, Box::new(lookup));
        group.bench_function(format!("{name}, {way}"), |bencher| {
            bencher
                .iter(|| values.iter().for_each(|value| drop(black_box(decoder.decode(None, Some(value)).unwrap()))));
        });
    }
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    bench::<Interaction<'static>>(criterion, "an interaction", click);
    bench::<EmbeddingUpdated<'static>>(criterion, "a vector of 64 components", vector);
}

criterion_group!(decoding, benches);
criterion_main!(decoding);
