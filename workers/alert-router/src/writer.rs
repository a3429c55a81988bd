//! Transactions: what the core has decided, committed as a whole.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Message as _};
use service::Shutdown;

use crate::config::Runtime;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that still asks to be made again after this long never ends.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
const DELIVERY_CHECK: Duration = Duration::from_micros(500);
/// The largest record: a dead letter.
const MAX_MESSAGE_BYTES: &str = "4259840";
/// What is left of a dead letter that its topic does not take whole.
const TRUNCATED_BYTES: usize = 512 * 1024;
/// Header with the size of a value that was cut, named as the other workers name it.
const TRUNCATED: &str = "recwatch.truncated.from.bytes";

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Where to.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
    /// Whether it may be cut where it is too large.
    pub is_letter: bool,
}

/// Why nothing was committed, or perhaps was: only the state can tell.
#[derive(Debug)]
pub struct Lost {
    /// What went wrong.
    pub error: String,
    /// Whether another instance has taken over.
    pub fenced: bool,
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

/// A transactional producer. All instances have the same transactional id, so the newest one shuts its predecessor out.
pub struct Writer {
    producer: BaseProducer<Deliveries>,
}

enum Fault {
    TooLarge(String),
    Lost(Lost),
}

impl Writer {
    /// Ends what a predecessor left open, and shuts it out. `None` where the end was asked for first.
    ///
    /// # Errors
    /// Where the brokers do not allow it.
    pub fn new(kafka: &ClientConfig, runtime: &Runtime, shutdown: &Shutdown) -> Result<Option<Self>, Lost> {
        let mut config = kafka.clone();
        config
            .set("transactional.id", &runtime.group)
            .set("transaction.timeout.ms", runtime.transaction_timeout.as_millis().to_string())
            .set("message.max.bytes", MAX_MESSAGE_BYTES)
            .set("delivery.report.only.error", "true")
            // Kafka's own partitioner: a key's records lie where other producers would put them
            .set("partitioner", "murmur2_random");
        let defaults = [("compression.type", "lz4"), ("linger.ms", "1"), ("queue.buffering.max.kbytes", "32768")];
        for (name, value) in defaults {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        loop {
            let made =
                config.create_with_context(Deliveries::default()).and_then(|producer: BaseProducer<Deliveries>| {
                    producer.init_transactions(CALL_TIMEOUT).map(|()| producer)
                });
            match made {
                Ok(producer) => return Ok(Some(Self { producer })),
                Err(error) if shutdown.requested() => {
                    tracing::debug!(%error, "transactions cannot be initialised");
                    return Ok(None);
                }
                Err(error) if is_retriable(&error) => {
                    tracing::warn!(%error, "transactions cannot be initialised yet, trying again");
                }
                Err(error) => {
                    return Err(Lost { error: format!("transactions cannot be initialised: {error}"), fenced: false });
                }
            }
        }
    }

    /// Writes all of them, or none.
    ///
    /// # Errors
    /// Where it is not known, or not so: the state has to be read again, by a new writer.
    pub fn commit(&self, outputs: &[Output]) -> Result<(), Lost> {
        match self.attempt(outputs, false) {
            Ok(()) => Ok(()),
            Err(Fault::Lost(lost)) => Err(lost),
            Err(Fault::TooLarge(error)) => {
                self.abort()?;
                tracing::warn!(error, "dead letters are cut");
                self.attempt(outputs, true).map_err(|fault| match fault {
                    Fault::Lost(lost) => lost,
                    Fault::TooLarge(error) => Lost { error, fenced: false },
                })
            }
        }
    }

    fn attempt(&self, outputs: &[Output], cut: bool) -> Result<(), Fault> {
        let producer = &self.producer;
        let _ = producer.context().take();
        producer.begin_transaction().map_err(|error| self.fault(&error))?;
        for output in outputs {
            self.send(output, cut)?;
        }
        self.deliver();
        if let Some((error, topic)) = producer.context().take() {
            return Err(self.refused(&error, &topic));
        }
        retrying(|| producer.commit_transaction(CALL_TIMEOUT)).map_err(|error| self.fault(&error))
    }

    fn send(&self, output: &Output, cut: bool) -> Result<(), Fault> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&output.topic);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        record.headers = output.headers.clone();
        if cut
            && output.is_letter
            && let Some(value) = output.value.as_deref().filter(|value| value.len() > TRUNCATED_BYTES)
        {
            record.payload = Some(&value[..TRUNCATED_BYTES]);
            let length = value.len().to_string();
            let headers = record.headers.take().unwrap_or_default();
            record.headers = Some(headers.insert(Header { key: TRUNCATED, value: Some(&length) }));
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => return Err(self.refused(&error, &output.topic)),
            }
        }
    }

    /// Waits until what was sent is delivered. rust-rdkafka's own flush, and every transaction call that finds something in
    /// flight, polls for 100 ms at a time whatever happens meanwhile. Its poll is no wait: below a whole millisecond it
    /// spins.
    fn deliver(&self) {
        let deadline = Instant::now() + CALL_TIMEOUT;
        self.producer.poll(Duration::ZERO);
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(DELIVERY_CHECK);
            self.producer.poll(Duration::ZERO);
        }
    }

    fn abort(&self) -> Result<(), Lost> {
        let aborted = retrying(|| {
            // unserved delivery reports would block the call for its whole time
            self.deliver();
            self.producer.abort_transaction(CALL_TIMEOUT)
        });
        aborted.map_err(|error| Lost { error: format!("aborting: {error}"), fenced: self.is_fenced(&error) })
    }

    fn refused(&self, error: &KafkaError, topic: &str) -> Fault {
        let text = format!("topic {topic}: {error}");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
            return Fault::TooLarge(text);
        }
        Fault::Lost(Lost { error: text, fenced: self.is_fenced(error) })
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        self.producer.poll(Duration::ZERO);
        match self.producer.context().take() {
            Some((refusal, topic)) => self.refused(&refusal, &topic),
            None => Fault::Lost(Lost { error: error.to_string(), fenced: self.is_fenced(error) }),
        }
    }

    /// Whether another producer has taken the transactional id over. The call's own error does not always say so; what has
    /// killed the producer does.
    fn is_fenced(&self, error: &KafkaError) -> bool {
        let killed_by = self.producer.client().fatal_error().map(|(code, _)| code);
        let fences = |code: RDKafkaErrorCode| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch
            )
        };
        [error.rdkafka_error_code(), killed_by].into_iter().flatten().any(fences)
    }
}

/// Calls again while the error says that this helps, for a while.
fn retrying(mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + RETRY_LIMIT;
    loop {
        match call() {
            Err(error) if is_retriable(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, "transaction call is made again");
            }
            result => return result,
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    // a fatal error may call itself retriable too
    matches!(error, KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal())
}
