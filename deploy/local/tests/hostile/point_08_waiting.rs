//! Point 8: waiting stops nobody else, and is seen. A registry that does not answer, a restore that cannot succeed, brokers that
//! are frozen: the other partitions go on, `/readyz` and the metrics say what waits, and SIGTERM ends the process well.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use stack::{Component, Signal};
use testkit::{Outgoing, produce};

use crate::rig::{Instance, PATIENCE, Rig, alone};

/// Between SIGTERM and the end in whatever state, well before the deadline of 30 s, on a busy machine too.
const SOON: Duration = Duration::from_secs(25);
const START: i64 = 1_767_600_000_000;

/// A component that does not answer until this is dropped.
pub(crate) struct Frozen<'a>(&'a Rig, Component);

impl<'a> Frozen<'a> {
    pub(crate) fn new(rig: &'a Rig, component: Component) -> Self {
        rig.stack.signal_component(component, Signal::Suspend).unwrap();
        Self(rig, component)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = self.0.stack.signal_component(self.1, Signal::Resume);
    }
}

/// Registers the schema of interactions, with a further field where `field` names one; returns its id.
fn register(rig: &Rig, field: Option<&str>) -> i32 {
    let mut schema: Value = serde_json::from_str(include_str!("../../../../schemas/Interaction.avsc")).unwrap();
    if let Some(name) = field {
        let fields = schema["fields"].as_array_mut().unwrap();
        fields.push(json!({ "name": name, "type": ["null", "string"], "default": null }));
    }
    let url = format!("{}/subjects/{}-value/versions", rig.stack.registry_url(), rig.topic("source.topic"));
    let body = json!({ "schema": schema.to_string() }).to_string();
    let request = reqwest::blocking::Client::new().post(url).body(body);
    let answer = request.header("content-type", "application/vnd.schemaregistry.v1+json").send().unwrap();
    let answer: Value = serde_json::from_str(&answer.error_for_status().unwrap().text().unwrap()).unwrap();
    answer["id"].as_i64().unwrap().try_into().unwrap()
}

/// A click as Avro, written by hand: the absent fields, those of a later schema included, are null.
fn click(schema: i32, nulls_behind: usize, partition: i32, number: i64) -> Outgoing {
    let session = format!("session-{partition}");
    let mut value = vec![0];
    value.extend(schema.to_be_bytes());
    let text = |value: &mut Vec<u8>, text: &str| {
        value.push(u8::try_from(text.len() * 2).unwrap());
        value.extend(text.as_bytes());
    };
    text(&mut value, &format!("event-{partition}-{number}"));
    value.push(0);
    for field in [session.as_str(), "user", "item"] {
        text(&mut value, field);
    }
    value.push(2);
    text(&mut value, "books");
    value.extend([0; 6]);
    let mut time = ((START + number * 1000) as u64) << 1;
    while time >= 0x80 {
        value.push(time as u8 | 0x80);
        time >>= 7;
    }
    value.push(time as u8);
    value.extend(vec![0; nulls_behind]);
    Outgoing::new(session, value).in_partition(partition)
}

fn position(instance: &Instance, rig: &Rig, partition: i32) -> Option<f64> {
    let labels = [format!("topic=\"{}\"", rig.topic("source.topic")), format!("partition=\"{partition}\"")];
    instance.metric("recwatch_streaming_position", &[&labels[0], &labels[1]])
}

fn wait_for_position(instance: &Instance, rig: &Rig, partition: i32, at_least: f64) {
    let what = format!("partition {partition} at {at_least}");
    instance.eventually(&what, || position(instance, rig, partition).filter(|position| *position >= at_least));
}

/// The line of `/readyz` that begins like this, and whether it is ready.
pub(crate) fn line(instance: &Instance, beginning: &str) -> Option<(String, bool)> {
    let answer = instance.get("/readyz")?;
    let line = answer.body.lines().find(|line| line.starts_with(beginning))?.to_owned();
    Some((line, answer.status == 200))
}

pub(crate) fn ends_soon_and_well(instance: &Instance) {
    let begun = Instant::now();
    let exit = instance.terminate();
    assert!(
        exit.success() && begun.elapsed() < SOON,
        "{exit} after {:?}\n{}",
        begun.elapsed(),
        instance.worker.log_tail(60)
    );
}

/// Whether it runs or starts.
pub(crate) fn ends_while_brokers_are_frozen(rig: &Rig) {
    let instance = rig.start();
    instance.wait_until_ready();
    let _frozen = Frozen::new(rig, Component::Kafka);
    ends_soon_and_well(&instance);
    let starting = rig.start();
    starting.eventually("the start", || starting.get("/readyz").filter(|answer| answer.body.contains("brokers")));
    ends_soon_and_well(&starting);
}

