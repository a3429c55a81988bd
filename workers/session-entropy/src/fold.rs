//! The first step: sessions of one source partition become summaries by group and rows by session.

use std::marker::PhantomData;

use grouping::GroupLimit;
use streaming::operator::{Fold, NoTable, RestoreError, Source, StateSize, Timed};
use streaming::output::FoldOutput;

use crate::event::SessionEvent;
use crate::rows::{FRESHNESS_TOPIC, FreshnessRow, RowEncoder};
use crate::sessions::{Rules, Sessions};
use crate::settings::Settings;
use crate::snapshot;

/// Keeps the sessions of one source partition.
///
/// At each window end it emits a row for every session with an event in the last slide, and a summary for every group
/// with sessions in the window, as far as the limit allows.
pub struct SessionFold<S, E> {
    sessions: Sessions,
    limit: GroupLimit,
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
            limit: settings.limit(),
            revision: settings.revision,
            encoder,
            source: PhantomData,
        }
    }

    /// One summary for each group with sessions in the window.
    fn emit_summaries(&self, end: i64, out: &mut FoldOutput) {
        let groups = self.sessions.groups.in_order().map(|(_, group)| (&*group.key, &group.summary));
        let groups = groups.filter(|(_, summary)| summary.sessions_total > 0);
        self.limit.emit(end, self.sessions.groups.len(), groups, &self.sessions.examples, out);
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
        let (session_id, event_id) = (event.session_id(), event.event_id());
        self.sessions.apply(time, session_id, event_id, |dimension| event.dimension(dimension), || event.traceparent());
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.sessions.next_end(after)
    }

    fn close(&mut self, end: i64, _: &NoTable, out: &mut FoldOutput) {
        let Self { sessions, limit, encoder, revision, .. } = self;
        let windows = sessions.rules.windows;
        sessions.close(end, |session, group| {
            let row = FreshnessRow {
                window_start: windows.start(end),
                window_end: end,
                session_id: session.id.as_str(),
                dimensions: &limit.grouping().values(group),
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
