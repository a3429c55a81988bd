//! Publishing lines of recordings to Kafka, as the recommender would publish its events.

mod deliveries;
mod encode;

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

pub(crate) use deliveries::Deliveries;
pub use encode::{Encoded, LineEncoder, SchemaIds};

use crate::recording::Origin;

/// The largest record that is sent; the broker's limit for a topic of the recommender is lower, so that it is the
/// broker that refuses.
const MAX_MESSAGE_BYTES: u32 = 8 * 1024 * 1024;

/// A record that is sent as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) key: Option<Vec<u8>>,
    /// `None` is a deletion.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// Sends lines: in order, each once, keyed and partitioned as Kafka's Java producer does it, stamped with the wall clock.
pub struct Publisher {
    producer: BaseProducer<Deliveries>,
    encoder: LineEncoder,
    published: u64,
    raw: u64,
}

impl Publisher {
    /// A publisher; the registry knows the schemas under these ids.
    ///
    /// # Errors
    /// The client cannot be made; the broker is not asked yet.
    pub fn new(brokers: &str, ids: SchemaIds) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("batch.size", "524288")
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "131072")
            .create_with_context(Deliveries::default())
            .context("the producer cannot be made")?;
        Ok(Self { producer, encoder: LineEncoder::new(ids), published: 0, raw: 0 })
    }

    /// Hands one line to the producer; it waits only while the producer's queue is full.
    ///
    /// # Errors
    /// A record sent before could not be delivered.
    pub fn publish(&mut self, origin: Origin, line: &[u8]) -> Result<()> {
        let encoded = self.encoder.encode(origin, line)?;
        self.raw += u64::from(encoded.raw);
        let mut record = BaseRecord::to(origin.content.topic()).key(encoded.key).payload(encoded.value);
        if let Some(traceparent) = &encoded.traceparent {
            let header = Header { key: "traceparent", value: Some(traceparent.as_ref()) };
            record = record.headers(OwnedHeaders::new().insert(header));
        }
        while let Err((error, refused)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).with_context(|| format!("line {} cannot be published", origin.number));
            }
            self.producer.poll(Duration::from_millis(2));
            record = refused;
        }
        self.published += 1;
        if self.published.is_multiple_of(1_000) {
            self.producer.poll(Duration::ZERO);
            self.producer.context().check()?;
        }
        Ok(())
    }

    /// Hands a record to the producer as it is, for this partition of a topic, or the one that its key belongs to.
    ///
    /// # Errors
    /// The producer refuses it.
    pub(crate) fn publish_record(&mut self, topic: &str, partition: Option<i32>, record: &RawRecord) -> Result<()> {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value.as_slice()) })
        });
        let mut sent: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        sent.partition = partition;
        (sent.key, sent.payload) = (record.key.as_deref(), record.value.as_deref());
        while let Err((error, refused)) = self.producer.send(sent) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).with_context(|| format!("a record cannot be published to {topic}"));
            }
            self.producer.poll(Duration::from_millis(2));
            sent = refused;
        }
        Ok(())
    }

    /// Serves the producer for this time.
    pub fn wait(&self, time: Duration) {
        self.producer.poll(time);
    }

    /// Waits until all lines have been delivered.
    ///
    /// # Errors
    /// One could not be delivered, or it takes longer than a minute.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(Duration::from_secs(60)).context("not all records were delivered within a minute")?;
        self.producer.context().check()
    }

    /// Lines published so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Those of them that could not be encoded and were published as they were.
    #[must_use]
    pub fn raw(&self) -> u64 {
        self.raw
    }
}
