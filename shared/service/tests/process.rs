//! A worker as a process: its command line, exit codes, signals, log and HTTP.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn worker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-test-worker"));
    command.args(["--set", "http.listen=127.0.0.1:0", "--set", "log.format=json"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    worker(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running worker; killed when dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = worker(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, log) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let mut running = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let line = running.log_line(|line| line["message"].as_str().is_some_and(|text| text.starts_with("serving")));
        running.address = line["address"].as_str().unwrap().parse().unwrap();
        running
    }

    /// The next log line that `wanted` accepts.
    fn log_line(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let line =
                self.log.recv_timeout(end.saturating_duration_since(Instant::now())).expect("the log line is written");
            let line: serde_json::Value = serde_json::from_str(&line).expect("every log line is JSON");
            if wanted(&line) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        let url = format!("http://{}{path}", self.address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let response = reqwest::get(url).await.unwrap();
            let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            (response.status().as_u16(), kind.unwrap_or_default(), response.text().await.unwrap())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_and_sigint_end_a_worker_in_good_order_with_exit_code_0() {
    for name in ["TERM", "INT"] {
        let mut running = Running::start(&[]);
        running.signal(name);
        assert_eq!(running.wait().code(), Some(0), "{name}");
        let line = running.log_line(|line| line["message"] == "ended");
        assert_eq!(line["level"], "INFO");
    }
}

#[test]
fn a_worker_that_still_waits_for_what_it_needs_ends_at_once_with_exit_code_0() {
    for behaviour in ["behaviour=start", "behaviour=start_and_give_up"] {
        let mut running = Running::start(&["--set", behaviour, "--set", "deadline=1h"]);
        running.signal("TERM");
        assert_eq!(running.wait().code(), Some(0), "{behaviour}");
    }
}

#[test]
fn a_second_signal_ends_a_hanging_worker_at_once_with_exit_code_1() {
    let mut running = Running::start(&["--set", "behaviour=hang", "--set", "deadline=1h"]);
    running.signal("TERM");
    running.log_line(|line| line["signal"] == "SIGTERM");
    let (status, _, body) = running.get("/readyz");
    assert_eq!((status, body.as_str()), (503, "shutting down\n"));
    running.signal("INT");
    assert_eq!(running.wait().code(), Some(1));
}

#[test]
fn a_worker_that_does_not_end_within_its_deadline_is_ended_with_exit_code_1() {
    let mut running = Running::start(&["--set", "behaviour=hang", "--set", "deadline=200ms"]);
    let start = Instant::now();
    running.signal("TERM");
    assert_eq!(running.wait().code(), Some(1));
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    running.log_line(|line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("not ended within the deadline"))
    });
}

#[test]
fn health_readiness_and_metrics_are_served_over_http() {
    let running = Running::start(&[]);
    // The condition is set right after the server has started.
    let end = Instant::now() + PATIENCE;
    while running.get("/readyz").0 != 200 {
        assert!(Instant::now() < end, "never ready: {:?}", running.get("/readyz"));
    }
    assert_eq!(running.get("/healthz").0, 200);
    let (status, kind, body) = running.get("/metrics");
    assert_eq!(status, 200);
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(body.contains("recwatch_build_info{worker=\"service-test-worker\",version=\"1.2.3\"} 1"), "{body}");
    let value = |name: &str| -> f64 {
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in\n{body}")).parse().unwrap()
    };
    assert!(value("recwatch_process_resident_memory_bytes") > 100_000.0);
    assert!(value("recwatch_process_resident_memory_peak_bytes") >= value("recwatch_process_resident_memory_bytes"));
    assert!(value("recwatch_process_cpu_seconds_total") < 60.0);
    for reason in ["restore", "schema", "clickhouse", "brokers"] {
        assert_eq!(value(&format!("recwatch_waiting_partitions{{reason=\"{reason}\"}}")), 0.0);
        assert_eq!(value(&format!("recwatch_longest_wait_seconds{{reason=\"{reason}\"}}")), 0.0);
    }
    assert!(body.ends_with("# EOF\n"));
    assert_eq!(running.get("/nowhere").0, 404);
}

#[test]
fn an_address_in_use_is_told_with_what_to_do_and_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", taken.local_addr().unwrap());
    let output = output(&["--set", &listen]);
    assert_eq!(output.status.code(), Some(1));
    let log = text(&output.stderr);
    assert!(log.contains("cannot be bound: choose a free port") && log.contains("in use"), "{log}");
}

#[test]
fn a_failure_is_exit_code_1_with_its_whole_chain_of_causes() {
    let output = output(&["--set", "behaviour=fail"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("writing the state: the disk is full"));
}

#[test]
fn a_configuration_that_does_not_fit_what_is_outside_is_exit_code_2() {
    let output = output(&["--set", "behaviour=misfit"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("source.topic: the topic does not exist"), "{}", text(&output.stderr));
}

#[test]
fn bad_configuration_is_exit_code_2_with_all_problems_on_standard_error() {
    for more in [&["--check-config"][..], &[]] {
        let mut arguments = vec!["--set", "behaviour=dance", "--set", "colour=red"];
        arguments.extend(more);
        let output = output(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let told = text(&output.stderr);
        assert!(told.starts_with("2 problems in the configuration:\n"), "{told}");
        assert!(told.contains("behaviour = \"dance\" (--set behaviour): must be one of"), "{told}");
    }
    let unknown = output(&["--colour"]);
    assert_eq!(unknown.status.code(), Some(2), "a wrong command line is the same to whoever started it");
}

#[test]
fn a_good_configuration_passes_the_check_without_starting_anything() {
    let output = output(&["--check-config", "--set", "behaviour=fail"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "the configuration is good\n".to_owned()));
}

#[test]
fn the_printed_default_configuration_is_a_configuration() {
    let printed = output(&["--print-default-config"]);
    assert_eq!(printed.status.code(), Some(0));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &printed.stdout).unwrap();
    let checked = output(&["--check-config", "--config", file.path().to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn the_log_shows_stars_for_secrets() {
    let output = worker(&["--set", "behaviour=fail"]).env("RECWATCH_TOKEN", "hunter2").output().unwrap();
    let log = text(&output.stderr);
    assert!(log.contains("token: ***") && !log.contains("hunter2"), "{log}");
    assert!(log.contains("token (environment variable RECWATCH_TOKEN)"), "{log}");
}

#[test]
fn help_and_version_answer() {
    let help = text(&output(&["--help"]).stdout);
    for option in ["--config", "--set", "--print-default-config", "--check-config", "--create-topics", "--reset-state"]
    {
        assert!(help.contains(option), "{option} in\n{help}");
    }
    assert!(help.contains("RECWATCH_KAFKA__BROKERS"), "{help}");
    assert!(text(&output(&["--version"]).stdout).starts_with("service-test-worker "));
}
