//! Silences: alerts of which nobody is told for a while.

use std::collections::BTreeMap;

use records::names::bounded_to;
use records::{DecodeError, Decoder, Reason, Rejection, Silence as Record};

use crate::labels::Labels;
use crate::matcher::Matcher;

/// A silence has at most so many matchers.
const MAX_MATCHERS: usize = 16;
/// A matcher has at most so many bytes, and of who asked for a silence and why as many are kept.
const MAX_MATCHER_BYTES: usize = 1024;
/// What is shown of what is refused, in bytes.
const MAX_SHOWN: usize = 200;
/// So many silences are held at most: each is asked of each alert.
const MAX_SILENCES: usize = 1000;

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
        if record.matchers.len() > MAX_MATCHERS {
            return Err(format!("a silence has {} matchers, at most {MAX_MATCHERS} are taken", record.matchers.len()));
        }
        let read = |text: &str| {
            let shown = bounded_to(text, MAX_SHOWN);
            if text.len() > MAX_MATCHER_BYTES {
                let bytes = text.len();
                return Err(format!("matcher {shown:?} has {bytes} bytes, at most {MAX_MATCHER_BYTES} are taken"));
            }
            Matcher::parse(text).map_err(|error| format!("matcher {shown:?}: {error}"))
        };
        Ok(Self {
            matchers: record.matchers.iter().map(|text| read(text)).collect::<Result<_, _>>()?,
            starts_at: record.starts_at,
            ends_at: record.ends_at,
            created_by: bounded_to(&record.created_by, MAX_MATCHER_BYTES).into_owned(),
            comment: bounded_to(&record.comment, MAX_MATCHER_BYTES).into_owned(),
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
        let (key, id) = (String::from_utf8_lossy(key), bounded_to(&record.id, MAX_SHOWN));
        return Err(bad_value(format!("the record's key is {:?}, its id {id:?}", bounded_to(&key, MAX_SHOWN))));
    }
    if record.id.len() > MAX_MATCHER_BYTES {
        let (bytes, id) = (record.id.len(), bounded_to(&record.id, MAX_SHOWN));
        return Err(bad_value(format!("the id {id:?} has {bytes} bytes, at most {MAX_MATCHER_BYTES} are taken")));
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
    ///
    /// # Errors
    /// Where there are too many already.
    pub fn put(&mut self, id: &str, silence: Silence) -> Result<(), String> {
        if self.0.len() >= MAX_SILENCES && !self.0.contains_key(id) {
            return Err(format!("there are {MAX_SILENCES} silences already, more are not held: end some"));
        }
        self.0.insert(id.to_owned(), silence);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(matchers: Vec<String>) -> Record<'static> {
        Record {
            id: "s".into(),
            matchers: matchers.into_iter().map(Into::into).collect(),
            starts_at: 0,
            ends_at: 1,
            created_by: "b".repeat(100_000).into(),
            comment: "c".repeat(100_000).into(),
        }
    }

    #[test]
    fn many_long_or_costly_matchers_are_refused_with_a_short_message() {
        let silence = Silence::of(&record(vec![r#"domain=~"\w+.*|cat-\d{3}""#.to_owned()])).unwrap();
        assert!(silence.created_by.len() <= 1024 && silence.comment.len() <= 1024);
        let many = vec!["a=b".to_owned(); 17];
        let costly = vec![r#"a=~"((x{1000}){1000}){1000}""#.to_owned()];
        let long = vec![format!("a={}", "x".repeat(1_000_000))];
        for (matchers, said) in [(many, "17 matchers"), (costly, "no regular expression"), (long, "1000002 bytes")] {
            let error = Silence::of(&record(matchers)).unwrap_err();
            assert!(error.contains(said) && error.len() < 1_000, "{error}");
        }
    }

    #[test]
    fn only_so_many_silences_are_held_and_one_that_is_held_can_be_changed() {
        let silence = Silence::of(&record(vec!["a=b".to_owned()])).unwrap();
        let mut silences = Silences::default();
        let held = (0..2_000).filter(|id| silences.put(&id.to_string(), silence.clone()).is_ok()).count();
        assert_eq!(held, MAX_SILENCES);
        assert!(silences.put("7", silence.clone()).is_ok() && silences.put("new", silence.clone()).is_err());
        silences.remove("7");
        assert!(silences.put("new", silence).is_ok());
    }
}
