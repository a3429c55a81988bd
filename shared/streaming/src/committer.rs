//! The thread that commits: folding never waits for a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use kafka::{RETRY_LIMIT, Transactions, is_retriable, is_too_large};
use rdkafka::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use crate::cut::Cut;
use crate::headers;
use crate::output::OutputRecord;

/// One transaction to be made.
pub(crate) struct Job {
    pub(crate) cut: Cut,
    /// Taken together with the cut's offsets, while the thread owned the tasks.
    pub(crate) group: ConsumerGroupMetadata,
    /// Values of handed-on records are cut to this many bytes: the broker has refused them whole.
    pub(crate) truncate: Option<usize>,
}

/// What became of a transaction.
#[must_use]
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is committed.
    Committed { duration: Duration },
    /// It is aborted and may be made again, with fresh group metadata.
    Aborted { error: String, too_large: bool },
    /// The producer was lost and replaced: what was committed must be read from the broker.
    Renewed { error: String, fenced: bool },
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
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the commit thread. `config` is a transactional producer's; `topics` are the names behind output indices;
    /// records of the topics from `handed_on.start` on up to its end may be truncated.
    pub(crate) fn start(
        name: &str,
        config: ClientConfig,
        topics: Arc<[String]>,
        handed_on: std::ops::Range<u16>,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let (jobs, job_receiver) = bounded::<Job>(1);
        let (outcome_sender, outcomes) = bounded(1);
        let stopping = stop.clone();
        let thread = std::thread::Builder::new().name(format!("{name}-commit")).spawn(move || {
            let mut maker = Maker { config, topics, handed_on, stop: stopping, producer: None };
            // at once: it ends what a predecessor under the same id left open, and restores wait for that
            if let Err(error) = maker.renew() {
                tracing::warn!(error, "the first transaction tries again");
            }
            for job in job_receiver {
                let outcome = maker.make(&job);
                // before the answer: the thread takes the cut's buffers back then
                drop(job);
                if outcome_sender.send(outcome).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, stop, thread: Some(thread) })
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
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Makes the transactions, in the commit thread.
struct Maker {
    config: ClientConfig,
    topics: Arc<[String]>,
    handed_on: std::ops::Range<u16>,
    stop: Arc<AtomicBool>,
    producer: Option<Transactions>,
}

enum Fault {
    Abort { error: String, too_large: bool },
    Fatal { error: String, fenced: bool },
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
        let fault = match self.attempt(producer, job) {
            Ok(()) => return Outcome::Committed { duration: started.elapsed() },
            Err(fault) => fault,
        };
        let fault = match fault {
            Fault::Abort { error, too_large } => match producer.abort() {
                Ok(()) => return Outcome::Aborted { error, too_large },
                Err(second) => {
                    let error = format!("{error}; then, aborting: {second}");
                    Fault::Fatal { error, fenced: producer.is_fenced(&second) }
                }
            },
            fatal @ Fault::Fatal { .. } => fatal,
        };
        let Fault::Fatal { error, fenced } = fault else { unreachable!("aborts have returned above") };
        match self.renew() {
            Ok(()) => Outcome::Renewed { error, fenced },
            Err(second) => Outcome::Failed { error: format!("{error}; then, with a new producer: {second}") },
        }
    }

    /// A new producer under the same transactional id: it ends whatever its predecessor left open.
    fn renew(&mut self) -> Result<(), String> {
        self.producer = None;
        let stopping = || self.stop.load(Ordering::Relaxed);
        let taken_over = Transactions::take_over(&self.config, stopping);
        self.producer = Some(taken_over.map_err(|error| format!("transactions cannot be initialised: {error}"))?);
        Ok(())
    }

    fn attempt(&self, producer: &Transactions, job: &Job) -> Result<(), Fault> {
        producer.begin().map_err(|error| fault(producer, &error))?;
        for part in &job.cut.parts {
            for record in part.outputs.iter() {
                self.send(producer, &record, job.truncate)?;
            }
        }
        producer.deliver();
        let offsets = job.cut.offsets().map_err(|error| fault(producer, &error))?;
        producer.send_offsets(&offsets, &job.group).map_err(|error| fault(producer, &error))?;
        producer.commit().map_err(|error| match fault(producer, &error) {
            // it may have committed all the same: only what the broker has can tell
            Fault::Abort { error: text, .. } if is_retriable(&error) => {
                Fault::Fatal { error: format!("no end within {RETRY_LIMIT:?}: {text}"), fenced: false }
            }
            fault => fault,
        })
    }

    fn send(&self, producer: &Transactions, output: &OutputRecord<'_>, truncate: Option<usize>) -> Result<(), Fault> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topics[usize::from(output.topic)]);
        record.key = output.key;
        record.payload = output.value;
        record.partition = output.partition;
        let mut truncated = None;
        if let (Some(limit), Some(value)) = (truncate, output.value)
            && self.handed_on.contains(&output.topic)
            && value.len() > limit
        {
            record.payload = Some(&value[..limit]);
            truncated = Some(value.len().to_string());
        }
        if !output.headers.is_empty() || truncated.is_some() {
            let mut owned = OwnedHeaders::new();
            for (name, value) in headers::read(output.headers) {
                owned = owned.insert(Header { key: name, value });
            }
            if let Some(length) = &truncated {
                owned = owned.insert(Header { key: crate::refusal::TRUNCATED_HEADER, value: Some(length) });
            }
            record.headers = Some(owned);
        }
        producer.send(record).map_err(|error| fault(producer, &error))
    }
}

fn fault(producer: &Transactions, error: &KafkaError) -> Fault {
    let refused = producer.refusal();
    let fenced = producer.is_fenced(error);
    let fatal = fenced || matches!(error, KafkaError::Transaction(error) if error.is_fatal());
    let (error, too_large) = match refused {
        Some((refusal, topic)) => (format!("{error}: topic {topic}: {refusal}"), is_too_large(&refusal)),
        None => (error.to_string(), is_too_large(error)),
    };
    if fatal { Fault::Fatal { error, fenced } } else { Fault::Abort { error, too_large } }
}
