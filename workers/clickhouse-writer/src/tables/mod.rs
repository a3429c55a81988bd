//! The tables that are written: one a row topic. A new row type is one more file here, one line in [`TABLES`], and its
//! DDL in `schemas/clickhouse`.

mod alerts;
mod cosine_decay;
mod decay_rate;
mod domain_drift;
mod retrain_requests;
mod session_entropy;
mod session_freshness;

use records::{DecodeError, Reason, Rejection, SchemaLookup};

/// All tables, in the order in which they are listed to users.
pub const TABLES: &[&Table] = &[
    &session_entropy::TABLE,
    &session_freshness::TABLE,
    &domain_drift::TABLE,
    &cosine_decay::TABLE,
    &decay_rate::TABLE,
    &retrain_requests::TABLE,
    &alerts::TABLE,
];

/// What the writer knows about one table.
#[derive(Debug)]
pub struct Table {
    /// Its name in the database, and in configuration and metrics.
    pub name: &'static str,
    /// The topic that its rows come from, unless configured otherwise.
    pub topic: &'static str,
    /// How the topic forgets, where `--create-topics` creates it.
    pub cleanup_policy: &'static str,
    /// The columns that are sent, in the order in which [`DecodeRow`] writes them.
    pub columns: &'static [Column],
    /// Makes a decoder; each consumer has its own.
    pub decoder: fn(Box<dyn SchemaLookup>) -> Box<dyn DecodeRow>,
}

/// A column as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, also that of the field in the Avro schema.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// What a column holds, hence how a value is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `String` or `LowCardinality(String)`.
    Text,
    /// `DateTime64(3, 'UTC')`.
    Time,
    /// `UInt64`.
    Count,
    /// `Float64`.
    Float,
    /// `Nullable(Float64)`.
    OptionalFloat,
    /// `Bool`.
    Flag,
    /// `Nullable(String)`.
    OptionalText,
    /// `Map(String, String)`.
    TextMap,
    /// `Map(String, UInt64)`.
    CountMap,
    /// What carries an alert: dimensions, values, their share and the entropy of all shares.
    Shares,
}

impl Kind {
    /// The column types that take this encoding.
    #[must_use]
    pub fn accepted_types(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["String", "LowCardinality(String)"],
            Self::Time => &["DateTime64(3, 'UTC')"],
            Self::Count => &["UInt64"],
            Self::Float => &["Float64"],
            Self::OptionalFloat => &["Nullable(Float64)"],
            Self::Flag => &["Bool"],
            Self::OptionalText => &["Nullable(String)"],
            Self::TextMap => &["Map(String, String)"],
            Self::CountMap => &["Map(String, UInt64)"],
            Self::Shares => &["Array(Tuple(dimensions String, carried_by String, share Float64, entropy Float64))"],
        }
    }
}

/// One row type: a Kafka record to an encoded row.
pub trait DecodeRow: Send {
    /// Appends the row to `into` and returns the time that decides its table partition, in epoch milliseconds: `window_end`,
    /// or `event_time` of rows without a window.
    ///
    /// # Errors
    /// Where the record is no row of this table, or the registry has not answered; `into` is then as it was.
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError>;
}

/// A count or revision as ClickHouse has it.
fn unsigned(field: &str, value: i64) -> Result<u64, Rejection> {
    u64::try_from(value)
        .map_err(|_| Rejection::new(Reason::BadValue, format!("{field} is {value}, and cannot be negative")))
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}
