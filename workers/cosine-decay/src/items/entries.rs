//! The versions of an item that stand in the table topic.

use storage::Text;
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

/// One item's entries, from the oldest to the newest.
#[derive(Debug, Default)]
pub(crate) struct Entries(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    event_time: i64,
    event_id: Text,
    deletes: bool,
    /// A time from which on it counts for sure; `None` while none is known.
    counts_at: Option<i64>,
}

impl Entries {
    /// Adds an entry; false where it is there already.
    pub(crate) fn insert(&mut self, event_time: i64, event_id: &str, deletes: bool) -> bool {
        let order =
            |entry: &Entry| (entry.event_time, entry.event_id.as_bytes()).cmp(&(event_time, event_id.as_bytes()));
        let Err(at) = self.0.binary_search_by(order) else { return false };
        // most items have one version
        self.0.reserve_exact(usize::from(self.0.is_empty()));
        self.0.insert(at, Entry { event_time, event_id: Text::new(event_id), deletes, counts_at: None });
        true
    }

    /// Whether there are entries that will not be needed for ever.
    pub(crate) fn has_passing(&self) -> bool {
        self.0.len() > 1 || self.0.iter().any(|entry| entry.deletes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the entries that no lookup as of `horizon` or later finds, and shows each to `removed`: those before the
    /// newest one that counts by then, and that one too where it is a deletion. `mark` is the partition's mark now: every
    /// entry counts from behind it on, if not earlier.
    pub(crate) fn prune(&mut self, horizon: i64, mark: Option<i64>, mut removed: impl FnMut(i64, &str)) {
        let behind_mark = mark.map_or(i64::MIN, |mark| mark.saturating_add(1));
        let mut needless = 0;
        for (at, entry) in self.0.iter_mut().enumerate() {
            let counts_at = *entry.counts_at.get_or_insert(entry.event_time.max(behind_mark));
            if counts_at <= horizon {
                needless = at + usize::from(entry.deletes);
            }
        }
        self.0.drain(..needless).for_each(|entry| removed(entry.event_time, entry.event_id.as_str()));
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Entry>()
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.0.len() as u64);
        for entry in &self.0 {
            wire::put_signed(into, i128::from(entry.event_time));
            wire::put_bytes(into, entry.event_id.as_bytes());
            wire::put_u64(into, u64::from(entry.deletes));
            wire::put_u64(into, u64::from(entry.counts_at.is_some()));
            wire::put_signed(into, i128::from(entry.counts_at.unwrap_or_default()));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut entries = Self::default();
        for _ in 0..reader.u64()? {
            let (event_time, event_id) = (reader.time()?, reader.text()?);
            let (deletes, is_known) = (reader.u64()? == 1, reader.u64()? == 1);
            let counts_at = Some(reader.i64()?).filter(|_| is_known);
            if !entries.insert(event_time, event_id, deletes) {
                return Err(damaged("an entry that comes twice"));
            }
            // written in their order
            if let Some(last) = entries.0.last_mut() {
                last.counts_at = counts_at;
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(entries: &mut Entries, horizon: i64, mark: Option<i64>) -> Vec<(i64, String)> {
        let mut removed = Vec::new();
        entries.prune(horizon, mark, |time, id| removed.push((time, id.to_owned())));
        removed
    }

    #[test]
    fn what_is_superseded_by_the_horizon_goes() {
        let mut entries = Entries::default();
        assert!(entries.insert(20, "a", false));
        assert!(entries.insert(10, "a", false));
        assert!(entries.insert(20, "b", false));
        assert!(!entries.insert(20, "a", false));
        assert_eq!(pruned(&mut entries, 19, Some(5)), []);
        assert_eq!(pruned(&mut entries, 20, Some(100)), [(10, "a".into()), (20, "a".into())]);
        assert!(!entries.has_passing());
    }

    #[test]
    fn an_entry_that_may_have_come_below_the_mark_supersedes_behind_it() {
        let mut entries = Entries::default();
        entries.insert(10, "a", false);
        entries.insert(20, "b", false);
        assert_eq!(pruned(&mut entries, 30, Some(30)), []);
        assert_eq!(pruned(&mut entries, 31, Some(90)), [(10, "a".into())]);
    }

    #[test]
    fn of_a_deletion_nothing_stays() {
        let mut entries = Entries::default();
        entries.insert(10, "a", false);
        entries.insert(20, "", true);
        assert!(entries.has_passing());
        assert_eq!(pruned(&mut entries, 25, None), [(10, "a".into()), (20, String::new())]);
        assert!(entries.is_empty());
    }
}
