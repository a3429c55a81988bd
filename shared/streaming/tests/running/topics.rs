//! What an operator does to topics.

use std::collections::HashMap;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use testkit::eventually;

use super::{DEADLINE, kafka};

fn admin() -> (AdminClient<DefaultClientContext>, AdminOptions, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    (kafka().create().unwrap(), AdminOptions::new(), runtime)
}

pub fn delete(topic: &str) {
    let (admin, options, runtime) = admin();
    for result in runtime.block_on(admin.delete_topics(&[topic], &options)).unwrap() {
        result.unwrap();
    }
    eventually("the topic is gone", DEADLINE, || {
        let metadata = admin.inner().fetch_metadata(None, DEADLINE).unwrap();
        metadata.topics().iter().all(|other| other.name() != topic).then_some(())
    });
}

pub fn create(topic: &str, partitions: i32) {
    testkit::create_topic(topic, partitions, &[]);
}

pub fn grow(topic: &str, partitions: usize) {
    let (admin, options, runtime) = admin();
    for result in runtime.block_on(admin.create_partitions(&[NewPartitions::new(topic, partitions)], &options)).unwrap()
    {
        result.unwrap();
    }
    eventually("the topic has grown", DEADLINE, || {
        let metadata = admin.inner().fetch_metadata(Some(topic), DEADLINE).unwrap();
        (metadata.topics()[0].partitions().len() == partitions).then_some(())
    });
}

/// Sets one of a topic's settings; its others are the broker's then.
pub fn set(topic: &str, name: &str, value: &str) {
    let (admin, options, runtime) = admin();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    for result in runtime.block_on(admin.alter_configs(&[change], &options.request_timeout(Some(DEADLINE)))).unwrap() {
        result.unwrap();
    }
    eventually("the setting holds", DEADLINE, || {
        let settings = super::topic_settings(topic, name);
        (settings.get(topic).map(String::as_str) == Some(value)).then_some(())
    });
}

/// As retention does: what lies before these offsets is gone.
pub fn delete_records(topic: &str, before: &HashMap<i32, i64>) {
    let (admin, options, runtime) = admin();
    let mut list = TopicPartitionList::new();
    for (partition, offset) in before {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    let deleted = runtime.block_on(admin.delete_records(&list, &options)).unwrap();
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
}
