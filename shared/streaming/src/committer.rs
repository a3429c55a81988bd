//! The thread that commits: folding never waits for a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use kafka::{
    RETRY_LIMIT, Refused, TopicChange, TopicLimits, Transactions, is_refused_for_good, is_retriable, is_too_large,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use records::truncation::batch_bytes;
use service::Heartbeat;

use crate::cut::{Cut, Part};
use crate::kafka::ASK;
use crate::output::OutputRecord;
use crate::topic_watch::Unconfirmed;
use crate::worker::Worker;
use crate::{headers, refusal, topics};

/// One transaction to be made.
pub(crate) struct Job {
    pub(crate) cut: Cut,
    /// Taken together with the cut's offsets, while the thread owned the tasks.
    pub(crate) group: ConsumerGroupMetadata,
}

/// A record that its topic does not take, nor its beginning: it is in no transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// Index of the topic.
    pub(crate) topic: u16,
    /// What it takes, and what the topic does; bytes.
    pub(crate) bytes: usize,
    pub(crate) limit: usize,
    pub(crate) source_topic: Arc<str>,
    pub(crate) source_partition: i32,
    /// Of a record that was handed on its offset, of others the next one that was read when it was made.
    pub(crate) source_offset: i64,
}

/// What became of a transaction.
#[must_use]
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is committed.
    Committed { duration: Duration, too_large: Vec<TooLarge> },
    /// It is aborted and may be made again, with fresh group metadata; `stays`: until a person changes something, the same
    /// will happen.
    Aborted { error: String, stays: bool },
    /// The producer was lost and replaced: what was committed must be read from the broker.
    Renewed { error: String, fenced: bool },
    /// A topic is not the one that was read any more: nothing may be committed.
    Changed(TopicChange),
    /// It cannot be made.
    Failed { error: String },
}

impl Outcome {
    /// It ends before its channel does only where it panics.
    fn thread_ended() -> Self {
        Self::Failed { error: "the commit thread has panicked".to_owned() }
    }
}

/// The stream thread's end of its commit thread.
pub(crate) struct Committer {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
    /// Brokers that do not answer are waited for no longer.
    given_up: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the commit thread. `config` is a transactional producer's.
    pub(crate) fn start(
        name: &str,
        config: ClientConfig,
        outputs: Outputs,
        worker: &Arc<Worker>,
        heartbeat: Heartbeat,
    ) -> std::io::Result<Self> {
        let (jobs, job_receiver) = bounded::<Job>(1);
        let (outcome_sender, outcomes) = bounded(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let (gives_up, worker) = (given_up.clone(), worker.clone());
        let thread = std::thread::Builder::new().name(format!("{name}-commit")).spawn(move || {
            let limits = TopicLimits::new(&outputs.limits);
            let mut maker = Maker { config, outputs, limits, worker, given_up: gives_up, producer: None };
            // at once: it ends what a predecessor under the same id left open, and restores wait for that
            if let Err(error) = maker.renew() {
                tracing::warn!(error, "the first transaction tries again");
            }
            heartbeat.rest();
            for job in job_receiver {
                heartbeat.turn(Instant::now(), "committing a transaction");
                let outcome = maker.make(&job);
                // before the answer: the thread takes the cut's buffers back then
                drop(job);
                heartbeat.rest();
                if outcome_sender.send(outcome).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, given_up, thread: Some(thread) })
    }

    /// Hands a transaction over; at most one at a time.
    pub(crate) fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // the receiver lives as long as this sender, and there is room: only one job is under way
            let _ = jobs.send(job);
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Outcome::thread_ended()),
        }
    }

    pub(crate) fn wait(&self, timeout: Duration) -> Option<Outcome> {
        match self.outcomes.recv_timeout(timeout) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Outcome::thread_ended()),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        // its stream thread ends, and so does the instance: it must not wait for brokers that are away
        self.given_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The topics that a worker writes to.
pub(crate) struct Outputs {
    /// By their indices.
    pub(crate) topics: Arc<[String]>,
    /// What each takes, as far as is known.
    pub(crate) limits: Arc<[usize]>,
    /// From this index on they are the worker's own: without any of their records its state is not whole.
    pub(crate) first_internal: u16,
    /// The settings to ask the brokers with.
    pub(crate) kafka: ClientConfig,
}

