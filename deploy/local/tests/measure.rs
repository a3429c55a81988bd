//! `cargo stack measure` on the real stack, a case a worker: small, so its figures say nothing but that they are taken.

use std::collections::BTreeMap;
use std::process::Command;

/// What is printed.
fn measure(worker: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(["measure", "--worker", worker])
        .args(arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// By line its figures, with an idle timeout that fits so few records.
fn lines(worker: &str, arguments: &[&str]) -> BTreeMap<String, Vec<f64>> {
    let idle_timeout = format!("{worker}.idle_timeout=1s");
    let printed = measure(worker, &[&["--set", &idle_timeout], arguments].concat());
    // headings have no figures
    printed.lines().skip(1).map(figures).filter(|(_, figures)| !figures.is_empty()).collect()
}

/// Of 3,000 records: records/s first.
fn rates(worker: &str, arguments: &[&str]) -> BTreeMap<String, Vec<f64>> {
    lines(worker, &[&["--records", "3000"], arguments].concat())
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
    let figures = rates("session-entropy", &[]);
    assert_rates(&figures, &["poll and decode", "session-entropy", "session-entropy beside clickhouse-writer"]);
}

#[test]
fn how_soon_alerts_are_told_is_measured_at_the_pace_of_event_time() {
    let figures = lines("session-entropy", &["--live", "400", "--seconds", "15"]);
    let lines: Vec<&str> = figures.keys().map(String::as_str).collect();
    assert_eq!(lines, ["alert's timestamp to consumer", "window closed to commit, at most"]);
    for (line, quantiles) in &figures {
        assert!(quantiles.len() == 3 && quantiles[0] > 0.0 && quantiles.is_sorted(), "{line}: {quantiles:?}");
    }
}

#[test]
fn domain_drift_is_rated_by_vectors_of_users() {
    let figures = rates("domain-drift", &[]);
    assert_rates(&figures, &["domain-drift", "domain-drift beside clickhouse-writer", "poll and decode"]);
}

#[test]
fn cosine_decay_is_rated_by_clicks_behind_its_items_and_restarted_with_them() {
    let figures = rates("cosine-decay", &["--items", "203"]);
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

#[test]
fn alert_router_is_sent_a_storm_that_tells_each_alert_once() {
    let printed = measure("alert-router", &["--records", "3000"]);
    let (costs, delays) = printed.split_once("delay of an unrelated route").unwrap();
    let names = ["no storm", "storm in a group", "storm, each alert a group", "the same, and a pager that is down"];
    for part in [costs, delays] {
        let figures: BTreeMap<String, Vec<f64>> = part.lines().skip(1).map(figures).collect();
        assert_eq!(figures.len(), names.len(), "{printed}");
        for name in names {
            let figures = &figures[name];
            let are_there = if part == costs {
                let records = if name == "no storm" { 0.0 } else { 3000.0 };
                figures[1] == records && figures[0] > 0.0 && figures[2] > 0.0 && figures[3] > 0.0
            } else {
                figures[0] > 0.0 && figures[1] > 0.0 && figures[1] <= figures[2] && figures[2] <= figures[3]
            };
            assert!(figures.len() == 4 && are_there, "{name} {figures:?} in\n{printed}");
        }
    }
}
