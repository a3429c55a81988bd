//! Records to bytes.

use std::marker::PhantomData;

use serde_avro_fast::ser::SerializerConfig;

use crate::{AvroRecord, wire};

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("no {record} can be written: {message}")]
pub struct EncodeError {
    /// The record's name.
    pub record: &'static str,
    /// What was wrong.
    pub message: String,
}

/// Writes records of one kind under one schema id, without an allocation a record.
pub struct Encoder<R> {
    header: [u8; wire::HEADER_LENGTH],
    config: SerializerConfig<'static>,
    record: PhantomData<fn() -> R>,
}

impl<R: AvroRecord> Encoder<R> {
    /// An encoder; the registry knows `R::SCHEMA` as `schema_id`.
    #[must_use]
    pub fn new(schema_id: i32) -> Self {
        Self { header: wire::header(schema_id), config: SerializerConfig::new(R::schema()), record: PhantomData }
    }

    /// Appends header and datum to `into`.
    ///
    /// # Errors
    /// Where the record does not fit its schema; `into` is then as it was.
    pub fn encode(&mut self, record: &R::Of<'_>, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = into.len();
        into.extend_from_slice(&self.header);
        match serde_avro_fast::to_datum(record, &mut *into, &mut self.config) {
            Ok(_) => Ok(()),
            Err(error) => {
                into.truncate(start);
                Err(EncodeError { record: R::NAME, message: error.to_string() })
            }
        }
    }
}
