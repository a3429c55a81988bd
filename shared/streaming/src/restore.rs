//! How a task comes back: committed offset, newest snapshot, replay of the log between the two with outputs suppressed.
//!
//! The order of the questions matters. The committed offset is asked for first, and only a stable one is taken: then no
//! transaction of the task's former owner is open any more. Its records on the state topic lie below the high watermark
//! asked for next (by a handle that sees uncommitted records); when the last stable offset has passed that, a
//! `read_committed` reader sees all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{Message, TopicPartitionList};

use crate::kafka::{ASK, MessageHeaders, Reader, one, reader, record};
use crate::metadata::CommitMetadata;
use crate::operator::RestoreError;
use crate::state::{Packed, StateError, StateLog, pack};
use crate::task::{Processed, Step, Task, TaskId};
use crate::worker::Worker;

/// A table as large as memory allows is read within this time.
const TABLE_LIMIT: Duration = Duration::from_secs(120);

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
    /// The empty snapshot of a new task, to go out with its first commit.
    pub(crate) first: Option<Packed>,
    pub(crate) duration: Duration,
}

/// Why a task cannot be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreFailure {
    /// The instance is stopping.
    #[error("stopped")]
    Stopped,
    /// State and configuration do not fit: only a person can decide.
    #[error(
        "{worker} cannot start from its committed state: {problem} (topic {topic}, partition {partition}). \
         To give the state up and start from the log's beginning, stop all instances and run: {worker} --config FILE --reset-state"
    )]
    Refused { worker: String, topic: String, partition: i32, problem: String },
    /// The log does not fit the state.
    #[error("{0}")]
    Unfit(String),
    /// Kafka did not answer as it should; trying again may help.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// The committed state is still moving.
    #[error("{0}")]
    Unsettled(String),
}

/// Restores tasks, one after the other, by consumers of its own.
pub(crate) struct Restorer {
    worker: Arc<Worker>,
    client: String,
    readers: Readers,
}

struct Readers {
    /// `read_committed`.
    committed: Reader,
    /// Sees records of open transactions.
    uncommitted: Reader,
}

impl Readers {
    fn new(worker: &Worker, client: &str) -> Result<Self, KafkaError> {
        let reader = |isolation| reader(&worker.kafka, &worker.group, client, isolation);
        Ok(Self { committed: reader("read_committed")?, uncommitted: reader("read_uncommitted")? })
    }
}

impl Restorer {
    pub(crate) fn new(worker: Arc<Worker>, client: &str) -> Result<Self, KafkaError> {
        let client = format!("{client}-restore");
        Ok(Self { readers: Readers::new(&worker, &client)?, client, worker })
    }

