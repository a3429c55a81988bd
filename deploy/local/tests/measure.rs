//! `cargo stack measure` on the real stack, a case a worker: small, so its figures say nothing but that they are taken.

use std::collections::BTreeMap;
use std::process::Command;

/// Of 3,000 records, what is printed: by line its figures, records/s first.
fn measure(worker: &str, arguments: &[&str]) -> BTreeMap<String, Vec<f64>> {
    measure_with(worker, &[&["--records", "3000"], arguments].concat())
}

fn measure_with(worker: &str, arguments: &[&str]) -> BTreeMap<String, Vec<f64>> {
    let output = Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(["measure", "--worker", worker, "--set", &format!("{worker}.idle_timeout=1s")])
        .args(arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed.lines().map(figures).filter(|(words, _)| !is_heading(words)).collect()
}

fn is_heading(words: &str) -> bool {
    ["records/s", "seconds"].iter().any(|heading| words.starts_with(heading))
}

/// The numbers of a line, and the rest of it.
fn figures(line: &str) -> (String, Vec<f64>) {
    let number = |word: &str| word.replace(',', "").parse::<f64>();
    let (numbers, words): (Vec<&str>, Vec<&str>) = line.split_whitespace().partition(|word| number(word).is_ok());
    (words.join(" "), numbers.into_iter().map(|word| number(word).unwrap()).collect())
}

fn assert_rates(figures: &BTreeMap<String, Vec<f64>>, names: &[&str]) {
    let lines: Vec<&str> = figures.keys().map(String::as_str).collect();
    assert_eq!(lines, names);
    assert!(figures.values().flatten().all(|figure| *figure > 0.0), "{figures:?}");
}

#[test]
fn session_entropy_is_rated_beside_a_consumer_that_only_decodes() {
    let figures = measure("session-entropy", &[]);
    assert_rates(&figures, &["poll and decode", "session-entropy", "session-entropy beside clickhouse-writer"]);
}

#[test]
fn how_soon_alerts_are_told_is_measured_at_the_pace_of_event_time() {
    let figures = measure_with("session-entropy", &["--live", "400", "--seconds", "15"]);
    let lines: Vec<&str> = figures.keys().map(String::as_str).collect();
    assert_eq!(lines, ["alert's timestamp to consumer", "window closed to commit, at most"]);
    for (line, quantiles) in &figures {
        assert!(quantiles.len() == 3 && quantiles[0] > 0.0 && quantiles.is_sorted(), "{line}: {quantiles:?}");
    }
}

#[test]
fn domain_drift_is_rated_by_vectors_of_users() {
    let figures = measure("domain-drift", &[]);
    assert_rates(&figures, &["domain-drift", "domain-drift beside clickhouse-writer", "poll and decode"]);
}

#[test]
fn cosine_decay_is_rated_by_clicks_behind_its_items_and_restarted_with_them() {
    let figures = measure("cosine-decay", &["--items", "203"]);
    let names = [
        "cosine-decay",
        "cosine-decay beside clickhouse-writer",
        "cosine-decay beside clickhouse-writer: items",
        "cosine-decay: items",
        "poll and decode",
        "restart: ready after s with items",
    ];
    assert_rates(&figures, &names);
    let restart = &figures["restart: ready after s with items"];
    assert!(restart.len() == 2 && restart[0] < 60.0 && restart[1] == 204.0, "{restart:?}");
}
