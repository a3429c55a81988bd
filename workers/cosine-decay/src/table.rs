//! The vectors of all items, as of any time that somebody may still look up.

use hashbrown::HashTable;
use measures::dot;
use storage::{Rows, Slab, Text};
use streaming::operator::{RestoreError, StateSize, Table};
use xxhash_rust::xxh3::xxh3_64;

use crate::version::{VersionKey, components};

/// No version.
const NONE: u32 = u32::MAX;

/// Every instance's copy of the items' vectors. An item of 64 components with one version takes less than 400 bytes.
///
/// The vector of an item as of a time is its newest version that counts by then. A version counts from its event time on,
/// or, where its partition had told before that all is there up to a later mark, from behind that mark on.
#[derive(Debug)]
pub struct ItemTable {
    dimensions: usize,
    items: Slab<Item>,
    by_id: HashTable<u32>,
    versions: Slab<Version>,
    /// By the numbers of the versions.
    vectors: Rows<f32>,
    /// What items and versions hold beyond their slots.
    heap_bytes: usize,
}

#[derive(Debug)]
struct Item {
    id: Text,
    /// Number of its newest version.
    newest: u32,
}

impl Default for Item {
    fn default() -> Self {
        Self { id: Text::default(), newest: NONE }
    }
}

#[derive(Debug, Default)]
struct Version {
    event_time: i64,
    /// From when on it counts.
    effective: i64,
    event_id: Text,
    /// Number of the next older version of its item.
    older: u32,
    /// Whether the item is gone from then on.
    deletes: bool,
    /// Sum of the vector's squares: searches for neighbours would compute it again for every candidate.
    squares: f64,
}

impl Version {
    fn is_newer_than(&self, key: &VersionKey<'_>) -> bool {
        (self.event_time, self.event_id.as_bytes()) > (key.event_time, key.event_id.as_bytes())
    }

    fn is(&self, key: &VersionKey<'_>) -> bool {
        (self.event_time, self.event_id.as_bytes()) == (key.event_time, key.event_id.as_bytes())
    }
}

impl ItemTable {
    /// An empty table of vectors with `dimensions` components.
    #[must_use]
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            items: Slab::default(),
            by_id: HashTable::new(),
            versions: Slab::default(),
            vectors: Rows::new(dimensions),
            heap_bytes: 0,
        }
    }

    /// The vector of an item as of `time` (epoch ms); `None` where it has none.
    #[must_use]
    pub fn as_of(&self, item_id: &str, time: i64) -> Option<&[f32]> {
        self.version_as_of(self.find(item_id)?, time).map(|version| self.vectors.row(version))
    }

    /// The vectors as of `time` of the items other than `item_id`, with their sums of squares, in no order.
    pub fn others_as_of<'a>(&'a self, item_id: &str, time: i64) -> impl Iterator<Item = (&'a [f32], f64)> {
        let own = self.find(item_id).unwrap_or(NONE);
        let items = self.items.iter().filter(move |(index, _)| *index != own);
        let versions = items.filter_map(move |(index, _)| self.version_as_of(index, time));
        versions.map(|version| (self.vectors.row(version), self.versions[version].squares))
    }

    /// Number of the version that counts as of `time`.
    fn version_as_of(&self, item: u32, time: i64) -> Option<u32> {
        let mut at = self.items[item].newest;
        while at != NONE {
            let version = &self.versions[at];
            if version.effective <= time {
                return (!version.deletes).then_some(at);
            }
            at = version.older;
        }
        None
    }

    fn find(&self, item_id: &str) -> Option<u32> {
        let is_wanted = |index: &u32| self.items[*index].id.as_bytes() == item_id.as_bytes();
        self.by_id.find(xxh3_64(item_id.as_bytes()), is_wanted).copied()
    }

    fn find_or_insert(&mut self, item_id: &str) -> u32 {
        if let Some(item) = self.find(item_id) {
            return item;
        }
        let Self { items, by_id, heap_bytes, .. } = self;
        let id = Text::new(item_id);
        *heap_bytes += id.heap_bytes();
        let index = items.insert(Item { id, newest: NONE });
        by_id.insert_unique(xxh3_64(item_id.as_bytes()), index, |index| xxh3_64(items[*index].id.as_bytes()));
        index
    }

    /// The versions before and at the place where `key` stands or belongs in an item's list, which goes from the newest to
    /// the oldest.
    fn place(&self, item: u32, key: &VersionKey<'_>) -> (u32, u32) {
        let (mut newer, mut at) = (NONE, self.items[item].newest);
        while at != NONE && self.versions[at].is_newer_than(key) {
            (newer, at) = (at, self.versions[at].older);
        }
        (newer, at)
    }

    fn link(&mut self, item: u32, newer: u32, version: u32) {
        match newer {
            NONE => self.items[item].newest = version,
            newer => self.versions[newer].older = version,
        }
    }

    fn forget(&mut self, item: u32) {
        let Item { id, .. } = self.items.remove(item);
        self.heap_bytes -= id.heap_bytes();
        if let Ok(entry) = self.by_id.find_entry(xxh3_64(id.as_bytes()), |other| *other == item) {
            entry.remove();
        }
    }
}

