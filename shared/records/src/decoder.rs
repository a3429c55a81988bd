//! Bytes to checked records, for the hot path.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};

use crate::field::Limits;
use crate::writer_schema::WriterSchema;
use crate::{Input, LookupError, Reason, Rejection, SchemaLookup, wire};

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro in Confluent's wire format.
    #[default]
    Avro,
    /// One JSON object, the fields named as in the Avro schema, times in epoch ms.
    Json,
}

/// What a [`Decoder`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderConfig {
    /// How the values are written.
    pub format: Format,
    /// Key and value together may have at most this many bytes; 1 MiB by default.
    pub max_record_bytes: usize,
    /// The length that vectors have; `None`, the default: any.
    pub vector_length: Option<usize>,
}

impl DecoderConfig {
    /// For what our own workers have written: as large as Kafka has taken it, since their sources have limits of their own.
    #[must_use]
    pub fn of_workers() -> Self {
        Self { max_record_bytes: 16 * 1024 * 1024, ..Self::default() }
    }
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self { format: Format::Avro, max_record_bytes: 1024 * 1024, vector_length: None }
    }
}

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is bad input.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The schema registry has said nothing about the record's schema, which says nothing about the record: keep its
    /// place and try again, or stop. Holds no [`LookupError::Unknown`].
    #[error(transparent)]
    NoAnswer(LookupError),
}

/// Decodes the records of one source. It is told the reasons in the order of METRICS.md §1 up to `bad_vector`; time is
/// judged by whoever knows the record's Kafka timestamp and the watermark.
///
/// ```
/// use records::{AvroRecord, Decoder, DecoderConfig, Encoder, FixedSchemas, SessionEntropy};
///
/// # fn row() -> SessionEntropy<'static> {
/// #     serde_json::from_str(r#"{"window_start":0,"window_end":300000,"sessions_total":1,"events":1,"sessions":0}"#).unwrap()
/// # }
/// let mut value = Vec::new();
/// Encoder::<SessionEntropy<'static>>::new(7).encode(&row(), &mut value)?;
///
/// let registry = FixedSchemas::default().with(7, SessionEntropy::SCHEMA);
/// let mut decoder = Decoder::<SessionEntropy<'static>>::new(DecoderConfig::default(), Box::new(registry));
/// assert_eq!(decoder.decode(None, Some(&value))?, row());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Decoder<R> {
    config: DecoderConfig,
    lookup: Box<dyn SchemaLookup>,
    schemas: HashMap<i32, Result<Arc<WriterSchema>, Rejection>>,
    /// The schema of the record before: nearly always that of the next one too.
    last: Option<(i32, Arc<WriterSchema>)>,
    record: PhantomData<fn() -> R>,
}

impl<R: Input> Decoder<R> {
    /// A decoder; `lookup` is asked once for each schema id, and again for an id that it does not know.
    #[must_use]
    pub fn new(config: DecoderConfig, lookup: Box<dyn SchemaLookup>) -> Self {
        Self { config, lookup, schemas: HashMap::new(), last: None, record: PhantomData }
    }

    /// Decodes and checks one record, which borrows its texts from `value` where `value` holds them as they are.
    ///
    /// # Errors
    /// Where the record is bad input, or the registry has not answered.
    pub fn decode<'a>(&mut self, key: Option<&[u8]>, value: Option<&'a [u8]>) -> Result<R::Of<'a>, DecodeError> {
        let Some(value) = value else {
            return Err(Rejection::new(Reason::Undecodable, "there is no value (a tombstone)").into());
        };
        let size = value.len() + key.map_or(0, <[u8]>::len);
        match self.config.format {
            Format::Avro => self.decode_avro(size, value),
            Format::Json => self.judge(size, decode_json::<R>(value)?),
        }
    }

    /// What comes behind `undecodable` and `unknown_schema`.
    fn judge<'a>(&self, size: usize, raw: R::Raw<'a>) -> Result<R::Of<'a>, DecodeError> {
        if size > self.config.max_record_bytes {
            let message =
                format!("key and value are {size} bytes, above max_record_bytes = {}", self.config.max_record_bytes);
            return Err(Rejection::new(Reason::TooLarge, message).into());
        }
        Ok(R::check(raw, &self.limits())?)
    }

    fn limits(&self) -> Limits {
        Limits { vector_length: self.config.vector_length }
    }

    fn decode_avro<'a>(&mut self, size: usize, value: &'a [u8]) -> Result<R::Of<'a>, DecodeError> {
        let (id, datum) = wire::read(value).map_err(|error| Rejection::new(Reason::Undecodable, error.to_string()))?;
        let within_size = size <= self.config.max_record_bytes;
        let limits = self.limits();
        let writer = self.writer_schema(id)?;
        if writer.is_own
            && within_size
            && let Some(record) = R::read_own(datum, &limits)
        {
            return Ok(record);
        }
        let raw = decode_datum::<R>(id, writer, datum)?;
        self.judge(size, raw)
    }

    fn writer_schema(&mut self, id: i32) -> Result<&WriterSchema, DecodeError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            let schema = self.find_schema(id)?;
            self.last = Some((id, schema));
        }
        match &self.last {
            Some((_, schema)) => Ok(schema),
            None => unreachable!("set above"),
        }
    }

    fn find_schema(&mut self, id: i32) -> Result<Arc<WriterSchema>, DecodeError> {
        if let Some(known) = self.schemas.get(&id) {
            return Ok(known.clone()?);
        }
        let text = self.lookup.schema(id).map_err(|error| match error {
            LookupError::Unknown { .. } => DecodeError::Rejected(Rejection {
                reason: Reason::UnknownSchema,
                message: error.to_string(),
                outside: true,
            }),
            no_answer => DecodeError::NoAnswer(no_answer),
        })?;
        let parsed = WriterSchema::parse::<R>(id, &text).map(Arc::new);
        Ok(self.schemas.entry(id).or_insert(parsed).clone()?)
    }
}

fn decode_datum<'a, R: Input>(id: i32, writer: &WriterSchema, datum: &'a [u8]) -> Result<R::Raw<'a>, Rejection> {
    let mut config = DeserializerConfig::new(&writer.schema);
    // Elements that take no bytes could otherwise be claimed by the billion.
    config.max_seq_size = datum.len();
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let raw = R::Raw::deserialize(state.deserializer()).map_err(|error| match writer.missing {
        Some(field) => Rejection::new(Reason::MissingField, format!("{field} is absent in schema {id}")),
        None => Rejection::new(Reason::Undecodable, format!("no datum of schema {id}: {error}")),
    })?;
    let mut rest = state.into_reader();
    match std::io::BufRead::fill_buf(&mut rest) {
        Ok([]) => Ok(raw),
        _ => Err(Rejection::new(Reason::Undecodable, format!("bytes are left behind the datum of schema {id}"))),
    }
}

fn decode_json<R: Input>(value: &[u8]) -> Result<R::Raw<'_>, DecodeError> {
    // serde would read a list as the fields in their order
    let is_object = value.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !is_object {
        return Err(Rejection::new(Reason::Undecodable, "no JSON object").into());
    }
    serde_json::from_slice(value)
        .map_err(|error| Rejection::new(Reason::Undecodable, format!("no JSON record: {error}")).into())
}
