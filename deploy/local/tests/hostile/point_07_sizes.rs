//! Point 7: every size that comes from input has a bound where it is used. Keys, headers and values that no topic takes
//! whole, topics that take little, and names of megabytes stop nobody, and come out bounded.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use testkit::{Outgoing, Recorded, produce_with};

use crate::rig::{Instance, Rig, alone};

/// A multiple of the slides.
const START: i64 = 1_767_600_000_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// As in a topic whose limit counts compressed bytes.
const COMPRESSED: [&[(&str, &str)]; 2] = [
    &[("compression.type", "lz4"), ("message.max.bytes", "60000000")],
    &[("compression.type", "zstd"), ("message.max.bytes", "60000000")],
];

fn interaction(session: &str, domain: &str, time: i64) -> Outgoing {
    let value = json!({
        "event_id": format!("e{time}"), "session_id": session, "user_id": "u", "item_id": "i", "kind": "CLICK",
        "domain": domain, "event_time": time,
    });
    Outgoing::new(session, value.to_string())
}

/// Events of a session in each of two partitions, within a minute.
fn good(minute: i64) -> impl Iterator<Item = Outgoing> {
    (0..2).flat_map(move |partition| {
        let at = move |second: i64| START + minute * MINUTE + second * SECOND;
        (0..60).map(move |second| interaction(&format!("s{partition}"), "books", at(second)).in_partition(partition))
    })
}

/// Waits until windows of this minute are closed with both partitions' sessions in them.
fn wait_for_rows(rig: &Rig, instance: &Instance, minute: i64) {
    instance.eventually("rows of both partitions", || {
        let rows = rig.rows("topics.session_freshness");
        let has = |session: &str| {
            let is_new = |row: &Value| row["window_end"].as_i64().unwrap() > START + minute * MINUTE;
            rows.iter().any(|row| row["session_id"] == session && is_new(row))
        };
        (has("s0") && has("s1")).then_some(())
    });
}

fn said(record: &Recorded, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().rev().find(|(other, _)| other == name)?;
    value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

fn session_entropy() -> Rig {
    Rig::new("session-entropy", 2).set("source.format=json").set("window=1m").set("idle_timeout=1s")
}

#[test]
fn keys_and_headers_that_no_topic_takes_whole_are_handed_on_cut() {
    let _alone = alone();
    let rig = session_entropy();
    let source = rig.topic("source.topic");
    let instance = rig.start();
    produce_with(&[], source, good(0));
    let mut minute = 1;
    for compression in COMPRESSED {
        // it is in the value too, and the two stay below max_record_bytes
        let long = "k".repeat(400_000);
        let hostile = [
            Outgoing::new("k".repeat(6_000_000), "junk"),
            Outgoing::new("k", "junk").with_header("h", "x".repeat(6_000_000)),
            interaction(&long, "books", 1_000).with_header("h", "x".repeat(5_000_000)),
        ];
        produce_with(compression, source, hostile.into_iter().map(|record| record.in_partition(0)));
        produce_with(compression, source, good(minute));
        wait_for_rows(&rig, &instance, minute);
        minute += 1;
    }
    instance.eventually("all of them", || (rig.dead_letters().len() == 4 && rig.late().len() == 2).then_some(()));
    for (reason, letter) in rig.dead_letters() {
        assert_eq!((reason.as_str(), letter.value_text().as_str()), ("undecodable", "junk"));
        let cut = [
            "recwatch.truncated.key.from.bytes",
            "recwatch.truncated.headers.from.bytes",
            "recwatch.truncated.headers.from.count",
            "recwatch.truncated.from.bytes",
        ];
        let cut = cut.map(|name| said(&letter, name));
        let cut = cut.each_ref().map(Option::as_deref);
        assert!(
            cut == [Some("6000000"), None, None, None] || cut == [None, Some("6000001"), Some("1"), None],
            "{cut:?}"
        );
        assert_eq!(said(&letter, "__connect.errors.topic").as_deref(), Some(source));
    }
    for late in rig.late() {
        assert_eq!(late.key.as_ref().map(Vec::len), Some(400_000), "what fits stays whole");
        assert_eq!(said(&late, "recwatch.truncated.headers.from.bytes").as_deref(), Some("5000001"));
        assert_eq!(said(&late, "__connect.errors.exception.class.name").as_deref(), Some("late"));
    }
    let exit = instance.terminate();
    assert!(exit.success(), "{exit}");
    let again = rig.start();
    produce_with(&[], source, good(minute));
    wait_for_rows(&rig, &again, minute);
    assert!(again.terminate().success());
    assert_eq!((rig.dead_letters().len(), rig.late().len()), (4, 2));
}

#[test]
fn topics_that_take_little_get_what_they_take_and_the_rest_is_counted() {
    let _alone = alone();
    let rig = session_entropy();
    for key in ["topics.late", "topics.dead_letters", "topics.session_freshness", "topics.alerts"] {
        rig.create(key, 1, &[("max.message.bytes", "2048")]);
    }
    let source = rig.topic("source.topic");
    let instance = rig.start();
    produce_with(&[], source, good(0));
    wait_for_rows(&rig, &instance, 0);
    let late = (0..300).map(|at| interaction(&format!("late{at}"), "books", 1_000));
    let large = [
        interaction(&"l".repeat(400_000), "books", 1_000),
        Outgoing::new("k", "v".repeat(400_000)).with_header("h", "x".repeat(400_000)),
        // its row holds its name of 1 KiB twice, and its domain
        interaction(&"r".repeat(300_000), &"d".repeat(300_000), START + MINUTE),
    ];
    produce_with(&[], source, late.chain(large).map(|record| record.in_partition(0)));
    produce_with(&[], source, good(1));
    wait_for_rows(&rig, &instance, 1);
    instance.eventually("all of them", || (rig.late().len() == 301 && rig.dead_letters().len() == 1).then_some(()));
    let records = rig.late().into_iter().chain(rig.dead_letters().into_iter().map(|(_, letter)| letter));
    for record in records {
        let headers: usize =
            record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        assert!(headers + record.key_text().len() + record.value_text().len() <= 2_048);
        assert!(said(&record, "__connect.errors.offset").is_some());
    }
    let topic = format!("topic=\"{}\"", rig.topic("topics.session_freshness"));
    instance.eventually("the row is counted", || {
        instance.metric("recwatch_streaming_records_too_large_total", &[&topic]).filter(|count| *count > 0.0)
    });
    let exit = instance.terminate();
    assert!(exit.success(), "{exit}");
}

/// What a webhook was sent.
type Hooks = Arc<Mutex<Vec<Bytes>>>;

fn webhook() -> (String, Hooks) {
    async fn hook(State(hooks): State<Hooks>, body: Bytes) {
        hooks.lock().unwrap().push(body);
    }
    let hooks = Hooks::default();
    let routes = Router::new().route("/", post(hook)).with_state(hooks.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), routes).await })
    });
    (url, hooks)
}