impl Table for ItemTable {
    fn put(&mut self, key: &[u8], value: &[u8], mark: Option<i64>) -> Result<(), RestoreError> {
        let key = VersionKey::decode(key)?;
        let components = components(value)?;
        if !components.is_empty() && components.len() != self.dimensions {
            let message = format!("a vector has {} components, not {}", components.len(), self.dimensions);
            return Err(RestoreError(message));
        }
        let behind_mark = mark.map_or(i64::MIN, |mark| mark.saturating_add(1));

        let item = self.find_or_insert(key.item_id);
        let (newer, mut at) = self.place(item, &key);
        if at == NONE || !self.versions[at].is(&key) {
            let event_id = Text::new(key.event_id);
            self.heap_bytes += event_id.heap_bytes();
            let version = Version { event_time: key.event_time, event_id, older: at, ..Version::default() };
            at = self.versions.insert(version);
            self.vectors.make_room(at as usize);
            self.link(item, newer, at);
        }
        let version = &mut self.versions[at];
        version.effective = key.event_time.max(behind_mark);
        version.deletes = components.is_empty();
        for (component, bytes) in self.vectors.row_mut(at).iter_mut().zip(components) {
            *component = f32::from_le_bytes(*bytes);
        }
        self.versions[at].squares = dot(self.vectors.row(at), self.vectors.row(at));
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) {
        let Ok(key) = VersionKey::decode(key) else { return };
        let Some(item) = self.find(key.item_id) else { return };
        let (newer, at) = self.place(item, &key);
        if at == NONE || !self.versions[at].is(&key) {
            return;
        }
        let Version { event_id, older, .. } = self.versions.remove(at);
        self.heap_bytes -= event_id.heap_bytes();
        self.link(item, newer, older);
        if self.items[item].newest == NONE {
            self.forget(item);
        }
    }

