//! The thread that commits: folding never waits for a transaction.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::cut::Cut;
use crate::headers;
use crate::output::OutputRecord;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that still asks to be made again after this long never ends: seen of a commit while another producer took the
/// transactional id over. The producer is replaced then.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
const DELIVERY_CHECK: Duration = Duration::from_micros(500);

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

/// Notes the first record that the broker refused.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<(KafkaError, String)>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (error.clone(), message.topic().to_owned()));
        }
    }
}

impl Deliveries {
    fn take(&self) -> Option<(KafkaError, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The stream thread's end of its commit thread.
pub(crate) struct Committer {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Outcome>,
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
        stop: Arc<std::sync::atomic::AtomicBool>,
    ) -> std::io::Result<Self> {
        let (jobs, job_receiver) = bounded::<Job>(1);
        let (outcome_sender, outcomes) = bounded(1);
        let thread = std::thread::Builder::new().name(format!("{name}-commit")).spawn(move || {
            let mut transactions = Transactions { config, topics, handed_on, stop, producer: None };
            // at once: it ends what a predecessor under the same id left open, and restores wait for that
            if let Err(error) = transactions.renew() {
                tracing::warn!(error, "the first transaction tries again");
            }
            for job in job_receiver {
                let outcome = transactions.make(&job);
                // before the answer: the thread takes the cut's buffers back then
                drop(job);
                if outcome_sender.send(outcome).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), outcomes, thread: Some(thread) })
    }

    /// Hands a transaction over; at most one at a time.
    pub(crate) fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // the receiver lives as long as this sender, and there is room: only one job is under way
            let _ = jobs.send(job);
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    pub(crate) fn wait(&self, timeout: Duration) -> Option<Outcome> {
        self.outcomes.recv_timeout(timeout).ok()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Transactions {
    config: ClientConfig,
    topics: Arc<[String]>,
    handed_on: std::ops::Range<u16>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    producer: Option<BaseProducer<Deliveries>>,
}

enum Fault {
    Abort { error: String, too_large: bool },
    Fatal { error: String, fenced: bool },
}

impl Transactions {
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
            Fault::Abort { error, too_large } => match abort(producer) {
                Ok(()) => return Outcome::Aborted { error, too_large },
                Err(second) => {
                    let error = format!("{error}; then, aborting: {second}");
                    Fault::Fatal { error, fenced: is_fenced(producer, &second) }
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
        loop {
            let made = self.config.create_with_context(Deliveries::default()).and_then(
                |producer: BaseProducer<Deliveries>| producer.init_transactions(CALL_TIMEOUT).map(|()| producer),
            );
            match made {
                Ok(producer) => {
                    self.producer = Some(producer);
                    return Ok(());
                }
                Err(error) if is_retriable(&error) && !self.stop.load(std::sync::atomic::Ordering::Relaxed) => {
                    tracing::warn!(%error, "transactions cannot be initialised yet, trying again");
                }
                Err(error) => return Err(format!("transactions cannot be initialised: {error}")),
            }
        }
    }

    fn attempt(&self, producer: &BaseProducer<Deliveries>, job: &Job) -> Result<(), Fault> {
        let _ = producer.context().take();
        producer.begin_transaction().map_err(|error| fault(producer, &error))?;
        for part in &job.cut.parts {
            for record in part.outputs.iter() {
                self.send(producer, &record, job.truncate)?;
            }
        }
        deliver(producer);
        let offsets = job.cut.offsets().map_err(|error| fault(producer, &error))?;
        retrying(|| producer.send_offsets_to_transaction(&offsets, &job.group, CALL_TIMEOUT))
            .map_err(|error| fault(producer, &error))?;
        retrying(|| producer.commit_transaction(CALL_TIMEOUT)).map_err(|error| match fault(producer, &error) {
            // it may have committed all the same: only what the broker has can tell
            Fault::Abort { error: text, .. } if is_retriable(&error) => {
                Fault::Fatal { error: format!("no end within {RETRY_LIMIT:?}: {text}"), fenced: false }
            }
            fault => fault,
        })
    }

    fn send(
        &self,
        producer: &BaseProducer<Deliveries>,
        output: &OutputRecord<'_>,
        truncate: Option<usize>,
    ) -> Result<(), Fault> {
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
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => return Err(fault(producer, &error)),
            }
        }
    }
}

/// Waits until what was sent is delivered. rust-rdkafka's own flush, and every transaction call that finds something in
/// flight, polls for 100 ms at a time whatever happens meanwhile; short waits make a transaction ten times faster. Its
/// poll is no wait: below a whole millisecond it spins.
fn deliver(producer: &BaseProducer<Deliveries>) {
    let deadline = Instant::now() + CALL_TIMEOUT;
    producer.poll(Duration::ZERO);
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(DELIVERY_CHECK);
        producer.poll(Duration::ZERO);
    }
}

/// Calls again while the error says that this helps, for a while.
fn retrying(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + RETRY_LIMIT;
    loop {
        match call() {
            Err(error) if is_retriable(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, "transaction call is made again")
            }
            result => return result,
        }
    }
}

fn abort(producer: &BaseProducer<Deliveries>) -> Result<(), KafkaError> {
    retrying(|| {
        // unserved delivery reports would block the call for its whole time
        deliver(producer);
        producer.abort_transaction(CALL_TIMEOUT)
    })
}

fn is_retriable(error: &KafkaError) -> bool {
    // a fatal error may call itself retriable too
    matches!(error, KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal())
}

/// Whether another producer has taken the transactional id over. The call's own error does not always say so; what has
/// killed the producer does.
fn is_fenced(producer: &BaseProducer<Deliveries>, error: &KafkaError) -> bool {
    let killed_by = producer.client().fatal_error().map(|(code, _)| code);
    let fences = |code: RDKafkaErrorCode| {
        matches!(
            code,
            RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
        )
    };
    [error.rdkafka_error_code(), killed_by].into_iter().flatten().any(fences)
}

fn fault(producer: &BaseProducer<Deliveries>, error: &KafkaError) -> Fault {
    producer.poll(Duration::ZERO);
    let refused = producer.context().take();
    let too_large = |error: &KafkaError| error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
    let fenced = is_fenced(producer, error);
    let fatal = fenced || matches!(error, KafkaError::Transaction(error) if error.is_fatal());
    let (error, too_large) = match refused {
        Some((refusal, topic)) => (format!("{error}: topic {topic}: {refusal}"), too_large(&refusal)),
        None => (error.to_string(), too_large(error)),
    };
    if fatal { Fault::Fatal { error, fenced } } else { Fault::Abort { error, too_large } }
}
