//! Hands refused records on: key, value and headers untouched, Kafka Connect's error headers added.
//!
//! At least once: a record that was handed on just before a crash is read, refused and handed on again. Its topic,
//! partition and offset stand in its headers.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use records::dead_letter;

use crate::batch::Refusal;

/// The worker's name in headers.
pub const WORKER: &str = "clickhouse-writer";

/// Header with the size of a value that was cut, named as the other workers name it.
pub const TRUNCATED: &str = "recwatch.truncated.from.bytes";

/// What is left of a value that the topic does not take whole.
const TRUNCATED_BYTES: usize = 512 * 1024;

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
        Ok(Self { producer, topic: topic.to_owned() })
    }

    /// Hands records of `source_topic` on and returns when the broker has them all.
    ///
    /// # Errors
    /// Where a record is not taken after several attempts.
    pub async fn publish(&self, source_topic: &str, refusals: &[Refusal]) -> anyhow::Result<()> {
        for window in refusals.chunks(WINDOW) {
            let mut under_way = Vec::with_capacity(window.len());
            for refusal in window {
                under_way.push((refusal, self.send(source_topic, refusal, false)));
            }
            for (refusal, sent) in under_way {
                if let Err(error) = delivered(sent).await {
                    self.repeat(source_topic, refusal, error).await?;
                }
            }
        }
        Ok(())
    }

    async fn repeat(&self, source_topic: &str, refusal: &Refusal, mut error: KafkaError) -> anyhow::Result<()> {
        let mut cut = false;
        for attempt in 1..ATTEMPTS {
            let too_large = error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge);
            if too_large && !cut {
                cut = true;
            } else {
                tracing::warn!(topic = self.topic, %error, attempt, "a dead letter was not taken and is sent again");
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
            }
            match delivered(self.send(source_topic, refusal, cut)).await {
                Ok(()) => return Ok(()),
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

    /// An error is the queue's; the future's outcome is the broker's.
    fn send(&self, source_topic: &str, refusal: &Refusal, cut: bool) -> Result<DeliveryFuture, KafkaError> {
        let original = &refusal.original;
        let mut headers = original.headers.clone().unwrap_or_default();
        let error = dead_letter::Error {
            worker: WORKER,
            topic: source_topic,
            partition: refusal.place.partition,
            offset: refusal.place.offset,
            stage: refusal.stage,
            reason: refusal.reason,
            message: &refusal.message,
        };
        for (key, value) in error.headers() {
            headers = headers.insert(Header { key, value: Some(value.as_ref()) });
        }
        let mut value = original.value.as_deref();
        if cut && let Some(whole) = value {
            headers = truncated(headers, whole.len());
            value = Some(&whole[..whole.len().min(TRUNCATED_BYTES)]);
        }
        let mut record = FutureRecord::to(&self.topic).headers(headers);
        record.key = original.key.as_deref();
        record.payload = value;
        self.producer.send_result(record).map_err(|(error, _)| error)
    }
}

fn truncated(headers: OwnedHeaders, bytes: usize) -> OwnedHeaders {
    headers.insert(Header { key: TRUNCATED, value: Some(bytes.to_string().as_bytes()) })
}

async fn delivered(sent: Result<DeliveryFuture, KafkaError>) -> Result<(), KafkaError> {
    match sent?.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        // The producer lives as long as this future is awaited; told as a failure, the record is sent again.
        Err(_) => Err(KafkaError::Canceled),
    }
}