/// Makes the transactions, in the commit thread.
struct Maker {
    config: ClientConfig,
    outputs: Outputs,
    limits: TopicLimits,
    worker: Arc<Worker>,
    given_up: Arc<AtomicBool>,
    producer: Option<Transactions>,
}

enum Fault {
    Changed(TopicChange),
    Abort {
        error: String,
        /// Until a person changes something, the same will happen.
        stays: bool,
        refused: Option<Box<Refused>>,
    },
    Fatal {
        error: String,
        fenced: bool,
    },
    /// Nothing but a person helps.
    Never {
        error: String,
    },
}

impl Maker {
    fn make(&mut self, job: &Job) -> Outcome {
        let started = Instant::now();
        if self.producer.is_none()
            && let Err(error) = self.renew()
        {
            return Outcome::Failed { error };
        }
        let Some(producer) = &self.producer else {
            return Outcome::Failed { error: "no producer".to_owned() };
        };
        let mut too_large = Vec::new();
        let fault = match self.attempt(producer, job, &mut too_large) {
            Ok(()) => {
                service::crash_point("streaming::committed");
                return Outcome::Committed { duration: started.elapsed(), too_large };
            }
            Err(fault) => fault,
        };
        let (error, fenced) = match fault {
            Fault::Changed(change) => {
                // where that fails the broker ends it by its timeout
                let _ = producer.abort();
                return Outcome::Changed(change);
            }
            Fault::Abort { error, stays, refused } => match producer.abort() {
                Ok(()) => return self.aborted(error, stays, refused, job),
                Err(second) => (format!("{error}; then, aborting: {second}"), producer.is_fenced(&second)),
            },
            Fault::Fatal { error, fenced } => (error, fenced),
            // its transaction is ended by the next producer of its name
            Fault::Never { error } => return Outcome::Failed { error },
        };
        match self.renew() {
            Ok(()) => Outcome::Renewed { error, fenced },
            Err(second) => Outcome::Failed { error: format!("{error}; then, with a new producer: {second}") },
        }
    }

    /// What follows from an abort: where a size was the cause, a topic's limit is found to be smaller.
    fn aborted(&mut self, error: String, stays: bool, refused: Option<Box<Refused>>, job: &Job) -> Outcome {
        let too_large = refused.filter(|refused| is_too_large(&refused.error));
        let Some(Refused { topic: name, partition, .. }) = too_large.map(|refused| *refused) else {
            return Outcome::Aborted { error, stays };
        };
        let Some(topic) = self.outputs.topics.iter().position(|topic| *topic == name) else {
            return Outcome::Aborted { error, stays };
        };
        let outputs = job.cut.parts.iter().flat_map(|part| part.outputs.iter());
        let largest = outputs.filter(|output| usize::from(output.topic) == topic).map(|output| bytes_of(&output)).max();
        let largest = largest.unwrap_or_default().min(self.limits.of(topic));
        let before = self.limits.batch();
        self.limits.refused(topic, largest, topics::max_message_bytes(&self.outputs.kafka, &name));
        let (limit, batch) = (self.limits.of(topic), self.limits.batch());
        tracing::warn!(
            topic = name,
            partition,
            limit,
            batch,
            "the topic takes less than was known; this holds until a restart"
        );
        if batch != before
            && let Err(second) = self.renew()
        {
            return Outcome::Failed { error: format!("{error}; then, with a new producer: {second}") };
        }
        Outcome::Aborted { error, stays }
    }

    /// A new producer under the same transactional id: it ends whatever its predecessor left open.
    fn renew(&mut self) -> Result<(), String> {
        self.producer = None;
        let own = self.config.get("batch.size").and_then(|bytes| bytes.parse().ok()).unwrap_or(usize::MAX);
        self.config.set("batch.size", self.limits.batch().min(own).to_string());
        let given_up = self.given_up.clone();
        let taken_over = Transactions::take_over(&self.config, move || given_up.load(Ordering::Relaxed));
        self.producer = Some(taken_over.map_err(|error| format!("transactions cannot be initialised: {error}"))?);
        Ok(())
    }

