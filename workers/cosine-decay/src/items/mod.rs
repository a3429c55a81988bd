//! The first step for items' vectors: the versions of one source partition become entries of the table, decay rates by
//! domain, and requests for retraining.

mod entries;
mod observations;
mod pane;
mod rate;
mod snapshot;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

use grouping::{Examples, GroupLimit};
use hashbrown::HashTable;
use measures::{Nearest, Search, cosine, norm};
use storage::wire::Reader;
use storage::{Rows, Slab, Text};
use streaming::operator::{Closing, Fold, RestoreError, Source, StateSize, Table as _, Timed};
use streaming::output::FoldOutput;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::{ItemEvent, NewVersion};
use crate::rows::{RETRAIN_TOPIC, RetrainRow, RowEncoder};
use crate::settings::Settings;
use crate::table::{Asking, ItemTable};
use crate::version::{VersionKey, encode_vector};
use crate::window_sums::{Groups, WindowSums, share_of};
use entries::Entries;
use observations::Observations;
use pane::{Pane, Waiting, compare_bits};
pub use rate::RateSummary;

/// Comparisons of a version with an item that are made before others have their turn: some 20 ms.
const PIECE: usize = 1 << 22;

/// Keeps the newest versions of one source partition's items.
///
/// A version goes to the table at once. What compares it with the version before it, and with other items, waits for the
/// end of its slide: only then all versions before it are there.
pub struct ItemsFold<S, E> {
    settings: Settings,
    limit: GroupLimit,
    encoder: E,
    slab: Slab<Item>,
    by_id: HashTable<u32>,
    /// By the numbers of the items: their newest vectors up to the last closed end.
    newest: Rows<f32>,
    /// What items hold beyond their slots, about.
    heap_bytes: usize,
    /// Versions above the last closed end, by the end of their slide.
    panes: BTreeMap<i64, Pane>,
    sums: WindowSums<RateSummary>,
    /// Of the versions of domains.
    examples: Examples,
    /// The last closed end, in epoch ms.
    closed: Option<i64>,
    /// The pane that is being taken in.
    closing: Option<PaneInWork>,
    /// Comparisons that make a piece of closing.
    piece: usize,
    /// The items that have entries which will not be needed for ever.
    prunable: Vec<u32>,
    key: Vec<u8>,
    source: PhantomData<fn() -> S>,
}

/// A pane whose versions become their items' newest ones.
#[derive(Debug)]
struct PaneInWork {
    end: i64,
    pane: Pane,
    /// The versions before it have been taken in.
    next: usize,
    groups: Groups<RateSummary>,
}

#[derive(Debug, Default)]
struct Item {
    id: Text,
    /// Time of its newest version up to the last closed end; `None` where it has none.
    since: Option<i64>,
    observations: Observations,
    entries: Entries,
    /// Versions in panes that are not closed.
    waiting: u32,
    /// Whether it is in the list of prunable ones.
    listed: bool,
}

impl Item {
    fn heap_bytes(&self) -> usize {
        self.id.heap_bytes() + self.entries.bytes() + self.observations.bytes()
    }
}

impl<S, E: RowEncoder> ItemsFold<S, E> {
    /// A fold without items.
    #[must_use]
    pub fn new(settings: &Settings, encoder: E) -> Self {
        Self {
            limit: settings.rate_limit(),
            encoder,
            slab: Slab::default(),
            by_id: HashTable::new(),
            newest: Rows::new(settings.vector_dimensions),
            heap_bytes: 0,
            panes: BTreeMap::new(),
            sums: WindowSums::default(),
            examples: Examples::default(),
            closed: None,
            closing: None,
            piece: PIECE,
            prunable: Vec::new(),
            key: Vec::new(),
            source: PhantomData,
            settings: settings.clone(),
        }
    }

    /// The same fold, closing in pieces of so many comparisons of a version with an item (at least 1).
    #[must_use]
    pub fn in_pieces_of(self, comparisons: usize) -> Self {
        Self { piece: comparisons, ..self }
    }

    fn find(&self, item_id: &str) -> Option<u32> {
        let is_wanted = |index: &u32| self.slab[*index].id.as_bytes() == item_id.as_bytes();
        self.by_id.find(xxh3_64(item_id.as_bytes()), is_wanted).copied()
    }

    /// The number of an item, which is made known where needed.
    fn find_or_insert(&mut self, item_id: &str) -> u32 {
        if let Some(item) = self.find(item_id) {
            return item;
        }
        let Self { slab, by_id, newest, heap_bytes, .. } = self;
        let item = Item { id: Text::new(item_id), ..Item::default() };
        *heap_bytes += item.heap_bytes();
        let index = slab.insert(item);
        newest.make_room(index as usize);
        by_id.insert_unique(xxh3_64(item_id.as_bytes()), index, |index| xxh3_64(slab[*index].id.as_bytes()));
        index
    }

