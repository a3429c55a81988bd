//! The vectors of all items, as of any time that somebody may still look up.

use hashbrown::HashTable;
use measures::{Search, reciprocal_norm};
use storage::{Rows, Slab, Text};
use streaming::operator::{RestoreError, StateSize, Table};
use xxhash_rust::xxh3::xxh3_64;

use crate::version::{VersionKey, components};

/// No version.
const NONE: u32 = u32::MAX;

/// Every instance's copy of the items' vectors. A million items of 64 components with one version take less than 400 MB.
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
    /// By the numbers of the versions, one each.
    spans: Rows<Span>,
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
    event_id: Text,
    /// Number of the next older version of its item.
    older: u32,
    /// Whether the item is gone from then on.
    deletes: bool,
}

/// When a version is its item's vector; searches for neighbours look at nothing else of versions that are not.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// From when on it counts.
    from: i64,
    /// From when on a newer one counts. It lies before `from` where the version is never the vector.
    until: i64,
    reciprocal_norm: f32,
}

impl Default for Span {
    fn default() -> Self {
        Self { from: i64::MAX, until: i64::MIN, reciprocal_norm: 0.0 }
    }
}

impl Span {
    fn covers(&self, time: i64) -> bool {
        self.from <= time && time < self.until
    }
}

/// A vector whose nearest neighbours are asked for, as of a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asking<'a> {
    /// The item that it is of, which is no neighbour of its own.
    pub item_id: &'a str,
    /// Epoch ms.
    pub time: i64,
    /// The vector.
    pub vector: &'a [f32],
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
            spans: Rows::new(1),
            heap_bytes: 0,
        }
    }

    /// The vector of an item as of `time` (epoch ms); `None` where it has none.
    #[must_use]
    pub fn as_of(&self, item_id: &str, time: i64) -> Option<&[f32]> {
        self.version_as_of(self.find(item_id)?, time).map(|version| self.vectors.row(version))
    }

    /// The nearest `count` (at least 1) of the other items of each vector, as of its time. At most [`Search::MOST`] at a
    /// time: they share the way through the table.
    #[must_use]
    pub fn nearest<'a>(&self, asking: &[Asking<'a>], count: usize) -> Search<'a> {
        let own = |asking: &Asking<'_>| self.version_as_of(self.find(asking.item_id)?, asking.time);
        let own: Vec<Option<u32>> = asking.iter().map(own).collect();
        let times = || asking.iter().map(|asking| asking.time);
        let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let mut search = Search::new(asking.iter().map(|asking| asking.vector), count);
        for (number, _) in self.versions.iter() {
            let span = self.spans.row(number)[0];
            if span.from <= last && first < span.until {
                search.offer(self.vectors.row(number), span.reciprocal_norm, |at| {
                    span.covers(asking[at].time) && own[at] != Some(number)
                });
            }
        }
        search
    }

    /// Number of the version that counts as of `time`.
    fn version_as_of(&self, item: u32, time: i64) -> Option<u32> {
        let mut at = self.items[item].newest;
        while at != NONE {
            let span = self.spans.row(at)[0];
            if span.from <= time {
                return span.covers(time).then_some(at);
            }
            at = self.versions[at].older;
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

    /// Sets from when on newer versions of an item count instead of each.
    fn set_ends(&mut self, item: u32) {
        let (mut until, mut at) = (i64::MAX, self.items[item].newest);
        while at != NONE {
            let (version, span) = (&self.versions[at], &mut self.spans.row_mut(at)[0]);
            span.until = if version.deletes { i64::MIN } else { until };
            until = until.min(span.from);
            at = version.older;
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
            self.spans.make_room(at as usize);
            self.link(item, newer, at);
        }
        self.versions[at].deletes = components.is_empty();
        for (component, bytes) in self.vectors.row_mut(at).iter_mut().zip(components) {
            *component = f32::from_le_bytes(*bytes);
        }
        let span = &mut self.spans.row_mut(at)[0];
        span.from = key.event_time.max(behind_mark);
        span.reciprocal_norm = reciprocal_norm(self.vectors.row(at));
        self.set_ends(item);
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
        self.spans.row_mut(at)[0] = Span::default();
        self.link(item, newer, older);
        self.set_ends(item);
        if self.items[item].newest == NONE {
            self.forget(item);
        }
    }

    fn size(&self) -> StateSize {
        let bytes = self.items.bytes()
            + self.by_id.allocation_size()
            + self.versions.bytes()
            + self.vectors.bytes()
            + self.spans.bytes()
            + self.heap_bytes;
        StateSize { keys: self.versions.len() as u64, bytes: bytes as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use measures::{Nearest, cosine};
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

    /// How many items other than this one have a vector.
    fn neighbours(table: &ItemTable, item_id: &str, time: i64, vector: &[f32]) -> usize {
        let search = table.nearest(&[Asking { item_id, time, vector }], 100);
        search.nearest()[0].cosines().len()
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
        assert_eq!(neighbours(&table, "b", 25, &[1.0]), 0);
        assert_eq!(neighbours(&table, "b", 30, &[1.0]), 1);
        assert_eq!(neighbours(&table, "c", 30, &[1.0]), 2);
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
        assert_eq!(neighbours(&table, "", 100, &[1.0, 0.0]), 0);
    }

    /// Ids of all lengths, so that some are kept on the heap.
    fn name(item: u8) -> String {
        format!("item-{item}-{}", "x".repeat(usize::from(item) * 12))
    }

    type Versions = BTreeMap<(String, i64, String), (i64, f32)>;

    proptest! {
        #[test]
        fn lookups_are_those_of_a_list_of_all_versions(
            steps in prop::collection::vec((0_u8..6, 0_i64..12, 0_u8..3, prop::option::of(0_i64..12), 0_u8..4), 0..120)
        ) {
            let mut table = ItemTable::new(2);
            let mut all = Versions::new();
            for (at, (item, time, event, mark, what)) in steps.into_iter().enumerate() {
                let (item_id, event_id) = (name(item), format!("{event}"));
                let key = key(&item_id, time, &event_id);
                let (vector, deletes) = (at as f32 + 1.0, what == 1);
                if what == 0 {
                    table.remove(&key);
                    all.remove(&(item_id, time, event_id));
                } else {
                    let components = [vector, 9.0];
                    put(&mut table, &key, if deletes { &[] } else { &components }, mark);
                    let effective = time.max(mark.map_or(time, |mark| mark + 1));
                    all.insert((item_id, time, event_id), (effective, if deletes { 0.0 } else { vector }));
                }
            }
            prop_assert_eq!(table.size().keys, all.len() as u64);
            let expected = |item: u8, time| {
                // ascending by time and id: the last one counts
                let mut versions = all.iter().filter(|((id, ..), (effective, _))| *id == name(item) && *effective <= time);
                versions.next_back().map(|(_, (_, vector))| *vector).filter(|vector| *vector > 0.0)
            };
            for (item, time) in (0..6).flat_map(|item| (-1..14).map(move |time| (item, time))) {
                let vector = table.as_of(&name(item), time).map(|vector| vector[0]);
                prop_assert_eq!(vector, expected(item, time), "{} as of {}", item, time);
            }

            // of many items and times at once; the last one has no item
            let asking: Vec<(String, i64)> = (-1..14).map(|time| (name((time + 1) as u8 % 7), time)).collect();
            let vector = [20.0, 9.0];
            let asking = asking.iter().map(|(item_id, time)| Asking { item_id, time: *time, vector: &vector });
            let asking: Vec<Asking<'_>> = asking.collect();
            for (asking, nearest) in asking.iter().zip(table.nearest(&asking, 3).nearest()) {
                let mut naive = Nearest::new(3);
                let others = (0..6).filter(|item| name(*item) != asking.item_id);
                let vectors = others.filter_map(|item| expected(item, asking.time));
                vectors.for_each(|first| naive.offer(cosine(&vector, &[first, 9.0])));
                prop_assert_eq!(nearest, &naive, "{:?}", asking);
            }
            let keys: Vec<_> = all.into_keys().collect();
            keys.iter().for_each(|(item_id, time, event_id)| table.remove(&key(item_id, *time, event_id)));
            prop_assert_eq!((table.size().keys, table.items.len(), table.heap_bytes), (0, 0, 0));
        }
    }
}
