//! Tasks: an operator, its state and its outputs for one partition. Pure: records and times come in, buffered outputs
//! go out.

use std::fmt;

use crate::counts::{Counts, FutureRule};
use crate::operator::{Figure, Record, RestoreError, StateSize};
use crate::output::OutputBuffer;
use crate::resume::Lost;
use crate::state::Loaded;

/// Which of the two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Per source partition.
    Fold,
    /// Per partition of the repartition topic.
    Merge,
}

/// A task's name within a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskId {
    /// Index of the pipeline in the topology.
    pub(crate) pipeline: usize,
    /// Fold or merge.
    pub(crate) step: Step,
    /// The partition of its input topic.
    pub(crate) partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Fold => "fold",
            Step::Merge => "merge",
        };
        write!(f, "{step}/{}", self.partition)
    }
}

/// A fault of ours, not of the input: the task cannot go on without losing something.
#[derive(Debug, thiserror::Error)]
#[error("task {task}, offset {offset}: {problem}")]
pub(crate) struct TaskError {
    /// Which task.
    pub(crate) task: TaskId,
    /// At which record.
    pub(crate) offset: i64,
    /// What is wrong.
    pub(crate) problem: String,
}

/// How far a task has got in event time (epoch ms). Committed with its offset, so that a replay ends in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reached {
    /// The watermark of its input, followed ones included.
    pub(crate) watermark: Option<i64>,
    /// The windows that end at or before it are closed. It lags behind the watermark where a table is waited for.
    pub(crate) closed: Option<i64>,
    /// All table entries up to it are written, where the task feeds a table.
    pub(crate) mark: Option<i64>,
}

/// A record whose event time lay in the future, with the clocks that it was compared with; all in epoch ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedFuture {
    pub(crate) offset: i64,
    pub(crate) event_time: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) now: i64,
    pub(crate) rule: FutureRule,
}

impl fmt::Display for RefusedFuture {
    /// The clock that refused it, for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rule, self.timestamp) {
            (FutureRule::RecordTimestamp, Some(timestamp)) => write!(f, "the record's timestamp {timestamp}"),
            (_, Some(timestamp)) => {
                write!(f, "the reader's clock {}; the record's timestamp {timestamp} is ahead of it too", self.now)
            }
            (_, None) => write!(f, "the reader's clock {}; the record has no timestamp", self.now),
        }
    }
}

/// Whether a record was taken in.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Processed {
    /// It is accounted for.
    Done,
    /// It keeps its place: something outside does not answer.
    NotNow(String),
    /// It keeps its place: windows are being closed.
    Closing,
}

/// One partition's operator with its state and the outputs that wait for the next cut.
pub(crate) trait Task: Send {
    /// Takes the next record of its partition in. Bad input is no error. `now` is the reader's clock (epoch ms) after the
    /// record was read for the first time; a replay does not ask it.
    ///
    /// # Errors
    /// Where the task's own invariants are broken.
    fn process(&mut self, record: &Record<'_>, now: i64) -> Result<Processed, TaskError>;

    /// The next offset it expects.
    fn position(&self) -> i64;

    /// Sets the offset of its first record.
    fn start_at(&mut self, offset: i64);

    /// Goes on behind records that are gone, and counts them (folds).
    fn skip(&mut self, lost: Lost);

    /// How far it has got.
    fn reached(&self) -> Reached;

    /// The watermark of its input in epoch ms.
    fn watermark(&self) -> Option<i64> {
        self.reached().watermark
    }

    /// Raises the watermark of an idle partition; true where it rose.
    fn follow(&mut self, watermark: i64) -> bool;

    /// Raises the mark of an idle partition that feeds a table.
    fn follow_mark(&mut self, mark: i64) {
        let _ = mark;
    }

    /// How far the table is complete in which it looks things up (epoch ms, `i64::MIN` for not at all); `None` where it
    /// looks nothing up.
    fn table_complete(&self) -> Option<i64> {
        None
    }

    /// Closes what waited for the table, and goes on with what is being closed.
    fn advance(&mut self) {}

    /// Whether windows are being closed that take longer than one turn. Till then the task takes no record, and no
    /// snapshot is taken; it may be cut, and is then where it was before.
    fn is_closing(&self) -> bool {
        false
    }

    /// Nobody looks up as of a time below `horizon` any more.
    fn prune(&mut self, horizon: i64) {
        let _ = horizon;
    }

    /// Bytes of output that wait.
    fn pending_bytes(&self) -> usize;

    /// Whether the row of a closed window waits.
    fn row_waits(&self) -> bool;

    /// Appends the outputs since the last call, watermark announcements included. Announcements come behind the
    /// summaries that they cover.
    fn drain(&mut self, into: &mut OutputBuffer);

    /// Appends what the task says of itself on the watermarks topic; `restores_from` is what was closed at its newest
    /// committed snapshot.
    fn announce(&self, idle: bool, restores_from: Option<i64>, into: &mut OutputBuffer);

    /// Keys on the state topic that a snapshot at offset `before` supersedes: decisions below it, history that was
    /// forgotten. Each is answered once.
    fn superseded(&mut self, before: i64) -> Vec<String>;

    /// What became of the records (folds).
    fn counts(&self) -> Option<&Counts>;

    /// The newest record that was refused since its event time lay in the future, for a warning (folds).
    fn refused_future(&self) -> Option<RefusedFuture> {
        None
    }

    /// Live state.
    fn size(&self) -> StateSize;

    /// Windows that hold data and are not closed (merges).
    fn open_windows(&self) -> usize;

    /// Groups merged into others because there were too many, since the task was made (merges).
    fn overflowed(&self) -> u64;

    /// What the operator tells of itself.
    fn figures(&self) -> Vec<Figure<'_>>;

    /// Appends the whole state.
    fn snapshot(&self, into: &mut Vec<u8>);

    /// Replaces the state by what was loaded and makes ready for a replay up to `committed`.
    ///
    /// # Errors
    /// Where the bytes are no snapshot.
    fn restore(&mut self, loaded: Loaded, committed: Reached) -> Result<(), RestoreError>;

    /// Forgets waiting outputs: a replay's were committed before.
    fn discard_outputs(&mut self);

    /// The replay has reached the committed offset, with which `committed` was reached.
    fn end_replay(&mut self, committed: Reached);

    /// The task's records come live from now on; called once, after the replay if there was something to replay.
    fn go_live(&mut self) {}
}

/// Splits a snapshot into its length-prefixed header and the rest.
pub(crate) fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), RestoreError> {
    let short = || RestoreError("it ends too early".to_owned());
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(short)
}

/// Appends a part with its length before it.
pub(crate) fn write_with_length(into: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = into.len();
    into.extend_from_slice(&[0; 8]);
    write(into);
    let length = (into.len() - at - 8) as u64;
    into[at..at + 8].copy_from_slice(&length.to_le_bytes());
}
