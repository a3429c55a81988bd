//! What a worker supplies: a source that decodes, a fold, a merge. All of it is pure but the source's decoding, which
//! may ask the schema registry.
//!
//! A worker runs two steps in one consumer group. The **fold** keeps per-key state for one source partition and reduces
//! each slide to mergeable summaries, one a group. The **merge** adds the summaries of all source partitions and emits
//! a closed window's rows. The runtime decides what is late, when a window closes, and what is committed.

use std::collections::BTreeMap;

use records::Rejection;

use crate::headers::Headers;
use crate::output::{FoldOutput, MergeOutput};

/// A record as it came from Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Kafka timestamp in epoch ms, never negative: the wall clock of its production, or of the broker that appended it;
    /// `None` where the record has none.
    pub timestamp: Option<i64>,
    /// Offset in its partition.
    pub offset: i64,
    /// Its headers.
    pub headers: &'a dyn Headers,
}

/// Something that happened at an event time.
pub trait Timed {
    /// Event time in epoch ms.
    fn event_time(&self) -> i64;
}

/// Why there is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The record is bad input.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// What is needed to decode it does not answer: the record keeps its place, and its partition waits.
    #[error("{0}")]
    NotNow(String),
}

/// Turns records into events. It may ask the schema registry: what it learns there and could be told differently at
/// another time is reported as a [`Rejection`] with `outside` set, and is then remembered by the runtime.
pub trait Source: Send + 'static {
    /// A decoded event; it may borrow from the record.
    type Event<'a>: Timed;

    /// Decodes and checks one record, in the order of METRICS' reasons up to `bad_vector`. The event's time must lie in
    /// [`EVENT_TIMES`](records::EVENT_TIMES); whether it is late or in the future is judged by the runtime.
    ///
    /// # Errors
    /// Why the record is bad input, or why nothing can be said about it yet.
    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<Self::Event<'a>, SourceError>;
}

/// Why a snapshot's bytes cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be read: {0}")]
pub struct RestoreError(pub String);

/// How much live state an operator holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateSize {
    /// Live keys.
    pub keys: u64,
    /// Bytes, estimated from capacities, not measured.
    pub bytes: u64,
}

/// A number that an operator tells of itself, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure<'a> {
    /// What it is.
    pub name: &'static str,
    /// What it is of, such as a domain; empty where there is one only.
    pub of: &'a str,
    /// The number.
    pub value: u64,
}

/// What every instance of a worker holds whole, to look things up as of an event time. Folds write it
/// ([`FoldOutput::put`]) to the worker's own compacted table topic; every instance reads all of that.
pub trait Table: Send + Sync + 'static {
    /// Takes an entry in, or replaces it. It was written when its partition's mark stood at `mark` (epoch ms): what lies
    /// at or below that may have been looked up already, so the entry counts for later times only.
    ///
    /// # Errors
    /// Where the bytes are none that a fold has written.
    fn put(&mut self, key: &[u8], value: &[u8], mark: Option<i64>) -> Result<(), RestoreError>;

    /// Forgets an entry.
    fn remove(&mut self, key: &[u8]);

    /// Entries and bytes held; must be cheap.
    fn size(&self) -> StateSize;
}

/// For folds that look nothing up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoTable;

impl Table for NoTable {
    fn put(&mut self, _: &[u8], _: &[u8], _: Option<i64>) -> Result<(), RestoreError> {
        Ok(())
    }

    fn remove(&mut self, _: &[u8]) {}

    fn size(&self) -> StateSize {
        StateSize::default()
    }
}

/// Whether a window is closed.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// All of it.
    Done,
    /// There is more to do.
    Unfinished,
}

