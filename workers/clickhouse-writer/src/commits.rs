//! Commits in a thread of their own: brokers that are away may not answer for long, and the loop polls on meanwhile.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::source::CommitFailure;

/// Topic, partition and the next offset to read of each partition.
pub(crate) type Offsets = Vec<(String, i32, i64)>;

/// At the end, a commit that is under way is waited for at most so long.
const END_LIMIT: Duration = Duration::from_secs(1);

/// The thread that commits, one commit at a time. Dropped, it ends; what it had of its function is dropped before, unless a
/// commit does not end in time.
pub(crate) struct Commits {
    requests: Option<Sender<Offsets>>,
    answers: Receiver<Result<(), CommitFailure>>,
    end_limit: Duration,
}

impl Commits {
    /// Starts the thread. `commit` is called in it, and may wait.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn start(
        mut commit: impl FnMut(&Offsets) -> Result<(), CommitFailure> + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (requests, requested) = channel::<Offsets>();
        let (answer, answers) = channel();
        let work = move || {
            for offsets in requested {
                if answer.send(commit(&offsets)).is_err() {
                    break;
                }
            }
            // in this order: who sees that the thread has ended is the only one left with what it held
            drop(commit);
            drop(answer);
        };
        std::thread::Builder::new().name("commit".to_owned()).spawn(work).context("starting the commit thread")?;
        Ok(Self { requests: Some(requests), answers, end_limit: END_LIMIT })
    }

    /// Begins a commit. That the thread has ended shows in [`ended`](Self::ended).
    pub(crate) fn begin(&self, offsets: Offsets) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(offsets);
        }
    }

    /// How the oldest commit has ended, once; waits for that for at most `wait`.
    pub(crate) fn ended(&self, wait: Duration) -> Option<Result<(), CommitFailure>> {
        match self.answers.recv_timeout(wait) {
            Ok(ended) => Some(ended),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(CommitFailure::NoThread)),
        }
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.requests = None;
        let deadline = Instant::now() + self.end_limit;
        loop {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    tracing::warn!("a commit has no answer: the group is not left, and misses this member by itself");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn offsets(next: i64) -> Offsets {
        vec![("rows".to_owned(), 0, next)]
    }

    #[test]
    fn a_commit_without_an_answer_stops_neither_who_began_it_nor_the_end() {
        let (let_go, held) = channel::<()>();
        let mut commits = Commits::start(move |_| {
            let _ = held.recv();
            Ok(())
        })
        .unwrap();
        commits.begin(offsets(1));
        assert!(commits.ended(Duration::ZERO).is_none());
        commits.end_limit = Duration::from_millis(1);
        let begun = Instant::now();
        drop(commits);
        assert!(begun.elapsed() < LONG);
        drop(let_go);
    }

    #[test]
    fn when_it_is_dropped_nothing_of_its_function_is_left() {
        let committed = Arc::new(Mutex::new(Vec::new()));
        let into = committed.clone();
        let mut commits = Commits::start(move |offsets| {
            into.lock().unwrap().extend(offsets.clone());
            Ok(())
        })
        .unwrap();
        commits.end_limit = LONG;
        commits.begin(offsets(1));
        commits.begin(offsets(2));
        drop(commits);
        let committed = Arc::into_inner(committed).expect("the thread holds it no more").into_inner().unwrap();
        assert_eq!(committed, [offsets(1), offsets(2)].concat());
    }

    #[test]
    fn a_thread_that_has_panicked_shows_as_a_failure() {
        let commits = Commits::start(|_| panic!("a defect")).unwrap();
        commits.begin(offsets(1));
        assert!(matches!(commits.ended(LONG), Some(Err(CommitFailure::NoThread))));
    }
}