    /// Brings a task back, trying again while Kafka is at fault.
    pub(crate) fn restore(&mut self, id: TaskId, input_topic: &str) -> Result<Restored, RestoreFailure> {
        let started = Instant::now();
        let mut attempt = 0_u32;
        loop {
            match self.attempt(id, input_topic) {
                Ok(mut restored) => {
                    restored.duration = started.elapsed();
                    return Ok(restored);
                }
                Err(_) if self.worker.stopping() => return Err(RestoreFailure::Stopped),
                Err(error @ (RestoreFailure::Refused { .. } | RestoreFailure::Stopped)) => return Err(error),
                Err(error) => {
                    tracing::warn!(task = %id, topic = input_topic, %error, attempt, "restore is tried again");
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(100 << attempt.min(4)));
                    // what a client has learnt of brokers that were just restarting it holds for true for a quarter of an hour
                    match Readers::new(&self.worker, &self.client) {
                        Ok(readers) => self.readers = readers,
                        Err(error) => tracing::warn!(%error, "the old clients are kept"),
                    }
                }
            }
        }
    }

    fn attempt(&self, id: TaskId, input_topic: &str) -> Result<Restored, RestoreFailure> {
        let refused = |problem: String| RestoreFailure::Refused {
            worker: self.worker.topology.worker.clone(),
            topic: input_topic.to_owned(),
            partition: id.partition,
            problem,
        };
        let committed = self.committed_offset(input_topic, id.partition)?;
        let state_topic = self.worker.state_topic(id);
        let high = self.readers.uncommitted.fetch_watermarks(state_topic, id.partition, ASK)?.1;
        self.wait_until_stable(state_topic, id.partition, high)?;
        let mut log = StateLog::default();
        self.read(state_topic, id.partition, Offset::Beginning, |message| {
            log.record(message.key().unwrap_or_default(), message.payload());
            Ok(false)
        })?;
        let loaded = log.load().map_err(|error: StateError| refused(error.to_string()))?;
        let (low, _) = self.readers.uncommitted.fetch_watermarks(input_topic, id.partition, ASK)?;
        let mut task = self.worker.new_task(id);
        let next_generation = log.highest_generation() + 1;
        let obsolete = log.keys();
        let Some((offset, metadata)) = committed else {
            if loaded.is_some() {
                return Err(refused("there is a snapshot but the group has no committed offset".to_owned()));
            }
            task.start_at(low);
            let mut state = Vec::new();
            task.snapshot(&mut state);
            let first = pack(&state, next_generation, low).map_err(|error| refused(error.to_string()))?;
            task.go_live();
            return Ok(Restored {
                task,
                generation: 0,
                restores_from: None,
                next_generation: next_generation + 1,
                obsolete,
                first: Some(first),
                duration: Duration::ZERO,
            });
        };
        let metadata = self.check(id, offset, &metadata).map_err(&refused)?;
        let Some(loaded) = loaded else {
            return Err(refused(format!("offset {offset} is committed but there is no snapshot on {state_topic}")));
        };
        let manifest = loaded.manifest.clone();
        if manifest.offset > offset {
            return Err(refused(format!(
                "the snapshot (generation {}) is ahead of the committed offset: {} > {offset}",
                manifest.generation, manifest.offset
            )));
        }
        if manifest.offset < low && manifest.offset < offset {
            return Err(refused(format!(
                "the log begins at offset {low}, behind the snapshot's offset {}: records were deleted before they were \
                 read for the last time",
                manifest.offset
            )));
        }
        let reached = metadata.reached;
        task.restore(loaded, reached).map_err(|error: RestoreError| refused(error.to_string()))?;
        task.start_at(manifest.offset);
        let restores_from = task.reached().closed;
        self.wait_for_table(task.as_ref(), reached.closed)?;
        self.replay(task.as_mut(), input_topic, offset).map_err(|failure| match failure {
            RestoreFailure::Unfit(problem) => refused(problem),
            other => other,
        })?;
        task.end_replay(reached);
        task.start_at(offset);
        task.go_live();
        Ok(Restored {
            task,
            generation: manifest.generation,
            restores_from,
            next_generation,
            obsolete,
            first: None,
            duration: Duration::ZERO,
        })
    }

    fn check(&self, id: TaskId, offset: i64, metadata: &str) -> Result<CommitMetadata, String> {
        let parsed = CommitMetadata::parse(metadata).ok_or_else(|| {
            format!("offset {offset} was committed by something else: its metadata {metadata:?} is not ours")
        })?;
        let partitions = self.worker.source_partitions(id);
        if parsed.partitions != partitions {
            let source = &self.worker.pipelines[id.pipeline].context.source_topic;
            return Err(format!(
                "the state was made when {source} had {} partitions; now it has {partitions}",
                parsed.partitions
            ));
        }
        if parsed.semantics != self.worker.semantics {
            return Err(format!(
                "the state was made under another configuration of what is computed (hash {:016x}, now {:016x}): {}",
                parsed.semantics,
                self.worker.semantics,
                self.worker.topology.semantics.replace('\n', ", ")
            ));
        }
        Ok(parsed)
    }

    /// The stable committed offset with its metadata: one that no open transaction is about to change.
    fn committed_offset(&self, topic: &str, partition: i32) -> Result<Option<(i64, String)>, RestoreFailure> {
        let answer: TopicPartitionList = self.readers.committed.committed_offsets(one(topic, partition), ASK)?;
        let element = answer
            .find_partition(topic, partition)
            .ok_or_else(|| RestoreFailure::Unsettled(format!("no answer about {topic}/{partition}")))?;
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        })
    }

    /// Waits until no open transaction hides records below `high`.
    fn wait_until_stable(&self, topic: &str, partition: i32, high: i64) -> Result<(), RestoreFailure> {
        let deadline = Instant::now() + ASK;
        loop {
            // asked by a read_committed handle, the upper end is the last stable offset
            let (_, stable) = self.readers.committed.fetch_watermarks(topic, partition, ASK)?;
            if stable >= high {
                return Ok(());
            }
            if self.worker.stopping() {
                return Err(RestoreFailure::Stopped);
            }
            if Instant::now() > deadline {
                return Err(RestoreFailure::Unsettled(format!(
                    "a transaction is open on {topic}/{partition}: stable up to {stable}, written up to {high}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the table knows again what was known when the committed windows were closed.
    fn wait_for_table(&self, task: &dyn Task, closed: Option<i64>) -> Result<(), RestoreFailure> {
        let deadline = Instant::now() + TABLE_LIMIT;
        while let (Some(complete), Some(closed)) = (task.table_complete(), closed)
            && complete < closed
        {
            if self.worker.stopping() {
                return Err(RestoreFailure::Stopped);
            }
            if Instant::now() > deadline {
                return Err(RestoreFailure::Unsettled(format!("the table is complete to {complete}, not to {closed}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Reads committed records from `from` to the partition's end, or until `take` answers true.
    fn read(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        mut take: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> Result<bool, KafkaError>,
    ) -> Result<(), RestoreFailure> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from)?;
        self.readers.committed.assign(&list)?;
        let mut silence = Instant::now();
        let result = loop {
            match self.readers.committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    silence = Instant::now();
                    if message.partition() != partition || message.topic() != topic {
                        continue;
                    }
                    match take(&message) {
                        Ok(false) => {}
                        Ok(true) => break Ok(()),
                        Err(error) => break Err(error.into()),
                    }
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => break Ok(()),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => break Err(error.into()),
                Some(Err(error)) => tracing::debug!(%error, topic, partition, "while restoring"),
                None if self.worker.stopping() => break Err(RestoreFailure::Stopped),
                None if silence.elapsed() > 3 * ASK => {
                    break Err(RestoreFailure::Unsettled(format!("{topic}/{partition} cannot be read")));
                }
                None => {}
            }
        };
        self.readers.committed.unassign()?;
        result
    }

    /// Feeds the log from the task's position up to `until` (exclusive); outputs are dropped, they are committed.
    fn replay(&self, task: &mut dyn Task, topic: &str, until: i64) -> Result<(), RestoreFailure> {
        if task.position() >= until {
            return Ok(());
        }
        let (mut problem, mut waits) = (None, None);
        let from = Offset::Offset(task.position());
        let result = self.read(topic, task.id().partition, from, |message| {
            if message.offset() >= until {
                return Ok(true);
            }
            let result = task.process(&record(message, &MessageHeaders(message)));
            task.discard_outputs();
            match result {
                Ok(Processed::Done) => Ok(task.position() >= until),
                Ok(Processed::Closing) => {
                    waits = Some("windows are left half closed".to_owned());
                    Ok(true)
                }
                Ok(Processed::NotNow(message)) => {
                    waits = Some(message);
                    Ok(true)
                }
                Err(error) => {
                    problem = Some(error.to_string());
                    Ok(true)
                }
            }
        });
        result?;
        if let Some(problem) = problem {
            return Err(RestoreFailure::Unfit(problem));
        }
        match waits {
            Some(message) => Err(RestoreFailure::Unsettled(message)),
            None => Ok(()),
        }
    }

    /// Whether nothing but transaction markers lies between `position` and the partition's high watermark, and no
    /// transaction is open there: the partition is read to its end.
    pub(crate) fn is_read_to_end(&self, topic: &str, partition: i32, position: i64) -> Result<bool, RestoreFailure> {
        let (_, high) = self.readers.uncommitted.fetch_watermarks(topic, partition, ASK)?;
        if position >= high {
            return Ok(true);
        }
        let (_, stable) = self.readers.committed.fetch_watermarks(topic, partition, ASK)?;
        if stable < high {
            return Ok(false);
        }
        let mut empty = true;
        self.read(topic, partition, Offset::Offset(position), |_| {
            empty = false;
            Ok(true)
        })?;
        Ok(empty)
    }

    /// Records that wait behind `position`, transaction markers included.
    pub(crate) fn lag(&self, topic: &str, partition: i32, position: i64) -> Result<i64, KafkaError> {
        Ok((self.readers.uncommitted.fetch_watermarks(topic, partition, ASK)?.1 - position).max(0))
    }
}

/// What the stream thread has done for it elsewhere.
pub(crate) enum Request {
    Restore { id: TaskId, assignment: u64, input_topic: Arc<str> },
    Pack { id: TaskId, assignment: u64, state: Vec<u8>, generation: u64, offset: i64 },
    CheckEnd { id: TaskId, assignment: u64, input_topic: Arc<str>, position: i64 },
}

/// The answers.
pub(crate) enum Reply {
    Restored { id: TaskId, assignment: u64, result: Result<Box<Restored>, RestoreFailure> },
    Packed { id: TaskId, assignment: u64, result: std::io::Result<Packed> },
    Checked { id: TaskId, assignment: u64, position: i64, at_end: bool, lag: Option<i64> },
}

/// Serves one stream thread's requests until it hangs up.
pub(crate) fn assist(
    worker: &Arc<Worker>,
    client: &str,
    requests: &crossbeam_channel::Receiver<Request>,
    replies: &crossbeam_channel::Sender<Reply>,
) {
    let mut restorer: Option<Restorer> = None;
    for request in requests {
        let reply = match request {
            Request::Pack { id, assignment, state, generation, offset } => {
                Reply::Packed { id, assignment, result: pack(&state, generation, offset) }
            }
            Request::Restore { id, assignment, input_topic } => {
                let result = with_restorer(&mut restorer, worker, client)
                    .and_then(|restorer| restorer.restore(id, &input_topic).map(Box::new));
                Reply::Restored { id, assignment, result }
            }
            Request::CheckEnd { id, assignment, input_topic, position } => {
                let checked = with_restorer(&mut restorer, worker, client).and_then(|restorer| {
                    let at_end =
                        id.step == Step::Fold && restorer.is_read_to_end(&input_topic, id.partition, position)?;
                    Ok((at_end, restorer.lag(&input_topic, id.partition, position)?))
                });
                let (at_end, lag) = match checked {
                    Ok((at_end, lag)) => (at_end, Some(lag)),
                    Err(error) => {
                        tracing::debug!(task = %id, %error, "whether the partition is read to its end is not known");
                        restorer = None;
                        (false, None)
                    }
                };
                Reply::Checked { id, assignment, position, at_end, lag }
            }
        };
        if replies.send(reply).is_err() {
            return;
        }
    }
}

fn with_restorer<'a>(
    slot: &'a mut Option<Restorer>,
    worker: &Arc<Worker>,
    client: &str,
) -> Result<&'a mut Restorer, RestoreFailure> {
    match slot {
        Some(restorer) => Ok(restorer),
        None => Ok(slot.insert(Restorer::new(worker.clone(), client)?)),
    }
}