/// The first step, one for each source partition: keeps per-key state and reduces slides to summaries.
///
/// The runtime calls [`apply`](Fold::apply) for each accepted event (`event_time` above the watermark, in order of
/// arrival), and, when the watermark has reached window ends, [`close`](Fold::close) for each end that
/// [`next_end`](Fold::next_end) names, ascending. What `close` emits must depend on the set of applied events and on what
/// the table holds up to `end` alone. A fold with a table is closed later than its watermark passes an end where the
/// table is not complete up to there yet; later events may have been applied by then.
pub trait Fold: Send + 'static {
    /// Where its events come from.
    type Source: Source;
    /// What it looks up; [`NoTable`] for most.
    type Table: Table;

    /// Takes an accepted event in. It may write table entries.
    fn apply(&mut self, event: &<Self::Source as Source>::Event<'_>, out: &mut FoldOutput);

    /// The smallest window end above `after` at which there is something to emit or to evict; `None` where no state is
    /// held. Ends without data are skipped by answering the next one that matters.
    fn next_end(&self, after: i64) -> Option<i64>;

    /// The window that ends at `end` is complete in this partition: emit its summaries and records (no table entries), evict
    /// what no later window covers.
    fn close(&mut self, end: i64, table: &Self::Table, out: &mut FoldOutput);

    /// Goes on with what [`close`](Fold::close) has left to do for the window that ends at `end`: called after it until all is
    /// done. A fold whose windows take long to close does it in pieces here, cut by a count, never by a clock. Between them
    /// the thread does other things; no event is applied meanwhile, nothing of the window gets out, no snapshot is taken.
    fn go_on_closing(&mut self, end: i64, table: &Self::Table, out: &mut FoldOutput) -> Closing {
        let _ = (end, table, out);
        Closing::Done
    }

    /// Nobody looks up as of a time below `horizon` any more: table entries that only such lookups need can go.
    fn prune(&mut self, horizon: i64, out: &mut FoldOutput) {
        let _ = (horizon, out);
    }

    /// Live keys and bytes; must be cheap (called some times a second).
    fn size(&self) -> StateSize;

    /// Numbers of its own for `/metrics` (none by default): few, bounded, and cheap (called some times a second).
    fn figures(&self) -> Vec<Figure<'_>> {
        Vec::new()
    }

    /// Appends the whole state.
    fn snapshot(&self, into: &mut Vec<u8>);

    /// Replaces the state by what [`snapshot`](Fold::snapshot) has written.
    ///
    /// # Errors
    /// Where the bytes are not a snapshot of this version.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError>;
}

/// The second step, one for each partition of the repartition topic: adds summaries and emits rows.
///
/// `merge` must be associative and commutative, so that order and number of source partitions change nothing.
pub trait Merge: Send + 'static {
    /// A group's share of one window.
    type Summary: Send;

    /// Reads a summary written by the fold or by [`encode`](Merge::encode).
    ///
    /// # Errors
    /// Where the bytes are none.
    fn decode(&self, bytes: &[u8]) -> Result<Self::Summary, RestoreError>;

    /// Appends a summary, as [`decode`](Merge::decode) reads it.
    fn encode(&self, summary: &Self::Summary, into: &mut Vec<u8>);

    /// Adds `other` to `into`.
    fn merge(&self, into: &mut Self::Summary, other: Self::Summary);

    /// The window that ends at `end` is complete in all source partitions: emit its rows. `groups` are in the order of
    /// their keys' bytes and never empty. Ends arrive ascending; ends without data are not called.
    fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, Self::Summary>, out: &mut MergeOutput);

    /// A fold has told ([`FoldOutput::tell_of_groups`]) that the window that ends at `end` has groups, in whichever merge
    /// partitions: for operators that count windows. Called behind [`close`](Merge::close), or instead of it where this
    /// partition has no summaries. With a single merge partition nothing is told: `close` is.
    fn had_groups(&mut self, end: i64, out: &mut MergeOutput) {
        let _ = (end, out);
    }

    /// The task goes live: nothing was ever read, or the replay is over. What was suppressed in the replay was committed
    /// before; what is emitted here is committed with the next cut. It can be called again, after a crash, in the state that
    /// the replay leads to: what must not happen twice has to be [remembered](MergeOutput::remember) with it.
    fn begin(&mut self, out: &mut MergeOutput) {
        let _ = out;
    }

    /// A command that a person has sent to all merges of the worker ([`Runtime::command`](crate::Runtime::command)); it
    /// stands in the repartition topic among the summaries, so a replay meets it in the same place.
    fn command(&mut self, bytes: &[u8], out: &mut MergeOutput) {
        let _ = (bytes, out);
    }

    /// Takes a history record back that was remembered ([`MergeOutput::remember`]) and not forgotten. Called for each of
    /// them before [`restore`](Merge::restore), which leaves them alone.
    ///
    /// # Errors
    /// Where the bytes are not a record of this version.
    fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        let _ = (key, bytes);
        Ok(())
    }

    /// Groups that were merged into another one because there were too many, since the operator was made.
    fn overflowed(&self) -> u64 {
        0
    }

    /// Numbers of its own for `/metrics`, as those of [`Fold::figures`].
    fn figures(&self) -> Vec<Figure<'_>> {
        Vec::new()
    }

    /// What the operator keeps across windows beside the open summaries, history included (nothing by default); must be
    /// cheap.
    fn size(&self) -> StateSize {
        StateSize::default()
    }

    /// Appends what the operator keeps across windows beside the open summaries (nothing by default).
    fn snapshot(&self, into: &mut Vec<u8>) {
        let _ = into;
    }

    /// Replaces what the operator keeps across windows.
    ///
    /// # Errors
    /// Where the bytes are not a snapshot of this version.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let _ = bytes;
        Ok(())
    }
}
