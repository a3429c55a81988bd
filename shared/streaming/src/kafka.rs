//! Clients: consumers whose rebalance callbacks only record, transactional producers, and how a message becomes a
//! record.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Message, TopicPartitionList};

use service::GroupProtocol;

use crate::config::RuntimeConfig;
use crate::headers;
use crate::operator::Record;

/// What the group has decided about a consumer's partitions.
#[derive(Debug, Clone)]
pub(crate) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// Records rebalances for the loop to act upon; nothing here can wait or panic.
#[derive(Debug, Default)]
pub(crate) struct RebalanceRecorder {
    events: Mutex<VecDeque<Rebalance>>,
    closing: std::sync::atomic::AtomicBool,
}

impl RebalanceRecorder {
    pub(crate) fn next(&self) -> Option<Rebalance> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on nobody acts upon what is recorded: revocations are acknowledged at once, so that closing ends.
    pub(crate) fn close(&self) {
        self.closing.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl ClientContext for RebalanceRecorder {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for RebalanceRecorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            return;
        }
        let event = if assigned { Rebalance::Assign(list.clone()) } else { Rebalance::Revoke(list.clone()) };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }
}

/// A reader of partitions that it names itself: its end of a partition is no error.
#[derive(Debug, Default)]
pub(crate) struct ReaderContext;

impl ClientContext for ReaderContext {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for ReaderContext {}

/// A consumer that reads partitions that it names itself.
pub(crate) type Reader = BaseConsumer<ReaderContext>;

/// Passes librdkafka's log lines on.
pub(crate) fn log(level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
    use rdkafka::config::RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => tracing::error!(fac, "{message}"),
        Level::Warning => tracing::warn!(fac, "{message}"),
        Level::Notice | Level::Info => tracing::info!(fac, "{message}"),
        Level::Debug => tracing::debug!(fac, "{message}"),
    }
}

/// Our defaults, where the user has set nothing.
fn unless_set(config: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (key, value) in defaults {
        if config.get(key).is_none() {
            config.set(*key, *value);
        }
    }
}

/// Settings of every consumer here.
fn consumer(base: &ClientConfig, group: &str, client: &str) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("group.id", group)
        .set("client.id", client)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error");
    // librdkafka's default of 1 s costs consumers slower than the fetcher a good part of their rate
    unless_set(&mut config, &[("fetch.queue.backoff.ms", "5")]);
    config
}

/// A member of the worker's group.
pub(crate) fn member(base: &ClientConfig, group: &str, client: &str, runtime: &RuntimeConfig) -> ClientConfig {
    let mut config = consumer(base, group, client);
    match runtime.protocol {
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
            // the broker's own choice gives all of one source topic to one thread, and all of another to the next
            unless_set(&mut config, &[("group.remote.assignor", "range")]);
        }
        GroupProtocol::Classic => {
            config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", runtime.session_timeout.as_millis().to_string())
                .set("group.instance.id", client);
        }
    }
    config
}

/// A consumer that reads partitions that it names itself, to their end; it never joins the group.
pub(crate) fn reader(base: &ClientConfig, group: &str, client: &str, isolation: &str) -> Result<Reader, KafkaError> {
    let mut config = consumer(base, group, client);
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("fetch.wait.max.ms", "20");
    config.create_with_context(ReaderContext)
}

/// A transactional producer.
pub(crate) fn producer(base: &ClientConfig, transactional_id: &str, runtime: &RuntimeConfig) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("client.id", transactional_id)
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", runtime.transaction_timeout.as_millis().to_string())
        .set("message.max.bytes", runtime.max_message_bytes().to_string())
        .set("delivery.report.only.error", "true")
        // Kafka's own partitioner: a key's records lie where other producers would put them
        .set("partitioner", "murmur2_random");
    let defaults = [("compression.type", "lz4"), ("linger.ms", "5"), ("queue.buffering.max.messages", "1000000")];
    unless_set(&mut config, &defaults);
    config
}

/// A message as operators see it.
pub(crate) fn record<'a>(message: &'a BorrowedMessage<'_>, headers: &'a dyn headers::Headers) -> Record<'a> {
    Record {
        key: message.key(),
        value: message.payload(),
        // a message without a timestamp cannot be judged by it
        timestamp: message.timestamp().to_millis().unwrap_or(i64::MAX),
        offset: message.offset(),
        headers,
    }
}

/// The headers of a message.
pub(crate) struct MessageHeaders<'a>(pub(crate) &'a BorrowedMessage<'a>);

impl headers::Headers for MessageHeaders<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        let headers = self.0.headers()?;
        headers.iter().filter(|header| header.key == name).last().and_then(|header| header.value)
    }

    fn write(&self, into: &mut Vec<u8>) {
        for header in self.0.headers().iter().flat_map(|headers| headers.iter()) {
            headers::write(into, header.key, header.value);
        }
    }
}

/// A list of one partition.
pub(crate) fn one(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    list
}

/// Limit for a single question to the brokers.
pub(crate) const ASK: Duration = Duration::from_secs(10);
