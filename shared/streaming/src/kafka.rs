//! Settings of this runtime's clients.

pub(crate) use kafka::{ASK, ASK_AT_START, GroupMember, Reader, one, topic_settings};
use kafka::{FETCH_AGAIN, ReaderContext, manual_offsets, membership, unless_set};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use service::GroupProtocol;

use crate::config::RuntimeConfig;

/// Settings of every consumer here.
fn consumer(base: &ClientConfig, group: &str, client: &str) -> ClientConfig {
    let mut config = base.clone();
    manual_offsets(&mut config, group);
    unless_set(&mut config, &[FETCH_AGAIN]);
    config.set("client.id", client).set("isolation.level", "read_committed").set("auto.offset.reset", "error");
    config
}

/// A member of the worker's group.
pub(crate) fn member(base: &ClientConfig, group: &str, client: &str, runtime: &RuntimeConfig) -> ClientConfig {
    let mut config = consumer(base, group, client);
    membership(&mut config, runtime.protocol, runtime.session_timeout, client);
    if runtime.protocol == GroupProtocol::Classic {
        // a static member, which has its tasks again after a restart without a rebalance
        config.set("group.instance.id", client);
    } else {
        // the broker's own choice gives all of one source topic to one thread, and all of another to the next
        unless_set(&mut config, &[("group.remote.assignor", "range")]);
    }
    config
}

/// A consumer that reads partitions that it names itself, to their end; it never joins the group.
pub(crate) fn reader(base: &ClientConfig, group: &str, client: &str, isolation: &str) -> Result<Reader, KafkaError> {
    let mut config = consumer(base, group, client);
    config.set("isolation.level", isolation).set("enable.partition.eof", "true").set("fetch.wait.max.ms", "20");
    // a follower may be behind the leader, and would say that a partition ends where it does not
    config.remove("client.rack");
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
        // a topic that was deleted is not to come back with the broker's settings
        .set("allow.auto.create.topics", "false")
        // Kafka's own partitioner: a key's records lie where other producers would put them
        .set("partitioner", "murmur2_random");
    let defaults = [("compression.type", "lz4"), ("linger.ms", "5"), ("queue.buffering.max.messages", "1000000")];
    unless_set(&mut config, &defaults);
    config
}

/// Whether a Kafka timestamp is one: -1 is Kafka's way to say that there is none, and no clock shows a time before the epoch.
pub(crate) fn is_timestamp(millis: &i64) -> bool {
    *millis >= 0
}
