//! Readers of partitions that they name themselves, and how a topic is read to its end.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use service::Shutdown;

use crate::{ASK, FETCH_AGAIN, Reader, ReaderContext, manual_offsets, unless_set};

/// A reader.
///
/// # Errors
/// Where the client cannot be made.
pub fn reader(kafka: &ClientConfig, group: &str, isolation: &str) -> Result<Reader, KafkaError> {
    let mut config = kafka.clone();
    let defaults = [
        // bounds what librdkafka holds ahead
        ("queued.max.messages.kbytes", "8192"),
        ("queued.min.messages", "10000"),
        FETCH_AGAIN,
        ("fetch.wait.max.ms", "50"),
    ];
    unless_set(&mut config, &defaults);
    manual_offsets(&mut config, group);
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "true").set("isolation.level", isolation);
    config.create_with_context(ReaderContext)
}

/// How many partitions a topic has; 0 where there is no such topic.
///
/// # Errors
/// Where no broker answers.
pub fn partitions(reader: &Reader, topic: &str) -> Result<i32, KafkaError> {
    let metadata = reader.fetch_metadata(Some(topic), ASK)?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32))
}

/// Why a topic was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// The end was asked for.
    #[error("the end was asked for")]
    Stopped,
    /// Try again.
    #[error("{0}")]
    Later(String),
}

impl From<KafkaError> for ReadFailure {
    fn from(error: KafkaError) -> Self {
        Self::Later(error.to_string())
    }
}

/// How long a reader may hear nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads a partition from its beginning to its present end. Waits until transactions that are open there have ended.
///
/// # Errors
/// Where that does not work out, or `take` says so.
pub fn read_to_end(
    kafka: &ClientConfig,
    group: &str,
    (topic, partition): (&str, i32),
    shutdown: &Shutdown,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), ReadFailure>,
) -> Result<(), ReadFailure> {
    let (_, high) = reader(kafka, group, "read_uncommitted")?.fetch_watermarks(topic, partition, ASK)?;
    let consumer = reader(kafka, group, "read_committed")?;
    let deadline = Instant::now() + SILENCE;
    // asked by a read_committed handle, the upper end is the last stable offset
    while consumer.fetch_watermarks(topic, partition, ASK)?.1 < high {
        if shutdown.wait_timeout(Duration::from_millis(20)) {
            return Err(ReadFailure::Stopped);
        }
        if Instant::now() > deadline {
            return Err(ReadFailure::Later(format!("a transaction is open on {topic}-{partition}")));
        }
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                take(&message)?;
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
            Some(Err(error)) => tracing::debug!(%error, topic, "while reading to the end"),
            None => {}
        }
        if shutdown.requested() {
            return Err(ReadFailure::Stopped);
        }
        if heard.elapsed() > SILENCE {
            return Err(ReadFailure::Later(format!("{topic}-{partition} cannot be read")));
        }
    }
}

/// Reads these many partitions of a topic to their present ends. Returns their records by age: where their number has
/// changed, those of one key may lie in several.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_whole(
    kafka: &ClientConfig,
    group: &str,
    (topic, partitions): (&str, i32),
    shutdown: &Shutdown,
) -> Result<Vec<OwnedMessage>, ReadFailure> {
    let mut records = Vec::new();
    for partition in 0..partitions {
        let mut age = i64::MIN;
        read_to_end(kafka, group, (topic, partition), shutdown, |message| {
            // clocks of producers differ; within a partition the order of its records counts
            age = age.max(message.timestamp().to_millis().unwrap_or(age));
            records.push((age, message.detach()));
            Ok(())
        })?;
    }
    records.sort_by_key(|(age, _)| *age);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}
