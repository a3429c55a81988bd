//! What the broker tests share: topics, group members whose rebalance callbacks only record, transactional producers, readers.
//!
//! Nothing here waits for time to pass: every wait is for a condition, with a deadline that fails the test.
#![allow(dead_code, unreachable_pub)]

mod group_member;
mod transactions;

pub use group_member::{Event, GroupMember};
pub use transactions::{
    Isolation, begin, commit_cut, committed, drain, expect_abort, produce, producer, read_partition, read_to_end,
    reader,
};

/// How long any single wait may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};

/// The two group protocols that the runtime supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// KIP-848: the broker's coordinator computes the assignment.
    Consumer,
    /// JoinGroup and SyncGroup, with the cooperative-sticky assignor.
    Classic,
}

/// Makes two tests, one a protocol, of each named function.
#[macro_export]
macro_rules! with_both_protocols {
    ($($name:ident),* $(,)?) => {
        mod with_the_consumer_protocol {
            $(#[test] fn $name() { super::$name($crate::common::Protocol::Consumer) })*
        }
        mod with_the_classic_protocol {
            $(#[test] fn $name() { super::$name($crate::common::Protocol::Classic) })*
        }
    };
}

/// `host:port` of the broker that the tests run against.
pub fn brokers() -> String {
    std::env::var("RECWATCH_TEST_BROKERS").expect("RECWATCH_TEST_BROKERS names the broker to test against")
}

/// A client configuration that names the broker and nothing else.
pub fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    config
}

/// A name that no other test and no earlier run used.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{}-{number}", since_epoch.as_millis(), std::process::id())
}

/// Creates a topic with a unique name and returns the name once the broker serves all of its partitions.
pub fn create_topic(prefix: &str, partitions: i32) -> String {
    let name = unique(prefix);
    let admin: AdminClient<DefaultClientContext> = client_config().create().expect("an admin client");
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let results = wait_for_future(admin.create_topics(&[topic], &AdminOptions::new())).expect("an answer");
    for result in results {
        result.expect("the topic is created");
    }
    wait_until("the topic has leaders", || {
        let metadata = admin.inner().fetch_metadata(Some(&name), Duration::from_secs(5)).expect("metadata");
        let topic = &metadata.topics()[0];
        topic.partitions().len() == partitions as usize && topic.partitions().iter().all(|p| p.leader() >= 0)
    });
    name
}

/// Repeats `condition` until it holds; fails the test after the deadline. `condition` itself has to block for a moment
/// (a poll, a request), so that this does not spin.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "gave up waiting until {what}");
    }
    start.elapsed()
}

/// A list with one partition at one offset.
pub fn at(topic: &str, partition: i32, offset: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
    list
}

/// A list with one partition at one offset, with commit metadata.
pub fn at_with_metadata(topic: &str, partition: i32, offset: i64, metadata: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(topic, partition);
    element.set_offset(Offset::Offset(offset)).expect("a valid offset");
    element.set_metadata(metadata);
    list
}

/// Drives a future of librdkafka's admin client, whose own thread wakes it.
fn wait_for_future<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
