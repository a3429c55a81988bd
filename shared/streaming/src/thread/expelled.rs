//! A thread that the group has expelled begins again, as a new member without tasks.
//!
//! What an expelled member still holds may be others' by now, and have been for a while: its cuts must not be committed,
//! although the group would take them again once it has joined under a new id. So nothing of it is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{StreamThread, ThreadStatus};
use crate::worker::Worker;

/// So often within [`FENCED_WITHIN`] nobody shuts itself out.
const FENCED_LIMIT: usize = 3;
const FENCED_WITHIN: Duration = Duration::from_secs(60);

/// Why a thread begins again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Expelled {
    /// The group does not know the member any more under which the tasks came.
    #[error("the group has expelled this member, whose tasks may be others' now")]
    Forgotten,
    /// Another member has joined under the same `group.instance.id`: mostly this one itself, when the answer to its first
    /// try was lost.
    #[error("a member has joined the group under the same group.instance.id")]
    Fenced,
}

/// Runs a stream thread until the worker is stopped.
///
/// # Errors
/// As [`StreamThread::run`]; also where others join under its name again and again.
pub(crate) fn run(worker: &Arc<Worker>, index: usize, status: &Arc<ThreadStatus>) -> anyhow::Result<()> {
    let mut fenced = Fenced::default();
    loop {
        let ended = StreamThread::new(worker.clone(), index, status.clone()).and_then(StreamThread::run);
        let Err(error) = &ended else { return ended };
        let Some(expelled) = error.downcast_ref::<Expelled>() else { return ended };
        if worker.stopping() {
            return Ok(());
        }
        if *expelled == Expelled::Fenced && fenced.is_too_often(Instant::now()) {
            return ended.map_err(|error| error.context(another_process(&worker.thread_name(index))));
        }
        tracing::warn!(thread = worker.thread_name(index), %expelled, "the thread joins its group again and restores its tasks");
    }
}

/// When a thread was shut out by its own name.
#[derive(Debug, Default)]
pub(super) struct Fenced(Vec<Instant>);

impl Fenced {
    /// Notes that it was at `now`; whether that is too often to be its own doing.
    pub(super) fn is_too_often(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < FENCED_WITHIN);
        self.0.push(now);
        self.0.len() >= FENCED_LIMIT
    }
}

/// What to do where it was.
pub(super) fn another_process(name: &str) -> String {
    format!("another process uses the name {name} with brokers: give each instance its own runtime.instance")
}
