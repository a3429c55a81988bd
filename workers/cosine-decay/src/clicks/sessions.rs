//! The last click of each session.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use storage::wire::{self, Reader, damaged};
use storage::{Slab, Text};
use streaming::operator::RestoreError;
use streaming::window::Windows;
use xxhash_rust::xxh3::xxh3_64;

/// Sessions by id, each as long as another click of it could make a pair.
#[derive(Debug)]
pub(crate) struct Sessions {
    windows: Windows,
    /// How long a click waits for the next one of its session, ms.
    gap: i64,
    slab: Slab<Session>,
    by_id: HashTable<u32>,
    /// The sessions that have clicked in the slide that ends there; those that have clicked since are in its list too.
    by_slide: BTreeMap<i64, Vec<u32>>,
    heap_bytes: usize,
}

#[derive(Debug, Default)]
struct Session {
    id: Text,
    last: LastClick,
}

/// A session's last click.
#[derive(Debug, Default)]
pub(crate) struct LastClick {
    pub(crate) time: i64,
    pub(crate) item_id: Text,
}

impl Sessions {
    pub(crate) fn new(windows: Windows, gap: i64) -> Self {
        Self { windows, gap, slab: Slab::default(), by_id: HashTable::new(), by_slide: BTreeMap::new(), heap_bytes: 0 }
    }

    /// Lets a session click, not before its last click, which is returned.
    pub(crate) fn click(&mut self, session_id: &str, item_id: &str, time: i64) -> Option<LastClick> {
        let last = LastClick { time, item_id: Text::new(item_id) };
        self.heap_bytes += last.item_id.heap_bytes();
        let slide = self.windows.pane_end(time);
        let Self { slab, by_id, by_slide, heap_bytes, .. } = self;
        let hash = xxh3_64(session_id.as_bytes());
        let known = by_id.find(hash, |index| slab[*index].id.as_bytes() == session_id.as_bytes()).copied();
        let (index, before) = match known {
            Some(index) => {
                let before = std::mem::replace(&mut slab[index].last, last);
                *heap_bytes -= before.item_id.heap_bytes();
                (index, Some(before))
            }
            None => {
                let id = Text::new(session_id);
                *heap_bytes += id.heap_bytes();
                let index = slab.insert(Session { id, last });
                by_id.insert_unique(hash, index, |index| xxh3_64(slab[*index].id.as_bytes()));
                (index, None)
            }
        };
        if before.as_ref().is_none_or(|before| self.windows.pane_end(before.time) < slide) {
            by_slide.entry(slide).or_default().push(index);
        }
        before
    }

    /// Forgets the sessions whose next click, above `end`, would come too late for a pair.
    pub(crate) fn expire(&mut self, end: i64) {
        while let Some(entry) = self.by_slide.first_entry()
            && entry.key().saturating_add(self.gap) <= end
        {
            let (slide, sessions) = entry.remove_entry();
            for index in sessions {
                if self.windows.pane_end(self.slab[index].last.time) == slide {
                    self.forget(index);
                }
            }
        }
    }

    fn forget(&mut self, index: u32) {
        let Session { id, last } = self.slab.remove(index);
        self.heap_bytes -= id.heap_bytes() + last.item_id.heap_bytes();
        if let Ok(entry) = self.by_id.find_entry(xxh3_64(id.as_bytes()), |other| *other == index) {
            entry.remove();
        }
    }

    /// The smallest window end at which a session expires.
    pub(crate) fn next_expiry(&self) -> Option<i64> {
        let (slide, _) = self.by_slide.first_key_value()?;
        Some(self.windows.pane_end(slide.saturating_add(self.gap)))
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let lists: usize = self.by_slide.values().map(|sessions| sessions.capacity() * size_of::<u32>()).sum();
        self.slab.bytes() + self.by_id.allocation_size() + self.heap_bytes + lists
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.slab.len() as u64);
        for index in &self.by_id {
            let Session { id, last } = &self.slab[*index];
            wire::put_bytes(into, id.as_bytes());
            wire::put_bytes(into, last.item_id.as_bytes());
            wire::put_signed(into, i128::from(last.time));
        }
    }

    /// Reads what [`write`](Self::write) has written, into an empty one.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_>, closed: Option<i64>) -> Result<(), RestoreError> {
        for _ in 0..reader.u64()? {
            let (session_id, item_id, time) = (reader.text()?, reader.text()?, reader.time()?);
            if closed.is_none_or(|closed| time > closed) {
                return Err(damaged("a session of a slide that is not closed"));
            }
            if self.click(session_id, item_id, time).is_some() {
                return Err(damaged("a session that comes twice"));
            }
        }
        Ok(())
    }
}