const USERS: i64 = 40;

fn vector(domain: &str, user: i64, minute: i64, vector: [f64; 2]) -> Outgoing {
    let last = domain.chars().next_back().unwrap();
    let key = format!("{last}-{user:02}");
    let value = json!({
        "event_id": format!("{key}-{minute}"), "entity": "USER", "entity_id": key, "domain": domain,
        "model_version": "1", "vector": vector, "event_time": START + minute * MINUTE + user,
    });
    Outgoing::new(key, value.to_string())
}

/// Two domains with names of 100 KB that differ at the end, one of them collapsed: rows, alerts and notifications name both.
#[test]
fn names_of_any_length_and_number_come_out_bounded() {
    let _alone = alone();
    let (url, hooks) = webhook();
    let drift = Rig::new("domain-drift", 1)
        .set("source.format=json")
        .set("vector_dimensions=2")
        .set("window=5m")
        .set("idle_timeout=1s");
    let router = Rig::new("alert-router", 1)
        .with_topic("topics.alerts", drift.topic("topics.alerts"))
        .set("receivers.hook.type=\"webhook\"")
        .set(&format!("receivers.hook.url=\"{url}\""))
        .set("route.receiver=hook")
        .set("route.group_wait=\"1ms\"")
        .set("route.group_by=[\"...\"]");
    let router_topics = router.topic("topics.state").to_owned();
    let names = ["spread", "collapsed"].map(|end| format!("{}{end}", "é".repeat(50_000)));
    let [spread, collapsed] = &names;
    let around = |user: i64| (user as f64 / USERS as f64 * std::f64::consts::TAU).sin_cos();
    let mut bytes_in = 0;
    for minute in [1, 6, 11, 16] {
        let records = (0..USERS).flat_map(|user| {
            [vector(spread, user, minute, around(user).into()), vector(collapsed, user, minute, [0.6, 0.8])]
        });
        let records: Vec<Outgoing> = records.collect();
        bytes_in += records.iter().map(|record| record.value.as_ref().unwrap().len()).sum::<usize>();
        produce_with(&[], drift.topic("source.topic"), records);
    }
    let (instance, routing) = (drift.start(), router.start());
    let alerts =
        instance.eventually("an alert", || Some(drift.rows("topics.alerts")).filter(|alerts| !alerts.is_empty()));
    for label in alerts[0]["group"].as_array().unwrap() {
        assert!(label["value"].as_str().unwrap().len() <= 1_024);
    }
    let rows = drift.rows("topics.domain_drift");
    let row = &rows[0];
    assert_ne!(row["sources"], row["target"], "what differs stays different");
    assert_eq!((&row["n"], &row["m"]), (&json!(USERS), &json!(USERS)));
    let size = |record: &Recorded| record.value.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len);
    for (key, most) in [("topics.domain_drift", 6_000), ("topics.alerts", 20_000)] {
        let records = drift.records(key);
        assert!(!records.is_empty() && records.iter().all(|record| size(record) < most), "{key}");
    }
    let hook = routing.eventually("a notification", || hooks.lock().unwrap().first().cloned());
    assert!(hook.len() < 32_000, "{} bytes", hook.len());
    let mut bytes_out = hooks.lock().unwrap().iter().map(Bytes::len).sum::<usize>();
    for key in ["topics.domain_drift", "topics.alerts"] {
        bytes_out += drift.records(key).iter().map(size).sum::<usize>();
    }
    let internal = format!("recwatch.internal.domain-drift.{}", drift.topic("source.topic"));
    for topic in ["repartition", "watermarks", "fold-state", "merge-state"].map(|what| format!("{internal}.{what}")) {
        bytes_out += testkit::read_committed(&topic).iter().map(size).sum::<usize>();
    }
    bytes_out += testkit::read_committed(&router_topics).iter().map(size).sum::<usize>();
    assert!(bytes_out < bytes_in / 4, "{bytes_out} bytes out of {bytes_in}");
    for worker in [&instance, &routing] {
        let page = worker.get("/metrics").unwrap().ok().unwrap();
        assert!(page.len() < 100_000 && !page.contains(&"é".repeat(100)), "{} bytes", page.len());
    }
    assert!(instance.metric("recwatch_streaming_operator", &["name=\"samples\""]).is_some_and(|users| users >= 80.0));
    assert!(instance.terminate().success() && routing.terminate().success());
}
