//! Warnings of event times in the future.

use crate::counts::FutureRule;
use crate::task::RefusedFuture;
use crate::telemetry::PartitionLabels;

/// Writes a warning of `count` records, the newest of which is `refused`. Times are in epoch ms.
pub(crate) fn warn(labels: &PartitionLabels, count: u64, refused: &RefusedFuture) {
    let RefusedFuture { offset, event_time, timestamp, now, rule } = *refused;
    let record_timestamp = timestamp.map_or("none".to_owned(), |timestamp| timestamp.to_string());
    let advice = match rule {
        FutureRule::RecordTimestamp => {
            "the event times are ahead of the records' own timestamps: check how producers make them"
        }
        FutureRule::ReaderClock => {
            "event times and Kafka timestamps are ahead of this host's clock: check the clocks of the producers and of \
             this host (with message.timestamp.type=LogAppendTime the broker's clock stamps the records)"
        }
        FutureRule::NoTimestamp => {
            "the records have no Kafka timestamp and their event times are ahead of this host's clock: check the clocks of \
             the producers and of this host (with message.timestamp.type=LogAppendTime the broker's clock stamps the records)"
        }
    };
    tracing::warn!(topic = %labels.topic, partition = labels.partition, records = count, offset, event_time,
        record_timestamp, now, "future_timestamp: {advice}");
}
