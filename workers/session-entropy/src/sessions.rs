//! The sessions of one source partition: events wait in their pane, enter their sessions when it closes, and leave with
//! the pane that falls out of the window.
//!
//! **Cost.** An event is handled once when it comes, once when its pane closes, once when it leaves. A session without
//! events in the first or last pane of a window is not visited: its share stays in its group's running summary. So a
//! slide costs its events and the number of groups, whatever the number of sessions, or of slides in a window.

use std::collections::BTreeMap;

use grouping::{Dimension, Examples, Grouping};
use hashbrown::HashTable;
use measures::{Score, Scorer};
use storage::Slab;
use streaming::operator::StateSize;
use streaming::window::Windows;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::groups::Groups;
use crate::state::pane::{Pane, Waiting};
use crate::state::session::Session;

/// Sessions below which room is not given back.
const KEPT_ROOM: usize = 1 << 14;

/// Sessions that are asked for from memory at a time.
const AHEAD: usize = 16;

/// What the events of a partition mean.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) windows: Windows,
    pub(crate) scorer: Scorer,
    pub(crate) min_events: u32,
    pub(crate) grouping: Grouping,
}

impl Rules {
    /// The score of a session where it has events enough.
    fn scored(&self, session: &Session) -> Option<Score> {
        (session.events >= self.min_events).then_some(session.score)
    }
}

/// The live sessions and their groups.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) rules: Rules,
    pub(crate) slab: Slab<Session>,
    by_id: HashTable<u32>,
    pub(crate) groups: Groups,
    /// Of the events of groups.
    pub(crate) examples: Examples,
    /// Events above the last closed end, by the end of their pane.
    pub(crate) panes: BTreeMap<i64, Pane>,
    /// The sessions whose oldest event lies in the pane that ends there.
    leaving: BTreeMap<i64, Vec<u32>>,
    /// The last closed end, in epoch ms.
    pub(crate) closed: Option<i64>,
    /// What sessions hold beyond their slots.
    heap_bytes: usize,
    // room that is used again at each slide
    key: Vec<u8>,
    active: Vec<u32>,
    evicted: Vec<u32>,
}

