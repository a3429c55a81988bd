//! Summaries of the past that domains are compared with: their own windows a while ago, and pinned references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage::wire::{self, Reader, damaged};
use streaming::operator::{RestoreError, StateSize};

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
    /// By domain and the last window end for which they do not count yet.
    references: BTreeMap<(Box<str>, i64), Box<[u8]>>,
    /// Pins of windows that are not closed.
    awaited: BTreeMap<Box<str>, i64>,
    /// What windows and references hold.
    bytes: usize,
}

impl History {
    /// What a domain was in the window that ended at `end`.
    #[must_use]
    pub fn window(&self, end: i64, domain: &str) -> Option<&[u8]> {
        self.windows.get(&(end, domain.into())).map(|summary| &**summary)
    }

    /// The pinned reference that a domain's window is compared with that ends at `end`.
    ///
    /// A replay begins with all references that there were since: each counts for the windows that closed behind its pin.
    #[must_use]
    pub fn reference(&self, domain: &str, end: i64) -> Option<&[u8]> {
        let mut earlier = self.references.range((domain.into(), i64::MIN)..(domain.into(), end));
        earlier.next_back().map(|(_, summary)| &**summary)
    }

    /// Whether a window that ends at `end` is waited for as a domain's reference.
    #[must_use]
    pub fn awaits(&self, end: i64, domain: &str) -> bool {
        self.awaited.get(domain) == Some(&end)
    }

    /// Keeps what a domain was in a window.
    pub fn keep(&mut self, end: i64, domain: &str, summary: &[u8]) {
        self.bytes += held(domain, summary);
        if let Some(before) = self.windows.insert((end, domain.into()), summary.into()) {
            self.bytes -= held(domain, &before);
        }
    }

    /// Makes a summary a domain's reference for windows that end after `since`.
    pub fn refer(&mut self, since: i64, domain: &str, summary: &[u8]) {
        self.set_reference(since, domain, summary);
        self.awaited.remove(domain);
    }

    fn set_reference(&mut self, since: i64, domain: &str, summary: &[u8]) {
        self.bytes += held(domain, summary);
        if let Some(before) = self.references.insert((domain.into(), since), summary.into()) {
            self.bytes -= held(domain, &before);
        }
    }

    /// Forgets a domain's references that were there before `since`, and says under which keys they were remembered.
    pub fn forget_references(&mut self, since: i64, domain: &str) -> Vec<String> {
        let earlier = self.references.range((domain.into(), i64::MIN)..(domain.into(), since));
        let keys: Vec<i64> = earlier.map(|((_, since), _)| *since).collect();
        for since in &keys {
            if let Some(before) = self.references.remove(&(domain.into(), *since)) {
                self.bytes -= held(domain, &before);
            }
        }
        keys.into_iter().map(|since| reference_key(since, domain)).collect()
    }

    /// Summaries kept, and the bytes that they take, about.
    #[must_use]
    pub fn size(&self) -> StateSize {
        let summaries = self.windows.len() + self.references.len();
        StateSize { keys: summaries as u64, bytes: self.bytes as u64 }
    }

    /// Forgets all windows that ended at or before `end`, and says under which keys they were remembered; references stay.
    pub fn forget(&mut self, end: i64) -> Vec<String> {
        let kept = self.windows.split_off(&(end.saturating_add(1), "".into()));
        let forgotten = std::mem::replace(&mut self.windows, kept);
        self.bytes -= forgotten.iter().map(|((_, domain), summary)| held(domain, summary)).sum::<usize>();
        forgotten.keys().map(|(end, domain)| window_key(*end, domain)).collect()
    }

    /// The windows up to `end` are closed: what was awaited until then had no users. Gives these pins up, and says which.
    pub fn settle(&mut self, end: i64) -> Vec<Pin> {
        let mut given_up = Vec::new();
        self.awaited.retain(|domain, awaited| {
            let stays = *awaited > end;
            if !stays {
                given_up.push(Pin { domain: domain.to_string(), window_end: Some(*awaited) });
            }
            stays
        });
        given_up
    }

    /// Judges a pin, where windows up to `closed` are closed; it is on the caller to set or forget the reference.
    pub fn pin(&mut self, pin: &Pin, closed: Option<i64>) -> Pinned {
        let domain = pin.domain.as_str();
        let Some(end) = pin.window_end else {
            self.awaited.remove(domain);
            return Pinned::Removed;
        };
        // before the windows: a replay knows some that are still to come
        if closed.is_none_or(|closed| end > closed) {
            self.awaited.insert(domain.into(), end);
            return Pinned::Later;
        }
        if self.windows.contains_key(&(end, domain.into())) { Pinned::Now } else { Pinned::Unknown }
    }

    /// Takes a summary back that was written once.
    ///
    /// # Errors
    /// Where key or bytes are none of a window or a reference, or `check` refuses the summary.
    pub fn recall(
        &mut self,
        key: &str,
        bytes: &[u8],
        check: impl Fn(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        let mut reader = Reader::new(bytes);
        let end = reader.i64()?;
        let summary = reader.bytes()?;
        reader.finish()?;
        check(summary)?;
        if let Some((_, domain)) = key.strip_prefix(WINDOW).and_then(|rest| rest.split_once('/')) {
            self.keep(end, domain, summary);
        } else if let Some((_, domain)) = key.strip_prefix(REFERENCE).and_then(|rest| rest.split_once('/')) {
            self.set_reference(end, domain, summary);
        } else {
            return Err(damaged("a key of no window and no reference"));
        }
        Ok(())
    }

    /// Appends what is not written once: the pins of windows that are not closed.
    pub fn encode_awaited(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.awaited.len() as u64);
        for (domain, end) in &self.awaited {
            wire::put_signed(into, i128::from(*end));
            wire::put_bytes(into, domain.as_bytes());
        }
    }