    fn forget(&mut self, index: u32) {
        let item = self.slab.remove(index);
        if let Ok(entry) = self.by_id.find_entry(xxh3_64(item.id.as_bytes()), |other| *other == index) {
            entry.remove();
        }
    }

    /// Lists an item for pruning where it needs it.
    fn list(&mut self, index: u32) {
        let item = &mut self.slab[index];
        if !item.listed && item.entries.has_passing() {
            item.listed = true;
            self.prunable.push(index);
        }
    }

    /// Whether a version of that name waits whose vector is at least as great.
    fn is_known(&self, item: u32, time: i64, event_id: &str, vector: &[f32]) -> bool {
        let pane = self.panes.get(&self.settings.rate_windows.pane_end(time));
        pane.is_some_and(|pane| {
            pane.iter().any(|(version, known)| {
                (version.item, version.time, version.event_id.as_str()) == (item, time, event_id)
                    && compare_bits(known, vector).is_ge()
            })
        })
    }

    /// Lets a version be its item's newest one; false where it is a deletion.
    fn enter(&mut self, version: &Waiting, vector: &[f32], groups: &mut Groups<RateSummary>) -> bool {
        let item = &mut self.slab[version.item];
        item.waiting -= 1;
        let before = std::mem::replace(&mut item.since, (!vector.is_empty()).then_some(version.time));
        if vector.is_empty() {
            self.heap_bytes -= item.observations.bytes();
            item.observations = Observations::default();
            return false;
        }
        if let Some(before) = before.filter(|before| *before < version.time) {
            self.limit.grouping().group_key(|_| version.domain.as_str(), &mut self.key);
            let cosine = cosine(self.newest.row(version.item), vector);
            share_of(groups, &self.key).fit.add(version.time - before, cosine);
        }
        self.newest.row_mut(version.item).copy_from_slice(vector);
        true
    }

    /// The oldest pane up to `end`, to be taken in.
    fn open_pane(&mut self, end: i64) -> Option<PaneInWork> {
        let entry = self.panes.first_entry().filter(|entry| *entry.key() <= end)?;
        let (end, mut pane) = entry.remove_entry();
        pane.sort(|item| self.slab[item].id.as_bytes());
        Some(PaneInWork { end, pane, next: 0, groups: Groups::new() })
    }

    /// Takes the next versions of a pane in, as many as look at the table together. The comparisons that this took.
    fn take_in(&mut self, work: &mut PaneInWork, table: &ItemTable, out: &mut FoldOutput) -> usize {
        let PaneInWork { pane, next, groups, .. } = work;
        let versions = *next..pane.len().min(*next + Search::MOST);
        *next = versions.end;
        let observations = self.observations(pane, versions.clone(), table);
        let comparisons = versions.len() * (1 + table.size().keys as usize);
        for (at, observation) in versions.zip(observations) {
            let (version, vector) = pane.version(at);
            if self.enter(version, vector, groups)
                && let Some(observation) = observation
            {
                self.observe(version, vector, observation, out);
            }
        }
        comparisons
    }

    /// Where the items of versions lie among the other items: the mean cosine to their nearest ones; `None` for deletions,
    /// and without other items. All of them are taken as of a version's time, its item too: where that has several
    /// versions of one time, each finds the newest of them there.
    fn observations(&self, pane: &Pane, versions: Range<usize>, table: &ItemTable) -> Vec<Option<f64>> {
        let Some(rule) = &self.settings.retraining else { return vec![None; versions.len()] };
        let has_vector = |at: &usize| !pane.version(*at).1.is_empty();
        let asking = versions.clone().filter(has_vector).map(|at| {
            let version = pane.version(at).0;
            let item_id = self.slab[version.item].id.as_str();
            Asking { item_id, time: version.time, vector: pane.vector_as_of_then(at) }
        });
        let search = table.nearest(&asking.collect::<Vec<_>>(), rule.neighbours);
        let mut means = search.nearest().iter().map(Nearest::mean);
        versions.map(|at| if has_vector(&at) { means.next().flatten() } else { None }).collect()
    }

    /// Adds where the item of a version lies to what was observed of it before.
    fn observe(&mut self, version: &Waiting, vector: &[f32], observation: f64, out: &mut FoldOutput) {
        let Some(rule) = &self.settings.retraining else { return };
        let item = &mut self.slab[version.item];
        let norm = norm(vector);
        self.heap_bytes -= item.observations.bytes();
        let asks = item.observations.add(observation, norm, rule);
        self.heap_bytes += item.observations.bytes();
        let Some(slope) = asks else { return };
        let row = RetrainRow {
            event_time: version.time,
            item_id: item.id.as_str(),
            domain: version.domain.as_str(),
            model_version: version.model_version.as_str(),
            observation,
            observations: item.observations.count,
            slope,
            norm,
            revision: self.settings.revision,
        };
        let encoder = &mut self.encoder;
        out.records.push(RETRAIN_TOPIC, None, item.id.as_bytes(), |into| encoder.retrain(&row, into));
    }
}

