//! A topic's name is not the topic: what clients and brokers do when one is deleted and created again.

use std::time::Duration;

use kafka::{describe_topics, recreated};
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use crate::common::{DEADLINE, at, client_config, create_topic, unique, wait_until};
use crate::producing::{begin, producer};
use crate::reading::{Isolation, read_partition, reader};

fn create_again(topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client_config().create().expect("an admin client");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let options = AdminOptions::new();
    for result in runtime.block_on(admin.delete_topics(&[topic], &options)).expect("an answer") {
        result.expect("the topic is deleted");
    }
    let again =
        || runtime.block_on(admin.create_topics(&[NewTopic::new(topic, 1, TopicReplication::Fixed(1))], &options));
    wait_until("the name is free again", || again().expect("an answer")[0].is_ok());
    wait_until("its leader answers", || admin.inner().fetch_watermarks(topic, 0, DEADLINE).is_ok());
}

fn write(topic: &str, payloads: &[&str]) {
    let writer = producer(&unique("writer"), DEADLINE);
    wait_until("the topic takes records", || {
        begin(&writer, topic, payloads);
        let done = writer.commit_transaction(DEADLINE).is_ok();
        if !done {
            writer.abort_transaction(DEADLINE).expect("the next attempt may begin");
        }
        done
    });
}

#[test]
fn a_topic_that_is_created_again_has_another_id_and_one_that_is_not_there_has_none() {
    let topic = create_topic("named", 1);
    let consumer = reader(Isolation::ReadCommitted, &unique("group"));
    let describe = |names: &[&str]| describe_topics(consumer.client(), names, DEADLINE).expect("an answer");
    let before = describe(&[&topic])[&topic].clone().expect("a description");
    assert_eq!((before.partitions, before.id.is_some()), (1, true));
    assert_eq!(describe(&[&topic])[&topic], Ok(before.clone()));
    create_again(&topic);
    let after = describe(&[&topic, "not-there"]);
    assert_eq!(after["not-there"], Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    let after = after[&topic].clone().expect("a description");
    assert!(recreated(&topic, before.id.as_ref(), after.id.as_ref()).is_some(), "{before:?}, {after:?}");
}

/// Why the runtime asks for ids itself: a fetch names the topic's id (version 13 and newer), so the broker refuses the old
/// one, but then librdkafka takes the new id and fetches on at the old offset, without a word.
#[test]
fn a_consumer_goes_on_at_its_old_offset_in_a_topic_that_was_created_again() {
    let topic = create_topic("again", 1);
    write(&topic, &["old 0", "old 1", "old 2"]);
    assert_eq!(read_partition(&topic, 0, Isolation::ReadCommitted).len(), 3);
    let consumer = reader(Isolation::ReadCommitted, &unique("group"));
    consumer.assign(&at(&topic, 0, 0)).expect("assigned");
    let mut seen = Vec::new();
    let mut read_until = |what: &str, last: &str| {
        wait_until(what, || {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                seen.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
            }
            seen.last().is_some_and(|payload| payload == last)
        });
        seen.clone()
    };
    read_until("the old topic is read", "old 2");
    // while the new topic is shorter than that, its offset is out of range, and this is said
    consumer.pause(&at(&topic, 0, 0)).expect("paused");
    create_again(&topic);
    write(&topic, &["new 0", "new 1", "new 2", "new 3", "new 4", "new 5"]);
    consumer.resume(&at(&topic, 0, 0)).expect("resumed");
    // it goes on behind the last record that it gave out
    let seen = read_until("the new topic's end", "new 5");
    assert_eq!(seen, ["old 0", "old 1", "old 2", "new 3", "new 4", "new 5"], "three are skipped, and nothing was said");
}
