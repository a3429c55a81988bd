//! Bytes to checked records, for the hot path.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};

use crate::field::Limits;
use crate::key::RecordKey;
use crate::walk::MAX_DEPTH;
use crate::writer_schema::WriterSchema;
use crate::{Headers, Input, KeyRule, LookupError, NoHeaders, Reason, Rejection, SchemaLookup, SchemaRef, Text, wire};

/// Schemas that a decoder remembers at most, and bytes of their texts; beyond that it forgets all of them and asks again.
const MAX_SCHEMAS: usize = 1000;
const MAX_SCHEMA_BYTES: usize = 8 * 1024 * 1024;

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro in Confluent's wire format: with the schema's id in front, or with the schema in a header.
    #[default]
    Avro,
    /// One JSON object, the fields named as in the Avro schema, times in epoch ms.
    Json,
}

/// What a [`Decoder`] expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderConfig {
    /// How the values are written.
    pub format: Format,
    /// What the keys must be; counts for records that have an entity.
    pub key: KeyRule,
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
        Self { format: Format::Avro, key: KeyRule::Entity, max_record_bytes: 1024 * 1024, vector_length: None }
    }
}

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is bad input.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The schema registry has said nothing about the record's schema, which says nothing about the record: keep its
    /// place and try again, or stop. Holds no [`LookupError::Unknown`] and no [`LookupError::Unusable`].
    #[error(transparent)]
    NoAnswer(LookupError),
}

/// Decodes the records of one source. It reports the reasons in the order of METRICS.md §1 up to `bad_vector`; time is
/// judged by whoever knows the record's Kafka timestamp and the watermark.
///
/// What a record costs is bounded by its bytes, whatever it holds and whatever schema it names: see [`Walk`](crate::walk).
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
    schemas: HashMap<SchemaRef, Result<Arc<WriterSchema>, Rejection>>,
    /// Of the texts that they were parsed from.
    schema_bytes: usize,
    /// The schema of the record before: nearly always that of the next one too.
    last: Option<(SchemaRef, Arc<WriterSchema>)>,
    record: PhantomData<fn() -> R>,
}

impl<R: Input> Decoder<R> {
    /// A decoder; `lookup` is asked once for each schema, and again for one that it does not know.
    #[must_use]
    pub fn new(config: DecoderConfig, lookup: Box<dyn SchemaLookup>) -> Self {
        Self { config, lookup, schemas: HashMap::new(), schema_bytes: 0, last: None, record: PhantomData }
    }

