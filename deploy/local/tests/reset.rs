//! `--reset-state` ends the alerts that fired by the state that is given up: nothing else would.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use records::{Alert, AlertState, Decoder, DecoderConfig, Registry, RegistryConfig};
use stack::broker::Broker;
use stack::generator::{Generator, Shape};
use stack::recording::{Content, Feed, Recording};
use stack::replay::{ALERTS_TOPIC, Plan, Protocol, Run, find_worker};
use stack::{Load, Profile, Worker, build_workers, progress};

const START: i64 = 1_767_600_000_000;
const WORKER: &str = "session-entropy";
/// Every group with events fires, and none ends but for want of data.
const RULE: &str = r#"alerts.rules.busy={ kind = "threshold", metric = "events", above = 0, fire_after = 1 }"#;

/// The last word about an alert: its partition, id, number, state and reason.
type Word = (i32, String, i64, AlertState, String);

/// All records of alerts by fingerprint, oldest first.
fn told(run: &Run<'_>) -> BTreeMap<String, Vec<Word>> {
    let registry = Registry::new(RegistryConfig::new(run.stack().registry_url()), || false).unwrap();
    let mut decoder = Decoder::<Alert<'static>>::new(DecoderConfig::default(), Box::new(registry));
    let mut told: BTreeMap<String, Vec<Word>> = BTreeMap::new();
    let take = |message: &BorrowedMessage<'_>| {
        let alert = decoder.decode(message.key(), message.payload())?;
        let reason = alert.reason.to_string();
        let word = (message.partition(), alert.alert_id.to_string(), alert.sequence, alert.state, reason);
        told.entry(alert.fingerprint.to_string()).or_default().push(word);
        Ok(())
    };
    Broker::new(&run.stack().brokers()).unwrap().read_all(ALERTS_TOPIC, take).unwrap();
    told
}

fn reset(run: &Run<'_>) {
    let binaries = build_workers(&Profile::of_this_program().unwrap(), &progress::Silent).unwrap();
    let directory = run.stack().work_directory();
    let configuration = std::fs::read_to_string(directory.join(format!("{WORKER}-1.toml"))).unwrap();
    let arguments = ["--set", RULE, "--reset-state"].map(str::to_owned);
    let binary = binaries.path(WORKER).unwrap();
    Worker::run(binary, "reset", &configuration, &arguments, &directory, Duration::from_secs(60)).unwrap();
}

#[test]
fn alerts_that_fired_are_over_once_and_others_are_left_alone() {
    let clicks = Generator::new(Shape { items: 50, ..Shape::load(17, START, 3_000) }).take(3_000);
    let lines: String = clicks.map(|event| serde_json::to_string(&event).unwrap() + "\n").collect();
    let recording = Recording::from_reader("generated", Content::Interactions, std::io::Cursor::new(lines)).unwrap();
    let plan = Plan {
        workers: vec![find_worker(WORKER).unwrap()],
        instances: 1,
        partitions: 2,
        protocol: Protocol::Consumer,
        settings: [RULE, "idle_timeout=1s"].map(|setting| format!("{WORKER}.{setting}").parse().unwrap()).to_vec(),
        contents: [Content::Interactions].into(),
        rate: None,
        faults: Vec::new(),
        load: Load::Short,
        writer: false,
        router: false,
    };
    let mut run = Run::start(plan, &progress::Lines).unwrap();
    run.publish(Feed::in_file_order(vec![recording])).unwrap();
    run.process().unwrap();
    run.stop_workers().unwrap();

    let before = told(&run);
    let firing = |words: &Vec<Word>| words.last().unwrap().3 == AlertState::Firing;
    assert!(before.values().any(firing) && !before.values().all(firing), "{before:?}");

    reset(&run);
    let after = told(&run);
    let expected = before.clone().into_iter().map(|(fingerprint, mut words)| {
        let (partition, id, sequence, state, _) = words.last().unwrap().clone();
        if state == AlertState::Firing {
            words.push((partition, id, sequence + 1, AlertState::Resolved, "state_reset".to_owned()));
        }
        (fingerprint, words)
    });
    assert_eq!(after, expected.collect());

    reset(&run);
    assert_eq!(told(&run), after, "nothing is left to end");

    run.restart_workers(&[]).unwrap();
    run.process().unwrap();
    run.stop_workers().unwrap();
    let expected = after.into_iter().map(|(fingerprint, words)| {
        let again = before[&fingerprint].clone();
        (fingerprint, [words, again].concat())
    });
    assert_eq!(told(&run), expected.collect(), "the time that is read again is told again");
    run.stop().unwrap();
}
