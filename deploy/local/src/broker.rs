//! What replay asks the broker: ends of topics, committed offsets, and the committed records of a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long one question to the broker may take; it may stand still for a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic's partition.
pub type TopicPartition = (String, i32);

/// A broker that is asked by a consumer that is in no group and never commits.
pub struct Broker {
    brokers: String,
    consumer: BaseConsumer,
}

impl Broker {
    /// # Errors
    /// The client cannot be made; the broker is not asked yet.
    pub fn new(brokers: &str) -> Result<Self> {
        // Of a topic with transactions, the end that a `read_committed` client is told lies before the first open one.
        let consumer = reader(brokers).set("isolation.level", "read_uncommitted").create()?;
        Ok(Self { brokers: brokers.to_owned(), consumer })
    }

    /// The number of a topic's partitions; `None` where there is no such topic.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), PATIENCE);
        let metadata = metadata.with_context(|| format!("the broker was asked for topic {topic}"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
        Ok(found.map(|found| found.partitions().len() as i32).filter(|&partitions| partitions > 0))
    }

    /// The offset behind the last record of each partition of a topic; empty where there is no such topic.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn ends(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let mut ends = BTreeMap::new();
        for partition in 0..self.partitions(topic)?.unwrap_or(0) {
            let (_, end) = self
                .consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("the broker was asked for the end of {topic}-{partition}"))?;
            ends.insert(partition, end);
        }
        Ok(ends)
    }

    /// Reads all committed records of a topic, from its beginning to its present end; `take` is given each.
    ///
    /// # Errors
    /// Reading fails or stands still, or `take` fails.
    pub fn read_all(&self, topic: &str, take: impl FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<()> {
        Follower::new(&self.brokers, topic, self.partitions(topic)?.unwrap_or(0))?.read_to_end(take)
    }
}

/// Reads the committed records of one topic, in as many goes as wanted.
pub struct Follower {
    topic: String,
    partitions: i32,
    consumer: BaseConsumer,
}

impl Follower {
    /// A reader at the beginning of all `partitions` of `topic`.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(brokers: &str, topic: &str, partitions: i32) -> Result<Self> {
        let consumer: BaseConsumer = reader(brokers).create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(Self { topic: topic.to_owned(), partitions, consumer })
    }

    /// Reads what there is, waiting at most `patience` for the first record; `take` is given each.
    ///
    /// # Errors
    /// Reading fails, or `take` does.
    pub fn read_more(
        &self,
        patience: Duration,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut patience = patience;
        loop {
            match self.consumer.poll(patience) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    take(&message)?;
                    patience = Duration::ZERO;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => self.judge(error)?,
            }
        }
    }

    /// Reads until each partition's end was reached once; `take` is given each record.
    ///
    /// # Errors
    /// Reading fails or stands still, or `take` fails.
    pub fn read_to_end(&self, mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<()> {
        let mut unread: BTreeSet<i32> = (0..self.partitions).collect();
        let mut heard = Instant::now();
        while !unread.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                None if heard.elapsed() < PATIENCE => continue,
                None => {
                    bail!("partitions {unread:?} of {} could not be read to their ends in {PATIENCE:?}", self.topic)
                }
                Some(Ok(message)) => take(&message)?,
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(unread.remove(&partition)),
                Some(Err(error)) => self.judge(error)?,
            }
            heard = Instant::now();
        }
        Ok(())
    }

    fn judge(&self, error: KafkaError) -> Result<()> {
        if ends_by_itself(&error) {
            return Ok(());
        }
        Err(error).with_context(|| format!("{} cannot be read", self.topic))
    }
}

/// Whether a reader that has heard this error goes on by itself once the broker answers again.
#[must_use]
pub fn ends_by_itself(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut))
}

fn reader(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "recwatch.stack")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.queue.backoff.ms", "5");
    config
}

/// Asks for the committed offsets of one group.
pub struct CommittedOffsets {
    stable: BaseConsumer,
    unstable: BaseConsumer,
}

impl CommittedOffsets {
    /// # Errors
    /// The clients cannot be made.
    pub fn new(brokers: &str, group: &str) -> Result<Self> {
        let client = |isolation: &str| -> Result<BaseConsumer> {
            Ok(reader(brokers).set("group.id", group).set("isolation.level", isolation).create()?)
        };
        Ok(Self { stable: client("read_committed")?, unstable: client("read_uncommitted")? })
    }

    /// The committed offsets of those partitions that have one.
    ///
    /// Offsets in an open transaction are waited for, for two seconds. Then they count as not committed: of a frozen
    /// process, which is where that happens, the end of a transaction never comes.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn ask<'a>(
        &self,
        partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in partitions {
            asked.add_partition(topic, *partition);
        }
        if asked.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let answer = match self.stable.committed_offsets(asked.clone(), Duration::from_secs(2)) {
            Ok(answer) if answer.elements().iter().all(|element| element.error().is_ok()) => answer,
            _ => self.unstable.committed_offsets(asked, PATIENCE).context("the committed offsets were asked for")?,
        };
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        Ok(answer
            .elements()
            .iter()
            .filter_map(|element| Some(((element.topic().to_owned(), element.partition()), offset(element.offset())?)))
            .collect())
    }
}
