//! A whole worker on a real broker: instances come, go and are killed; the rows are what a batch job computes, each once.

mod toy;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use service::GroupProtocol;
use streaming::{FoldProgress, MergeProgress, Runtime};

const DEADLINE: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 4;

fn kafka() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("RECWATCH_TEST_BROKERS").unwrap());
    config
}

struct Instance {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

fn start(worker: &str, source: &str, instance: &str, protocol: GroupProtocol) -> Instance {
    let mut config = toy::config(instance);
    config.protocol = protocol;
    config.session_timeout = service::HumanDuration::from_millis(6_000).unwrap();
    let topology = toy::topology(worker, source, Duration::from_secs(1));
    let runtime = Runtime::new(topology, config, kafka(), 2, true).unwrap();
    let stop = runtime.stop_switch();
    Instance { stop, thread: std::thread::spawn(move || runtime.run()) }
}

impl Instance {
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

fn create_topic(name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = kafka().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for result in runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new())).unwrap() {
        result.unwrap();
    }
}

/// All committed records of a topic: (key, value).
fn read_all(topic: &str, partitions: i32) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut config = kafka();
    config.set("group.id", "tests").set("enable.partition.eof", "true").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut ended = 0;
    let mut records = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while ended < partitions {
        assert!(Instant::now() < deadline, "{topic} does not end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                records
                    .push((message.key().unwrap_or_default().to_vec(), message.payload().unwrap_or_default().to_vec()));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    records
}

fn progress(worker: &str, source: &str) -> (BTreeMap<String, FoldProgress>, BTreeMap<String, MergeProgress>) {
    let topic = format!("recwatch.internal.{worker}.{source}.watermarks");
    let (mut folds, mut merges) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in read_all(&topic, 1) {
        let key = String::from_utf8(key).unwrap();
        if key.starts_with("fold/") {
            folds.insert(key, serde_json::from_slice(&value).unwrap());
        } else {
            merges.insert(key, serde_json::from_slice(&value).unwrap());
        }
    }
    (folds, merges)
}

/// Events in arrival order, at most BOUND out of order: (key, time, amount).
fn events(count: usize) -> Vec<(String, i64, i64)> {
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    (0..count)
        .map(|index| {
            let time = 1_000 + index as i64 / 20 - random(8) as i64;
            (format!("k{}", random(40)), time, random(1000) as i64 - 500)
        })
        .collect()
}

fn publish(producer: &BaseProducer, topic: &str, events: &[(String, i64, i64)]) {
    for (key, time, amount) in events {
        let value = format!("{time},{amount}");
        let mut record = BaseRecord::to(topic).key(key).payload(&value);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

fn wait_for(worker: &str, source: &str, read: u64, closed: i64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (folds, merges) = progress(worker, source);
        let total: u64 = folds.values().map(|fold| fold.counts.read).sum();
        if total >= read && merges.values().all(|merge| merge.closed >= Some(closed)) && !merges.is_empty() {
            assert!(folds.values().all(|fold| fold.counts.add_up()));
            assert_eq!(total, read, "a record was counted twice");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "read {total} of {read}; folds {folds:?}; merges {merges:?}; wanted {closed}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rows_survive_comings_and_goings(protocol: GroupProtocol) {
    let _ = tracing_subscriber::fmt().with_env_filter("info").with_test_writer().try_init();
    let worker = format!("toy-{:?}-{}", protocol, std::process::id()).to_lowercase();
    let source = format!("{worker}.amounts");
    create_topic(&source, PARTITIONS);
    let producer: BaseProducer = kafka().set("partitioner", "murmur2_random").create().unwrap();
    let all = events(60_000);
    let largest = all.iter().map(|(_, time, _)| *time).max().unwrap() - toy::BOUND;
    let closed = largest.div_euclid(toy::SLIDE) * toy::SLIDE;

    let first = start(&worker, &source, "first", protocol);
    publish(&producer, &source, &all[..20_000]);
    let second = start(&worker, &source, "second", protocol);
    publish(&producer, &source, &all[20_000..40_000]);
    wait_for(&worker, &source, 40_000, 0);
    first.stop();
    let third = start(&worker, &source, "third", protocol);
    publish(&producer, &source, &all[40_000..]);
    wait_for(&worker, &source, 60_000, closed);
    second.stop();
    third.stop();

    let mut rows: Vec<String> = read_all(&format!("{worker}.sums"), PARTITIONS)
        .into_iter()
        .map(|(_, row)| String::from_utf8(row).unwrap())
        .collect();
    rows.sort();
    let expected = toy::batch(&all, closed);
    assert_eq!(rows.len(), expected.len());
    assert_eq!(rows, expected);
}

#[test]
fn rows_survive_comings_and_goings_under_the_consumer_protocol() {
    rows_survive_comings_and_goings(GroupProtocol::Consumer);
}

#[test]
fn rows_survive_comings_and_goings_under_the_classic_protocol() {
    rows_survive_comings_and_goings(GroupProtocol::Classic);
}
