//! The schemas of `schemas/`, embedded.

use std::sync::LazyLock;

use serde::Serialize;

/// A record of `schemas/`. Implemented for the `'static` form of each type, for instance `Interaction<'static>`, which
/// is how [`Decoder`](crate::Decoder) and [`Encoder`](crate::Encoder) name their record.
pub trait AvroRecord: 'static {
    /// The record, borrowing for `'a`.
    type Of<'a>: Serialize;

    /// Name without namespace, as the file in `schemas/` is called.
    const NAME: &'static str;

    /// The schema's text.
    const SCHEMA: &'static str;

    /// The schema, parsed once.
    fn schema() -> &'static serde_avro_fast::Schema;
}

/// Name and text of every schema, in alphabetical order.
pub const SCHEMAS: [(&str, &str); 10] = [
    ("Alert", ALERT),
    ("CosineDecay", COSINE_DECAY),
    ("DecayRate", DECAY_RATE),
    ("DomainDrift", DOMAIN_DRIFT),
    ("EmbeddingUpdated", EMBEDDING_UPDATED),
    ("Interaction", INTERACTION),
    ("RetrainRequest", RETRAIN_REQUEST),
    ("SessionEntropy", SESSION_ENTROPY),
    ("SessionFreshness", SESSION_FRESHNESS),
    ("Silence", SILENCE),
];

const ALERT: &str = include_str!("../../../schemas/Alert.avsc");
const COSINE_DECAY: &str = include_str!("../../../schemas/CosineDecay.avsc");
const DECAY_RATE: &str = include_str!("../../../schemas/DecayRate.avsc");
const DOMAIN_DRIFT: &str = include_str!("../../../schemas/DomainDrift.avsc");
const EMBEDDING_UPDATED: &str = include_str!("../../../schemas/EmbeddingUpdated.avsc");
const INTERACTION: &str = include_str!("../../../schemas/Interaction.avsc");
const RETRAIN_REQUEST: &str = include_str!("../../../schemas/RetrainRequest.avsc");
const SESSION_ENTROPY: &str = include_str!("../../../schemas/SessionEntropy.avsc");
const SESSION_FRESHNESS: &str = include_str!("../../../schemas/SessionFreshness.avsc");
const SILENCE: &str = include_str!("../../../schemas/Silence.avsc");

macro_rules! avro_record {
    ($record:ident, $text:ident) => {
        impl AvroRecord for crate::$record<'static> {
            type Of<'a> = crate::$record<'a>;
            const NAME: &'static str = stringify!($record);
            const SCHEMA: &'static str = $text;

            fn schema() -> &'static serde_avro_fast::Schema {
                static PARSED: LazyLock<serde_avro_fast::Schema> =
                    LazyLock::new(|| $text.parse().expect("the embedded schemas are parsed by the tests"));
                &PARSED
            }
        }
    };
}

avro_record!(Alert, ALERT);
avro_record!(CosineDecay, COSINE_DECAY);
avro_record!(DecayRate, DECAY_RATE);
avro_record!(DomainDrift, DOMAIN_DRIFT);
avro_record!(EmbeddingUpdated, EMBEDDING_UPDATED);
avro_record!(Interaction, INTERACTION);
avro_record!(RetrainRequest, RETRAIN_REQUEST);
avro_record!(SessionEntropy, SESSION_ENTROPY);
avro_record!(SessionFreshness, SESSION_FRESHNESS);
avro_record!(Silence, SILENCE);
