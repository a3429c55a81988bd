//! The first step: the users of one source partition become summaries by domain.

use std::marker::PhantomData;

use streaming::operator::{Fold, NoTable, RestoreError, Source, StateSize, Timed};
use streaming::output::FoldOutput;

use crate::event::VectorEvent;
use crate::limit::{Limit, MERGED};
use crate::settings::Settings;
use crate::snapshot;
use crate::summary::Summary;
use crate::users::{Rules, Users};

/// Rows need two domains, so all summaries of a window meet in one merge partition.
const MERGE_KEY: &[u8] = b"";

/// Keeps the newest vectors of one source partition's users.
///
/// At each window end it emits a summary for every domain with users in the window. Only those that stay under the limit
/// are told apart: others cannot be among the smallest of all partitions; the rest is one summary.
pub struct DriftFold<S> {
    users: Users,
    limit: Limit,
    source: PhantomData<fn() -> S>,
}

impl<S> DriftFold<S> {
    /// A fold without users.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let rules =
            Rules { windows: settings.windows, projector: settings.projector.clone(), sample: settings.shape().sample };
        Self { users: Users::new(rules), limit: settings.limit(), source: PhantomData }
    }

    fn emit(&self, end: i64, out: &mut FoldOutput) {
        let shape = self.users.rules.shape();
        let mut stays = self.limit.judge();
        let mut rest: Option<Summary> = None;
        for (domain, summary) in self.users.summaries() {
            if stays(domain) {
                out.summary(end, MERGE_KEY, domain.as_bytes(), |into| summary.encode(into));
            } else {
                rest.get_or_insert_with(|| Summary::empty(&shape)).merge_overflow(&summary, &shape);
            }
        }
        if let Some(rest) = rest {
            out.summary(end, MERGE_KEY, MERGED, |into| rest.encode(into));
        }
    }

    /// Loads the state anew, so that it takes the room that it needs.
    fn give_room_back(&mut self) {
        let mut bytes = Vec::new();
        snapshot::write(&self.users, &mut bytes);
        match snapshot::read(&bytes, self.users.rules.clone()) {
            Ok(users) => self.users = users,
            Err(error) => debug_assert!(false, "a snapshot just written: {error}"),
        }
    }
}

impl<S> Fold for DriftFold<S>
where
    S: Source,
    for<'a> S::Event<'a>: VectorEvent,
{
    type Source = S;
    type Table = NoTable;

    fn apply(&mut self, event: &S::Event<'_>, _: &mut FoldOutput) {
        let (domain, event_id) = (event.domain(), event.event_id());
        self.users.apply(event.event_time(), domain, event.user_id(), event_id, event.vector());
        self.users.offer_example(event.event_time(), domain, event_id, || event.traceparent());
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.users.next_end(after)
    }

    fn close(&mut self, end: i64, _: &NoTable, out: &mut FoldOutput) {
        self.users.close(end);
        self.emit(end, out);
        if self.users.is_mostly_empty() {
            self.give_room_back();
        }
    }

    fn size(&self) -> StateSize {
        self.users.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        snapshot::write(&self.users, into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.users = snapshot::read(bytes, self.users.rules.clone())?;
        Ok(())
    }
}
