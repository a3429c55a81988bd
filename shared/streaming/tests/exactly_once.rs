//! A whole worker on a real broker: instances come and go; the rows are what a batch job computes, each once.

mod running;
mod toy;

use std::time::Duration;

use running::{DEADLINE, Instance, kafka, progress, sorted_rows, wait_for};
use service::{GroupProtocol, HumanDuration};
use streaming::{FoldProgress, Runtime, StartOptions, Topology};
use testkit::{Outgoing, eventually, produce, read_committed};

const PARTITIONS: i32 = 4;

type Made = fn(&str, &str, Duration) -> Topology;

fn start(worker: &str, source: &str, instance: &str, protocol: GroupProtocol) -> Instance {
    start_made(toy::topology, worker, source, instance, protocol)
}

fn start_made(made: Made, worker: &str, source: &str, instance: &str, protocol: GroupProtocol) -> Instance {
    let mut config = toy::config(instance);
    config.protocol = protocol;
    config.session_timeout = HumanDuration::from_millis(6_000).unwrap();
    Instance::run(made(worker, source, Duration::from_secs(1)), config)
}

/// Events in arrival order, less than BOUND out of order: (key, time, amount).
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

fn publish(topic: &str, events: &[(String, i64, i64)]) {
    produce(topic, events.iter().map(|(key, time, amount)| Outgoing::new(key.as_str(), format!("{time},{amount}"))));
}

fn rows_survive_comings_and_goings(made: Made, protocol: GroupProtocol) {
    let source = testkit::topic("amounts", PARTITIONS, &[]);
    let worker = testkit::unique("toy");
    let all = events(60_000);
    let closed = toy::closed(&all);

    let first = start_made(made, &worker, &source, "first", protocol);
    publish(&source, &all[..20_000]);
    let second = start_made(made, &worker, &source, "second", protocol);
    publish(&source, &all[20_000..40_000]);
    wait_for(&worker, &source, 40_000, 0);
    first.stop().unwrap();
    let third = start_made(made, &worker, &source, "third", protocol);
    publish(&source, &all[40_000..]);
    wait_for(&worker, &source, 60_000, closed);
    second.stop().unwrap();
    third.stop().unwrap();

    assert_eq!(sorted_rows(&worker), toy::batch(&all, closed));
}

/// What an instance had made of tasks that are others' by now must not be committed, although the group takes its commits
/// again as soon as it has joined under a new id.
#[test]
fn an_instance_that_is_expelled_while_it_gives_partitions_up_commits_nothing_of_what_it_had_made() {
    let source = testkit::topic("amounts", PARTITIONS, &[]);
    let worker = testkit::unique("toy");
    let group = format!("recwatch.{worker}");
    let mut all = events(40_000);
    // in the middle of a batch: rows of what lies before it are made and not committed
    all[30_000].2 = toy::STANDSTILL;
    let closed = toy::closed(&all);
    let start = |name: &str| {
        let mut config = toy::config(name);
        config.protocol = GroupProtocol::Classic;
        Instance::with_threads(1, toy::topology(&worker, &source, Duration::from_secs(1)), config)
    };
    let members = || testkit::members(&group);

    let expelled = start("expelled");
    publish(&source, &all);
    eventually("it stands still", DEADLINE, || toy::GATE.is_reached().then_some(()));
    let successor = start("successor");
    let both = eventually("both are members", DEADLINE, || members().filter(|members| members.len() == 2));
    let member = both.iter().find(|id| id.contains("expelled")).unwrap();
    testkit::expel(&group, member);
    wait_for(&worker, &source, 40_000, closed);
    toy::GATE.open();
    let again = |members: &Vec<String>| members.len() == 2 && !members.contains(member);
    eventually("the expelled one is a member again", DEADLINE, || members().filter(again));
    eventually("it has tasks again", DEADLINE, || expelled.readiness.check().ok());
    expelled.stop().unwrap();
    successor.stop().unwrap();
    assert_eq!(sorted_rows(&worker), toy::batch(&all, closed));
}

#[test]
fn rows_survive_comings_and_goings_under_the_consumer_protocol() {
    rows_survive_comings_and_goings(toy::topology, GroupProtocol::Consumer);
}

#[test]
fn rows_survive_comings_and_goings_under_the_classic_protocol() {
    rows_survive_comings_and_goings(toy::topology, GroupProtocol::Classic);
}

#[test]
fn rows_survive_comings_and_goings_where_windows_close_in_pieces() {
    rows_survive_comings_and_goings(toy::topology_in_pieces, GroupProtocol::Consumer);
}

#[test]
fn an_instance_that_is_stopped_leaves_a_snapshot_of_where_it_stood() {
    let source = testkit::topic("amounts", 2, &[]);
    let worker = testkit::unique("toy");
    publish(&source, &events(4_000));
    let mut config = toy::config("only");
    config.snapshot_interval = HumanDuration::from_millis(3_600_000).unwrap();
    // one thread: a task that is just moving to another one has no snapshot of where it stands
    let instance = Instance::with_threads(1, toy::topology(&worker, &source, Duration::from_secs(3_600)), config);
    wait_for(&worker, &source, 4_000, 0);
    instance.stop().unwrap();
    // a commit is answered before its records are there to be read
    eventually("both announce a snapshot of where they stood", DEADLINE, || {
        let (folds, _) = progress(&worker, &source);
        let stands =
            |fold: &FoldProgress| fold.watermark.map(|watermark| watermark.div_euclid(toy::SLIDE) * toy::SLIDE);
        let is_kept = |fold: &FoldProgress| fold.restores_from.is_some() && fold.restores_from == stands(fold);
        (folds.len() == 2 && folds.values().all(is_kept)).then_some(())
    });
}

