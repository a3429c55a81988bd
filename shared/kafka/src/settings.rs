//! Settings of clients.

use std::time::Duration;

use rdkafka::{ClientConfig, TopicPartitionList};
use service::{GroupProtocol, HumanDuration};

/// Limit for a single question to the brokers.
pub const ASK: Duration = Duration::from_secs(10);

/// The same at a start and in what a person asks for: a failure ends the process there, and nobody asks again.
pub const ASK_AT_START: Duration = Duration::from_secs(30);

/// The largest record that workers write where nothing else is configured, in bytes, as a setting: a source's largest one,
/// and headers. Dead letters are as large, and rows and alerts may be: dimensions come from records whole.
pub const LARGEST_RECORD: &str = "4259840";

/// A default for consumers that read: librdkafka's own of 1 s costs those slower than the fetcher a good part of their rate.
pub const FETCH_AGAIN: (&str, &str) = ("fetch.queue.backoff.ms", "5");

/// Our defaults, where the user has set nothing.
pub fn unless_set(config: &mut ClientConfig, defaults: &[(&str, &str)]) {
    for (key, value) in defaults {
        if config.get(key).is_none() {
            config.set(*key, *value);
        }
    }
}

/// A consumer whose offsets nobody commits or stores but its owner.
pub fn manual_offsets(config: &mut ClientConfig, group: &str) {
    config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
}

/// Makes a consumer a member of its group. Under the classic protocol it has left after `session_timeout` of silence.
/// It is a dynamic member: a second process with the same name shuts nobody out, and one that ends hands over at once.
pub fn membership(config: &mut ClientConfig, protocol: GroupProtocol, session_timeout: HumanDuration, client: &str) {
    config.set("client.id", client).set("group.protocol", protocol.name());
    if protocol == GroupProtocol::Classic {
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_timeout.as_millis().to_string());
    }
}

/// The name of an instance of `worker`, as the cluster sees it: with the configured one, or the host's where that is empty.
#[must_use]
pub fn instance(worker: &str, configured: &str) -> String {
    let host = || std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned()).unwrap_or_default();
    let instance = if configured.is_empty() { host() } else { configured.to_owned() };
    format!("{worker}-{instance}")
}

/// A list of one partition.
#[must_use]
pub fn one(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition);
    list
}
