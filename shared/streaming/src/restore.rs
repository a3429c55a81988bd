//! How a task comes back: committed offset, newest snapshot, replay of the log between the two with outputs suppressed.
//!
//! The order of the questions matters. The committed offset is asked for first, and only a stable one is taken: then no
//! transaction of the task's former owner is open any more. Its records on the state topic lie below the high watermark
//! asked for next (by a handle that sees uncommitted records); when the last stable offset has passed that, a
//! `read_committed` reader sees all of them.

mod assistants;
mod readers;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{TopicChange, TopicId, recreated};
use rdkafka::Message;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use service::{Wait, WaitReason, Waits};

use crate::kafka::ASK;
use crate::metadata::CommitMetadata;
use crate::operator::RestoreError;
use crate::partition_queue::Fetched;
use crate::resume::{Found, Lost, Resume};
use crate::state::{Packed, StateError, StateLog, pack};
use crate::task::{Processed, Reached, Step, Task, TaskId};
use crate::topic_watch::Unconfirmed;
use crate::worker::Worker;
pub(crate) use assistants::{Assistants, EndCheck, ToPack};
use readers::{Read, Readers};

/// Between two looks at whether an open transaction has ended, or a table is complete.
const LOOK: Duration = Duration::from_millis(20);
/// Between two questions to the schema registry, which it answers from what it knows.
const SCHEMA_LOOK: Duration = Duration::from_millis(500);

/// A task that is where its committed state says.
pub(crate) struct Restored {
    pub(crate) task: Box<dyn Task>,
    /// Generation that is committed; 0 where the task is new.
    pub(crate) generation: u64,
    /// The next snapshot's generation.
    pub(crate) next_generation: u64,
    /// What was closed at the committed snapshot.
    pub(crate) restores_from: Option<i64>,
    /// Keys on the state topic that the next manifest makes obsolete.
    pub(crate) obsolete: Vec<String>,
    /// The snapshot of a new task, or of one that skips what is lost, to go out with its first commit.
    pub(crate) first: Option<Packed>,
    /// What was skipped because it was deleted before it was read.
    pub(crate) lost: Option<Lost>,
    pub(crate) duration: Duration,
}

/// Why a task cannot be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreFailure {
    /// State and configuration do not fit: only a person can decide.
    #[error(
        "{worker} cannot go on from its committed state of {topic}, partition {partition}: {problem}. To give the state up \
         and start from the log's beginning, stop all instances and run: {worker} --config FILE --reset-state"
    )]
    Refused { worker: String, topic: String, partition: i32, problem: String },
    /// Kafka did not answer as it should; trying again may help.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// A topic is not the one that the state was made from.
    #[error("{0}")]
    Changed(#[from] TopicChange),
    /// The committed state is still moving.
    #[error("{0}")]
    Unsettled(String),
}

/// A task that is being restored, in steps between which others have their turn. Its partition shows as waiting.
pub(crate) struct Restoration {
    pub(crate) id: TaskId,
    pub(crate) assignment: u64,
    input_topic: Arc<str>,
    started: Instant,
    stage: Stage,
    attempt: u32,
    wait: Wait,
}

/// What is committed: offset and metadata.
type Committed = Option<(i64, CommitMetadata)>;

/// What is done next.
enum Stage {
    Begin,
    /// Open transactions hide records of the state topic below `high`.
    Settle {
        committed: Committed,
        high: i64,
        since: Instant,
    },
    /// The state topic is read, from `next` on.
    ReadState {
        committed: Committed,
        log: Box<StateLog>,
        next: Offset,
    },
    /// The table must know again what was known when the committed windows were closed.
    Table(Loaded),
    /// Records up to the committed offset are fed to the task.
    Replay(Loaded),
    Over,
}

/// A task with its snapshot's state, and what becomes of it.
struct Loaded {
    restored: Box<Restored>,
    /// Replayed up to there (exclusive).
    until: i64,
    reached: Reached,
    /// What is skipped in place of a replay.
    lost: Option<Lost>,
}

