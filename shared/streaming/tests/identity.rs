//! Topics that are deleted, created again, or given more partitions, under a worker that runs: it ends with what its next
//! start says, and nothing of one topic is taken for another's.

mod running;
mod toy;

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use running::{CREATING, DEADLINE, Instance, kafka, topics, wait_for};
use streaming::{Runtime, StartOptions, Topology};
use testkit::{Outgoing, eventually, produce, read_committed};

/// Events of `count` keys' seconds from `start` on, spread over the partitions of a topic.
fn events(start: i64, count: i64) -> Vec<(String, i64, i64)> {
    (0..count).map(|index| (format!("k{}", index % 17), start + index / 4, index % 100 - 50)).collect()
}

fn publish(topic: &str, events: &[(String, i64, i64)]) {
    produce(topic, events.iter().map(|(key, time, amount)| Outgoing::new(key.as_str(), format!("{time},{amount}"))));
}

struct Deployed {
    worker: String,
    source: String,
}

impl Deployed {
    fn new(partitions: i32) -> Self {
        Self { worker: testkit::unique("toy"), source: testkit::topic("amounts", partitions, &[]) }
    }

    fn topology(&self) -> Topology {
        toy::topology(&self.worker, &self.source, Duration::from_secs(1))
    }

    fn start(&self) -> Instance {
        Instance::run(self.topology(), toy::config("only"))
    }

    /// How a start ends that cannot go on.
    fn refused(&self) -> String {
        let runtime = Runtime::new(
            self.topology(),
            toy::config("only"),
            kafka(),
            2,
            StartOptions::default(),
            &service::Health::new(),
        );
        format!("{:#}", runtime.and_then(|runtime| Instance::of(runtime).end()).unwrap_err())
    }

    fn reset(&self) {
        eventually("the group is empty and the state is reset", DEADLINE, || {
            Runtime::reset(&self.topology(), &toy::config("only"), &kafka()).ok()
        });
    }

    fn internal(&self, what: &str) -> String {
        self.topology().internal_topic(0, what)
    }

    /// Rows whose windows end behind `after`.
    fn rows(&self, after: i64) -> Vec<String> {
        let rows = read_committed(&format!("{}.sums", self.worker));
        let is_newer = |row: &String| row.split(',').next().unwrap().parse::<i64>().unwrap() > after;
        let mut rows: Vec<String> = rows.iter().map(testkit::Recorded::value_text).filter(is_newer).collect();
        rows.sort();
        rows
    }

    fn topic_id(&self) -> String {
        let consumer: BaseConsumer = kafka().create().unwrap();
        let described = kafka::describe_topics(consumer.client(), &[&self.source], DEADLINE).unwrap();
        described[&self.source].as_ref().unwrap().id.as_ref().unwrap().to_string()
    }

    /// What stands beside each committed offset.
    fn committed(&self, partitions: i32) -> Vec<String> {
        let consumer: BaseConsumer = kafka().set("group.id", self.topology().deployment().group()).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.source, 0, partitions - 1);
        let committed = consumer.committed_offsets(list, DEADLINE).unwrap();
        let is_offset = |offset| matches!(offset, Offset::Offset(_));
        let elements = committed.elements();
        let of_offsets = elements.iter().filter(|element| is_offset(element.offset()));
        of_offsets.map(|element| element.metadata().to_owned()).collect()
    }
}

