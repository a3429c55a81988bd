//! The first step for interactions: the clicks of one source partition become pairs of items, and these summaries by group.

mod missing;
mod pane;
mod sessions;
mod summary;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use grouping::{Dimension, Examples, GroupLimit};
use measures::{cosine, decay};
use storage::wire::{self, Reader, damaged};
use streaming::operator::{Figure, Fold, RestoreError, Source, StateSize, Timed};
use streaming::output::FoldOutput;

use crate::event::ClickEvent;
use crate::settings::Settings;
use crate::table::ItemTable;
use crate::window_sums::{Groups, WindowSums, share_of};
use missing::Missing;
use pane::{Click, Pane};
use sessions::Sessions;
pub use summary::PairSummary;

const VERSION: u8 = 1;

/// Pairs successive clicks of sessions.
///
/// A click waits for the end of its slide: only then all clicks before it are there, and the items' vectors as of its time.
/// It makes a pair with its session's click before it, if that was on another item and not too long ago.
pub struct ClicksFold<S> {
    settings: Settings,
    limit: GroupLimit,
    sessions: Sessions,
    /// Clicks above the last closed end, by the end of their slide.
    panes: BTreeMap<i64, Pane>,
    sums: WindowSums<PairSummary>,
    /// Of the clicks of groups.
    examples: Examples,
    /// Since the fold was made: state is what results are made of.
    missing: Missing,
    /// The last closed end, in epoch ms.
    closed: Option<i64>,
    key: Vec<u8>,
    source: PhantomData<fn() -> S>,
}

impl<S> ClicksFold<S> {
    /// A fold without sessions.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            limit: settings.pairs_limit(),
            sessions: Sessions::new(settings.windows, settings.session_gap),
            panes: BTreeMap::new(),
            sums: WindowSums::default(),
            examples: Examples::default(),
            missing: Missing::default(),
            closed: None,
            key: Vec::new(),
            source: PhantomData,
            settings: settings.clone(),
        }
    }

    /// Adds a click's pair to its group.
    fn pair(&mut self, click: &Click<'_>, table: &ItemTable, groups: &mut Groups<PairSummary>) {
        let Some(before) = self.sessions.click(click.session_id, click.item_id, click.time) else { return };
        let millis = click.time - before.time;
        if millis > self.settings.session_gap || before.item_id.as_str() == click.item_id {
            return;
        }
        let share = share_of(groups, click.group);
        let vectors = table.as_of(before.item_id.as_str(), click.time).zip(table.as_of(click.item_id, click.time));
        match vectors {
            Some((one, other)) => {
                let cosine = cosine(one, other);
                share.add(cosine, cosine * decay(click.lambda, millis), millis);
            }
            None => share.missing += 1,
        }
    }
}

impl<S> Fold for ClicksFold<S>
where
    S: Source,
    for<'a> S::Event<'a>: ClickEvent,
{
    type Source = S;
    type Table = ItemTable;

    fn apply(&mut self, event: &S::Event<'_>, _: &mut FoldOutput) {
        self.settings.grouping.group_key(|dimension| event.dimension(dimension), &mut self.key);
        let click = Click {
            time: event.event_time(),
            event_id: event.event_id(),
            session_id: event.session_id(),
            item_id: event.item_id(),
            group: &self.key,
            lambda: self.settings.decay.of(event.dimension(Dimension::Domain)),
        };
        let pane_end = self.settings.windows.pane_end(click.time);
        self.examples.offer(pane_end, &self.key, click.event_id, || event.traceparent());
        self.panes.entry(pane_end).or_default().push(&click);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        let after = after.max(self.closed.unwrap_or(i64::MIN)).saturating_add(1);
        if !self.sums.is_empty() || !self.examples.is_empty() {
            return Some(self.settings.windows.pane_end(after));
        }
        // nothing to tell: time without clicks is skipped
        let first_pane = self.panes.first_key_value().map(|(end, _)| *end);
        let next = [first_pane, self.sessions.next_expiry()].into_iter().flatten().min()?;
        Some(self.settings.windows.pane_end(next.max(after)))
    }

    fn close(&mut self, end: i64, table: &ItemTable, out: &mut FoldOutput) {
        debug_assert!(self.closed.is_none_or(|closed| end > closed), "window ends are closed in order");
        self.closed = Some(end);
        let start = self.settings.windows.start(end);
        self.sums.evict(start);
        self.examples.close(start, end);
        while let Some(entry) = self.panes.first_entry()
            && *entry.key() <= end
        {
            let (pane_end, mut pane) = entry.remove_entry();
            pane.sort();
            let mut groups = Groups::new();
            pane.clicks().for_each(|click| self.pair(&click, table, &mut groups));
            for (key, share) in groups.iter().filter(|(_, share)| share.missing > 0) {
                let domain = &self.settings.grouping.values(key)[Dimension::Domain as usize];
                self.missing.add(domain, share.missing);
            }
            self.sums.enter(pane_end, groups);
        }
        self.sessions.expire(end);
        let totals = self.sums.totals();
        self.limit.emit(end, totals.len(), totals.iter().map(|(key, share)| (&**key, share)), &self.examples, out);
    }

    fn size(&self) -> StateSize {
        let panes: usize = self.panes.values().map(Pane::bytes).sum();
        let bytes = self.sessions.bytes() + panes + self.sums.bytes() + self.examples.bytes();
        StateSize { keys: self.sessions.len() as u64, bytes: bytes as u64 }
    }

    /// `missing_vectors`: pairs without a vector, by domain where pairs are grouped by it.
    fn figures(&self) -> Vec<Figure<'_>> {
        self.missing.figures()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        wire::put_u64(into, u64::from(self.closed.is_some()));
        wire::put_signed(into, i128::from(self.closed.unwrap_or_default()));
        self.sessions.write(into);
        self.sums.write(into);
        wire::put_u64(into, self.panes.len() as u64);
        for (end, pane) in &self.panes {
            wire::put_signed(into, i128::from(*end));
            pane.write(into);
        }
        self.examples.write(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut restored = Self::new(&self.settings);
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let has_closed = reader.u64()? == 1;
        restored.closed = Some(reader.time()?).filter(|_| has_closed);
        restored.sessions.read(&mut reader, restored.closed)?;
        restored.sums = WindowSums::read(&mut reader)?;
        for _ in 0..reader.u64()? {
            let end = reader.time()?;
            if restored.closed.is_some_and(|closed| end <= closed) {
                return Err(damaged("a slide that is closed"));
            }
            restored.panes.insert(end, Pane::read(&mut reader, self.settings.windows, end)?);
        }
        restored.examples = Examples::read(&mut reader)?;
        reader.finish()?;
        *self = restored;
        Ok(())
    }
}