    /// Reads what [`encode_awaited`](Self::encode_awaited) has written; the summaries stay.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn decode_awaited(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        let mut awaited = BTreeMap::new();
        for _ in 0..reader.u64()? {
            let end = reader.i64()?;
            awaited.insert(reader.text()?.into(), end);
        }
        self.awaited = awaited;
        Ok(())
    }
}

/// What an entry holds, and its place in a tree, whose nodes are two thirds full.
fn held(domain: &str, summary: &[u8]) -> usize {
    domain.len() + summary.len() + size_of::<((i64, Box<str>), Box<[u8]>)>() * 3 / 2
}

const WINDOW: &str = "window/";
const REFERENCE: &str = "reference/";

/// The key under which a window's summary is written once.
#[must_use]
pub fn window_key(end: i64, domain: &str) -> String {
    format!("{WINDOW}{end}/{domain}")
}

/// The key under which a domain's reference for windows that end after `since` is written once.
#[must_use]
pub fn reference_key(since: i64, domain: &str) -> String {
    format!("{REFERENCE}{since}/{domain}")
}

/// Appends a summary as [`recall`](History::recall) reads it; `end` is the window's, or that behind which a reference counts.
pub fn put_summary(into: &mut Vec<u8>, end: i64, summary: &[u8]) {
    wire::put_signed(into, i128::from(end));
    wire::put_bytes(into, summary);
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
        history.refer(30, "a", &[20]);
        history.forget(20);
        assert_eq!((history.window(20, "a"), history.window(30, "a")), (None, Some(&[30][..])));
        assert_eq!((history.reference("a", 40), history.reference("b", 40)), (Some(&[20][..]), None));
        assert_eq!(history.pin(&pin("a", Some(10)), Some(30)), Pinned::Unknown);
        assert_eq!(history.pin(&pin("a", None), Some(30)), Pinned::Removed);
    }

    #[test]
    fn a_reference_counts_for_the_windows_behind_its_pin_until_the_next_one() {
        let mut history = History::default();
        history.refer(30, "a", &[1]);
        history.refer(50, "a", &[2]);
        history.refer(10, "b", &[3]);
        let counts = [30, 40, 50, 60].map(|end| history.reference("a", end).map(|summary| summary[0]));
        assert_eq!(counts, [None, Some(1), Some(1), Some(2)]);
        assert_eq!(history.forget_references(50, "a"), [reference_key(30, "a")]);
        assert_eq!((history.reference("a", 50), history.reference("b", 50)), (None, Some(&[3][..])));
        assert_eq!(history.pin(&pin("c", Some(60)), Some(50)), Pinned::Later, "whatever is known of it");
    }

    #[test]
    fn its_size_is_that_of_what_is_kept() {
        let mut history = History::default();
        for end in [10, 20, 20] {
            history.keep(end, "a", &[0; 1000]);
        }
        assert_eq!(history.pin(&pin("a", Some(20)), Some(30)), Pinned::Now);
        history.refer(20, "a", &[0; 500]);
        let StateSize { keys, bytes } = history.size();
        assert_eq!(keys, 3);
        assert!((2500..3000).contains(&bytes), "{bytes}");
        assert_eq!((history.forget(15).len(), history.size().keys), (1, 2));
        assert_eq!(history.forget_references(i64::MAX, "a").len(), 1);
        history.forget(20);
        assert_eq!(history.size(), StateSize::default());
    }

    #[test]
    fn a_window_to_come_is_awaited_until_it_has_come_or_gone_by() {
        let mut history = History::default();
        assert_eq!(history.pin(&pin("a", Some(40)), Some(30)), Pinned::Later);
        assert_eq!(history.pin(&pin("b", Some(40)), None), Pinned::Later);
        assert!(history.awaits(40, "a") && history.awaits(40, "b") && !history.awaits(50, "a"));
        history.refer(40, "a", &[4]);
        assert_eq!(history.settle(39), []);
        assert_eq!(history.settle(40), [pin("b", Some(40))]);
        assert!(!history.awaits(40, "a") && !history.awaits(40, "b"));
        assert_eq!((history.reference("a", 50), history.reference("b", 50)), (Some(&[4][..]), None));
    }

    #[test]
    fn it_comes_back_from_what_was_written_once_and_damage_is_refused() {
        let fine = |_: &[u8]| Ok(());
        let mut history = History::default();
        history.keep(10, "a/b", &[1, 2]);
        history.keep(10, "", &[]);
        history.refer(5, "a/b", &[3]);
        assert_eq!(history.pin(&pin("b", Some(99)), Some(10)), Pinned::Later);
        let mut back = History::default();
        let written = [
            (window_key(10, "a/b"), 10, &[1, 2][..]),
            (window_key(10, ""), 10, &[]),
            (reference_key(5, "a/b"), 5, &[3]),
        ];
        for (key, end, summary) in &written {
            let mut bytes = Vec::new();
            put_summary(&mut bytes, *end, summary);
            back.recall(key, &bytes, fine).unwrap();
            assert!(back.recall("other", &bytes, fine).is_err());
            assert!(back.recall(key, &bytes[..bytes.len() - 1], fine).is_err());
            let refused = back.recall(key, &bytes, |_| Err(damaged("no summary")));
            assert!(refused.unwrap_err().to_string().contains("no summary"));
        }
        let mut bytes = Vec::new();
        history.encode_awaited(&mut bytes);
        back.decode_awaited(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(back, history);
        assert_eq!(back.forget(10), [window_key(10, ""), window_key(10, "a/b")]);
    }
}