#[test]
fn late_and_bad_records_are_handed_on_whole_and_the_stream_goes_on() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    let good = |time: i64| Outgoing::new("k", format!("{time},1"));
    let bad = Outgoing::new("bad", "nonsense").with_header("traceparent", "00-1-2-01");
    produce(&source, [good(1_000), bad.clone(), good(990), good(1_100)]);
    let instance = start(&worker, &source, "only", GroupProtocol::Consumer);
    wait_for(&worker, &source, 4, 1_080);
    instance.stop().unwrap();

    let letters = read_committed(&format!("{worker}.dead-letters"));
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].key, &letters[0].value), (&bad.key, &bad.value));
    assert_eq!(letters[0].header("traceparent"), Some(b"00-1-2-01".as_slice()));
    assert_eq!(letters[0].header("__connect.errors.topic"), Some(source.as_bytes()));
    assert_eq!(letters[0].header("__connect.errors.offset"), Some(b"1".as_slice()));
    assert_eq!(letters[0].header("__connect.errors.exception.class.name"), Some(b"undecodable".as_slice()));
    let late = read_committed(&format!("{worker}.late"));
    assert_eq!(late.iter().map(testkit::Recorded::value_text).collect::<Vec<_>>(), ["990,1"]);
    assert_eq!(late[0].header("__connect.errors.exception.class.name"), Some(b"late".as_slice()));
}

/// Brokers take 1 MiB by default, and those of tests 8 MiB: that topics are made for more is in their settings.
#[test]
fn a_group_may_be_as_large_as_a_record_and_its_rows_are_taken() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    let key = "k".repeat(1_000_000);
    let records = [1_000, 1_100].map(|time| Outgoing::new(key.as_str(), format!("{time},1")));
    produce(&source, records);
    let instance = start(&worker, &source, "only", GroupProtocol::Consumer);
    wait_for(&worker, &source, 2, 1_080);
    instance.stop().unwrap();
    // of the three windows that end at 1,000, 1,020 and 1,040
    let rows = read_committed(&format!("{worker}.sums"));
    assert_eq!(rows.iter().filter(|row| row.value_text().contains(&key)).count(), 3);

    let settings = running::topic_settings(&worker, "max.message.bytes");
    assert!(settings.len() > 5 && settings.contains_key(&format!("{worker}.sums")), "{:?}", settings.keys());
    assert!(settings.values().all(|value| *value == (4 * 1024 * 1024 + 64 * 1024).to_string()), "{settings:?}");
}

#[test]
fn another_semantic_configuration_is_refused_until_the_state_is_reset() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    produce(&source, [Outgoing::new("k", "1000,1"), Outgoing::new("k", "1100,1")]);
    let instance = start(&worker, &source, "only", GroupProtocol::Consumer);
    wait_for(&worker, &source, 2, 1_080);
    instance.stop().unwrap();

    let changed = || {
        let mut topology = toy::topology(&worker, &source, Duration::from_secs(1));
        topology.semantics = "window = other".to_owned();
        topology
    };
    let start_changed = || {
        let options = StartOptions::default();
        Instance::of(
            Runtime::new(changed(), toy::config("only"), kafka(), 1, options, &service::Health::new()).unwrap(),
        )
    };
    let refused = start_changed().end().unwrap_err();
    let message = format!("{refused:#}");
    assert!(message.contains("another configuration") && message.contains("--reset-state"), "{message}");

    eventually("the group is empty and the state is reset", DEADLINE, || {
        Runtime::reset(&changed(), &toy::config("only"), &kafka()).ok()
    });
    let instance = start_changed();
    wait_for(&worker, &source, 2, 1_080);
    instance.stop().unwrap();
}

#[test]
fn a_panic_in_one_thread_ends_the_instance() {
    let source = testkit::topic("amounts", PARTITIONS, &[]);
    let worker = testkit::unique("toy");
    let good = (0..64).map(|key| Outgoing::new(format!("key-{key}"), "1000,1"));
    produce(&source, good);
    let instance = start(&worker, &source, "only", GroupProtocol::Consumer);
    wait_for(&worker, &source, 64, 0);
    produce(&source, [Outgoing::new("key-0", format!("1001,{}", toy::BUG))]);
    let end = instance.end().unwrap_err();
    assert!(format!("{end:#}").contains("panicked"), "{end:#}");
}

#[test]
fn a_second_process_under_the_same_instance_id_ends_with_a_word_about_it() {
    // enough partitions that each of the four threads has some, and records for all of them: who has nothing to commit
    // does not meet the other one
    let source = testkit::topic("amounts", 8, &[]);
    let keys: Vec<String> = (0..64).map(|key| format!("key-{key}")).collect();
    let worker = testkit::unique("toy");
    let first = start(&worker, &source, "same", GroupProtocol::Consumer);
    let second = start(&worker, &source, "same", GroupProtocol::Consumer);
    eventually("one of the two gives up", DEADLINE, || {
        produce(&source, keys.iter().map(|key| Outgoing::new(key.as_str(), "1000,1")));
        (first.thread.is_finished() || second.thread.is_finished()).then_some(())
    });
    let ends = [first.stop(), second.stop()];
    let words: Vec<String> = ends.into_iter().filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect();
    assert!(words.iter().any(|word| word.contains("runtime.instance")), "{words:?}");
}
