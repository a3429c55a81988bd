//! The router's binary and a file: each change a line, whatever dies.

#[path = "common/peers.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peers;
#[path = "common/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::{RngExt as _, SeedableRng as _};
use rig::{DEADLINE, Rig, firing, resolved, told};
use serde_json::Value;
use testkit::eventually;

/// A rig whose alerts go to this file of its directory.
fn rig(group_by: &str) -> (Rig, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let routes = format!(
        r#"
        [route]
        receiver = "log"
        group_by = ["{group_by}"]
        [receivers.log]
        type = "file"
        path = "{}"
        first_pause = "50ms"
        longest_pause = "200ms"
        "#,
        path(&directory).display()
    );
    (Rig::new("classic", &routes), directory)
}

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("logs/alerts.ndjson")
}

/// The file's whole lines that are JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What the lines tell of each domain, in order, repetitions of a notification left out.
fn courses(lines: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut courses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut seen: BTreeMap<&str, &Value> = BTreeMap::new();
    for line in lines {
        match seen.insert(line["idempotencyKey"].as_str().unwrap(), line) {
            Some(before) => assert_eq!(before, line, "one key, two notifications"),
            None => told(line).into_iter().for_each(|(domain, status)| courses.entry(domain).or_default().push(status)),
        }
    }
    courses
}

#[test]
fn each_change_is_a_line_also_behind_half_a_line_that_a_crash_has_left() {
    let (rig, directory) = rig("...");
    let path = path(&directory);
    let router = rig.start("one").active();
    // There is no such folder yet: what cannot be written is tried again.
    rig.send(&[firing("slow", "books", 1)]);
    eventually("a failure", DEADLINE, || {
        (router.metric("recwatch_alert_router_notification_failures_total") >= 1.0).then_some(())
    });
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    eventually("a line", DEADLINE, || (lines(&path).len() == 1).then_some(()));
    let whole = std::fs::read_to_string(&path).unwrap();
    let half = &whole[..whole.len() / 2];
    std::fs::write(&path, format!("{whole}{half}")).unwrap();

    rig.send(&[resolved("slow", "books", 1)]);
    eventually("its end", DEADLINE, || (lines(&path).len() == 2).then_some(()));
    let domains: Vec<String> = (0..300).map(|number| format!("domain-{number}")).collect();
    let all: Vec<_> = domains.iter().map(|domain| firing("slow", domain, 1)).collect();
    rig.send(&all);
    let told = eventually("a line each", DEADLINE, || Some(lines(&path)).filter(|lines| lines.len() >= 302));
    let mut expected: BTreeMap<String, Vec<String>> =
        domains.into_iter().map(|domain| (domain, vec!["firing".to_owned()])).collect();
    expected.insert("books".to_owned(), vec!["firing".to_owned(), "resolved".to_owned()]);
    assert_eq!((told.len(), courses(&told)), (302, expected));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().nth(1), Some(half), "what was there is kept");
    router.stop();
}

#[test]
fn nothing_is_missing_after_sigkill() {
    let (rig, directory) = rig("rule");
    let path = path(&directory);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(21);
    let mut lives: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut router = rig.start("one").active();
    for _ in 0..12 {
        let before = lines(&path).len();
        // Changes of different alerts: of one that changes twice before anybody could be told, nothing would be.
        let changed: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(|_| random.random_bool(0.6)).collect();
        for &domain in &changed {
            let (life, fires) = lives.entry(domain).or_default();
            *fires = !*fires;
            *life += i64::from(*fires);
            let status = if *fires { "firing" } else { "resolved" };
            expected.entry(domain.to_owned()).or_default().push(status.to_owned());
            rig.send(&[if *fires { firing("slow", domain, *life) } else { resolved("slow", domain, *life) }]);
        }
        // a moment is what the router has done by then, not a time
        if !changed.is_empty() && random.random_bool(0.4) {
            eventually("a further line", DEADLINE, || (lines(&path).len() > before).then_some(()));
        } else {
            let read = random.random_range(0..=changed.len()) as f64;
            let metric = "recwatch_alert_router_records_read_total";
            eventually("records read", DEADLINE, || (router.metric(metric) >= read).then_some(()));
        }
        router.worker.kill9().unwrap();
        router = rig.start("one").active();
        eventually("a line for each change", DEADLINE, || (courses(&lines(&path)) == expected).then_some(()));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), lines(&path).len(), "no line is spoilt");
    router.stop();
}
