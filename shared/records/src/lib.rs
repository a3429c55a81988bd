//! The Avro records of `schemas/` as Rust types, their wire format, the schema registry, and dead letters.
//!
//! - [`Interaction`], [`EmbeddingUpdated`]: what the recommender sends; [`SessionFreshness`], [`SessionEntropy`],
//!   [`CosineDecay`], [`DecayRate`], [`RetrainRequest`], [`DomainDrift`], [`Alert`]: our rows; [`Silence`]: a person's word.
//!   All of them borrow their texts, from the bytes that they were decoded from or from whoever encodes them.
//! - [`Decoder`]: bytes to a checked record or a [`Rejection`], for the hot path. [`Encoder`]: a record to bytes.
//! - [`Registry`]: asks a Confluent-compatible schema registry, with a cache; [`SchemaLookup`] is what decoders see of it.
//! - [`wire`]: the five bytes before each datum. [`dead_letter`]: the headers of refused records.

mod alert;
mod avro;
mod cosine_decay;
mod datum;
pub mod dead_letter;
mod decoder;
mod domain_drift;
mod embedding;
mod encoder;
mod field;
mod interaction;
mod lookup;
mod registry;
mod rejection;
mod rows;
mod silence;
mod text;
pub mod wire;
mod writer_schema;

pub use alert::{Alert, AlertAttribution, AlertLabel, AlertSamples, AlertState};
pub use avro::{AvroRecord, SCHEMAS};
pub use cosine_decay::{CosineDecay, DecayRate, RetrainRequest};
pub use decoder::{DecodeError, Decoder, DecoderConfig, Format};
pub use domain_drift::DomainDrift;
pub use embedding::{EmbeddingUpdated, EntityKind};
pub use encoder::{EncodeError, Encoder};
pub use field::Input;
pub use interaction::{Interaction, InteractionKind};
pub use lookup::{FixedSchemas, LookupError, SchemaLookup};
pub use registry::{Registry, RegistryConfig, RegistryError, subject};
pub use rejection::{Reason, Rejection};
pub use rows::{SessionEntropy, SessionFreshness};
pub use silence::Silence;
pub use text::Text;
