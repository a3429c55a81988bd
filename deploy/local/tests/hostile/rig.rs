//! A worker on the test process's own stack, with topics of its own: records in, rows, metrics and health out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use serde_json::Value;
use stack::broker::Broker;
use stack::http::Answer;
use stack::{Components, Exit, Stack, Worker, free_port, http};
use testkit::{Recorded, eventually, read_committed, unique};

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How long an instance has between SIGTERM and its end; its own deadline is 30 s.
const END: Duration = Duration::from_secs(60);

/// How long an instance may take to answer over HTTP.
const ANSWER: Duration = Duration::from_secs(5);

/// What a deployment needs.
pub(crate) const COMPONENTS: Components = Components { kafka: true, registry: true, clickhouse: false };

/// Kept for as long as a test has processes: a small machine runs the worker of one test at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A deployment of a metric worker: its topics and its settings.
pub(crate) struct Rig {
    worker: &'static str,
    pub(crate) stack: &'static Stack,
    /// Names by configuration key: `source.topic`, `topics.alerts`, …
    topics: BTreeMap<String, String>,
    settings: Vec<String>,
}

impl Rig {
    /// A deployment of `worker` whose source topics exist, with that many partitions. All its topics have names that no
    /// other deployment has.
    pub(crate) fn new(worker: &'static str, partitions: i32) -> Self {
        let stack = testkit::stack(COMPONENTS);
        let mut topics = BTreeMap::new();
        for (key, name) in default_topics(worker) {
            let name = unique(&name);
            if !key.starts_with("topics.") {
                stack.create_topic(&name, partitions, &[]).unwrap();
            }
            topics.insert(key, name);
        }
        Self { worker, stack, topics, settings: Vec::new() }
    }

    /// The same with one more setting, `KEY=VALUE` as on the command line.
    pub(crate) fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// The same with another deployment's topic under a configuration key.
    pub(crate) fn with_topic(mut self, key: &str, name: &str) -> Self {
        self.topics.insert(key.to_owned(), name.to_owned());
        self
    }

    /// Creates a topic before the worker does, with these settings.
    pub(crate) fn create(&self, key: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.stack.create_topic(self.topic(key), partitions, settings).unwrap();
    }

    /// The name of a topic by its configuration key, such as `source.topic` or `topics.late`.
    pub(crate) fn topic(&self, key: &str) -> &str {
        self.topics.get(key).unwrap_or_else(|| panic!("{} has no topic {key}: {:?}", self.worker, self.topics))
    }

    /// Where the stack's schema registry is.
    pub(crate) fn registry_url(&self) -> String {
        self.stack.registry_url()
    }

