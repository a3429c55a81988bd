//! Records into and out of topics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use stack::broker::Broker;

use crate::components::brokers;

const FLUSH: Duration = Duration::from_secs(30);

/// A name that no other test has, in this process or another one that uses the same broker.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}.{}-{:x}-{number}", std::process::id(), now.as_micros())
}

/// Creates a topic with a unique name that begins with `name`, and returns that name.
///
/// # Panics
/// The broker refuses it.
pub fn topic(name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = unique(name);
    create_topic(&name, partitions, settings);
    name
}

/// Creates a topic of exactly this name: one that a test has deleted before, say.
///
/// # Panics
/// The broker refuses it.
pub fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    stack::create_topic(&brokers(), name, partitions, settings).unwrap_or_else(|error| panic!("{error:#}"));
}

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Its key, if any.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The partition, where the key is not to decide.
    pub partition: Option<i32>,
    /// Its Kafka timestamp in epoch milliseconds; the time of production if `None`.
    pub timestamp: Option<i64>,
}

impl Outgoing {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Outgoing {
        Outgoing { key: Some(key.into()), value: Some(value.into()), ..Outgoing::default() }
    }

    /// The same in a given partition.
    #[must_use]
    pub fn in_partition(self, partition: i32) -> Outgoing {
        Outgoing { partition: Some(partition), ..self }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, key: &str, value: impl Into<Vec<u8>>) -> Outgoing {
        self.headers.push((key.to_owned(), Some(value.into())));
        self
    }
}

/// A record as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key, if any.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its Kafka timestamp in epoch milliseconds.
    pub timestamp: Option<i64>,
}

impl Recorded {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name)?.1.as_deref()
    }

    /// The key as text, invalid bytes replaced; empty if there is none.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text, invalid bytes replaced; empty if there is none.
    pub fn value_text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// Keeps the errors of records that the broker refused.
#[derive(Default)]
struct Deliveries {
    refused: Mutex<Vec<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(error.clone());
        }
    }
}

/// Produces records in order and returns once the broker has them all. Keys choose partitions as in Kafka's own clients.
///
/// # Panics
/// The broker refuses one.
pub fn produce(topic: &str, records: impl IntoIterator<Item = Outgoing>) {
    produce_with(&[], topic, records);
}

/// The same by a producer with these settings too, such as `compression.type`.
///
/// # Panics
/// The broker refuses one.
pub fn produce_with(settings: &[(&str, &str)], topic: &str, records: impl IntoIterator<Item = Outgoing>) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers())
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "8000000")
        .set("linger.ms", "1");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: BaseProducer<Deliveries> =
        config.create_with_context(Deliveries::default()).unwrap_or_else(|error| panic!("no producer: {error}"));
    for outgoing in records {
        let headers = outgoing
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        record.key = outgoing.key.as_deref();
        record.payload = outgoing.value.as_deref();
        record.partition = outgoing.partition;
        record.timestamp = outgoing.timestamp;
        send(&producer, record);
    }
    producer.flush(FLUSH).unwrap_or_else(|error| panic!("{topic} did not take the records: {error}"));
    let refused = producer.context().refused.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(refused.is_empty(), "{topic} refused {} records: {:?}", refused.len(), refused.first());
}

/// A full queue is waited for.
fn send(producer: &BaseProducer<Deliveries>, mut record: BaseRecord<'_, [u8], [u8]>) {
    while let Err((error, back)) = producer.send(record) {
        if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
            panic!("a record of the test cannot be sent: {error}");
        }
        producer.poll(Duration::from_millis(50));
        record = back;
    }
}

/// All committed records of a topic up to its present end (that of the last committed transaction), by partition and offset.
///
/// # Panics
/// There is no such topic, or it cannot be read.
pub fn read_committed(topic: &str) -> Vec<Recorded> {
    let mut records = Vec::new();
    let read = Broker::new(&brokers()).and_then(|broker| {
        assert!(broker.partitions(topic)?.is_some(), "there is no topic {topic}");
        broker.read_all(topic, |message| {
            records.push(recorded(message));
            Ok(())
        })
    });
    read.unwrap_or_else(|error| panic!("{error:#}"));
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn recorded(message: &BorrowedMessage<'_>) -> Recorded {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Recorded {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp: message.timestamp().to_millis(),
    }
}
