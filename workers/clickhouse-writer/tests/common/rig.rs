//! The writer's binary between a real broker, the real ClickHouse engine and a small registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use records::{AvroRecord, Encoder, SessionEntropy, SessionFreshness};
use stack::broker::ends_by_itself;
use stack::{Components, Options, Stack, Worker, progress};

use crate::fake_http::{Action, FakeHttp};

const BINARY: &str = env!("CARGO_BIN_EXE_clickhouse-writer");
/// Schema ids as the small registry gives them.
pub(crate) const FRESHNESS_ID: i32 = 1;
pub(crate) const ENTROPY_ID: i32 = 2;
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A record read back: key, value, headers.
pub(crate) type Letter = (Option<Vec<u8>>, Option<Vec<u8>>, BTreeMap<String, String>);

/// One test's topics, database and configuration on the stack of this test process.
pub(crate) struct Rig {
    pub(crate) database: String,
    pub(crate) freshness: String,
    pub(crate) entropy: String,
    pub(crate) dead_letters: String,
    protocol: &'static str,
    session: Duration,
    registry: FakeHttp,
    pub(crate) registry_down: Arc<AtomicBool>,
    directory: tempfile::TempDir,
    /// Tests share the writer's consumer group, so they take turns.
    _turn: MutexGuard<'static, ()>,
}

pub(crate) fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let components = Components { kafka: true, registry: false, clickhouse: true };
        Stack::start(&Options { components, ..Options::default() }, &progress::Silent).unwrap()
    })
}

impl Rig {
    /// Fresh topics and a fresh database, not created yet. Members that die are missed soon.
    pub(crate) fn new(protocol: &'static str) -> Self {
        Self::with_session(protocol, Duration::from_secs(6))
    }

    /// The same; a member is missed after `session` of silence.
    pub(crate) fn with_session(protocol: &'static str, session: Duration) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // under the classic protocol it is the members' setting
        stack::set_group_session(&stack().brokers(), "recwatch.clickhouse-writer", session).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let registry_down = Arc::new(AtomicBool::new(false));
        let down = registry_down.clone();
        let registry = FakeHttp::start(move |request| match request.path.as_str() {
            _ if down.load(Ordering::SeqCst) => Action::Answer(503, String::new()),
            "/schemas/ids/1" => schema(SessionFreshness::SCHEMA),
            "/schemas/ids/2" => schema(SessionEntropy::SCHEMA),
            _ => Action::Answer(404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
        });
        Self {
            database: format!("writer_{number}"),
            freshness: format!("freshness-{number}"),
            entropy: format!("entropy-{number}"),
            dead_letters: format!("dead-letters-{number}"),
            protocol,
            session,
            registry,
            registry_down,
            directory: tempfile::tempdir().unwrap(),
            _turn: turn,
        }
    }

    fn config(&self, instance: &str, http_port: u16) -> String {
        format!(
            r#"
            [clickhouse]
            url = "{}"
            database = "{}"
            compression = "none"
            longest_pause = "500ms"
            [batch]
            max_rows = 2000
            max_wait = "200ms"
            [topics]
            session_freshness = "{}"
            session_entropy = "{}"
            dead_letters = "{}"
            [runtime]
            instance = "{instance}"
            protocol = "{}"
            session_timeout = "{}s"
            [kafka]
            brokers = "{}"
            [registry]
            url = "{}"
            [http]
            listen = "127.0.0.1:{http_port}"
            max_wait = "2s"
            "#,
            stack().clickhouse_url(),
            self.database,
            self.freshness,
            self.entropy,
            self.dead_letters,
            self.protocol,
            self.session.as_secs(),
            stack().brokers(),
            self.registry.url,
        )
    }

    /// Runs the binary for one thing; the error shows its log.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<(), String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let name = format!("command{}", arguments.join(""));
        Worker::run(Path::new(BINARY), &name, &self.config("command", 0), &arguments, self.directory.path(), DEADLINE)
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    }

    /// Starts an instance; the topics are created if they are missing.
    pub(crate) fn start(&self, instance: &str) -> Instance {
        let port = stack::free_port().unwrap();
        let arguments = ["--create-topics".to_owned()];
        let config = self.config(instance, port);
        let worker = Worker::spawn(Path::new(BINARY), instance, &config, &arguments, self.directory.path()).unwrap();
        Instance { worker, url: format!("http://127.0.0.1:{port}") }
    }

    /// Runs a statement in ClickHouse, `{db}` standing for this test's database, and returns its text.
    pub(crate) fn sql(&self, statement: &str) -> String {
        stack().clickhouse_query(&statement.replace("{db}", &self.database)).unwrap().trim().to_owned()
    }

    /// Produces and flushes; `None` for the partition lets the key decide.
    pub(crate) fn produce(&self, topic: &str, records: &[(Vec<u8>, Vec<u8>)]) {
        let producer: ThreadedProducer<_> = client().set("linger.ms", "5").create().unwrap();
        send(&producer, topic, records);
        producer.flush(DEADLINE).unwrap();
    }

