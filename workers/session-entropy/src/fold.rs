//! The first step: sessions of one source partition become summaries by group and rows by session.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use streaming::operator::{Fold, NoTable, RestoreError, Source, StateSize, Timed};
use streaming::output::FoldOutput;

use crate::dimensions::Grouping;
use crate::event::SessionEvent;
use crate::rows::{FRESHNESS_TOPIC, FreshnessRow, RowEncoder};
use crate::sessions::{Rules, Sessions};
use crate::settings::Settings;
use crate::snapshot;
use crate::summary::Summary;

/// Keeps the sessions of one source partition.
///
/// At each window end it emits a row for every session with an event in the last slide, and a summary for every group
/// with sessions in the window: under each merge key only the `max_groups` smallest, since others cannot be among the
/// smallest of all partitions; the rest is one summary.
pub struct SessionFold<S, E> {
    sessions: Sessions,
    grouping: Grouping,
    max_groups: usize,
    revision: i64,
    encoder: E,
    source: PhantomData<fn() -> S>,
}

impl<S, E: RowEncoder> SessionFold<S, E> {
    /// A fold without sessions.
    #[must_use]
    pub fn new(settings: &Settings, encoder: E) -> Self {
        let rules = Rules {
            windows: settings.windows,
            scorer: settings.scorer.clone(),
            min_events: settings.min_events,
            grouping: settings.grouping.clone(),
        };
        Self {
            sessions: Sessions::new(rules),
            grouping: settings.grouping.clone(),
            max_groups: settings.max_groups,
            revision: settings.revision,
            encoder,
            source: PhantomData,
        }
    }

    /// One summary for each group with sessions in the window.
    fn emit_summaries(&self, end: i64, out: &mut FoldOutput) {
        let grouping = &self.grouping;
        let groups = self.sessions.groups.in_order().map(|(_, group)| group);
        let groups = groups.filter(|group| group.summary.sessions_total > 0);
        let mut merge_key = Vec::new();
        if self.sessions.groups.len() <= self.max_groups {
            for group in groups {
                grouping.merge_key(&group.key, &mut merge_key);
                out.summary(end, &merge_key, &group.key, |into| group.summary.encode(into));
            }
            return;
        }
        let mut under: BTreeMap<Vec<u8>, UnderMergeKey> = BTreeMap::new();
        for group in groups {
            grouping.merge_key(&group.key, &mut merge_key);
            if !under.contains_key(&merge_key) {
                under.insert(merge_key.clone(), UnderMergeKey::default());
            }
            let Some(under) = under.get_mut(&merge_key) else { continue };
            if under.kept < self.max_groups {
                under.kept += 1;
                out.summary(end, &merge_key, &group.key, |into| group.summary.encode(into));
            } else {
                let rest = under.rest.get_or_insert_with(|| {
                    let mut key = Vec::new();
                    grouping.overflow_key(&group.key, &mut key);
                    (key, Summary::default())
                });
                rest.1.merge_overflow(&group.summary);
            }
        }
        for (merge_key, under) in under {
            if let Some((key, summary)) = under.rest {
                out.summary(end, &merge_key, &key, |into| summary.encode(into));
            }
        }
    }

    /// Loads the state anew, so that it takes the room that it needs.
    fn give_room_back(&mut self) {
        let mut bytes = Vec::new();
        snapshot::write(&self.sessions, &mut bytes);
        match snapshot::read(&bytes, self.sessions.rules.clone()) {
            Ok(sessions) => self.sessions = sessions,
            Err(error) => debug_assert!(false, "a snapshot just written: {error}"),
        }
    }
}

/// The groups of one merge key.
#[derive(Debug, Default)]
struct UnderMergeKey {
    /// How many have been emitted as they are.
    kept: usize,
    /// Key and summary of all others.
    rest: Option<(Vec<u8>, Summary)>,
}

impl<S, E> Fold for SessionFold<S, E>
where
    S: Source,
    for<'a> S::Event<'a>: SessionEvent,
    E: RowEncoder,
{
    type Source = S;
    type Table = NoTable;

    fn apply(&mut self, event: &S::Event<'_>, _: &mut FoldOutput) {
        let time = event.event_time();
        self.sessions.apply(time, event.session_id(), event.event_id(), |dimension| event.dimension(dimension));
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.sessions.next_end(after)
    }

    fn close(&mut self, end: i64, _: &NoTable, out: &mut FoldOutput) {
        let Self { sessions, grouping, encoder, revision, .. } = self;
        let windows = sessions.rules.windows;
        sessions.close(end, |session, group| {
            let row = FreshnessRow {
                window_start: windows.start(end),
                window_end: end,
                session_id: session.id.as_str(),
                dimensions: &grouping.values(group),
                events: u64::from(session.events),
                score: session.score,
                revision: *revision,
            };
            out.records.push(FRESHNESS_TOPIC, None, session.id.as_bytes(), |into| encoder.freshness(&row, into));
        });
        self.emit_summaries(end, out);
        if self.sessions.is_mostly_empty() {
            self.give_room_back();
        }
    }

    fn size(&self) -> StateSize {
        self.sessions.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        snapshot::write(&self.sessions, into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.sessions = snapshot::read(bytes, self.sessions.rules.clone())?;
        Ok(())
    }
}
