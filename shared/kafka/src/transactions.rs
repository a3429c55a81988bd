//! A transactional producer, and what its calls need around them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that still asks to be made again after this long never ends: seen of a commit while another producer took the
/// transactional id over. The producer has to be replaced then.
pub const RETRY_LIMIT: Duration = Duration::from_secs(30);
const DELIVERY_CHECK: Duration = Duration::from_micros(500);

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

/// A producer under one transactional id, with one transaction at a time.
pub struct Transactions {
    producer: BaseProducer<Deliveries>,
}

impl Transactions {
    /// Takes the transactional id over: ends what a predecessor left open, and shuts it out. Tries again while brokers say
    /// that this helps, unless `stopping`.
    ///
    /// # Errors
    /// Where the client cannot be made, or the brokers do not allow it.
    pub fn take_over(config: &ClientConfig, stopping: impl Fn() -> bool) -> Result<Self, KafkaError> {
        loop {
            let made =
                config.create_with_context(Deliveries::default()).and_then(|producer: BaseProducer<Deliveries>| {
                    producer.init_transactions(CALL_TIMEOUT).map(|()| Self { producer })
                });
            match made {
                Err(error) if is_retriable(&error) && !stopping() => {
                    tracing::warn!(%error, "transactions cannot be initialised yet, trying again");
                }
                made => return made,
            }
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn begin(&self) -> Result<(), KafkaError> {
        let _ = self.producer.context().take();
        self.producer.begin_transaction()
    }

    /// Hands a record to the producer; waits while its queue is full.
    ///
    /// # Errors
    /// Where it does not take the record.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(5));
                    record = back;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until what was sent is delivered. rust-rdkafka's own flush, and every transaction call that finds something
    /// in flight, polls for 100 ms at a time whatever happens meanwhile; short waits make a transaction ten times faster.
    /// Its poll is no wait: below a whole millisecond it spins.
    pub fn deliver(&self) {
        let deadline = Instant::now() + CALL_TIMEOUT;
        self.producer.poll(Duration::ZERO);
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(DELIVERY_CHECK);
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Why the broker refused the first record that it did, and the record's topic; once.
    pub fn refusal(&self) -> Option<(KafkaError, String)> {
        self.producer.poll(Duration::ZERO);
        self.producer.context().take()
    }

    /// Adds consumed offsets, under the group's metadata as of when they were taken.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn send_offsets(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<(), KafkaError> {
        retrying(|| self.producer.send_offsets_to_transaction(offsets, group, CALL_TIMEOUT))
    }

    /// Commits what was delivered.
    ///
    /// # Errors
    /// As librdkafka says. After a retriable one it may be committed all the same: only what the broker has can tell.
    pub fn commit(&self) -> Result<(), KafkaError> {
        retrying(|| self.producer.commit_transaction(CALL_TIMEOUT))
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn abort(&self) -> Result<(), KafkaError> {
        retrying(|| {
            // unserved delivery reports would block the call for its whole time
            self.deliver();
            self.producer.abort_transaction(CALL_TIMEOUT)
        })
    }

    /// Whether another producer has taken the transactional id over. The call's own error does not always say so; what has
    /// killed the producer does.
    #[must_use]
    pub fn is_fenced(&self, error: &KafkaError) -> bool {
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

impl Deliveries {
    fn take(&self) -> Option<(KafkaError, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
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

/// Whether the same call may be made again.
#[must_use]
pub fn is_retriable(error: &KafkaError) -> bool {
    // a fatal error may call itself retriable too
    matches!(error, KafkaError::Transaction(error) if error.is_retriable() && !error.is_fatal())
}

/// Whether a record was refused for its size.
#[must_use]
pub fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}