    /// Produces in a transaction that is aborted, then others in one that is committed.
    pub(crate) fn produce_aborted_then_committed(
        &self,
        topic: &str,
        aborted: &[(Vec<u8>, Vec<u8>)],
        committed: &[(Vec<u8>, Vec<u8>)],
    ) {
        let producer: ThreadedProducer<_> = client().set("transactional.id", topic).create().unwrap();
        producer.init_transactions(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, topic, aborted);
        producer.flush(DEADLINE).unwrap();
        producer.abort_transaction(DEADLINE).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, topic, committed);
        producer.commit_transaction(DEADLINE).unwrap();
    }

    /// Everything in the dead letters' topic, once there are `count`.
    pub(crate) fn letters(&self, count: usize) -> Vec<Letter> {
        let consumer: BaseConsumer = client().set("group.id", "reader").create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..4 {
            list.add_partition_offset(&self.dead_letters, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut letters = Vec::new();
        eventually("dead letters", || {
            while let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let message = match message {
                    Err(error) if ends_by_itself(&error) => continue,
                    message => message.unwrap(),
                };
                let headers = message.headers().map(rdkafka::message::BorrowedHeaders::detach).unwrap_or_default();
                let headers = headers
                    .iter()
                    .map(|header| {
                        let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
                        (header.key.to_owned(), value)
                    })
                    .collect();
                letters.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers));
            }
            (letters.len() >= count).then_some(())
        });
        letters
    }
}

impl Drop for Rig {
    /// A failed test shows what its writers had to say.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in std::fs::read_dir(self.directory.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                eprintln!("--- {:?}\n{}", entry.file_name(), std::fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
}

/// A running writer.
pub(crate) struct Instance {
    pub(crate) worker: Worker,
    pub(crate) url: String,
}

impl Instance {
    /// The value of a metric's line that begins with `start`; 0 where there is none yet.
    pub(crate) fn metric(&self, start: &str) -> f64 {
        let Some(text) = get(&format!("{}/metrics", self.url)) else {
            return 0.0;
        };
        text.lines()
            .filter(|line| line.starts_with(start))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Whether any partition is owned.
    pub(crate) fn owns_partitions(&self) -> bool {
        get(&format!("{}/metrics", self.url)).is_some_and(|text| text.contains("recwatch_clickhouse_writer_position{"))
    }

    /// Whether all that was taken is committed: `offsets` in all.
    pub(crate) fn has_committed(&self, offsets: f64) -> bool {
        self.metric("recwatch_clickhouse_writer_committed{") == offsets
    }

    /// Whether `/readyz` says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        get(&format!("{}/readyz", self.url)).is_some()
    }

    /// Status and body of `/readyz`.
    pub(crate) fn readyz(&self) -> (u16, String) {
        eventually("an answer", || fetch(&format!("{}/readyz", self.url)))
    }

    /// SIGTERM; it has to end well.
    pub(crate) fn stop(self) {
        self.worker.terminate().unwrap();
        let exit = self.worker.wait(DEADLINE).unwrap();
        assert!(exit.success(), "{exit}; its log ends:\n{}", self.worker.log_tail(20));
    }
}

/// Polls until there is a value; panics with `what` when it takes too long.
pub(crate) fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The body of a `200`.
fn get(url: &str) -> Option<String> {
    fetch(url).filter(|(status, _)| *status == 200).map(|(_, body)| body)
}

/// Status and body of an answer.
fn fetch(url: &str) -> Option<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn schema(text: &str) -> Action {
    Action::Answer(200, serde_json::json!({ "schema": text }).to_string())
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stack().brokers());
    config
}

fn send(
    producer: &ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    topic: &str,
    records: &[(Vec<u8>, Vec<u8>)],
) {
    for (key, value) in records {
        let headers = OwnedHeaders::new().insert(rdkafka::message::Header { key: "traceparent", value: Some("00-1") });
        let mut record = BaseRecord::to(topic).key(key).payload(value).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
}

/// A row of `session_freshness` as a record: session `s<number>`, one window a minute from 2014 on.
pub(crate) fn freshness(number: i64, revision: i64, events: i64) -> (Vec<u8>, Vec<u8>) {
    freshness_at(number, 1_388_534_400_000 + number * 60_000, revision, events)
}

/// The same, at another window end.
pub(crate) fn freshness_at(number: i64, window_end: i64, revision: i64, events: i64) -> (Vec<u8>, Vec<u8>) {
    let session = format!("s{number}");
    let row = SessionFreshness {
        window_start: window_end - 300_000,
        window_end,
        session_id: session.as_str().into(),
        domain: "books".into(),
        surface: "".into(),
        user_segment: "né\nw".into(),
        rec_strategy: "".into(),
        ab_group: "".into(),
        item_type: "".into(),
        events,
        entropy: 0.25,
        normalised: 0.125,
        freshness: 0.875,
        decay_factor: 0.95,
        band: "focused".into(),
        revision,
    };
    let mut value = Vec::new();
    Encoder::<SessionFreshness<'static>>::new(FRESHNESS_ID).encode(&row, &mut value).unwrap();
    (session.into_bytes(), value)
}

/// A row of `session_entropy`: group `g<number>`; without sessions where `mean` is `None`.
pub(crate) fn entropy(number: i64, mean: Option<f64>) -> (Vec<u8>, Vec<u8>) {
    let group = format!("g{number}");
    let row = SessionEntropy {
        window_start: 1_388_534_100_000,
        window_end: 1_388_534_400_000,
        domain: group.as_str().into(),
        surface: "".into(),
        user_segment: "".into(),
        rec_strategy: "".into(),
        ab_group: "".into(),
        item_type: "".into(),
        sessions_total: 7,
        events: 9,
        sessions: i64::from(mean.is_some()),
        mean_entropy: mean,
        mean_freshness: mean,
        freshness_p05: mean,
        freshness_p50: mean,
        freshness_p95: mean,
        share_focused: mean,
        share_balanced: mean,
        share_scattered: mean,
        revision: 1,
    };
    let mut value = Vec::new();
    Encoder::<SessionEntropy<'static>>::new(ENTROPY_ID).encode(&row, &mut value).unwrap();
    (group.into_bytes(), value)
}