    fn size(&self) -> StateSize {
        let bytes = self.items.bytes()
            + self.by_id.allocation_size()
            + self.versions.bytes()
            + self.vectors.bytes()
            + self.heap_bytes;
        StateSize { keys: self.versions.len() as u64, bytes: bytes as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::version::encode_vector;

    fn key(item_id: &str, event_time: i64, event_id: &str) -> Vec<u8> {
        let mut key = Vec::new();
        VersionKey { item_id, event_time, event_id }.encode(&mut key);
        key
    }

    fn put(table: &mut ItemTable, key: &[u8], vector: &[f32], mark: Option<i64>) {
        let mut value = Vec::new();
        encode_vector(vector, &mut value);
        table.put(key, &value, mark).unwrap();
    }

    #[test]
    fn a_version_that_comes_below_the_mark_counts_from_behind_it_on() {
        let mut table = ItemTable::new(2);
        put(&mut table, &key("a", 10, "x"), &[1.0, 0.0], None);
        put(&mut table, &key("a", 20, "y"), &[2.0, 0.0], Some(30));
        put(&mut table, &key("a", 20, "z"), &[3.0, 0.0], Some(40));
        let first = |time| table.as_of("a", time).map(|vector| vector[0]);
        assert_eq!([9, 10, 30, 31, 40, 41].map(first), [None, Some(1.0), Some(1.0), Some(2.0), Some(2.0), Some(3.0)]);
        assert_eq!(table.as_of("b", 100), None);
    }

    #[test]
    fn a_deletion_takes_an_item_away_until_its_next_version() {
        let mut table = ItemTable::new(1);
        put(&mut table, &key("a", 10, "x"), &[1.0], Some(5));
        put(&mut table, &key("a", 20, ""), &[], Some(12));
        put(&mut table, &key("a", 30, "y"), &[2.0], Some(25));
        put(&mut table, &key("b", 10, "x"), &[7.0], None);
        let vectors = [15, 20, 30].map(|time| table.as_of("a", time).map(<[f32]>::to_vec));
        assert_eq!(vectors, [Some(vec![1.0]), None, Some(vec![2.0])]);
        assert_eq!(table.others_as_of("b", 25).count(), 0);
        assert_eq!(table.others_as_of("b", 30).collect::<Vec<_>>(), [(&[2.0][..], 4.0)]);
        assert_eq!(table.others_as_of("c", 30).count(), 2);
    }

    #[test]
    fn bytes_that_no_fold_writes_are_refused() {
        let mut table = ItemTable::new(2);
        assert!(table.put(b"\x05a", &[0; 8], None).is_err());
        for length in [1, 4, 9, 12] {
            assert!(table.put(&key("a", 1, "x"), &vec![0; length], None).is_err(), "{length}");
        }
        table.remove(b"\x05a");
        assert_eq!(table.size().keys, 0);
        assert_eq!(table.others_as_of("", 100).count(), 0);
    }

    type Versions = BTreeMap<(String, i64, String), (i64, f32)>;

    proptest! {
        #[test]
        fn lookups_are_those_of_a_list_of_all_versions(
            steps in prop::collection::vec((0_u8..6, 0_i64..12, 0_u8..3, prop::option::of(0_i64..12), 0_u8..4), 0..120)
        ) {
            let mut table = ItemTable::new(1);
            let mut all = Versions::new();
            for (at, (item, time, event, mark, what)) in steps.into_iter().enumerate() {
                // ids of all lengths, so that some are kept on the heap
                let item_id = format!("item-{item}-{}", "x".repeat(usize::from(item) * 12));
                let event_id = format!("{event}");
                let key = key(&item_id, time, &event_id);
                let (vector, deletes) = (at as f32 + 1.0, what == 1);
                if what == 0 {
                    table.remove(&key);
                    all.remove(&(item_id, time, event_id));
                } else {
                    put(&mut table, &key, if deletes { &[] } else { std::slice::from_ref(&vector) }, mark);
                    let effective = time.max(mark.map_or(time, |mark| mark + 1));
                    all.insert((item_id, time, event_id), (effective, if deletes { 0.0 } else { vector }));
                }
            }
            prop_assert_eq!(table.size().keys, all.len() as u64);
            for time in -1..14 {
                let mut present = 0;
                for item in 0..6 {
                    let item_id = format!("item-{item}-{}", "x".repeat(item * 12));
                    // ascending by time and id: the last one counts
                    let mut versions = all.iter().filter(|((id, ..), (effective, _))| *id == item_id && *effective <= time);
                    let expected = versions.next_back().map(|(_, (_, vector))| *vector).filter(|vector| *vector > 0.0);
                    present += usize::from(expected.is_some());
                    prop_assert_eq!(table.as_of(&item_id, time).map(|vector| vector[0]), expected, "{} as of {}", item_id, time);
                }
                prop_assert_eq!(table.others_as_of("another", time).count(), present);
            }
            let keys: Vec<_> = all.into_keys().collect();
            keys.iter().for_each(|(item_id, time, event_id)| table.remove(&key(item_id, *time, event_id)));
            prop_assert_eq!((table.size().keys, table.items.len(), table.heap_bytes), (0, 0, 0));
        }
    }
}
