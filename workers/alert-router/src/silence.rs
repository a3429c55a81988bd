//! Silences: alerts of which nobody is told for a while.

use std::collections::BTreeMap;

use records::{DecodeError, Decoder, Reason, Rejection, Silence as Record};

use crate::labels::Labels;
use crate::matcher::Matcher;

/// In ms.
const DAY: i64 = 86_400_000;

/// A silence that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// From when on, epoch ms, inclusive.
    pub starts_at: i64,
    /// Until when, exclusive.
    pub ends_at: i64,
    /// Who asked for it.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

impl Silence {
    /// Of a record.
    ///
    /// # Errors
    /// Says which matcher cannot be read, or that there is none: a silence of everything would be an accident.
    pub fn of(record: &Record<'_>) -> Result<Self, String> {
        if record.matchers.is_empty() {
            return Err("a silence needs at least one matcher".to_owned());
        }
        let read = |text: &str| Matcher::parse(text).map_err(|error| format!("matcher {text:?}: {error}"));
        Ok(Self {
            matchers: record.matchers.iter().map(|text| read(text)).collect::<Result<_, _>>()?,
            starts_at: record.starts_at,
            ends_at: record.ends_at,
            created_by: record.created_by.to_string(),
            comment: record.comment.to_string(),
        })
    }

    /// Whether it holds at `now`, epoch ms.
    #[must_use]
    pub fn is_active(&self, now: i64) -> bool {
        (self.starts_at..self.ends_at).contains(&now)
    }
}

/// Reads a record of the silences' topic that has a value.
///
/// # Errors
/// Where it is bad input, or the registry has not answered.
pub fn read<'a>(
    decoder: &mut Decoder<Record<'static>>,
    key: &[u8],
    value: &'a [u8],
) -> Result<(Record<'a>, Silence), DecodeError> {
    let bad_value = |message: String| DecodeError::from(Rejection::new(Reason::BadValue, message));
    let record = decoder.decode(Some(key), Some(value))?;
    if record.id.as_bytes() != key {
        let key = String::from_utf8_lossy(key);
        return Err(bad_value(format!("the record's key is {key:?}, its id {:?}", record.id.as_str())));
    }
    if record.ends_at < record.starts_at {
        return Err(bad_value(format!("ends_at {} is before starts_at {}", record.ends_at, record.starts_at)));
    }
    let silence = Silence::of(&record).map_err(bad_value)?;
    Ok((record, silence))
}

/// All silences, by id.
#[derive(Debug, Clone, Default)]
pub struct Silences(BTreeMap<String, Silence>);

impl Silences {
    /// Adds one, or replaces that of the same id.
    pub fn put(&mut self, id: &str, silence: Silence) {
        self.0.insert(id.to_owned(), silence);
    }

    /// Takes one back.
    pub fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// The id of the first one that silences these labels at `now`.
    #[must_use]
    pub fn silencing(&self, labels: &Labels<'_>, now: i64) -> Option<&str> {
        let found = |silence: &Silence| silence.is_active(now) && labels.fulfil(&silence.matchers);
        self.0.iter().find(|(_, silence)| found(silence)).map(|(id, _)| id.as_str())
    }

    /// Lets go of those that have been over for a day: clocks are set back at times.
    pub fn forget_ended(&mut self, now: i64) {
        self.0.retain(|_, silence| silence.ends_at > now.saturating_sub(DAY));
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Silence)> {
        self.0.iter().map(|(id, silence)| (id.as_str(), silence))
    }

    /// How many hold at `now`.
    #[must_use]
    pub fn active(&self, now: i64) -> usize {
        self.0.values().filter(|silence| silence.is_active(now)).count()
    }
}
