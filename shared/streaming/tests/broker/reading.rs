//! Consumers that are assigned a partition and never join a group, and committed offsets.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use testkit::ends_by_itself;

use crate::common::{DEADLINE, at, client_config, unique};

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Everything up to the high watermark, aborted records too.
    ReadUncommitted,
    /// Committed records up to the last stable offset.
    ReadCommitted,
}

/// What a group has committed for a partition: next offset, if any, and metadata.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> KafkaResult<(Option<i64>, String)> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let list = consumer.committed_offsets(list, timeout)?;
    let element = list.find_partition(topic, partition).expect("the partition that was asked for");
    element.error()?;
    Ok((element.offset().to_raw().filter(|offset| *offset >= 0), element.metadata().to_owned()))
}

/// A consumer of `group` for `assign` only: it never joins, and reports the ends of partitions.
pub(crate) fn reader(isolation: Isolation, group: &str) -> BaseConsumer {
    let level = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    client_config()
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "20")
        .set("isolation.level", level)
        .create()
        .expect("a reader")
}

/// Reads a partition with a reader of its own, from its start to its first reported end.
pub(crate) fn read_partition(topic: &str, partition: i32, isolation: Isolation) -> Vec<String> {
    let consumer = reader(isolation, &unique("reader"));
    read_to_end(&consumer, topic, partition)
}

/// Assigns a partition from its start and reads it to its first reported end: payloads in order.
pub(crate) fn read_to_end(consumer: &BaseConsumer, topic: &str, partition: i32) -> Vec<String> {
    consumer.assign(&at(topic, partition, 0)).expect("assigned");
    let mut payloads = Vec::new();
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "{topic} was not read to its end");
        match consumer.poll(Duration::from_millis(50)) {
            None => {}
            Some(Ok(message)) => {
                assert_eq!(message.topic(), topic, "a message of an earlier assignment");
                payloads.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return payloads,
            Some(Err(error)) if ends_by_itself(&error) => {}
            Some(Err(error)) => panic!("a read failed: {error:?}"),
        }
    }
}
