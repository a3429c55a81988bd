//! Retention that overtakes a worker: what is gone is named, and skipped, counted, where that is asked for.

mod running;
mod toy;

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use running::{DEADLINE, Instance, kafka, progress, topics, wait_for};
use service::HumanDuration;
use streaming::config::RuntimeConfig;
use streaming::{Runtime, StartOptions, Topology};
use testkit::{Outgoing, eventually, produce, read_committed};

const SKIPPING: StartOptions = StartOptions { create_topics: false, skip_lost: true };

fn event(time: i64) -> Outgoing {
    Outgoing::new("k", format!("{time},1"))
}

fn topology(worker: &str, source: &str) -> Topology {
    toy::topology(worker, source, Duration::from_secs(1))
}

fn start(worker: &str, source: &str, config: RuntimeConfig, options: StartOptions) -> Instance {
    Instance::of(Runtime::new(topology(worker, source), config, kafka(), 1, options, &service::Health::new()).unwrap())
}

fn rows(worker: &str) -> Vec<String> {
    read_committed(&format!("{worker}.sums")).iter().map(testkit::Recorded::value_text).collect()
}

fn lost(worker: &str, source: &str) -> u64 {
    progress(worker, source).0.values().map(|fold| fold.counts.lost).sum()
}

fn expect(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} in: {message}");
    }
}

#[test]
fn a_stopped_worker_that_retention_has_overtaken_names_the_gap_and_goes_on_behind_it_where_it_may() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    produce(&source, (0..10).map(|second| event(1_000 + second)));
    let instance = Instance::with_threads(1, topology(&worker, &source), toy::config("only"));
    wait_for(&worker, &source, 10, 980);
    instance.stop().unwrap();
    produce(&source, (0..10).map(|second| event(1_010 + second)));
    topics::delete_records(&source, &HashMap::from([(0, 15)]));

    let refused = start(&worker, &source, toy::config("only"), StartOptions::default()).end().unwrap_err();
    let message = format!("{refused:#}");
    let place = format!("(topic {source}, partition 0: committed 10, log 15 to 20)");
    expect(&message, &["begins at offset 15", "5 records were deleted before they were read", &place, "--skip-lost"]);
    expect(&message, &["--reset-state"]);

    let instance = start(&worker, &source, toy::config("only"), SKIPPING);
    produce(&source, [event(1_200)]);
    wait_for(&worker, &source, 16, 1_180);
    eventually("the metric has them", DEADLINE, || instance.metric("records_lost_total").filter(|lost| *lost == 5.0));
    instance.stop().unwrap();
    assert_eq!(lost(&worker, &source), 5);
    // the state is kept: 1,000 to 1,009 are in, 1,010 to 1,014 are gone, 1,015 to 1,019 follow
    let expected: Vec<(String, i64, i64)> =
        (1_000..1_010).chain(1_015..1_020).map(|time| ("k".to_owned(), time, 1)).collect();
    assert_eq!(rows(&worker), toy::batch(&expected, 1_180));
}

#[test]
fn a_snapshot_that_is_older_than_the_gap_is_kept_and_closed_windows_stay_as_they_were() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    let mut config = toy::config("only");
    config.snapshot_interval = HumanDuration::from_millis(3_600_000).unwrap();
    let instance = Instance::with_threads(1, topology(&worker, &source), config.clone());
    produce(&source, (0..100).map(|second| event(1_000 + second)));
    wait_for(&worker, &source, 100, 1_080);
    let first: Vec<(String, i64, i64)> = (1_000..1_100).map(|time| ("k".to_owned(), time, 1)).collect();
    let before = toy::batch(&first, 1_080);
    eventually("their rows are there to be read", DEADLINE, || (rows(&worker) == before).then_some(()));
    // it dies without a snapshot of where it stood: the only one is of the beginning
    produce(&source, [Outgoing::new("k", format!("1100,{}", toy::BUG))]);
    instance.end().unwrap_err();
    topics::delete_records(&source, &HashMap::from([(0, 101)]));

    let refused = start(&worker, &source, config.clone(), StartOptions::default()).end().unwrap_err();
    expect(
        &format!("{refused:#}"),
        &[
            "begins at offset 101, offset 100 is committed: 1 records",
            "of 100 that were read",
            "newest snapshot is of offset 0",
        ],
    );

    let instance = start(&worker, &source, config, SKIPPING);
    produce(&source, [event(1_101), event(1_300)]);
    eventually("the gap is skipped and windows close behind it", DEADLINE, || {
        let (folds, merges) = progress(&worker, &source);
        (folds["fold/0"].offset == 103 && merges.values().all(|merge| merge.closed >= Some(1_280))).then_some(())
    });
    instance.stop().unwrap();
    assert_eq!(lost(&worker, &source), 101);
    let after = rows(&worker);
    assert_eq!(after[..before.len()], before, "what was closed stays");
    // windows that end at 1,120, 1,140 and 1,160 have the one record behind the gap; those that were open lack the rest
    assert_eq!(after[before.len()..], ["1120,k,1,1", "1140,k,1,1", "1160,k,1,1"]);
}