#[test]
fn a_source_that_is_created_again_under_a_running_worker_ends_it_and_its_records_count_once_after_a_reset() {
    let it = Deployed::new(2);
    let old = events(1_000, 400);
    let instance = it.start();
    publish(&it.source, &old);
    wait_for(&it.worker, &it.source, 400, toy::closed(&old));

    let old_id = it.topic_id();
    topics::delete(&it.source);
    topics::create(&it.source, 2);
    // more than there were before: the old offsets lie inside of the new log
    let new = events(100_000, 800);
    publish(&it.source, &new);
    let end = format!("{:#}", instance.end().unwrap_err());
    let says = format!("{}: {} was deleted and created again: its id was ", it.worker, it.source);
    assert!(end.contains(&says) && end.contains("--reset-state"), "{end}");
    assert_eq!(it.refused(), end, "the next start says the same");
    assert!(it.rows(50_000).is_empty(), "nothing of the new topic was taken for the old one's");
    // a commit that raced with the deletion is the old topic's, and says so
    let committed = it.committed(2);
    assert!(committed.iter().all(|metadata| metadata.ends_with(&old_id)), "{old_id}: {committed:?}");

    it.reset();
    let instance = it.start();
    wait_for(&it.worker, &it.source, 800, toy::closed(&new));
    instance.stop().unwrap();
    assert_eq!(it.rows(50_000), toy::batch(&new, toy::closed(&new)));
}

#[test]
fn partitions_that_are_added_under_a_running_worker_end_it_and_no_window_closes_without_them() {
    let it = Deployed::new(1);
    let old = events(1_000, 200);
    let instance = it.start();
    publish(&it.source, &old);
    wait_for(&it.worker, &it.source, 200, toy::closed(&old));

    topics::grow(&it.source, 2);
    let far = events(2_000, 200);
    publish(&it.source, &far);
    let end = format!("{:#}", instance.end().unwrap_err());
    let says = format!("{}: {} had 1 partitions, it has 2", it.worker, it.source);
    assert!(end.contains(&says) && end.contains("--reset-state"), "{end}");
    assert_eq!(it.refused(), end, "the next start says the same");
    assert!(it.rows(1_900).is_empty(), "windows closed with one partition's records only");

    it.reset();
    let instance = it.start();
    wait_for(&it.worker, &it.source, 400, toy::closed(&far));
    instance.stop().unwrap();
    assert_eq!(it.rows(1_900), toy::batch(&far, toy::closed(&far)));
}

#[test]
fn an_internal_topic_that_is_deleted_or_altered_ends_the_worker_with_its_name() {
    let deletes: fn(&str) = topics::delete;
    let alters: fn(&str) = |topic| topics::grow(topic, 3);
    for (what, was_deleted, act) in [
        ("fold-state", true, deletes),
        ("merge-state", true, deletes),
        ("watermarks", true, deletes),
        ("repartition", true, deletes),
        ("repartition", false, alters),
        ("watermarks", false, alters),
    ] {
        let it = Deployed::new(1);
        let instance = it.start();
        publish(&it.source, &events(1_000, 100));
        wait_for(&it.worker, &it.source, 100, 1_000);
        let topic = it.internal(what);
        act(&topic);
        publish(&it.source, &events(2_000, 100));
        let end = format!("{:#}", instance.end().unwrap_err());
        assert!(end.contains(&format!("{}: {topic} ", it.worker)) && end.contains("--reset-state"), "{what}: {end}");
        if was_deleted {
            assert_eq!(it.refused(), end, "the next start says the same");
        }
        assert!(it.rows(1_900).is_empty(), "{what}: rows were committed without their state");
    }
}

#[test]
fn an_output_topic_that_is_deleted_ends_the_worker_with_its_name_and_nothing_is_lost_when_it_is_there_again() {
    let it = Deployed::new(1);
    let instance = it.start();
    let old = events(1_000, 100);
    publish(&it.source, &old);
    wait_for(&it.worker, &it.source, 100, toy::closed(&old));
    let sums = format!("{}.sums", it.worker);
    topics::delete(&sums);
    let new = events(2_000, 100);
    publish(&it.source, &new);
    let end = format!("{:#}", instance.end().unwrap_err());
    assert!(end.contains(&format!("{}: {sums} does not exist", it.worker)) && end.contains("--create-topics"), "{end}");

    let instance = Instance::of(
        Runtime::new(it.topology(), toy::config("only"), kafka(), 2, CREATING, &service::Health::new()).unwrap(),
    );
    wait_for(&it.worker, &it.source, 200, toy::closed(&new));
    instance.stop().unwrap();
    assert_eq!(it.rows(1_900), toy::batch(&new, toy::closed(&new)));
}
