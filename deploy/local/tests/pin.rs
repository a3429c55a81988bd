//! `domain-drift pin` beside a running worker, through a restart: from then on the domain's rows are against that window.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use stack::generator::{Shape, UserVectors, Vector};
use stack::recording::{Content, Feed, Recording};
use stack::replay::{Plan, Protocol, Run, find_worker};
use stack::{Load, Profile, Worker, build_workers, progress};

const START: i64 = 1_767_600_000_000;
const MINUTE: i64 = 60_000;
const WORKER: &str = "domain-drift";
const SETTINGS: [&str; 4] = ["window=10m", "self_offset=20m", "pairs=[]", "idle_timeout=1s"];
/// The window that is pinned, ten minutes before the newest of the first hour.
const PINNED: i64 = START + 45 * MINUTE;

fn recording(vectors: &[Vector]) -> Recording {
    let lines: String = vectors.iter().map(|vector| serde_json::to_string(vector).unwrap() + "\n").collect();
    Recording::from_reader("generated", Content::UserEmbeddings, std::io::Cursor::new(lines)).unwrap()
}

/// Users of a domain in the window that ends at `end`.
fn users(vectors: &[Vector], domain: &str, end: i64) -> u64 {
    let inside =
        vectors.iter().filter(|v| v.domain == domain && v.event_time > end - 10 * MINUTE && v.event_time <= end);
    inside.map(|vector| vector.entity_id.as_str()).collect::<BTreeSet<&str>>().len() as u64
}

/// Pins a window of the books as a person would, with the configuration that the worker runs with.
fn pin(run: &Run<'_>, window_end: i64) {
    let binaries = build_workers(&Profile::of_this_program().unwrap(), &progress::Silent).unwrap();
    let directory = run.stack().work_directory();
    let configuration = std::fs::read_to_string(directory.join("domain-drift-1.toml")).unwrap();
    let settings = SETTINGS.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]);
    let command = ["pin", "--domain", "books", "--window-end", &window_end.to_string()].map(str::to_owned);
    let arguments: Vec<String> = settings.chain(command).collect();
    let binary = binaries.path(WORKER).unwrap();
    Worker::run(binary, "pin", &configuration, &arguments, &directory, Duration::from_secs(120)).unwrap();
}

#[test]
fn a_pinned_window_is_what_later_ones_are_compared_with_also_after_a_restart() {
    let shape = Shape::load(23, START, 0);
    let vectors: Vec<Vector> = UserVectors::demo(&shape).take_while(|v| v.event_time < START + 90 * MINUTE).collect();
    let (first, second) = vectors.split_at(vectors.partition_point(|v| v.event_time < START + 60 * MINUTE));
    let plan = Plan {
        workers: vec![find_worker(WORKER).unwrap()],
        instances: 1,
        partitions: 2,
        protocol: Protocol::Consumer,
        settings: SETTINGS.iter().map(|setting| format!("{WORKER}.{setting}").parse().unwrap()).collect(),
        contents: [Content::UserEmbeddings].into(),
        rate: None,
        faults: Vec::new(),
        load: Load::Short,
        writer: true,
        router: false,
    };
    let mut run = Run::start(plan, &progress::Lines).unwrap();
    run.publish(Feed::in_file_order(vec![recording(first)])).unwrap();
    run.process().unwrap();
    pin(&run, PINNED);
    // one that is known no more
    pin(&run, START + 10 * MINUTE);
    run.stop_workers().unwrap();
    run.restart_workers(&[]).unwrap();
    run.publish(Feed::in_file_order(vec![recording(second)])).unwrap();
    run.complete().unwrap();
    run.stop_workers().unwrap();
    run.account().unwrap();
    assert_eq!(run.summary().problems, [""; 0]);

    let log = std::fs::read_to_string(run.stack().work_directory().join("domain-drift-1.log")).unwrap();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("no longer kept")), "{log}");

    let statement = format!(
        "SELECT toUnixTimestamp64Milli(window_end) AS end, target, n, m FROM recwatch.domain_drift_final \
         WHERE kind = 'self' AND end >= {} FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0",
        START + 60 * MINUTE
    );
    let rows = run.stack().clickhouse_query(&statement).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 6 * 3, "six windows of three domains");
    for row in &rows {
        let (end, domain) = (row["end"].as_i64().unwrap(), row["target"].as_str().unwrap());
        let then = if domain == "books" { PINNED } else { end - 20 * MINUTE };
        assert_eq!(
            (&row["n"], &row["m"]),
            (&users(&vectors, domain, then).into(), &users(&vectors, domain, end).into()),
            "{row}"
        );
    }
    run.stop().unwrap();
}
