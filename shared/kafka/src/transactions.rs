//! A transactional producer, and what its calls need around them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};

/// A call that has no answer by then is made again, as librdkafka wants it: what it has begun goes on meanwhile.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// A producer that is not taken up by then is made again.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(10);
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);
/// A call that still asks to be made again after this long never ends: seen of a commit while another producer took the
/// transactional id over. The producer has to be replaced then.
pub const RETRY_LIMIT: Duration = Duration::from_secs(30);
const DELIVERY_CHECK: Duration = Duration::from_micros(500);

/// A record that the broker refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub error: KafkaError,
    /// The topic that it was for.
    pub topic: String,
    /// The partition that it was for.
    pub partition: i32,
}

/// Notes the first record that the broker refused.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<Refused>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| Refused {
                error: error.clone(),
                topic: message.topic().to_owned(),
                partition: message.partition(),
            });
        }
    }
}

/// A producer under one transactional id, with one transaction at a time.
pub struct Transactions {
    producer: BaseProducer<Deliveries>,
    /// Whether brokers that do not answer are waited for no longer.
    given_up: Box<dyn Fn() -> bool + Send>,
}

impl Transactions {
    /// Takes the transactional id over: ends what a predecessor left open, and shuts it out. Tries again while brokers say
    /// that this helps. Once `given_up` is true, here and in all later calls, brokers that do not answer are waited for no
    /// longer.
    ///
    /// # Errors
    /// Where the client cannot be made, or the brokers do not allow it, or do not answer and are given up.
    pub fn take_over(config: &ClientConfig, given_up: impl Fn() -> bool + Send + 'static) -> Result<Self, KafkaError> {
        let given_up: Box<dyn Fn() -> bool + Send> = Box::new(given_up);
        loop {
            let producer: BaseProducer<Deliveries> = config.create_with_context(Deliveries::default())?;
            let call = || producer.init_transactions(CALL_TIMEOUT);
            match retrying(call, TAKE_OVER_LIMIT, &given_up) {
                Ok(()) => return Ok(Self { producer, given_up }),
                Err(error) if is_retriable(&error) && !given_up() => {
                    tracing::warn!(%error, "transactions cannot be initialised yet, trying again");
                }
                Err(error) => return Err(error),
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
    /// Where it does not take the record, or its queue stays full and the brokers are given up.
    pub fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if !(self.given_up)() => {
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
        let deadline = Instant::now() + DELIVERY_LIMIT;
        self.producer.poll(Duration::ZERO);
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline && !(self.given_up)() {
            std::thread::sleep(DELIVERY_CHECK);
            self.producer.poll(Duration::ZERO);
        }
    }

    /// The first record that the broker refused; once.
    pub fn refusal(&self) -> Option<Refused> {
        self.producer.poll(Duration::ZERO);
        self.producer.context().take()
    }

    /// Adds consumed offsets, under the group's metadata as of when they were taken.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn send_offsets(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata) -> Result<(), KafkaError> {
        self.retrying(|| self.producer.send_offsets_to_transaction(offsets, group, CALL_TIMEOUT))
    }

    /// Commits what was delivered.
    ///
    /// # Errors
    /// As librdkafka says. After a retriable one it may be committed all the same: only what the broker has can tell.
    pub fn commit(&self) -> Result<(), KafkaError> {
        self.retrying(|| self.producer.commit_transaction(CALL_TIMEOUT))
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn abort(&self) -> Result<(), KafkaError> {
        self.retrying(|| {
            // unserved delivery reports would block the call for its whole time
            self.deliver();
            self.producer.abort_transaction(CALL_TIMEOUT)
        })
    }

    fn retrying(&self, call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
        retrying(call, RETRY_LIMIT, &self.given_up)
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
    fn take(&self) -> Option<Refused> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Calls again while the error says that this helps, for a while.
fn retrying(
    mut call: impl FnMut() -> Result<(), KafkaError>,
    limit: Duration,
    given_up: &dyn Fn() -> bool,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + limit;
    loop {
        match call() {
            Err(error) if is_retriable(&error) && Instant::now() < deadline && !given_up() => {
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

/// Whether a record, or the batch around it, was refused for its size.
#[must_use]
pub fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(error.rdkafka_error_code(), Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge))
}

/// Whether a record was refused for a reason that stays: it takes a person to change a right, a topic or its settings.
#[must_use]
pub fn is_refused_for_good(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let stays = |code: Code| {
        matches!(
            code,
            Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::InvalidTopic
                | Code::PolicyViolation
                | Code::UnsupportedForMessageFormat
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
        )
    };
    error.rdkafka_error_code().is_some_and(stays)
}