/// How far a step has come.
pub(crate) enum Progress {
    Done(Box<Restored>),
    /// There is more to do at once.
    GoesOn,
    /// There is nothing to do before that.
    Waits(Duration),
}

impl Restoration {
    pub(crate) fn new(waits: &Waits, id: TaskId, assignment: u64, input_topic: Arc<str>) -> Self {
        let wait = waits.begin(&input_topic, id.partition, WaitReason::Restore, "it has been assigned");
        Self { id, assignment, input_topic, started: Instant::now(), stage: Stage::Begin, attempt: 0, wait }
    }

    /// Does the next step, which ends early where `is_over` says so.
    ///
    /// # Errors
    /// [`RestoreFailure::Refused`] and [`RestoreFailure::Changed`] for good. After others it has to
    /// [begin again](Self::begin_again).
    pub(crate) fn step(
        &mut self,
        worker: &Worker,
        readers: &Readers<'_>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Progress, RestoreFailure> {
        let partition = self.id.partition;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => Err(RestoreFailure::Unsettled("the restore was broken off".to_owned())),
            Stage::Begin => {
                readers.confirm(worker).map_err(|unconfirmed| match unconfirmed {
                    Unconfirmed::Changed(change) => RestoreFailure::Changed(change),
                    unconfirmed => RestoreFailure::Unsettled(unconfirmed.to_string()),
                })?;
                let committed = match readers.committed_offset(&self.input_topic, partition)? {
                    Some((offset, metadata)) => {
                        let metadata = check(worker, offset, &metadata);
                        Some((offset, metadata.map_err(|problem| self.refused(worker, problem))?))
                    }
                    None => None,
                };
                let (_, high) = readers.bounds(worker.state_topic(self.id), partition)?;
                self.stage = Stage::Settle { committed, high, since: Instant::now() };
                Ok(Progress::GoesOn)
            }
            Stage::Settle { committed, high, since } => {
                let topic = worker.state_topic(self.id);
                let stable = readers.stable_end(topic, partition)?;
                if stable >= high {
                    let log = Box::default();
                    self.wait.update(WaitReason::Restore, "its snapshot is read");
                    self.stage = Stage::ReadState { committed, log, next: Offset::Beginning };
                    return Ok(Progress::GoesOn);
                }
                let text = format!(
                    "a transaction is open on {topic}/{partition}: stable up to {stable}, written up to {high}; it ends when \
                     its producer ends it, or at the producer's transaction timeout"
                );
                self.wait.update(WaitReason::Restore, &text);
                // now and then everything is asked for again: another transaction may have moved the offset
                self.stage =
                    if since.elapsed() > ASK { Stage::Begin } else { Stage::Settle { committed, high, since } };
                Ok(Progress::Waits(LOOK.max(since.elapsed() / 10)))
            }
            Stage::ReadState { committed, mut log, mut next } => {
                let read = readers.read(worker.state_topic(self.id), partition, next, is_over, |message| {
                    log.record(message.key().unwrap_or_default(), message.payload(), message.offset());
                    next = Offset::Offset(message.offset() + 1);
                    Ok(false)
                })?;
                if read == Read::Interrupted {
                    self.stage = Stage::ReadState { committed, log, next };
                    return Ok(Progress::GoesOn);
                }
                self.load(worker, readers, committed, &log)
            }
            Stage::Table(loaded) => {
                let complete = loaded.restored.task.table_complete();
                if let (Some(complete), Some(closed)) = (complete, loaded.reached.closed)
                    && complete < closed
                {
                    self.wait
                        .update(WaitReason::Restore, &format!("the table is complete to {complete}, not to {closed}"));
                    self.stage = Stage::Table(loaded);
                    return Ok(Progress::Waits(LOOK));
                }
                self.stage = Stage::Replay(loaded);
                Ok(Progress::GoesOn)
            }
            Stage::Replay(loaded) => self.replay(worker, readers, is_over, loaded),
        }
    }

    /// What is known is given up: the next step is the first one.
    pub(crate) fn begin_again(&mut self, error: &RestoreFailure) {
        self.attempt += 1;
        self.stage = Stage::Begin;
        self.wait.update(WaitReason::Restore, &format!("attempt {} failed: {error}", self.attempt));
        tracing::debug!(task = %self.id, topic = &*self.input_topic, %error, attempt = self.attempt, "restore is tried again");
    }

    fn refused(&self, worker: &Worker, problem: String) -> RestoreFailure {
        RestoreFailure::Refused {
            worker: worker.topology.worker.clone(),
            topic: self.input_topic.to_string(),
            partition: self.id.partition,
            problem,
        }
    }

    /// Makes the task of what the state topic says.
    fn load(
        &mut self,
        worker: &Worker,
        readers: &Readers<'_>,
        committed: Committed,
        log: &StateLog,
    ) -> Result<Progress, RestoreFailure> {
        let refused = |problem: String| self.refused(worker, problem);
        let id = self.id;
        let state_topic = worker.state_topic(id);
        let unreadable = |error: StateError| refused(format!("{error} (state topic {state_topic})"));
        let (low, high) = readers.bounds(&self.input_topic, id.partition)?;
        check_topic(worker, id, &self.input_topic, committed.as_ref().map(|(_, metadata)| metadata), log.topic_id())?;
        let loaded = log.load().map_err(unreadable)?;
        let found = Found {
            group: &worker.group,
            topic: &self.input_topic,
            partition: id.partition,
            state_topic,
            low,
            high,
            committed: committed.as_ref().map(|(offset, _)| *offset),
            snapshot: loaded.as_ref().map(|loaded| loaded.manifest.offset),
            is_source: id.step == Step::Fold,
            skip_lost: worker.skip_lost,
        };
        let (until, lost) = match found.resume().map_err(&refused)? {
            Resume::New { at } | Resume::Replay { to: at } => (at, None),
            Resume::Skip(lost) => (lost.to, Some(lost)),
        };
        let mut task = worker.new_task(id);
        let next_generation = log.highest_generation() + 1;
        let obsolete = log.obsolete();
        let (Some((_, metadata)), Some(loaded)) = (committed, loaded) else {
            task.start_at(until);
            let mut restored = Restored {
                task,
                generation: 0,
                restores_from: None,
                next_generation,
                obsolete,
                first: None,
                lost: None,
                duration: self.started.elapsed(),
            };
            restored.pack_first().map_err(|error| refused(error.to_string()))?;
            restored.task.go_live();
            return Ok(Progress::Done(Box::new(restored)));
        };
        let manifest = loaded.manifest.clone();
        let reached = metadata.reached;
        task.restore(loaded, reached).map_err(|error: RestoreError| refused(error.to_string()))?;
        task.start_at(manifest.offset);
        let restores_from = task.reached().closed;
        service::crash_point("streaming::restoring");
        let restored = Box::new(Restored {
            task,
            generation: manifest.generation,
            restores_from,
            next_generation,
            obsolete,
            first: None,
            lost,
            duration: Duration::ZERO,
        });
        self.stage = Stage::Table(Loaded { restored, until, reached, lost });
        Ok(Progress::GoesOn)
    }

    /// Feeds the log from the task's position up to the committed offset; outputs are dropped, they are committed.
    fn replay(
        &mut self,
        worker: &Worker,
        readers: &Readers<'_>,
        is_over: &dyn Fn() -> bool,
        mut loaded: Loaded,
    ) -> Result<Progress, RestoreFailure> {
        let Loaded { restored, until, reached, lost } = &mut loaded;
        let (task, until) = (restored.task.as_mut(), *until);
        let mut stopped = None;
        let mut read = Read::Done;
        if lost.is_none() && task.position() < until {
            let from = task.position();
            self.wait.update(WaitReason::Restore, &format!("records are replayed from offset {from} to {until}"));
            let partition = self.id.partition;
            read = readers.read(&self.input_topic, partition, Offset::Offset(from), is_over, |message| {
                // fetched before the reader was placed again
                if message.offset() < task.position() {
                    return Ok(false);
                }
                if message.offset() >= until {
                    return Ok(true);
                }
                // a replay asks no clock
                let result = task.process(&Fetched::of(message).record(), i64::MAX);
                task.discard_outputs();
                match result {
                    Ok(Processed::Done) => Ok(task.position() >= until),
                    other => {
                        stopped = Some(other);
                        Ok(true)
                    }
                }
            })?;
        }
        match stopped {
            Some(Err(error)) => return Err(self.refused(worker, error.to_string())),
            Some(Ok(Processed::NotNow(message))) => {
                self.wait.update(WaitReason::Schema, &message);
                self.stage = Stage::Replay(loaded);
                return Ok(Progress::Waits(SCHEMA_LOOK));
            }
            Some(Ok(Processed::Closing)) => {
                return Err(RestoreFailure::Unsettled("windows are left half closed".to_owned()));
            }
            Some(Ok(Processed::Done)) | None => {}
        }
        if read == Read::Interrupted {
            self.stage = Stage::Replay(loaded);
            return Ok(Progress::GoesOn);
        }
        task.end_replay(*reached);
        match lost {
            Some(lost) => task.skip(*lost),
            None => task.start_at(until),
        }
        task.go_live();
        let Loaded { mut restored, lost, .. } = loaded;
        if lost.is_some() {
            // with a snapshot of its own, what is lost is skipped once and for all
            restored.pack_first().map_err(|error| self.refused(worker, error.to_string()))?;
        }
        restored.duration = self.started.elapsed();
        Ok(Progress::Done(restored))
    }
}