    /// Starts an instance, which creates the topics that are missing.
    pub(crate) fn start(&self) -> Instance {
        self.start_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Instance {
        let (name, http) = (unique(self.worker), SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
        let binary = testkit::workers().path(self.worker).unwrap();
        let (configuration, arguments) =
            (self.configuration(&name, http), self.arguments(&[&["--create-topics"], arguments].concat()));
        let worker = Worker::spawn(binary, &name, &configuration, &arguments, &self.stack.work_directory()).unwrap();
        Instance { worker, http }
    }

    /// Runs the worker's binary with these arguments until it ends.
    ///
    /// # Panics
    /// It ends with anything but code 0.
    pub(crate) fn run(&self, arguments: &[&str]) -> Exit {
        let name = unique("command");
        let configuration = self.configuration(&name, SocketAddr::from(([127, 0, 0, 1], 0)));
        let (binary, directory) = (testkit::workers().path(self.worker).unwrap(), self.stack.work_directory());
        let arguments = self.arguments(arguments);
        Worker::run(binary, &name, &configuration, &arguments, &directory, PATIENCE).unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let settings = self.settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
        settings.chain(arguments.iter().copied()).map(str::to_owned).collect()
    }

    fn configuration(&self, instance: &str, http: SocketAddr) -> String {
        let mut file = toml::Table::new();
        let mut put = |key: &str, value: &str| {
            let (section, key) = key.split_once('.').unwrap();
            let section = file.entry(section).or_insert_with(|| toml::Table::new().into());
            section.as_table_mut().unwrap().insert(key.to_owned(), value.into());
        };
        put("kafka.brokers", &self.stack.brokers());
        put("registry.url", &self.stack.registry_url());
        put("http.listen", &http.to_string());
        put("runtime.instance", instance);
        self.topics.iter().for_each(|(key, name)| put(key, name));
        file.to_string()
    }

    /// The Avro records of an output topic as JSON, by partition and offset.
    pub(crate) fn rows(&self, key: &str) -> Vec<Value> {
        let mut schemas = BTreeMap::new();
        let records = self.records(key);
        let values = records.iter().filter_map(|record| record.value.as_deref());
        values.map(|value| self.decode(&mut schemas, value)).collect()
    }

    /// The records of a topic by partition and offset; none while there is no such topic.
    pub(crate) fn records(&self, key: &str) -> Vec<Recorded> {
        let (broker, topic) = (Broker::new(&self.stack.brokers()).unwrap(), self.topic(key));
        if broker.partitions(topic).unwrap().is_some() { read_committed(topic) } else { Vec::new() }
    }

    fn decode(&self, schemas: &mut BTreeMap<i32, apache_avro::Schema>, value: &[u8]) -> Value {
        let id = i32::from_be_bytes(value[1..5].try_into().unwrap());
        let schema = schemas.entry(id).or_insert_with(|| {
            let url = format!("{}/schemas/ids/{id}", self.stack.registry_url());
            let answer: Value = serde_json::from_str(&http::get(&url, PATIENCE).unwrap().ok().unwrap()).unwrap();
            apache_avro::Schema::parse_str(answer["schema"].as_str().unwrap()).unwrap()
        });
        let reader = GenericDatumReader::builder(schema).build().unwrap();
        reader.read_value(&mut &value[5..]).unwrap().try_into().unwrap()
    }

    /// The records that were refused as bad input, each with its reason.
    pub(crate) fn dead_letters(&self) -> Vec<(String, Recorded)> {
        self.records("topics.dead_letters").into_iter().map(|record| (reason(&record), record)).collect()
    }

    /// The records that came too late.
    pub(crate) fn late(&self) -> Vec<Recorded> {
        self.records("topics.late")
    }
}

fn reason(record: &Recorded) -> String {
    let header = record.header("__connect.errors.exception.class.name").unwrap_or_default();
    String::from_utf8_lossy(header).into_owned()
}

/// The topics of a worker's default configuration by key.
fn default_topics(worker: &str) -> BTreeMap<String, String> {
    let binary = testkit::workers().path(worker).unwrap();
    let output = std::process::Command::new(binary).arg("--print-default-config").output().unwrap();
    let defaults: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    let mut topics = BTreeMap::new();
    for (section, keys) in defaults.iter().filter_map(|(section, keys)| Some((section, keys.as_table()?))) {
        for (key, name) in keys.iter().filter_map(|(key, name)| Some((key, name.as_str()?))) {
            if section == "topics" || key == "topic" {
                topics.insert(format!("{section}.{key}"), name.to_owned());
            }
        }
    }
    topics
}

/// A running process of a deployment. It dies with its handle.
pub(crate) struct Instance {
    pub(crate) worker: Worker,
    http: SocketAddr,
}

impl Instance {
    /// Where it listens.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// What it answers at `/readyz` or another path; `None` where it does not answer.
    pub(crate) fn get(&self, path: &str) -> Option<Answer> {
        http::get(&format!("http://{}{path}", self.http), ANSWER).ok()
    }

    /// The sum of a metric's values over all its labels that contain each of `labels`, such as `partition="0"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.get("/metrics")?.ok().ok()?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, present) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| present.contains(label))).then_some(value)
        });
        values.map(|value| value.parse::<f64>().ok()).sum()
    }

    /// Waits until it is ready.
    pub(crate) fn wait_until_ready(&self) {
        self.eventually("ready", || self.get("/readyz").filter(|answer| answer.status == 200));
    }

    /// Waits until there is an answer; where there is none, or the process ends, the test fails with the end of its log.
    #[track_caller]
    pub(crate) fn eventually<T>(&self, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        eventually(what, PATIENCE + END, || {
            let found = answer();
            let exit = self.worker.exit().map(|exit| exit.to_string());
            let failure = exit.or_else(|| (begun.elapsed() > PATIENCE).then(|| format!("not within {PATIENCE:?}")));
            match (found, failure) {
                (None, Some(failure)) => panic!("{what}: {failure}\n{}", self.worker.log_tail(60)),
                (found, _) => found,
            }
        })
    }

    /// Waits until it ends with a failure, and returns the end of its log.
    ///
    /// # Panics
    /// It goes on, or ends well.
    pub(crate) fn ends_by_itself(&self) -> String {
        let exit = eventually("the process ends", PATIENCE, || self.worker.exit());
        let log = self.worker.log_tail(60);
        assert!(!exit.success(), "{exit}\n{log}");
        log
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// It does not end in time.
    pub(crate) fn terminate(&self) -> Exit {
        self.worker.terminate().unwrap();
        self.worker.wait(END).unwrap_or_else(|error| panic!("{error:#}\n{}", self.worker.log_tail(60)))
    }
}
