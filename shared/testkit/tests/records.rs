//! Records go in and come out on the real broker.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testkit::{Outgoing, brokers, produce, read_committed, topic};

#[test]
fn records_come_back_as_they_were_produced() {
    let topic = topic("testkit.round-trip", 3, &[]);
    let tombstone = Outgoing { value: None, ..Outgoing::new("gone", "") };
    let dated = Outgoing { timestamp: Some(1_700_000_000_123), ..Outgoing::new("dated", "x") };
    let sent = [
        Outgoing::new("a", b"\x00\xff\n".as_slice())
            .in_partition(2)
            .with_header("traceparent", "00-1")
            .with_header("b", ""),
        Outgoing { key: None, ..Outgoing::new("", "no key") }.in_partition(1),
        tombstone.in_partition(1),
        dated.in_partition(0),
    ];
    produce(&topic, sent.clone());

    let read = read_committed(&topic);
    assert_eq!(read.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>(), [(0, 0), (1, 0), (1, 1), (2, 0)]);
    for (got, sent) in read.iter().zip([&sent[3], &sent[1], &sent[2], &sent[0]]) {
        assert_eq!((&got.key, &got.value, &got.headers), (&sent.key, &sent.value, &sent.headers));
    }
    assert_eq!(read[0].timestamp, Some(1_700_000_000_123));
    assert_eq!(read[3].header("traceparent"), Some(b"00-1".as_slice()));
}

#[test]
fn only_what_is_committed_is_read() {
    let topic = topic("testkit.committed", 1, &[]);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("transactional.id", testkit::unique("testkit"))
        .create()
        .unwrap();
    let patience = Duration::from_secs(20);
    producer.init_transactions(patience).unwrap();
    let transaction = |value: &str, commit: bool| {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to(&topic).payload(value)).unwrap();
        producer.flush(patience).unwrap();
        if commit { producer.commit_transaction(patience) } else { producer.abort_transaction(patience) }.unwrap();
    };
    transaction("aborted", false);
    transaction("committed", true);
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<str, str>::to(&topic).payload("open")).unwrap();
    producer.flush(patience).unwrap();

    let values: Vec<String> = read_committed(&topic).iter().map(|record| record.value_text()).collect();
    assert_eq!(values, ["committed"]);
    producer.abort_transaction(patience).unwrap();
}

#[test]
fn an_empty_topic_is_read_to_its_end_at_once() {
    assert_eq!(read_committed(&topic("testkit.empty", 4, &[])), []);
}

#[test]
fn equal_names_give_different_topics() {
    assert_ne!(topic("testkit.same", 1, &[]), topic("testkit.same", 1, &[]));
}

#[test]
#[should_panic(expected = "there is no topic testkit.misspelt")]
fn a_topic_that_does_not_exist_is_not_taken_for_an_empty_one() {
    read_committed("testkit.misspelt");
}