impl Restored {
    /// Makes the snapshot that goes out with the first commit.
    fn pack_first(&mut self) -> std::io::Result<()> {
        let mut state = Vec::new();
        self.task.snapshot(&mut state);
        self.first = Some(pack(&state, self.next_generation, self.task.position())?);
        self.next_generation += 1;
        Ok(())
    }
}

/// Whether offset and state are of the topic that has its name now, and of its number of partitions.
fn check_topic(
    worker: &Worker,
    id: TaskId,
    input_topic: &str,
    committed: Option<&CommitMetadata>,
    of_state: Option<TopicId>,
) -> Result<(), TopicChange> {
    let of_offset = committed.and_then(|metadata| metadata.topic.as_ref());
    for was in [of_offset, of_state.as_ref()] {
        if let Some(change) = recreated(input_topic, was, worker.input_id(id)) {
            return Err(change);
        }
    }
    let is = worker.source_partitions(id);
    match committed.map(|metadata| metadata.partitions) {
        Some(was) if was != is => {
            let topic = worker.pipelines[id.pipeline].context.source_topic.to_string();
            Err(TopicChange::Partitions { topic, was, is })
        }
        _ => Ok(()),
    }
}

fn check(worker: &Worker, offset: i64, metadata: &str) -> Result<CommitMetadata, String> {
    let parsed = CommitMetadata::parse(metadata).map_err(|problem| format!("offset {offset}: {problem}"))?;
    if parsed.semantics != worker.semantics {
        return Err(format!(
            "the state was made under another configuration of what is computed (hash {:016x}, now {:016x}): {}",
            parsed.semantics,
            worker.semantics,
            worker.topology.semantics.replace('\n', ", ")
        ));
    }
    Ok(parsed)
}

/// What assistants have done for their stream thread.
pub(crate) enum Reply {
    Restored {
        id: TaskId,
        assignment: u64,
        result: Result<Box<Restored>, RestoreFailure>,
    },
    Packed {
        id: TaskId,
        assignment: u64,
        result: std::io::Result<Packed>,
    },
    Checked {
        id: TaskId,
        assignment: u64,
        position: i64,
        /// The high watermark, where no record lies between it and the position.
        end: Option<i64>,
        lag: Option<i64>,
    },
    /// One of them has.
    Panicked,
}
