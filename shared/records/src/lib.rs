//! The Avro records of `schemas/` as Rust types, their wire format, the schema registry, and dead letters.
//!
//! - [`Interaction`], [`EmbeddingUpdated`]: what the recommender sends; [`SessionFreshness`], [`SessionEntropy`],
//!   [`CosineDecay`], [`DecayRate`], [`RetrainRequest`], [`DomainDrift`], [`Alert`]: our rows; [`Silence`]: a person's word.
//!   All of them borrow their texts, from the bytes that they were decoded from or from whoever encodes them.
//! - [`Decoder`]: bytes to a checked record or a [`Rejection`], for the hot path. [`Encoder`]: a record to bytes.
//! - [`Registry`]: asks a Confluent-compatible schema registry, with a cache; [`SchemaLookup`] is what decoders see of it.
//! - [`wire`]: the five bytes before each datum, and the headers that name schemas instead. [`dead_letter`]: the headers of
//!   refused records. [`truncation`]: records that are handed on, cut to what their topic takes. [`names`]: how long names are.

mod alert;
mod avro;
mod cosine_decay;
mod datum;
pub mod dead_letter;
mod decoder;
mod domain_drift;
mod embedding;
mod encoder;
mod event_time;
mod field;
mod headers;
pub mod inspect;
mod interaction;
mod key;
mod lookup;
pub mod names;
mod registry;
mod rejection;
mod rows;
mod schema_graph;
mod silence;
mod text;
pub mod truncation;
mod walk;
pub mod wire;
mod writer_schema;

pub use alert::{Alert, AlertAttribution, AlertLabel, AlertSamples, AlertState};
pub use avro::{AvroRecord, SCHEMAS};
pub use cosine_decay::{CosineDecay, DecayRate, RetrainRequest};
pub use decoder::{DecodeError, Decoder, DecoderConfig, Format};
pub use domain_drift::DomainDrift;
pub use embedding::{EmbeddingUpdated, EntityKind};
pub use encoder::{EncodeError, Encoder};
pub use event_time::{EVENT_TIMES, check_event_time};
pub use field::Input;
pub use headers::{Headers, NoHeaders};
pub use interaction::{Interaction, InteractionKind};
pub use key::KeyRule;
pub use lookup::{FixedSchemas, LookupError, RegisteredSchema, SchemaKind, SchemaLookup, SchemaRef};
pub use registry::{Registry, RegistryConfig, RegistryError, subject};
pub use rejection::{Reason, Rejection};
pub use rows::{SessionEntropy, SessionFreshness};
pub use silence::Silence;
pub use text::Text;
