//! Workers that run in this process on a real broker, and how far they are.
#![allow(dead_code, unreachable_pub)] // not every test binary uses all of it

pub mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use service::Health;
use streaming::config::RuntimeConfig;
use streaming::{FoldProgress, MergeProgress, Readiness, Runtime, StartOptions, Telemetry, Topology};
use testkit::{eventually, read_committed};

pub const DEADLINE: Duration = Duration::from_secs(120);

pub fn kafka() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", testkit::brokers());
    config
}

/// A start that creates what is missing.
pub const CREATING: StartOptions = StartOptions { create_topics: true, skip_lost: false };

/// An instance, with two stream threads unless said otherwise.
pub struct Instance {
    stop: Arc<AtomicBool>,
    pub readiness: Readiness,
    telemetry: Telemetry,
    pub thread: JoinHandle<anyhow::Result<()>>,
}

impl Instance {
    pub fn run(topology: Topology, config: RuntimeConfig) -> Self {
        Self::with_threads(2, topology, config)
    }

    pub fn with_threads(threads: usize, topology: Topology, config: RuntimeConfig) -> Self {
        Self::of(Runtime::new(topology, config, kafka(), threads, CREATING, &Health::new()).unwrap())
    }

    pub fn of(runtime: Runtime) -> Self {
        let (stop, readiness, telemetry) = (runtime.stop_switch(), runtime.readiness(), runtime.telemetry());
        Self { stop, readiness, telemetry, thread: std::thread::spawn(move || runtime.run()) }
    }

    /// The sum of a metric's values, whatever their labels; `None` while it has none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.telemetry.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let of_name = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        });
        let values: Vec<f64> = of_name.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.end()
    }

    /// How it ends by itself.
    pub fn end(self) -> anyhow::Result<()> {
        eventually("the instance has ended", DEADLINE, || self.thread.is_finished().then_some(()));
        self.thread.join().unwrap()
    }
}

/// A setting of all topics whose names contain `part`.
pub fn topic_settings(part: &str, setting: &str) -> BTreeMap<String, String> {
    let admin: AdminClient<DefaultClientContext> = kafka().create().unwrap();
    let metadata = admin.inner().fetch_metadata(None, DEADLINE).unwrap();
    let names = metadata.topics().iter().map(|topic| topic.name());
    let names: Vec<&str> = names.filter(|name| name.contains(part)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = AdminOptions::new();
    let mut settings = runtime.block_on(::kafka::topic_settings(&admin, names.iter().copied(), &options)).unwrap();
    names.into_iter().map(|name| (name.to_owned(), settings.get_mut(name).unwrap().remove(setting).unwrap())).collect()
}

/// The newest announcements of all tasks.
pub fn progress(worker: &str, source: &str) -> (BTreeMap<String, FoldProgress>, BTreeMap<String, MergeProgress>) {
    progress_on(&format!("recwatch.internal.{worker}.{source}.watermarks"))
}

/// The same, as a watermarks topic has it.
pub fn progress_on(topic: &str) -> (BTreeMap<String, FoldProgress>, BTreeMap<String, MergeProgress>) {
    let (mut folds, mut merges) = (BTreeMap::new(), BTreeMap::new());
    for record in read_committed(topic) {
        let (key, Some(value)) = (record.key_text(), &record.value) else { continue };
        if key.starts_with("fold/") {
            folds.insert(key, serde_json::from_slice(value).unwrap());
        } else if key.starts_with("merge/") {
            merges.insert(key, serde_json::from_slice(value).unwrap());
        }
    }
    (folds, merges)
}

/// The rows that a worker has committed, sorted.
pub fn sorted_rows(worker: &str) -> Vec<String> {
    let mut rows: Vec<String> =
        read_committed(&format!("{worker}.sums")).iter().map(testkit::Recorded::value_text).collect();
    rows.sort();
    rows
}

/// Waits until a source's records are read and its windows closed.
pub fn wait_for(worker: &str, source: &str, read: u64, closed: i64) {
    eventually(&format!("{read} records read, windows closed to {closed}"), DEADLINE, || {
        let (folds, merges) = progress(worker, source);
        assert!(folds.values().all(|fold| fold.counts.add_up()));
        let total: u64 = folds.values().map(|fold| fold.counts.read).sum();
        assert!(total <= read, "a record was counted twice: {total} > {read}");
        let closed = !merges.is_empty() && merges.values().all(|merge| merge.closed >= Some(closed));
        (total == read && closed).then_some(())
    });
}