#[test]
fn a_partition_that_needs_a_schema_of_a_frozen_registry_waits_alone_and_is_seen() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 2).set("threads=1").set("http.max_wait=3s");
    let (old, new) = (register(&rig, None), register(&rig, Some("colour")));
    let topic = rig.topic("source.topic");
    produce(topic, (0..10).flat_map(|number| [click(old, 0, 0, number), click(old, 0, 1, number)]));
    let instance = rig.start();
    for partition in [0, 1] {
        wait_for_position(&instance, &rig, partition, 10.0);
    }
    let frozen = Frozen::new(&rig, Component::Registry);
    produce(topic, [click(new, 1, 0, 10)]);
    let waiting = format!("waiting: partition 0 of {topic} for a schema, since 20");
    let (line_of_wait, _) = instance.eventually("the wait", || line(&instance, &waiting));
    assert!(
        line_of_wait.contains(" s): offset 10: ") && line_of_wait.contains(&format!("schema {new}")),
        "{line_of_wait}"
    );
    produce(topic, (10..20).map(|number| click(old, 0, 1, number)));
    wait_for_position(&instance, &rig, 1, 20.0);
    assert_eq!(position(&instance, &rig, 0), Some(10.0));
    assert_eq!(instance.metric("recwatch_waiting_partitions", &["schema"]), Some(1.0));
    instance.eventually("the loss of readiness", || line(&instance, &waiting).filter(|(_, is_ready)| !is_ready));
    assert!(instance.metric("recwatch_longest_wait_seconds", &["schema"]) >= Some(3.0));
    ends_soon_and_well(&instance);
    let logged = std::fs::read_to_string(instance.worker.log()).unwrap().matches("partition 0 of").count();
    assert!(logged < 10, "{logged} lines about one wait");
    drop(frozen);
    let instance = rig.start();
    wait_for_position(&instance, &rig, 0, 11.0);
    instance.wait_until_ready();
    assert_eq!(instance.metric("recwatch_waiting_partitions", &[]), Some(0.0));
    assert!(rig.dead_letters().is_empty());
    ends_soon_and_well(&instance);
}

#[test]
fn a_restore_behind_an_open_transaction_waits_alone_and_is_seen() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 3).set("threads=1").set("http.max_wait=3s");
    let schema = register(&rig, None);
    let topic = rig.topic("source.topic");
    let all = |number| (0..3).map(move |partition| click(schema, 0, partition, number));
    produce(topic, (0..10).flat_map(all));
    let instance = rig.start();
    (0..3).for_each(|partition| wait_for_position(&instance, &rig, partition, 10.0));
    ends_soon_and_well(&instance);

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", rig.stack.brokers()).set("transactional.id", testkit::unique("foreign"));
    let foreign: BaseProducer = config.set("transaction.timeout.ms", "600000").create().unwrap();
    foreign.init_transactions(PATIENCE).unwrap();
    foreign.begin_transaction().unwrap();
    let state = format!("recwatch.internal.session-entropy.{topic}.fold-state");
    foreign.send(BaseRecord::<str, str>::to(&state).partition(0).key("foreign").payload("nobody sees it")).unwrap();
    foreign.flush(PATIENCE).unwrap();

    produce(topic, (10..20).flat_map(all));
    let instance = rig.start();
    for partition in [1, 2] {
        wait_for_position(&instance, &rig, partition, 20.0);
    }
    assert_eq!(position(&instance, &rig, 0), Some(0.0), "no partition 0 is shown");
    let waiting = format!("waiting: partition 0 of {topic} for its state, since 20");
    let (line_of_wait, is_ready) = instance.eventually("the wait", || line(&instance, &waiting));
    assert!(line_of_wait.contains(&format!("a transaction is open on {state}/0")) && !is_ready, "{line_of_wait}");
    assert_eq!(instance.metric("recwatch_waiting_partitions", &["restore"]), Some(1.0));
    produce(topic, (20..30).map(|number| click(schema, 0, 1, number)));
    wait_for_position(&instance, &rig, 1, 30.0);
    ends_soon_and_well(&instance);

    let instance = rig.start();
    instance.eventually("the wait", || line(&instance, &waiting));
    foreign.abort_transaction(PATIENCE).unwrap();
    wait_for_position(&instance, &rig, 0, 20.0);
    instance.wait_until_ready();
    ends_soon_and_well(&instance);
}

#[test]
fn metric_workers_end_soon_and_well_while_brokers_or_registry_are_frozen() {
    let _alone = alone();
    for worker in ["session-entropy", "cosine-decay", "domain-drift"] {
        let rig = Rig::new(worker, 2);
        ends_while_brokers_are_frozen(&rig);
        let frozen = Frozen::new(&rig, Component::Registry);
        let starting = rig.start();
        starting.eventually("the start", || starting.get("/readyz").filter(|answer| answer.body.contains("registry")));
        ends_soon_and_well(&starting);
        drop(frozen);
    }
}
