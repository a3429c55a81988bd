//! Hands refused records on: key, value and headers untouched as far as the topic takes them, Kafka Connect's error headers
//! added.
//!
//! At least once: a record that was handed on just before a crash is read, refused and handed on again. Its topic,
//! partition and offset stand in its headers.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use kafka::{TopicLimits, is_too_large, read_headers};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use records::dead_letter;
use records::truncation::{self, HandedOn, Sizes, batch_bytes, fit};

use crate::batch::{Place, Refusal};

/// The worker's name in headers.
pub const WORKER: &str = "clickhouse-writer";

/// The largest message that the producer sends; the topic may take less.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Attempts for a record, of up to the producer's delivery timeout each.
const ATTEMPTS: u32 = 5;

/// Records on their way to the topic at one time.
const WINDOW: usize = 1000;

/// The dead letters' topic.
#[derive(Clone)]
pub struct DeadLetters {
    producer: FutureProducer,
    topic: String,
    /// What the topic takes, as far as it has turned out.
    limits: Arc<Mutex<TopicLimits>>,
}

/// A record that the topic does not take, nor its beginning: it is in no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// Where it came from.
    pub place: Place,
    /// What it takes.
    pub bytes: usize,
    /// What the topic takes.
    pub limit: usize,
}

impl DeadLetters {
    /// A producer for `topic`.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn new(kafka: &ClientConfig, topic: &str) -> anyhow::Result<Self> {
        let mut config = kafka.clone();
        config
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            .set("delivery.timeout.ms", "30000")
            .set("linger.ms", "5")
            .set("compression.type", "lz4");
        let producer = config.create().context("the Kafka producer for dead letters cannot be made")?;
        let limits = Arc::new(Mutex::new(TopicLimits::new(&[MAX_MESSAGE_BYTES])));
        Ok(Self { producer, topic: topic.to_owned(), limits })
    }

    /// Hands records of `source_topic` on and returns when the broker has them all, but for those that it does not take
    /// even when cut.
    ///
    /// # Errors
    /// Where a record is not taken after several attempts.
    pub async fn publish(&self, source_topic: &str, refusals: &[Refusal]) -> anyhow::Result<Vec<TooLarge>> {
        let mut too_large = Vec::new();
        for window in refusals.chunks(WINDOW) {
            let mut under_way = Vec::with_capacity(window.len());
            for refusal in window {
                under_way.push((refusal, self.send(source_topic, refusal)));
            }
            for (refusal, sent) in under_way {
                match sent {
                    Err(Unsent::TooLarge(record)) => too_large.push(record),
                    Err(Unsent::Refused(error)) => {
                        too_large.extend(self.repeat(source_topic, refusal, error).await?);
                    }
                    Ok(future) => {
                        if let Err(error) = delivered(future).await {
                            too_large.extend(self.repeat(source_topic, refusal, error).await?);
                        }
                    }
                }
            }
        }
        Ok(too_large)
    }

    async fn repeat(
        &self,
        source_topic: &str,
        refusal: &Refusal,
        mut error: KafkaError,
    ) -> anyhow::Result<Option<TooLarge>> {
        let mut attempt = 1;
        // at first it may have been its batch that was too large
        let mut was_alone = false;
        while attempt < ATTEMPTS {
            if is_too_large(&error) {
                // each makes the limit smaller, so there are few
                if std::mem::replace(&mut was_alone, true) {
                    self.learn(source_topic, refusal);
                }
            } else {
                tracing::warn!(topic = self.topic, %error, attempt, "a dead letter was not taken and is sent again");
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                attempt += 1;
            }
            let sent = match self.send(source_topic, refusal) {
                Ok(future) => delivered(future).await,
                Err(Unsent::Refused(error)) => Err(error),
                Err(Unsent::TooLarge(record)) => return Ok(Some(record)),
            };
            match sent {
                Ok(()) => return Ok(None),
                Err(again) => error = again,
            }
        }
        Err(error).with_context(|| {
            let place = refusal.place;
            format!(
                "topics.dead_letters = {:?} does not take the record at {source_topic}-{}:{}",
                self.topic, place.partition, place.offset
            )
        })
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, TopicLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, source_topic: &str, refusal: &Refusal) {
        let (own, added) = (own(refusal), added(source_topic, refusal));
        let bytes = Letter::of(refusal, &own, &added).bytes();
        let mut limits = self.limits();
        let sent = bytes.min(limits.of(0));
        limits.refused(0, sent, None);
        tracing::warn!(topic = self.topic, limit = limits.of(0), "the topic takes less than was known");
    }

    /// An error is the queue's; the future's outcome is the broker's.
    fn send(&self, source_topic: &str, refusal: &Refusal) -> Result<DeliveryFuture, Unsent> {
        let limit = self.limits().of(0);
        let (own, added) = (own(refusal), added(source_topic, refusal));
        let letter = Letter::of(refusal, &own, &added);
        let (key, value) = (letter.key, letter.value);
        let original = Sizes::of(key, value, letter.own.iter().copied());
        let whole = HandedOn { key, value, own: &letter.own, added: &letter.added, original };
        let Some(fitted) = fit(&whole, limit) else {
            return Err(Unsent::TooLarge(TooLarge { place: refusal.place, bytes: letter.bytes(), limit }));
        };
        let headers = fitted
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        let mut record = FutureRecord::to(&self.topic).headers(headers);
        (record.key, record.payload) = (fitted.key, fitted.value);
        self.producer.send_result(record).map_err(|(error, _)| Unsent::Refused(error))
    }
}

enum Unsent {
    TooLarge(TooLarge),
    Refused(KafkaError),
}

/// A dead letter before it is cut.
struct Letter<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    own: Vec<truncation::Header<'a>>,
    added: Vec<truncation::Header<'a>>,
}

impl<'a> Letter<'a> {
    fn of(
        refusal: &'a Refusal,
        own: &'a [(Cow<'_, str>, Option<&[u8]>)],
        added: &'a [(&'static str, Vec<u8>)],
    ) -> Self {
        Self {
            key: refusal.original.key.as_deref(),
            value: refusal.original.value.as_deref(),
            own: own.iter().map(|(name, value)| (name.as_ref(), *value)).collect(),
            added: added.iter().map(|(name, value)| (*name, Some(value.as_slice()))).collect(),
        }
    }

    fn bytes(&self) -> usize {
        batch_bytes(self.key, self.value, self.own.iter().chain(&self.added).copied())
    }
}

/// The headers that it had.
fn own(refusal: &Refusal) -> Vec<(Cow<'_, str>, Option<&[u8]>)> {
    refusal.original.headers.as_ref().map(|headers| read_headers(headers.as_borrowed())).unwrap_or_default()
}

/// The headers that say where it came from and why it is handed on.
fn added(source_topic: &str, refusal: &Refusal) -> Vec<(&'static str, Vec<u8>)> {
    let error = dead_letter::Error {
        worker: WORKER,
        topic: source_topic,
        partition: refusal.place.partition,
        offset: refusal.place.offset,
        stage: refusal.stage,
        reason: refusal.reason,
        message: &refusal.message,
    };
    error.headers().map(|(name, value)| (name, value.into_owned())).collect()
}

async fn delivered(sent: DeliveryFuture) -> Result<(), KafkaError> {
    match sent.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        // The producer lives as long as this future is awaited; told as a failure, the record is sent again.
        Err(_) => Err(KafkaError::Canceled),
    }
}
