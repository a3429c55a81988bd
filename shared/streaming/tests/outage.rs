//! A worker whose only broker stands still for a while: so long that the cluster takes it for dead.

mod running;
mod toy;

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use running::{DEADLINE, Instance, kafka, sorted_rows, wait_for};

use testkit::{Component, Outgoing, Signal, eventually, produce};

/// After which a broker that is not heard of has no partitions any more; Kafka's own default.
const BROKER_SESSION: Duration = Duration::from_secs(9);
const STANDSTILL: Duration = Duration::from_secs(13);

#[test]
fn a_broker_that_stands_still_delays_rows_and_changes_none() {
    let broker = testkit::kafka_with_session(BROKER_SESSION);
    assert_eq!(testkit::brokers(), broker.brokers(), "the outage is one of a broker that is tested against");
    let source = testkit::topic("amounts", 4, &[]);
    let worker = testkit::unique("toy");
    let events: Vec<(String, i64, i64)> =
        (0..40_000).map(|index| (format!("k{}", index % 37), 1_000 + index / 20, index % 100 - 50)).collect();
    let publish = |events: &[(String, i64, i64)]| {
        produce(
            &source,
            events.iter().map(|(key, time, amount)| Outgoing::new(key.as_str(), format!("{time},{amount}"))),
        );
    };
    let closed = toy::closed(&events);

    let instance = Instance::run(toy::topology(&worker, &source, Duration::from_secs(1)), toy::config("only"));
    publish(&events[..20_000]);
    wait_for(&worker, &source, 20_000, 0);
    let expected = toy::batch(&events, closed);
    let sums = format!("{worker}.sums");
    let reader: BaseConsumer =
        kafka().set("group.id", &worker).set("isolation.level", "read_committed").create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in reader.fetch_metadata(Some(&sums), DEADLINE).unwrap().topics()[0].partitions() {
        all.add_partition_offset(&sums, partition.id(), Offset::Beginning).unwrap();
    }
    reader.assign(&all).unwrap();
    publish(&events[20_000..]);
    broker.signal_component(Component::Kafka, Signal::Suspend).unwrap();
    std::thread::sleep(STANDSTILL);
    broker.signal_component(Component::Kafka, Signal::Resume).unwrap();
    let mut rows = 0;
    eventually("as many rows as are to come", DEADLINE, || {
        // while the broker comes back, readers hear errors
        while let Some(polled) = reader.poll(Duration::from_millis(20)) {
            rows += usize::from(polled.is_ok());
        }
        (rows >= expected.len()).then_some(())
    });
    instance.stop().unwrap();
    assert_eq!(sorted_rows(&worker), expected);
}