    /// Decodes and checks one record whose headers do not matter, as of what our own workers have written; else as
    /// [`decode_with_headers`](Self::decode_with_headers).
    ///
    /// # Errors
    /// Where the record is bad input, or the registry has not answered.
    pub fn decode<'a>(&mut self, key: Option<&[u8]>, value: Option<&'a [u8]>) -> Result<R::Of<'a>, DecodeError> {
        self.decode_with_headers(key, value, &NoHeaders)
    }

    /// Decodes and checks one record, which borrows its texts from `value` where `value` holds them as they are.
    ///
    /// # Errors
    /// Where the record is bad input, or the registry has not answered.
    pub fn decode_with_headers<'a>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&'a [u8]>,
        headers: &dyn Headers,
    ) -> Result<R::Of<'a>, DecodeError> {
        let Some(value) = value else {
            return Err(Rejection::new(Reason::Undecodable, "there is no value (a tombstone)").into());
        };
        let size = value.len() + key.map_or(0, <[u8]>::len);
        let is_checked = R::ENTITY.is_some() && self.config.key == KeyRule::Entity;
        let key = is_checked.then(|| RecordKey::new(key, headers));
        let limits = Limits { vector_length: self.config.vector_length, key };
        match self.config.format {
            Format::Avro => self.decode_avro(size, value, headers, &limits),
            Format::Json => self.judge(size, decode_json::<R>(value)?, &limits),
        }
    }

    /// The entity that a record without a value deletes: the text of its key, in whichever form that is.
    ///
    /// # Errors
    /// Where there is no key, or it is no text.
    pub fn deleted_entity<'a>(&self, key: Option<&'a [u8]>, headers: &'a dyn Headers) -> Result<Text<'a>, Rejection> {
        RecordKey::new(key, headers).text()
    }

    /// What comes behind `undecodable` and `unknown_schema`.
    fn judge<'a>(&self, size: usize, raw: R::Raw<'a>, limits: &Limits<'_>) -> Result<R::Of<'a>, DecodeError> {
        if size > self.config.max_record_bytes {
            let message =
                format!("key and value are {size} bytes, above max_record_bytes = {}", self.config.max_record_bytes);
            return Err(Rejection::new(Reason::TooLarge, message).into());
        }
        Ok(R::check(raw, limits)?)
    }

    fn decode_avro<'a>(
        &mut self,
        size: usize,
        value: &'a [u8],
        headers: &dyn Headers,
        limits: &Limits<'_>,
    ) -> Result<R::Of<'a>, DecodeError> {
        let (schema, datum) = split(value, headers)?;
        let within_size = size <= self.config.max_record_bytes;
        let writer = self.writer_schema(schema)?;
        if writer.is_own
            && within_size
            && let Some(record) = R::read_own(datum, limits)
        {
            return Ok(record);
        }
        let raw = decode_datum::<R>(schema, writer, datum)?;
        self.judge(size, raw, limits)
    }

    fn writer_schema(&mut self, schema: SchemaRef) -> Result<&WriterSchema, DecodeError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != schema) {
            let found = self.find_schema(schema)?;
            self.last = Some((schema, found));
        }
        match &self.last {
            Some((_, found)) => Ok(found),
            None => unreachable!("set above"),
        }
    }

    fn find_schema(&mut self, schema: SchemaRef) -> Result<Arc<WriterSchema>, DecodeError> {
        if let Some(known) = self.schemas.get(&schema) {
            return Ok(known.clone()?);
        }
        let registered = self.lookup.schema(schema).map_err(|error| match error {
            LookupError::Unknown { .. } => Rejection::by_outside(Reason::UnknownSchema, error.to_string()).into(),
            LookupError::Unusable { .. } => Rejection::by_outside(Reason::Undecodable, error.to_string()).into(),
            no_answer => DecodeError::NoAnswer(no_answer),
        })?;
        let parsed = WriterSchema::parse::<R>(schema, &registered).map(Arc::new);
        let bytes = registered.text.len() + registered.references.iter().map(|text| text.len()).sum::<usize>();
        if self.schemas.len() >= MAX_SCHEMAS || self.schema_bytes + bytes > MAX_SCHEMA_BYTES {
            self.schemas.clear();
            self.schema_bytes = 0;
        }
        self.schema_bytes += bytes;
        Ok(self.schemas.entry(schema).or_insert(parsed).clone()?)
    }
}

/// The schema that a value was written with, and its datum. Where a header names the schema, the value is the datum, also if it
/// begins like a frame: a datum whose first text is empty does.
fn split<'a>(value: &'a [u8], headers: &dyn Headers) -> Result<(SchemaRef, &'a [u8]), Rejection> {
    let undecodable = |error: &dyn std::fmt::Display| Rejection::new(Reason::Undecodable, error.to_string());
    match headers.last(wire::VALUE_SCHEMA_ID) {
        None => match wire::read(value) {
            Ok((id, datum)) => Ok((SchemaRef::Id(id), datum)),
            Err(error) => Err(undecodable(&error)),
        },
        Some(header) => match wire::read_header(wire::VALUE_SCHEMA_ID, header) {
            Ok(schema) => Ok((schema, value)),
            Err(error) => Err(undecodable(&error)),
        },
    }
}

fn decode_datum<'a, R: Input>(
    schema: SchemaRef,
    writer: &WriterSchema,
    datum: &'a [u8],
) -> Result<R::Raw<'a>, Rejection> {
    writer.check_cost(schema, datum)?;
    let mut config = DeserializerConfig::new(&writer.schema);
    // as many elements as bytes: those that take none are counted above
    config.max_seq_size = datum.len();
    config.allowed_depth = MAX_DEPTH;
    let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
    let raw = R::Raw::deserialize(state.deserializer()).map_err(|error| match writer.missing {
        Some(field) => Rejection::new(Reason::MissingField, format!("{field} is absent in schema {schema}")),
        None => Rejection::new(Reason::Undecodable, format!("no datum of schema {schema}: {error}")),
    })?;
    let mut rest = state.into_reader();
    match std::io::BufRead::fill_buf(&mut rest) {
        Ok([]) => Ok(raw),
        _ => Err(Rejection::new(Reason::Undecodable, format!("bytes are left behind the datum of schema {schema}"))),
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
