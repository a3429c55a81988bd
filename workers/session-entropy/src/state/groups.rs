//! The groups that sessions and waiting events belong to: each key is kept once, and only as long as it is used.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use storage::Slab;
use xxhash_rust::xxh3::xxh3_64;

use crate::summary::Summary;

/// A group with the summary of its sessions in the window of the last closed end.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) key: Box<[u8]>,
    pub(crate) summary: Summary,
    uses: u32,
}

/// Groups by number, by key, and in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    by_hash: HashTable<u32>,
    by_key: BTreeMap<Box<[u8]>, u32>,
}

impl Groups {
    /// The number of the group with that key, used once more.
    pub(crate) fn take(&mut self, key: &[u8]) -> u32 {
        let hash = xxh3_64(key);
        let Self { groups, by_hash, by_key } = self;
        if let Some(index) = by_hash.find(hash, |index| *groups[*index].key == *key) {
            groups[*index].uses += 1;
            return *index;
        }
        let index = groups.insert(Group { key: key.into(), summary: Summary::default(), uses: 1 });
        by_hash.insert_unique(hash, index, |index| xxh3_64(&groups[*index].key));
        by_key.insert(key.into(), index);
        index
    }

    /// Uses a group once more.
    pub(crate) fn retain(&mut self, index: u32) {
        self.groups[index].uses += 1;
    }

    /// Uses a group once less; unused ones are forgotten.
    pub(crate) fn release(&mut self, index: u32) {
        let group = &mut self.groups[index];
        group.uses -= 1;
        if group.uses == 0 {
            debug_assert_eq!(group.summary.sessions_total, 0, "a group in use was forgotten");
            let group = self.groups.remove(index);
            if let Ok(entry) = self.by_hash.find_entry(xxh3_64(&group.key), |other| *other == index) {
                entry.remove();
            }
            self.by_key.remove(&group.key);
        }
    }

    pub(crate) fn key(&self, index: u32) -> &[u8] {
        &self.groups[index].key
    }

    pub(crate) fn summary(&mut self, index: u32) -> &mut Summary {
        &mut self.groups[index].summary
    }

    /// Numbers by key.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (u32, &Group)> {
        self.by_key.values().map(|index| (*index, &self.groups[*index]))
    }

    /// All numbers are below this.
    pub(crate) fn numbers(&self) -> usize {
        self.groups.capacity()
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        // a key is kept twice; a tree's nodes are two thirds full
        let tree_entry = 3 * size_of::<(Box<[u8]>, u32)>() / 2;
        let heap = |group: &Group| 2 * group.key.len() + group.summary.grid.heap_bytes() + tree_entry;
        self.groups.bytes()
            + self.by_hash.allocation_size()
            + self.in_order().map(|(_, group)| heap(group)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_as_long_as_it_is_used() {
        let mut groups = Groups::default();
        let b = groups.take(b"b");
        let a = groups.take(b"a");
        assert_eq!(groups.take(b"b"), b);
        assert_eq!(groups.in_order().map(|(index, _)| index).collect::<Vec<_>>(), [a, b]);
        groups.release(b);
        assert_eq!((groups.len(), groups.key(b)), (2, b"b".as_slice()));
        groups.release(b);
        assert_eq!(groups.in_order().map(|(index, _)| index).collect::<Vec<_>>(), [a]);
        groups.release(a);
        assert_eq!(groups.len(), 0);
        let again = groups.take(b"b");
        assert_eq!(groups.key(again), b"b");
    }
}
