//! Transactional producers, and readers of single partitions.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{DEADLINE, GroupMember, at, client_config, unique, wait_until};

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything up to the high watermark, aborted records too.
    ReadUncommitted,
    /// Committed records up to the last stable offset.
    ReadCommitted,
}

/// An initialised transactional producer; the broker aborts a transaction that is older than `timeout`.
pub fn producer(transactional_id: &str, timeout: Duration) -> BaseProducer {
    let producer: BaseProducer = client_config()
        .set("transactional.id", transactional_id)
        .set("linger.ms", "0")
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        .create()
        .expect("a producer");
    producer.init_transactions(DEADLINE).expect("transactions initialised");
    producer
}

/// Begins a transaction and produces `payloads` to partition 0 of `topic`.
pub fn begin(producer: &BaseProducer, topic: &str, payloads: &[&str]) {
    producer.begin_transaction().expect("a transaction begun");
    produce(producer, topic, 0, payloads);
}

/// Produces `payloads` and waits until the broker has them.
pub fn produce(producer: &BaseProducer, topic: &str, partition: i32, payloads: &[&str]) {
    for payload in payloads {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(partition).payload(payload);
        producer.send(record).map_err(|(error, _)| error).expect("a record queued");
    }
    drain(producer);
}

/// Waits until nothing is in flight. Not with `flush`: rust-rdkafka's polls in whole steps of 100 ms even when the last delivery report
/// came in its first millisecond, and `flush(0)` in a loop wakes librdkafka's broker threads so often that requests stall for seconds.
pub fn drain(producer: &BaseProducer) {
    wait_until("the broker has every record", || {
        producer.poll(Duration::from_millis(1));
        producer.in_flight_count() == 0
    });
}

/// Commits `payloads` and `offsets` as the runtime does: an abort is normal, and the same cut is sent again with fresh group
/// metadata until it is in.
pub fn commit_cut(
    member: &GroupMember,
    producer: &BaseProducer,
    topic: &str,
    payloads: &[&str],
    offsets: &TopicPartitionList,
) {
    wait_until("the cut is committed", || {
        begin(producer, topic, payloads);
        let sent = producer.send_offsets_to_transaction(offsets, &member.metadata(), DEADLINE);
        match sent.and_then(|()| producer.commit_transaction(DEADLINE)) {
            Ok(()) => true,
            Err(error) => {
                expect_abort(Err(error));
                producer.abort_transaction(DEADLINE).expect("an abort");
                false
            }
        }
    });
}

/// Asserts that an operation failed in the way that asks for an abort and a second try, and returns the code.
pub fn expect_abort(result: KafkaResult<()>) -> RDKafkaErrorCode {
    match result {
        Err(KafkaError::Transaction(error)) => {
            assert!(error.txn_requires_abort(), "{error:?} does not ask for an abort");
            assert!(!error.is_fatal(), "{error:?} is fatal");
            error.code()
        }
        other => panic!("expected an abortable transaction error, got {other:?}"),
    }
}

/// What a group has committed for a partition: next offset, if any, and metadata.
pub fn committed<C: ConsumerContext>(
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
pub fn reader(isolation: Isolation, group: &str) -> BaseConsumer {
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
pub fn read_partition(topic: &str, partition: i32, isolation: Isolation) -> Vec<String> {
    let consumer = reader(isolation, &unique("reader"));
    read_to_end(&consumer, topic, partition)
}

/// Assigns a partition from its start and reads it to its first reported end: payloads in order.
pub fn read_to_end(consumer: &BaseConsumer, topic: &str, partition: i32) -> Vec<String> {
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
            Some(Err(error)) => panic!("a read failed: {error:?}"),
        }
    }
}
