//! What librdkafka calls back with. Nothing here can wait or panic.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

/// Passes librdkafka's log lines on.
pub fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => tracing::error!(fac, "{message}"),
        Level::Warning => tracing::warn!(fac, "{message}"),
        Level::Notice | Level::Info => tracing::info!(fac, "{message}"),
        Level::Debug => tracing::debug!(fac, "{message}"),
    }
}

/// What the group has decided about a consumer's partitions.
#[derive(Debug, Clone)]
pub enum Rebalance {
    /// These partitions come.
    Assign(TopicPartitionList),
    /// These partitions leave.
    Revoke(TopicPartitionList),
}

/// Records rebalances for a loop to act upon.
#[derive(Debug, Default)]
pub struct RebalanceRecorder {
    events: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
}

impl RebalanceRecorder {
    /// The oldest rebalance that was not acted upon.
    pub fn next(&self) -> Option<Rebalance> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on nobody acts upon what is recorded: it is answered at once, or the consumer would never close.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// For contexts that hold a recorder: their [`ConsumerContext::rebalance`].
    pub fn record<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        error: RDKafkaRespErr,
        list: &TopicPartitionList,
    ) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let _ = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            return;
        }
        let event = if assigned { Rebalance::Assign(list.clone()) } else { Rebalance::Revoke(list.clone()) };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }
}

impl ClientContext for RebalanceRecorder {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for RebalanceRecorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.record(consumer, error, list);
    }
}

/// A reader of partitions that it names itself: the end of one is no error.
#[derive(Debug, Default)]
pub struct ReaderContext;

impl ClientContext for ReaderContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for ReaderContext {}

/// A consumer that reads partitions that it names itself; it never joins a group.
pub type Reader = BaseConsumer<ReaderContext>;
