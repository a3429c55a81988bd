//! The real components start, answer, survive outages with their data, and stop.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use stack::{Component, Components, Options, Stack, http, progress};

const ANSWER: Duration = Duration::from_secs(30);

/// One stack for the tests that leave it as they found it.
fn shared() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| Stack::start(&Options::default(), &progress::Lines).unwrap())
}

fn topics(brokers: &str) -> Vec<(String, usize)> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let metadata = client.fetch_metadata(None, ANSWER).unwrap();
    metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect()
}

fn is_refused(address: &str) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < ANSWER, "{what}: not within {ANSWER:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_created_topic_has_its_partitions_and_cannot_be_created_twice() {
    let stack = shared();
    stack.create_topic("created-once", 3, &[("cleanup.policy", "compact,delete")]).unwrap();
    assert!(topics(&stack.brokers()).contains(&("created-once".to_owned(), 3)));
    let error = stack.create_topic("created-once", 3, &[]).unwrap_err().to_string();
    assert!(error.contains("created-once"), "{error}");
}

#[test]
fn a_refused_topic_setting_is_an_error() {
    let error = shared().create_topic("refused", 1, &[("cleanup.policy", "shred")]).unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_registered_schema_keeps_its_id_through_a_crash_of_the_registry() {
    let stack = Stack::start(
        &Options { components: Components { registry: true, ..Components::NONE }, ..Options::default() },
        &progress::Silent,
    )
    .unwrap();
    let url = stack.registry_url();
    let register = |subject: &str, schema: &str| {
        let body = format!(r#"{{"schema": "{schema}"}}"#);
        let content_type = "application/vnd.schemaregistry.v1+json";
        http::post(&format!("{url}/subjects/{subject}/versions"), content_type, body, ANSWER).unwrap().ok().unwrap()
    };
    register("first-value", r#"\"string\""#);
    let second = register("second-value", r#"\"long\""#);
    stack.kill_component(Component::Registry).unwrap();
    assert!(http::get(&format!("{url}/subjects"), ANSWER).is_err());
    stack.start_component(Component::Registry).unwrap();
    assert_eq!(stack.registry_url(), url);
    assert_eq!(register("second-value", r#"\"long\""#), second);
}

#[test]
fn clickhouse_comes_back_from_an_outage_with_its_rows_at_the_same_address() {
    let stack = Stack::start(
        &Options { components: Components { clickhouse: true, ..Components::NONE }, ..Options::default() },
        &progress::Silent,
    )
    .unwrap();
    stack.clickhouse_query("CREATE TABLE default.outage (n UInt64) ENGINE = MergeTree ORDER BY n").unwrap();
    stack.clickhouse_query("INSERT INTO default.outage SELECT number FROM numbers(1000)").unwrap();
    let url = stack.clickhouse_url();

    stack.stop_component(Component::ClickHouse).unwrap();
    assert!(stack.clickhouse_query("SELECT 1").is_err());
    stack.start_component(Component::ClickHouse).unwrap();
    assert_eq!(stack.clickhouse_url(), url);
    assert_eq!(stack.clickhouse_query("SELECT sum(n) FROM default.outage").unwrap(), "499500\n");

    stack.kill_component(Component::ClickHouse).unwrap();
    stack.start_component(Component::ClickHouse).unwrap();
    assert_eq!(stack.clickhouse_query("SELECT sum(n) FROM default.outage").unwrap(), "499500\n");
}

#[test]
fn stopping_a_stack_frees_its_port_and_removes_its_temporary_folder() {
    let options = Options { components: Components::KAFKA, ..Options::default() };
    let stack = Stack::start(&options, &progress::Silent).unwrap();
    let (brokers, directory) = (stack.brokers(), stack.directory().to_owned());
    assert!(directory.join("kafka").is_dir());
    assert!(!is_refused(&brokers));
    stack.stop().unwrap();
    assert!(is_refused(&brokers));
    assert!(!directory.exists());
}

#[test]
fn a_given_port_that_is_taken_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports = stack::Ports { clickhouse: Some(port), ..Default::default() };
    let components = Components { clickhouse: true, ..Components::NONE };
    let error = Stack::start(&Options { components, ports, ..Options::default() }, &progress::Silent).unwrap_err();
    assert!(error.to_string().contains(&format!("port {port}")), "{error}");
}

#[test]
fn a_component_that_dies_at_its_start_shows_the_end_of_its_log() {
    let directory = tempfile::tempdir().unwrap();
    // A file where the engine needs a folder.
    std::fs::create_dir(directory.path().join("clickhouse")).unwrap();
    std::fs::write(directory.path().join("clickhouse/data"), "in the way").unwrap();
    let options = Options {
        components: Components { clickhouse: true, ..Components::NONE },
        directory: Some(directory.path().to_owned()),
        ..Options::default()
    };
    let error = Stack::start(&options, &progress::Silent).unwrap_err().to_string();
    assert!(error.contains("clickhouse died at its start with exit code"), "{error}");
    assert!(error.contains("the engine does not start in"), "{error}");
}

#[test]
fn a_component_that_died_unasked_is_reported() {
    let options = Options { components: Components { clickhouse: true, ..Components::NONE }, ..Options::default() };
    let stack = Stack::start(&options, &progress::Silent).unwrap();
    assert_eq!(stack.casualties(), Vec::<String>::new());
    stack.signal_component(Component::ClickHouse, stack::Signal::Kill).unwrap();
    wait_for("the report of the death", || !stack.casualties().is_empty());
    assert!(stack.casualties()[0].starts_with("clickhouse died with signal 9"), "{:?}", stack.casualties());
}

#[test]
fn topics_survive_a_restart_of_the_broker() {
    let options = Options { components: Components::KAFKA, ..Options::default() };
    let stack = Stack::start(&options, &progress::Silent).unwrap();
    stack.create_topic("kept", 2, &[]).unwrap();
    let brokers = stack.brokers();
    stack.kill_component(Component::Kafka).unwrap();
    stack.start_component(Component::Kafka).unwrap();
    assert_eq!(stack.brokers(), brokers);
    wait_for("the topic's partitions", || topics(&brokers).contains(&("kept".to_owned(), 2)));
}

#[test]
fn a_detached_stack_runs_on_and_is_found_and_stopped_by_its_folder() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        components: Components { clickhouse: true, ..Components::NONE },
        directory: Some(directory.path().to_owned()),
        detachable: true,
        ..Options::default()
    };
    let address = {
        let stack = Stack::start(&options, &progress::Silent).unwrap();
        let address = stack.clickhouse_url();
        stack.detach().unwrap();
        address
    };
    // The handles are gone, the engine is not.
    assert_eq!(http::get(&format!("{address}/ping"), ANSWER).unwrap().ok().unwrap(), "Ok.\n");
    let second = Stack::start(&options, &progress::Silent).unwrap_err().to_string();
    assert!(second.contains("runs in"), "{second}");

    let found = stack::DetachedStack::find(directory.path()).unwrap().unwrap();
    assert!(found.is_any_alive());
    assert_eq!(found.components[0].address, address);
    found.stop().unwrap();
    assert!(http::get(&format!("{address}/ping"), ANSWER).is_err());
    assert!(directory.path().join("clickhouse/data").is_dir());
    stack::remove_data(directory.path()).unwrap();
    assert!(!Path::new(directory.path()).exists());
}