/// The partition is paused, far ahead of the other one, when what it would read next is deleted.
fn overtaken_while_it_runs(options: StartOptions) -> (String, String, Instance) {
    let source = testkit::topic("amounts", 2, &[]);
    let worker = testkit::unique("toy");
    let mut config = toy::config("only");
    config.max_lead = HumanDuration::from_millis(1_000).unwrap();
    let topology = || toy::topology(&worker, &source, Duration::from_secs(3_600));
    let options = StartOptions { create_topics: true, ..options };
    let instance =
        Instance::of(Runtime::new(topology(), config, kafka(), 1, options, &service::Health::new()).unwrap());
    let at = |partition: i32, time: i64| event(time).in_partition(partition);
    produce(&source, [at(1, 1_000), at(0, 1_000), at(0, 5_000)]);
    wait_for(&worker, &source, 3, 0);
    eventually("the partition that is ahead is paused", DEADLINE, || {
        instance.metric("pauses_total").filter(|pauses| *pauses >= 1.0)
    });
    produce(&source, (0..10).map(|second| at(0, 5_100 + second)));
    topics::delete_records(&source, &HashMap::from([(0, 8)]));
    produce(&source, [at(1, 5_200)]);
    (worker, source, instance)
}

#[test]
fn a_running_worker_that_retention_overtakes_says_what_is_gone() {
    let (_, source, instance) = overtaken_while_it_runs(StartOptions::default());
    let message = format!("{:#}", instance.end().unwrap_err());
    let place = format!("topic {source}, partition 0: committed 2, log 8 to 12");
    expect(&message, &["6 records were deleted before they were read", &place, "--skip-lost", "--reset-state"]);
}

#[test]
fn a_running_worker_skips_what_is_gone_where_it_may_and_its_state_is_exact() {
    let (worker, source, instance) = overtaken_while_it_runs(SKIPPING);
    wait_for(&worker, &source, 3 + 4 + 1, 0);
    instance.stop().unwrap();
    assert_eq!(lost(&worker, &source), 6);
}

#[test]
fn nothing_waits_behind_aborted_records_and_markers_and_retention_may_delete_those() {
    let source = testkit::topic("amounts", 1, &[]);
    let worker = testkit::unique("toy");
    let writer: BaseProducer = kafka().set("transactional.id", &worker).create().unwrap();
    writer.init_transactions(DEADLINE).unwrap();
    let write = |time: i64, commits: bool| {
        writer.begin_transaction().unwrap();
        let value = format!("{time},1");
        writer.send(BaseRecord::<str, str>::to(&source).key("k").payload(&value)).map_err(|(error, _)| error).unwrap();
        writer.flush(DEADLINE).unwrap();
        if commits { writer.commit_transaction(DEADLINE) } else { writer.abort_transaction(DEADLINE) }.unwrap();
    };
    write(1_000, true);
    write(1_100, true);
    write(9_000, false);
    // two records with their markers, an aborted one with its
    let instance = Instance::with_threads(1, topology(&worker, &source), toy::config("only"));
    eventually("the end is confirmed and committed", DEADLINE, || {
        let (folds, _) = progress(&worker, &source);
        folds.get("fold/0").is_some_and(|fold| fold.offset == 6 && fold.counts.read == 2).then_some(())
    });
    eventually("nothing waits, in the source or in the repartition topic", DEADLINE, || {
        instance.metric("lag_records").filter(|lag| *lag == 0.0)
    });
    instance.stop().unwrap();
    topics::delete_records(&source, &HashMap::from([(0, 6)]));
    let instance = start(&worker, &source, toy::config("only"), StartOptions::default());
    produce(&source, [event(1_200)]);
    wait_for(&worker, &source, 3, 1_180);
    instance.stop().unwrap();
}
