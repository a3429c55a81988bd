//! What an operator does to topics, and clicks to be read.

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use testkit::{Outgoing, eventually, produce};

use crate::rig::PATIENCE;

fn admin() -> (AdminClient<DefaultClientContext>, AdminOptions, tokio::runtime::Runtime) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", testkit::brokers());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    (config.create().unwrap(), AdminOptions::new(), runtime)
}

/// Deletes a topic and creates it again with as many partitions.
pub(crate) fn create_again(topic: &str, partitions: i32) {
    delete(topic);
    testkit::create_topic(topic, partitions, &[]);
}

/// Deletes a topic, and waits until it is gone.
pub(crate) fn delete(topic: &str) {
    let (admin, options, runtime) = admin();
    for result in runtime.block_on(admin.delete_topics(&[topic], &options)).unwrap() {
        result.unwrap();
    }
    eventually("the topic is gone", PATIENCE, || {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        metadata.topics().iter().all(|other| other.name() != topic).then_some(())
    });
}

/// Gives a topic more partitions.
pub(crate) fn grow(topic: &str, partitions: usize) {
    let (admin, options, runtime) = admin();
    let grown = [NewPartitions::new(topic, partitions)];
    for result in runtime.block_on(admin.create_partitions(&grown, &options)).unwrap() {
        result.unwrap();
    }
}

/// As retention does: deletes what lies before an offset of partition 0.
pub(crate) fn delete_records(topic: &str, before: i64) {
    let (admin, options, runtime) = admin();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
    let deleted = runtime.block_on(admin.delete_records(&list, &options)).unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}

/// Publishes clicks of as many sessions, one each, a second apart, the first at `start` (epoch ms).
pub(crate) fn publish_clicks(topic: &str, start: i64, count: i64) {
    let click = |index: i64| {
        let session = format!("s{}", index % 20);
        let value = json!({
            "event_id": format!("{start}-{index}"), "session_id": session, "user_id": "u", "item_id": "i",
            "kind": "CLICK", "domain": "shop", "event_time": start + index * 1_000,
        });
        Outgoing::new(session, value.to_string())
    };
    produce(topic, (0..count).map(click));
}