    fn attempt(&self, producer: &Transactions, job: &Job, too_large: &mut Vec<TooLarge>) -> Result<(), Fault> {
        // asked now, when all records of the cut have been read, and answered while its outputs are delivered
        let confirmation = self.worker.watch.confirm();
        producer.begin().map_err(|error| fault(producer, &error))?;
        for part in &job.cut.parts {
            for record in part.outputs.iter() {
                self.send(producer, &record, part, too_large)?;
            }
        }
        producer.deliver();
        let given_up = || self.given_up.load(Ordering::Relaxed);
        confirmation.wait_unless(ASK, given_up).map_err(|unconfirmed| match unconfirmed {
            Unconfirmed::Changed(change) => Fault::Changed(change),
            Unconfirmed::Forbidden { .. } => {
                Fault::Abort { error: unconfirmed.to_string(), stays: true, refused: None }
            }
            Unconfirmed::NoAnswer(error) => Fault::Abort { error, stays: false, refused: None },
        })?;
        let offsets = job.cut.offsets().map_err(|error| fault(producer, &error))?;
        producer.send_offsets(&offsets, &job.group).map_err(|error| fault(producer, &error))?;
        service::crash_point("streaming::produced");
        producer.commit().map_err(|error| match fault(producer, &error) {
            // it may have committed all the same: only what the broker has can tell
            Fault::Abort { error: text, .. } if is_retriable(&error) => {
                Fault::Fatal { error: format!("no end within {RETRY_LIMIT:?}: {text}"), fenced: false }
            }
            fault => fault,
        })
    }

    /// Sends a record; what its topic does not take is cut if it is handed on, and left out otherwise.
    fn send(
        &self,
        producer: &Transactions,
        output: &OutputRecord<'_>,
        part: &Part,
        too_large: &mut Vec<TooLarge>,
    ) -> Result<(), Fault> {
        let (bytes, limit) = (bytes_of(output), self.limits.of(usize::from(output.topic)));
        if bytes <= limit {
            return self.produce(producer, output);
        }
        if let Some(origin) = &output.handed_on
            && let Some(cut) = refusal::cut(output, origin, limit)
        {
            let cut = OutputRecord { key: cut.key, value: cut.value, headers: &cut.headers, ..*output };
            return self.produce(producer, &cut);
        }
        if output.topic >= self.outputs.first_internal {
            let topic = &self.outputs.topics[usize::from(output.topic)];
            let error =
                format!("{topic} takes records of {limit} bytes, {bytes} are needed: raise its max.message.bytes");
            return Err(Fault::Never { error });
        }
        too_large.push(TooLarge {
            topic: output.topic,
            bytes: output.handed_on.map_or(bytes, |origin| bytes.max(origin.sizes.total())),
            limit,
            source_topic: part.input_topic.clone(),
            source_partition: part.task.partition,
            source_offset: output.handed_on.map_or(part.offset, |origin| origin.offset),
        });
        Ok(())
    }

    fn produce(&self, producer: &Transactions, output: &OutputRecord<'_>) -> Result<(), Fault> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.outputs.topics[usize::from(output.topic)]);
        record.key = output.key;
        record.payload = output.value;
        record.partition = output.partition;
        if !output.headers.is_empty() {
            let headers = headers::read(output.headers);
            record.headers =
                Some(headers.fold(OwnedHeaders::new(), |owned, (key, value)| owned.insert(Header { key, value })));
        }
        producer.send(record).map_err(|error| fault(producer, &error))
    }
}

fn bytes_of(output: &OutputRecord<'_>) -> usize {
    batch_bytes(output.key, output.value, headers::read(output.headers))
}

fn fault(producer: &Transactions, error: &KafkaError) -> Fault {
    let refused = producer.refusal().map(Box::new);
    let fenced = producer.is_fenced(error);
    let fatal = fenced || matches!(error, KafkaError::Transaction(error) if error.is_fatal());
    let error = match refused.as_deref() {
        Some(Refused { error: refusal, topic, partition }) => format!("{error}: {topic}-{partition}: {refusal}"),
        None => error.to_string(),
    };
    if fatal {
        return Fault::Fatal { error, fenced };
    }
    let stays = refused.as_ref().is_some_and(|refused| is_refused_for_good(&refused.error));
    Fault::Abort { error, stays, refused }
}