impl Sessions {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slab: Slab::default(),
            by_id: HashTable::new(),
            groups: Groups::default(),
            examples: Examples::default(),
            panes: BTreeMap::new(),
            leaving: BTreeMap::new(),
            closed: None,
            heap_bytes: 0,
            key: Vec::new(),
            active: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// Takes in an event above the last closed end.
    pub(crate) fn apply<'a>(
        &mut self,
        time: i64,
        session_id: &str,
        event_id: &str,
        dimension: impl Fn(Dimension) -> &'a str,
        traceparent: impl FnOnce() -> Option<&'a str>,
    ) {
        self.rules.grouping.group_key(dimension, &mut self.key);
        let group = self.groups.take(&self.key);
        let hash = xxh3_64(session_id.as_bytes());
        let session = self.find_or_insert(hash, session_id);
        let end = self.rules.windows.pane_end(time);
        self.examples.offer(end, &self.key, event_id, traceparent);
        // the configuration's windows, and so their slides, are shorter than 2^32 ms
        let after_start = (self.rules.windows.slide() - (end - time)) as u32;
        self.push(end, Waiting::new(hash, session, after_start, group), event_id.as_bytes());
    }

    /// Puts the event of a known session into the pane that ends at `end`.
    pub(crate) fn wait_in_pane(&mut self, end: i64, session: u32, after_start: u32, group: u32, event_id: &[u8]) {
        let hash = xxh3_64(self.slab[session].id.as_bytes());
        self.push(end, Waiting::new(hash, session, after_start, group), event_id);
    }

    fn push(&mut self, pane_end: i64, event: Waiting, event_id: &[u8]) {
        self.slab[event.session].waiting += 1;
        self.panes.entry(pane_end).or_default().push(event, event_id);
    }

    fn find_or_insert(&mut self, hash: u64, session_id: &str) -> u32 {
        let Self { slab, by_id, heap_bytes, .. } = self;
        if let Some(index) = by_id.find(hash, |index| slab[*index].id.as_bytes() == session_id.as_bytes()) {
            return *index;
        }
        let session = Session::new(session_id);
        *heap_bytes += session.heap_bytes();
        let index = slab.insert(session);
        by_id.insert_unique(hash, index, |index| xxh3_64(slab[*index].id.as_bytes()));
        index
    }

    /// The smallest window end above `after` at which there is something to emit or to evict.
    pub(crate) fn next_end(&self, after: i64) -> Option<i64> {
        let first_pane = self.panes.first_key_value().map(|(end, _)| *end);
        let next = if self.leaving.is_empty() {
            // nobody lives: time without events is skipped
            first_pane?.max(after.saturating_add(1))
        } else {
            after.max(self.closed.unwrap_or(i64::MIN)).saturating_add(1)
        };
        Some(self.rules.windows.pane_end(next))
    }

    /// Moves the window to `end`, and shows each session with an event in `(end - slide, end]` to `show`, in an order
    /// that only the sessions' ids determine.
    pub(crate) fn close(&mut self, end: i64, mut show: impl FnMut(&Session, &[u8])) {
        debug_assert!(self.closed.is_none_or(|closed| end > closed), "window ends are closed in order");
        self.closed = Some(end);
        let start = self.rules.windows.start(end);
        self.examples.close(start, end);
        self.evict(start);
        while let Some(entry) = self.panes.first_entry()
            && *entry.key() <= end
        {
            let (pane_end, pane) = entry.remove_entry();
            self.enter(pane_end, pane);
        }

        let active = std::mem::take(&mut self.active);
        for index in &active {
            self.settle(*index);
            let session = &self.slab[*index];
            show(session, self.groups.key(session.group));
        }
        let evicted = std::mem::take(&mut self.evicted);
        for index in &evicted {
            if self.slab[*index].touched {
                self.settle(*index);
            }
        }
        self.active = active;
        self.active.clear();
        self.evicted = evicted;
        self.evicted.clear();
    }

    /// Takes out all events at or before `time`.
    fn evict(&mut self, time: i64) {
        while let Some(entry) = self.leaving.first_entry()
            && *entry.key() <= time
        {
            let sessions = entry.remove();
            for (at, index) in sessions.iter().enumerate() {
                if at % AHEAD == 0 {
                    self.fetch(sessions[at..].iter().copied());
                }
                self.touch(*index);
                let session = &mut self.slab[*index];
                session.evict(time, &self.rules.scorer);
                session.listed = false;
                if session.events == 0 {
                    let group = session.group;
                    self.groups.release(group);
                }
            }
            self.evicted.extend(sessions);
        }
    }

    /// Puts a closed pane's events into their sessions.
    fn enter(&mut self, pane_end: i64, mut pane: Pane) {
        let Self { slab, groups, .. } = &*self;
        pane.sort(|session| slab[session].id.as_bytes(), |group| groups.key(group));
        let start = pane_end.saturating_sub(self.rules.windows.slide());
        let mut entered = 0;
        for (at, events) in pane.events().chunk_by(|left, right| left.session == right.session).enumerate() {
            let index = events[0].session;
            if at % AHEAD == 0 {
                let ahead = &pane.events()[entered..];
                self.fetch(ahead.iter().map(|event| event.session));
            }
            entered += events.len();
            self.touch(index);
            self.active.push(index);
            let session = &mut self.slab[index];
            let had_group = (session.events > 0).then_some(session.group);
            for event in events {
                session.append(start.saturating_add(i64::from(event.after_start)), &self.rules.scorer);
            }
            session.waiting -= events.len() as u32;
            // the newest event hands the use of its group over to the session
            session.group = events[events.len() - 1].group;
            for event in &events[..events.len() - 1] {
                self.groups.release(event.group);
            }
            if let Some(group) = had_group {
                self.groups.release(group);
            }
        }
    }

    /// Reads the next sessions that will be changed, so that the memory delivers them together rather than one by one.
    fn fetch(&self, sessions: impl Iterator<Item = u32>) {
        let touched = sessions.take(AHEAD).fold(0, |sum: usize, index| {
            let session = &self.slab[index];
            sum.wrapping_add(session.events as usize + session.gaps.len() + session.id.as_bytes().len())
        });
        std::hint::black_box(touched);
    }

    /// Takes a session's share out of its group's summary, before the session changes.
    fn touch(&mut self, index: u32) {
        let session = &mut self.slab[index];
        if session.touched {
            return;
        }
        session.touched = true;
        self.heap_bytes -= session.heap_bytes();
        if session.events > 0 {
            let scored = self.rules.scored(session);
            self.groups.summary(session.group).remove(u64::from(session.events), scored);
        }
    }

    /// Puts a session's share back after it has changed, and the session into the list of the pane with which it
    /// changes next; forgets it where nothing is left of it.
    pub(crate) fn settle(&mut self, index: u32) {
        let session = &mut self.slab[index];
        session.touched = false;
        if session.events == 0 {
            if session.waiting == 0 {
                self.forget(index);
            } else {
                self.heap_bytes += session.heap_bytes();
            }
            return;
        }
        self.heap_bytes += session.heap_bytes();
        session.rescore(&self.rules.scorer);
        let scored = self.rules.scored(session);
        self.groups.summary(session.group).add(u64::from(session.events), scored);
        if !session.listed {
            session.listed = true;
            self.leaving.entry(self.rules.windows.pane_end(session.oldest)).or_default().push(index);
        }
    }

    fn forget(&mut self, index: u32) {
        let session = self.slab.remove(index);
        if let Ok(entry) = self.by_id.find_entry(xxh3_64(session.id.as_bytes()), |other| *other == index) {
            entry.remove();
        }
    }

    /// Whether most of the room has become empty: a state loaded from a snapshot would need a fraction of it.
    pub(crate) fn is_mostly_empty(&self) -> bool {
        self.slab.capacity() > KEPT_ROOM && self.slab.len() < self.slab.capacity() / 4
    }

    /// Inserts a session that a snapshot holds; `group` has been taken for it where it has events.
    pub(crate) fn insert(&mut self, session: Session) -> u32 {
        let hash = xxh3_64(session.id.as_bytes());
        let index = self.slab.insert(session);
        let slab = &self.slab;
        self.by_id.insert_unique(hash, index, |index| xxh3_64(slab[*index].id.as_bytes()));
        self.settle(index);
        index
    }

    pub(crate) fn reserve(&mut self, sessions: usize) {
        let slab = &self.slab;
        self.by_id.reserve(sessions, |index| xxh3_64(slab[*index].id.as_bytes()));
    }

    pub(crate) fn size(&self) -> StateSize {
        let panes: usize = self.panes.values().map(Pane::bytes).sum();
        let leaving: usize = self.leaving.values().map(|sessions| sessions.capacity() * size_of::<u32>()).sum();
        let scratch = leaving + (self.active.capacity() + self.evicted.capacity()) * size_of::<u32>();
        let bytes = self.slab.bytes()
            + self.by_id.allocation_size()
            + self.heap_bytes
            + self.groups.bytes()
            + self.examples.bytes()
            + panes
            + scratch;
        StateSize { keys: self.slab.len() as u64, bytes: bytes as u64 }
    }
}
