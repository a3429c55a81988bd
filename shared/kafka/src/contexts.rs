//! What librdkafka calls back with: its log, and the end of what a reader reads.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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
