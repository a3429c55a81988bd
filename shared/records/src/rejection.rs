//! Why a record is not applied.

use std::fmt;

/// The reasons of METRICS.md §1, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are no record of the expected kind.
    Undecodable,
    /// The registry does not know the schema id.
    UnknownSchema,
    /// Larger than `max_record_bytes`.
    TooLarge,
    /// A field without a default is absent.
    MissingField,
    /// The key field is empty.
    EmptyKey,
    /// The record's key is not the text of the key field.
    BadKey,
    /// A field has a value that it cannot have.
    BadValue,
    /// A vector is empty, of another length than configured, not finite, or of norm 0.
    BadVector,
    /// The event time lies too far ahead of the record's Kafka timestamp, or of the reader's clock.
    FutureTimestamp,
    /// The event time is at or below the partition's watermark.
    Late,
}

impl Reason {
    /// All reasons, in the order of their checks.
    pub const ALL: [Self; 10] = [
        Self::Undecodable,
        Self::UnknownSchema,
        Self::TooLarge,
        Self::MissingField,
        Self::EmptyKey,
        Self::BadKey,
        Self::BadValue,
        Self::BadVector,
        Self::FutureTimestamp,
        Self::Late,
    ];

    /// The name in headers, metrics and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::UnknownSchema => "unknown_schema",
            Self::TooLarge => "too_large",
            Self::MissingField => "missing_field",
            Self::EmptyKey => "empty_key",
            Self::BadKey => "bad_key",
            Self::BadValue => "bad_value",
            Self::BadVector => "bad_vector",
            Self::FutureTimestamp => "future_timestamp",
            Self::Late => "late",
        }
    }
}

impl Reason {
    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one record is refused, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Rejection {
    /// The reason, as counted.
    pub reason: Reason,
    /// What was wrong, with the value.
    pub message: String,
    /// Whether something outside of the record decided (the registry): asked again, it could answer otherwise.
    pub outside: bool,
    /// Whether the event time lies outside of [`EVENT_TIMES`](crate::EVENT_TIMES): such records are counted apart.
    pub out_of_time: bool,
}

impl Rejection {
    /// A refusal that the record alone decides.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), outside: false, out_of_time: false }
    }

    /// A refusal that something outside of the record decides.
    #[must_use]
    pub fn by_outside(reason: Reason, message: impl Into<String>) -> Self {
        Self { outside: true, ..Self::new(reason, message) }
    }
}

/// Bytes of the input that a message shows at most.
const EXCERPT_BYTES: usize = 64;

/// The beginning of what the input holds, quoted, for a message: however long that is, and whatever is in it.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(EXCERPT_BYTES)];
    let quoted = format!("{:?}", String::from_utf8_lossy(shown));
    if shown.len() == bytes.len() { quoted } else { format!("{quoted}… ({} bytes)", bytes.len()) }
}
