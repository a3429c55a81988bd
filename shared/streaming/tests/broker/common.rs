//! What all of these tests share: the broker, names, topics, waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};

/// How long any single wait may take before the test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The two group protocols that the runtime supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// KIP-848: the broker's coordinator computes the assignment.
    Consumer,
    /// JoinGroup and SyncGroup, with the cooperative-sticky assignor.
    Classic,
}

/// The variable that names a running broker, `host:port`. Processes that a test starts get it too.
pub(crate) const BROKERS: &str = "RECWATCH_TEST_BROKERS";

/// `host:port` of the broker that the tests run against.
pub(crate) fn brokers() -> String {
    testkit::brokers()
}

/// A client configuration that names the broker and nothing else.
pub(crate) fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// A name that no other test and no earlier run used.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{}-{number}", since_epoch.as_millis(), std::process::id())
}

/// Creates a topic with a unique name and returns the name once the broker serves all of its partitions.
pub(crate) fn create_topic(prefix: &str, partitions: i32) -> String {
    let name = unique(prefix);
    let admin: AdminClient<DefaultClientContext> = client_config().create().expect("an admin client");
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let created = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new()));
    for result in created.expect("an answer") {
        result.expect("the topic is created");
    }
    // a leader that is named need not know yet that it is
    wait_until("the topic's leaders tell its ends", || {
        let ask_for_end = |partition| admin.inner().fetch_watermarks(&name, partition, DEADLINE).is_ok();
        admin.inner().fetch_metadata(Some(&name), DEADLINE).is_ok_and(|metadata| {
            metadata.topics()[0].partitions().len() == partitions as usize && (0..partitions).all(ask_for_end)
        })
    });
    name
}

/// Gives a topic more partitions.
pub(crate) fn grow(topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = client_config().create().expect("an admin client");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let grown = [NewPartitions::new(topic, partitions)];
    for result in runtime.block_on(admin.create_partitions(&grown, &AdminOptions::new())).expect("an answer") {
        result.expect("the topic has grown");
    }
}

/// Repeats `condition` until it holds; fails the test after the deadline. `condition` itself has to block for a moment
/// (a poll, a request), so that this does not spin.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "gave up waiting until {what}");
    }
    start.elapsed()
}

/// A list with one partition at one offset.
pub(crate) fn at(topic: &str, partition: i32, offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
    list
}

/// A list with one partition at one offset, with commit metadata.
pub(crate) fn at_with_metadata(topic: &str, partition: i32, offset: i64, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(topic, partition);
    element.set_offset(Offset::Offset(offset)).expect("a valid offset");
    element.set_metadata(metadata);
    list
}
