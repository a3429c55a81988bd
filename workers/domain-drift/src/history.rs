//! Summaries of the past that domains are compared with: their own windows a while ago, and pinned references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

/// Makes a window of a domain the reference that it is compared with from then on, instead of what was `self_offset`
/// before. As JSON: `{"domain": "books", "window_end": 1795230000000}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The domain.
    pub domain: String,
    /// End of the window in epoch ms; none takes the reference back.
    pub window_end: Option<i64>,
}

/// What became of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pinned {
    /// The reference is set.
    Now,
    /// The window is not closed yet; it will be the reference.
    Later,
    /// There is no longer a reference, nor one awaited.
    Removed,
    /// The window is no longer known, or the domain had no users in it: all stays as it was.
    Unknown,
}

/// Encoded summaries by window and domain. Entries never change: each is written once, and removed once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct History {
    windows: BTreeMap<(i64, Box<str>), Box<[u8]>>,
    references: BTreeMap<Box<str>, (i64, Box<[u8]>)>,
    /// Pins of windows that are not closed.
    awaited: BTreeMap<Box<str>, i64>,
}

impl History {
    /// What a domain was in the window that ended at `end`.
    #[must_use]
    pub fn window(&self, end: i64, domain: &str) -> Option<&[u8]> {
        self.windows.get(&(end, domain.into())).map(|summary| &**summary)
    }

    /// A domain's pinned reference, with the end of its window.
    #[must_use]
    pub fn reference(&self, domain: &str) -> Option<(i64, &[u8])> {
        self.references.get(domain).map(|(end, summary)| (*end, &**summary))
    }

    /// Whether a window that ends at `end` is waited for as a domain's reference.
    #[must_use]
    pub fn awaits(&self, end: i64, domain: &str) -> bool {
        self.awaited.get(domain) == Some(&end)
    }

    /// Keeps what a domain was in a window.
    pub fn keep(&mut self, end: i64, domain: &str, summary: &[u8]) {
        self.windows.insert((end, domain.into()), summary.into());
    }

    /// Makes a summary a domain's reference.
    pub fn refer(&mut self, end: i64, domain: &str, summary: &[u8]) {
        self.references.insert(domain.into(), (end, summary.into()));
        self.awaited.remove(domain);
    }

    /// Forgets all windows that ended at or before `end`; references stay.
    pub fn forget(&mut self, end: i64) {
        self.windows = self.windows.split_off(&(end.saturating_add(1), "".into()));
    }

    /// The windows up to `end` are closed: what was awaited until then had no users.
    pub fn settle(&mut self, end: i64) {
        self.awaited.retain(|_, awaited| *awaited > end);
    }

    /// Pins a domain's reference; windows up to `closed` are closed.
    pub fn pin(&mut self, pin: &Pin, closed: Option<i64>) -> Pinned {
        let domain = pin.domain.as_str();
        let Some(end) = pin.window_end else {
            self.references.remove(domain);
            self.awaited.remove(domain);
            return Pinned::Removed;
        };
        if let Some(summary) = self.windows.get(&(end, domain.into())) {
            let summary = summary.clone();
            self.refer(end, domain, &summary);
            Pinned::Now
        } else if closed.is_none_or(|closed| end > closed) {
            self.awaited.insert(domain.into(), end);
            Pinned::Later
        } else {
            Pinned::Unknown
        }
    }

    /// Appends everything.
    pub fn encode(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.windows.len() as u64);
        for ((end, domain), summary) in &self.windows {
            put_entry(into, *end, domain, summary);
        }
        wire::put_u64(into, self.references.len() as u64);
        for (domain, (end, summary)) in &self.references {
            put_entry(into, *end, domain, summary);
        }
        wire::put_u64(into, self.awaited.len() as u64);
        for (domain, end) in &self.awaited {
            put_entry(into, *end, domain, &[]);
        }
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// Where the bytes are none of it, or `check` refuses a summary.
    pub fn decode(
        reader: &mut Reader<'_>,
        check: impl Fn(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<Self, RestoreError> {
        let mut history = Self::default();
        for _ in 0..reader.u64()? {
            let (end, domain, summary) = entry(reader)?;
            check(summary)?;
            history.keep(end, domain, summary);
        }
        for _ in 0..reader.u64()? {
            let (end, domain, summary) = entry(reader)?;
            check(summary)?;
            history.refer(end, domain, summary);
        }
        for _ in 0..reader.u64()? {
            let (end, domain, nothing) = entry(reader)?;
            if !nothing.is_empty() {
                return Err(damaged("a summary of a window that is not closed"));
            }
            history.awaited.insert(domain.into(), end);
        }
        Ok(history)
    }
}

fn put_entry(into: &mut Vec<u8>, end: i64, domain: &str, summary: &[u8]) {
    wire::put_signed(into, i128::from(end));
    wire::put_bytes(into, domain.as_bytes());
    wire::put_bytes(into, summary);
}

fn entry<'a>(reader: &mut Reader<'a>) -> Result<(i64, &'a str, &'a [u8]), RestoreError> {
    Ok((reader.i64()?, reader.text()?, reader.bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(domain: &str, window_end: Option<i64>) -> Pin {
        Pin { domain: domain.to_owned(), window_end }
    }

    #[test]
    fn windows_are_kept_until_they_are_forgotten_and_references_for_longer() {
        let mut history = History::default();
        for end in [10, 20, 30] {
            history.keep(end, "a", &[end as u8]);
        }
        assert_eq!(history.pin(&pin("a", Some(20)), Some(30)), Pinned::Now);
        history.forget(20);
        assert_eq!((history.window(20, "a"), history.window(30, "a")), (None, Some(&[30][..])));
        assert_eq!((history.reference("a"), history.reference("b")), (Some((20, &[20][..])), None));
        assert_eq!(history.pin(&pin("a", Some(10)), Some(30)), Pinned::Unknown);
        assert_eq!(history.reference("a"), Some((20, &[20][..])));
        assert_eq!(history.pin(&pin("a", None), Some(30)), Pinned::Removed);
        assert_eq!(history.reference("a"), None);
    }

    #[test]
    fn a_window_to_come_is_awaited_until_it_has_come_or_gone_by() {
        let mut history = History::default();
        assert_eq!(history.pin(&pin("a", Some(40)), Some(30)), Pinned::Later);
        assert_eq!(history.pin(&pin("b", Some(40)), None), Pinned::Later);
        assert!(history.awaits(40, "a") && history.awaits(40, "b") && !history.awaits(50, "a"));
        history.refer(40, "a", &[4]);
        history.settle(40);
        assert!(!history.awaits(40, "a") && !history.awaits(40, "b"));
        assert_eq!((history.reference("a"), history.reference("b")), (Some((40, &[4][..])), None));
    }

    #[test]
    fn it_reads_back_as_written_and_damage_is_refused() {
        let mut history = History::default();
        history.keep(10, "a", &[1, 2]);
        history.keep(10, "", &[]);
        history.refer(5, "a", &[3]);
        assert_eq!(history.pin(&pin("b", Some(99)), Some(10)), Pinned::Later);
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        let decode = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let history = History::decode(&mut reader, |_| Ok(()))?;
            reader.finish().map(|()| history)
        };
        assert_eq!(decode(&bytes).unwrap(), history);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let refused = History::decode(&mut Reader::new(&bytes), |_| Err(damaged("no summary")));
        assert!(refused.unwrap_err().to_string().contains("no summary"));
    }
}