impl<S, E> Fold for ItemsFold<S, E>
where
    S: Source,
    for<'a> S::Event<'a>: ItemEvent,
    E: RowEncoder,
{
    type Source = S;
    type Table = ItemTable;

    fn apply(&mut self, event: &S::Event<'_>, out: &mut FoldOutput) {
        let (time, event_id) = (event.event_time(), event.event_id());
        let version = event.version().unwrap_or(NewVersion { domain: "", model_version: "", vector: &[] });
        let index = self.find_or_insert(event.item_id());
        let item = &mut self.slab[index];
        item.waiting += 1;
        self.heap_bytes -= item.entries.bytes();
        let is_new = item.entries.insert(time, event_id, version.vector.is_empty());
        self.heap_bytes += item.entries.bytes();
        self.list(index);
        // should two agree in time and id, the content decides, so that no order of arrival shows
        if is_new || !self.is_known(index, time, event_id, version.vector) {
            self.key.clear();
            VersionKey { item_id: event.item_id(), event_time: time, event_id }.encode(&mut self.key);
            out.put(&self.key, |into| encode_vector(version.vector, into));
        }
        let pane_end = self.settings.rate_windows.pane_end(time);
        self.limit.grouping().group_key(|_| version.domain, &mut self.key);
        self.examples.offer(pane_end, &self.key, event_id, || event.traceparent());
        let pane = self.panes.entry(pane_end).or_default();
        pane.push((index, time, event_id), (version.domain, version.model_version), version.vector);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        let after = after.max(self.closed.unwrap_or(i64::MIN)).saturating_add(1);
        // without updates to tell of, time without versions is skipped
        let first_pane = self.panes.first_key_value().map(|(end, _)| *end);
        let is_empty = self.sums.is_empty() && self.examples.is_empty();
        let next = if is_empty { first_pane?.max(after) } else { after };
        Some(self.settings.rate_windows.pane_end(next))
    }

    fn close(&mut self, end: i64, _: &ItemTable, _: &mut FoldOutput) {
        debug_assert!(self.closed.is_none_or(|closed| end > closed), "window ends are closed in order");
        self.closed = Some(end);
        let start = self.settings.rate_windows.start(end);
        self.sums.evict(start);
        self.examples.close(start, end);
    }

    fn go_on_closing(&mut self, end: i64, table: &ItemTable, out: &mut FoldOutput) -> Closing {
        let mut comparisons = 0;
        while let Some(mut work) = self.closing.take().or_else(|| self.open_pane(end)) {
            while work.next < work.pane.len() {
                if comparisons >= self.piece {
                    self.closing = Some(work);
                    return Closing::Unfinished;
                }
                comparisons += self.take_in(&mut work, table, out);
            }
            self.sums.enter(work.end, work.groups);
        }
        let totals = self.sums.totals();
        self.limit.emit(end, totals.len(), totals.iter().map(|(key, share)| (&**key, share)), &self.examples, out);
        Closing::Done
    }

    fn prune(&mut self, horizon: i64, out: &mut FoldOutput) {
        let mark = out.mark();
        for index in std::mem::take(&mut self.prunable) {
            let item = &mut self.slab[index];
            item.listed = false;
            let Item { id, entries, .. } = item;
            entries.prune(horizon, mark, |event_time, event_id| {
                self.key.clear();
                VersionKey { item_id: id.as_str(), event_time, event_id }.encode(&mut self.key);
                out.remove(&self.key);
            });
            if entries.is_empty() && item.waiting == 0 {
                self.heap_bytes -= item.heap_bytes();
                self.forget(index);
            } else {
                self.list(index);
            }
        }
    }

    fn size(&self) -> StateSize {
        let in_work = self.closing.iter().map(|work| &work.pane);
        let panes: usize = self.panes.values().chain(in_work).map(Pane::bytes).sum();
        let bytes = self.slab.bytes()
            + self.by_id.allocation_size()
            + self.newest.bytes()
            + self.heap_bytes
            + panes
            + self.sums.bytes()
            + self.examples.bytes()
            + self.prunable.capacity() * size_of::<u32>();
        StateSize { keys: self.slab.len() as u64, bytes: bytes as u64 }
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        self.write(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.clear();
        let mut reader = Reader::new(bytes);
        self.read(&mut reader)?;
        reader.finish()
    }
}
