//! The router's binary on a real broker.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use records::{Alert, AlertState, Silence};
use serde_json::Value;
use stack::Worker;
use testkit::{Outgoing, Recorded, eventually};

use crate::peers::Peers;
use crate::support;

const BINARY: &str = env!("CARGO_BIN_EXE_alert-router");
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// One test's topics, peers and configuration.
pub(crate) struct Rig {
    pub(crate) name: String,
    pub(crate) peers: Peers,
    pub(crate) directory: tempfile::TempDir,
    protocol: &'static str,
    routes: String,
}

impl Rig {
    /// `routes` is TOML; `{name}` in it stands for what the test's topics begin with, `{url}` for the peers.
    pub(crate) fn new(protocol: &'static str, routes: &str) -> Self {
        let (name, peers) = (testkit::unique("router"), Peers::start());
        let routes = routes.replace("{name}", &name).replace("{url}", &peers.url);
        let rig = Self { name, peers, directory: tempfile::tempdir().unwrap(), protocol, routes };
        let brokers = testkit::brokers();
        // as the workers make it
        let settings = [("cleanup.policy", "compact,delete"), ("min.compaction.lag.ms", "604800000")];
        stack::create_topic(&brokers, &rig.topic("alerts"), 2, &settings).unwrap();
        rig
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    fn config(&self, instance: &str, port: u16) -> String {
        format!(
            r#"
            {routes}
            [topics]
            alerts = "{name}.alerts"
            silences = "{name}.silences"
            dead_letters = "{name}.dead-letters"
            state = "{name}.state"
            [runtime]
            group = "{name}"
            instance = "{instance}"
            protocol = "{protocol}"
            session_timeout = "6s"
            partitions = 1
            [kafka]
            brokers = "{brokers}"
            [registry]
            url = "{url}"
            [http]
            listen = "127.0.0.1:{port}"
            max_wait = "1s"
            "#,
            routes = self.routes,
            name = self.name,
            protocol = self.protocol,
            brokers = testkit::brokers(),
            url = self.peers.url,
        )
    }

    /// Runs the binary for one thing; what it prints stands in its log.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let name = testkit::unique("command");
        Worker::run(Path::new(BINARY), &name, &self.config("command", 0), &arguments, self.directory.path(), DEADLINE)
            .map_err(|error| format!("{error:#}"))?;
        Ok(std::fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap())
    }

    /// A file with an alert, as `test --alert` takes it.
    pub(crate) fn alert_file(&self, alert: &Alert<'_>) -> String {
        let path = self.directory.path().join(format!("{}.json", testkit::unique("alert")));
        std::fs::write(&path, serde_json::to_vec(alert).unwrap()).unwrap();
        path.display().to_string()
    }

    pub(crate) fn start(&self, instance: &str) -> Instance {
        let port = stack::free_port().unwrap();
        let config = self.config(instance, port);
        let arguments = ["--create-topics".to_owned()];
        let worker = Worker::spawn(Path::new(BINARY), instance, &config, &arguments, self.directory.path()).unwrap();
        Instance { worker, url: format!("http://127.0.0.1:{port}") }
    }

    /// Sends records of alerts.
    pub(crate) fn send(&self, alerts: &[Alert<'static>]) {
        let outgoing = |alert: &Alert<'static>| Outgoing::new(alert.fingerprint.as_bytes(), support::encoded(alert));
        testkit::produce(&self.topic("alerts"), alerts.iter().map(outgoing));
    }

    /// Creates the silences' topic with these many partitions: the router would make it with one.
    pub(crate) fn silences(&self, partitions: i32) -> String {
        let topic = self.topic("silences");
        stack::create_topic(&testkit::brokers(), &topic, partitions, &[("cleanup.policy", "compact")]).unwrap();
        topic
    }

    pub(crate) fn read(&self, kind: &str) -> Vec<Recorded> {
        testkit::read_committed(&self.topic(kind))
    }
}

impl Drop for Rig {
    /// A failed test shows what its routers had to say.
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

/// A running router.
pub(crate) struct Instance {
    pub(crate) worker: Worker,
    url: String,
}

impl Instance {
    /// The body of `/readyz`, where it says that it is ready.
    pub(crate) fn ready(&self) -> Option<String> {
        get(&format!("{}/readyz", self.url))
    }

    pub(crate) fn is_active(&self) -> bool {
        self.ready().is_some_and(|text| text.contains("role: active"))
    }

    /// Waits until it is the active one.
    pub(crate) fn active(self) -> Self {
        eventually("an active router", DEADLINE, || self.is_active().then_some(()));
        self
    }

    /// The sum of a metric's lines that begin with `start`.
    pub(crate) fn metric(&self, start: &str) -> f64 {
        let text = get(&format!("{}/metrics", self.url)).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Status and body of `/readyz`.
    pub(crate) fn readyz(&self) -> (u16, String) {
        eventually("an answer", DEADLINE, || fetch(&format!("{}/readyz", self.url)))
    }

    /// SIGTERM; it has to end well.
    pub(crate) fn stop(self) {
        self.worker.terminate().unwrap();
        let exit = self.worker.wait(DEADLINE).unwrap();
        assert!(exit.success(), "{exit}; its log ends:\n{}", self.worker.log_tail(20));
    }
}

/// The body of a `200`.
pub(crate) fn get(url: &str) -> Option<String> {
    fetch(url).filter(|(status, _)| *status == 200).map(|(_, body)| body)
}

/// Status and body of an answer.
fn fetch(url: &str) -> Option<(u16, String)> {
    use std::io::{Read as _, Write as _};
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

pub(crate) fn firing(rule: &str, domain: &str, life: i64) -> Alert<'static> {
    support::alert(rule, "warning", domain, life, 1, AlertState::Firing)
}

pub(crate) fn resolved(rule: &str, domain: &str, life: i64) -> Alert<'static> {
    support::alert(rule, "warning", domain, life, 2, AlertState::Resolved)
}

/// A silence of these matchers, as it stands in the topic; from an hour ago until in an hour.
pub(crate) fn silence(id: &str, matchers: &[&str]) -> Outgoing {
    let now = alert_router::active::now();
    silence_between(id, matchers, now - 3_600_000, now + 3_600_000)
}

/// The same at these times, epoch ms.
pub(crate) fn silence_between(id: &str, matchers: &[&str], starts_at: i64, ends_at: i64) -> Outgoing {
    let silence = Silence {
        id: id.to_owned().into(),
        matchers: matchers.iter().map(|matcher| (*matcher).to_owned().into()).collect(),
        starts_at,
        ends_at,
        created_by: "me".into(),
        comment: "known".into(),
    };
    Outgoing::new(id, support::encoded_silence(&silence))
}

/// (domain, status) of each alert in a notification.
pub(crate) fn told(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alerts = body["alerts"].as_array().unwrap().iter();
    alerts.map(|alert| (text(&alert["labels"]["domain"]), text(&alert["status"]))).collect()
}

/// What a topic tells of each domain, in order.
pub(crate) fn courses(records: &[Recorded]) -> BTreeMap<String, Vec<String>> {
    let mut courses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        for (domain, status) in told(&serde_json::from_slice(record.value.as_ref().unwrap()).unwrap()) {
            courses.entry(domain).or_default().push(status);
        }
    }
    courses
}
