//! An alert's life under fire: a metric worker and alert-router are killed twenty times between its firing and its end. What
//! stands on the topics is what stands there without kills, each transition once; a webhook is told each at least once,
//! under one key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::Message;
use rdkafka::message::Headers;
use records::{Alert, Decoder, DecoderConfig, Registry, RegistryConfig};
use serde_json::{Value, json};
use stack::broker::Broker;
use stack::recording::{Content, Feed, Recording};
use stack::replay::{ALERTS_TOPIC, Plan, Protocol, ROUTER, Run, find_worker};
use stack::{Load, progress, routes};
use testkit::eventually;

const WORKER: &str = "session-entropy";
const ROUTES: &str = "recwatch.routes.analytics.v1";

const START: i64 = 1_767_600_000_000;
const MINUTE: i64 = 60_000;
/// More events than these in a minute are too many.
const LIMIT: usize = 8;
/// The minutes, from and to, in which domains have too many events. All kills come while those of books are too many.
const LOUD: [(&str, &[(i64, i64)]); 4] =
    [("books", &[(1, 17)]), ("films", &[(2, 5), (8, 11), (14, 16)]), ("music", &[(3, 7), (9, 12)]), ("toys", &[])];
/// Minutes that are published with kills on the way; those before and behind them without.
const UNDER_FIRE: [Range<i64>; 5] = [3..6, 6..9, 9..12, 12..15, 15..17];
const KILLS_EACH: usize = 4;
const END: i64 = 20;

const SEED: u64 = 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// The events of some minutes, in order.
fn events(minutes: Range<i64>) -> Vec<Value> {
    let mut events = Vec::new();
    for step in minutes.start * 6..minutes.end * 6 {
        for (domain, loud) in LOUD {
            let is_loud = loud.iter().any(|(from, to)| (*from..*to).contains(&(step / 6)));
            for number in 0..if is_loud { 4 } else { 1 } {
                events.push(json!({
                    "event_id": format!("{domain}-{step}-{number}"),
                    "session_id": format!("{domain}-{}", (step + number) % 8),
                    "user_id": "u",
                    "item_id": "i",
                    "kind": "CLICK",
                    "domain": domain,
                    "event_time": START + step * 10_000 + 1_000,
                }));
            }
        }
    }
    events.sort_by_key(|event| event["event_time"].as_i64());
    events
}

/// Domain and end of the window (epoch ms) of each firing and each end that the events call for.
fn expected() -> BTreeSet<(String, i64, bool)> {
    let mut counts: BTreeMap<(String, i64), usize> = BTreeMap::new();
    for event in events(0..END) {
        let minute = (event["event_time"].as_i64().unwrap() - START) / MINUTE;
        *counts.entry((event["domain"].as_str().unwrap().to_owned(), minute)).or_default() += 1;
    }
    let mut turns = BTreeSet::new();
    for (domain, _) in LOUD {
        let mut fires = false;
        // the last window stays open: nothing comes behind it
        for minute in 0..END - 1 {
            let is_loud = counts[&(domain.to_owned(), minute)] > LIMIT;
            if std::mem::replace(&mut fires, is_loud) != is_loud {
                turns.insert((domain.to_owned(), START + (minute + 1) * MINUTE, is_loud));
            }
        }
    }
    turns
}

/// What the webhook was sent, in order: key and body.
type Hooks = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A webhook that takes its time, so that it is still answering when the router dies. It runs until the process ends.
fn webhook() -> (String, Hooks) {
    async fn hook(State(hooks): State<Hooks>, headers: HeaderMap, body: Bytes) {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        hooks.lock().unwrap().push((key, body.to_vec()));
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let hooks = Hooks::default();
    let routes = Router::new().route("/hook", post(hook)).with_state(hooks.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), routes).await.unwrap();
        });
    });
    (url, hooks)
}

fn plan(webhook: &str) -> Plan {
    let rule =
        format!(r#"{{ kind = "threshold", metric = "events", above = {LIMIT}, fire_after = 1, resolve_after = 1 }}"#);
    let receivers = format!(
        r#"{{ analytics = {{ type = "topic", topic = "{ROUTES}" }}, pager = {{ type = "webhook", url = "{webhook}", first_pause = "50ms", longest_pause = "200ms" }} }}"#
    );
    let route = r#"{ receiver = "pager", group_by = ["..."], group_wait = "0s", group_interval = "1s", routes = [{ receiver = "analytics", continue = true }, { receiver = "pager" }] }"#;
    let settings = [
        format!("{WORKER}.window=1m"),
        format!(r#"{WORKER}.dimensions=["domain"]"#),
        // windows close by what is published alone
        format!("{WORKER}.idle_timeout=10m"),
        format!("{WORKER}.alerts.repeat_interval=1m"),
        format!("{WORKER}.alerts.rules.busy={rule}"),
        format!("{ROUTER}.route={route}"),
        format!("{ROUTER}.receivers={receivers}"),
        format!("{ROUTER}.runtime.session_timeout=6s"),
    ];
    Plan {
        workers: vec![find_worker(WORKER).unwrap()],
        instances: 1,
        partitions: 2,
        // a process that comes back is not waited for
        protocol: Protocol::Classic,
        settings: settings.iter().map(|setting| setting.parse().unwrap()).collect(),
        contents: [Content::Interactions].into(),
        rate: None,
        faults: Vec::new(),
        load: Load::Short,
        writer: false,
        router: true,
    }
}

/// What one run has left.
#[derive(Default)]
struct Outcome {
    /// Records of alerts, in the order of each partition.
    alerts: Vec<Value>,
    /// What the topic was told in each record, and the name of the notification.
    routes: Vec<(routes::Told, Vec<u8>)>,
    hooks: Vec<(String, Vec<u8>)>,
}

/// Publishes everything, and waits on the way until the webhook knows what has happened. With a source of random numbers,
/// processes are killed meanwhile.
fn run(mut kills: Option<ChaCha8Rng>) -> Outcome {
    let (url, hooks) = webhook();
    let mut run = Run::start(plan(&url), &progress::Lines).unwrap();
    let lines: String = events(0..END).iter().map(|event| event.to_string() + "\n").collect();
    let recording = Recording::from_reader("events", Content::Interactions, std::io::Cursor::new(lines)).unwrap();
    let mut feed = Feed::in_file_order(vec![recording]);
    let phases = std::iter::once(0..3).chain(UNDER_FIRE).chain(std::iter::once(17..END));
    let mut killed = Vec::new();
    for phase in phases {
        let mut left = events(phase.clone()).len() as u64;
        if let Some(random) = kills.as_mut().filter(|_| UNDER_FIRE.contains(&phase)) {
            for _ in 0..KILLS_EACH {
                let lines = random.random_range(0..=left / 2);
                run.publish_some(&mut feed, lines).unwrap();
                left -= lines;
                // not a wait for anything: this is the moment
                std::thread::sleep(Duration::from_millis(random.random_range(0..600)));
                let victim = if random.random_bool(0.5) { WORKER } else { ROUTER };
                run.kill_now(victim).unwrap();
                killed.push(victim);
            }
        }
        run.publish_some(&mut feed, left).unwrap();
        // the window of the phase's last minute is still open
        let known = START + (phase.end - 1) * MINUTE;
        let turns = expected().iter().filter(|(_, end, _)| *end <= known).count();
        eventually(&format!("{turns} transitions at the webhook"), DEADLINE, || {
            (told(&hooks.lock().unwrap()).len() >= turns).then_some(())
        });
    }
    if kills.is_some() {
        let of = |worker| killed.iter().filter(|victim| **victim == worker).count();
        eprintln!("killed {WORKER} {} times, {ROUTER} {} times", of(WORKER), of(ROUTER));
        assert_eq!(killed.len(), 20);
    }
    run.stop_workers().unwrap();
    assert_eq!(run.summary().problems, [""; 0]);
    let outcome = read(&run, hooks.lock().unwrap().clone());
    run.stop().unwrap();
    outcome
}

fn read(run: &Run<'_>, hooks: Vec<(String, Vec<u8>)>) -> Outcome {
    let mut outcome = Outcome { hooks, ..Outcome::default() };
    let registry = Registry::new(RegistryConfig::new(run.stack().registry_url()), || false).unwrap();
    let mut decoder: Decoder<Alert<'static>> = Decoder::new(DecoderConfig::default(), Box::new(registry));
    let broker = Broker::new(&run.stack().brokers()).unwrap();
    let alerts = broker.read_all(ALERTS_TOPIC, |message| {
        outcome.alerts.push(serde_json::to_value(decoder.decode(message.key(), message.payload())?)?);
        Ok(())
    });
    alerts.unwrap();
    let routes = broker.read_all(ROUTES, |message| {
        let mut headers = message.headers().unwrap().iter();
        let name = headers.find(|header| header.key == "recwatch.notification").unwrap().value.unwrap();
        for told in routes::read(message.payload().unwrap())? {
            outcome.routes.push((told, name.to_vec()));
        }
        Ok(())
    });
    routes.unwrap();
    outcome
}

/// The keys under which the webhook was told that an alert fires, or is over: by alert, number of the record, and state.
fn told(hooks: &[(String, Vec<u8>)]) -> BTreeMap<(String, i64, bool), BTreeSet<&str>> {
    let mut keys: BTreeMap<(String, i64, bool), BTreeSet<&str>> = BTreeMap::new();
    for (key, body) in hooks {
        for told in routes::read(body).unwrap() {
            keys.entry((told.alert_id, told.sequence, told.firing)).or_default().insert(key);
        }
    }
    keys
}

/// Alert, number of the record and state of a record of an alert.
fn transition(alert: &Value) -> (&str, i64, bool) {
    (alert["alert_id"].as_str().unwrap(), alert["sequence"].as_i64().unwrap(), alert["state"] == "FIRING")
}

impl Outcome {
    /// Records of alerts by what they are.
    fn transitions(&self) -> BTreeMap<(&str, i64, bool), &Value> {
        self.alerts.iter().map(|alert| (transition(alert), alert)).collect()
    }

    /// What the topic was told, without the order between alerts.
    fn turns(&self) -> Vec<(&str, i64, bool)> {
        let turns = self.routes.iter().map(|(told, _)| (told.alert_id.as_str(), told.sequence, told.firing));
        let mut turns: Vec<(&str, i64, bool)> = turns.collect();
        turns.sort_unstable();
        turns
    }

    /// Everything that holds of any run.
    fn check(&self) {
        // The alerts' topic: each transition once, each life from 1 on without a gap, in order.
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for alert in &self.alerts {
            let (life, sequence, _) = transition(alert);
            let before = last.insert(life, sequence).unwrap_or(0);
            assert_eq!(sequence, before + 1, "{alert}");
        }
        // Beginnings and ends are those that the events call for.
        let is_turn = |alert: &&Value| ["fired", "cleared"].contains(&alert["reason"].as_str().unwrap());
        let turned: Vec<&Value> = self.alerts.iter().filter(is_turn).collect();
        let place = |alert: &&Value| {
            let domain = alert["group"][0]["value"].as_str().unwrap().to_owned();
            (domain, alert["window_end"].as_i64().unwrap(), alert["state"] == "FIRING")
        };
        assert_eq!(turned.iter().map(place).collect::<BTreeSet<_>>(), expected());
        // The route's topic: each of them once.
        let mut turns: Vec<(&str, i64, bool)> = turned.into_iter().map(transition).collect();
        turns.sort_unstable();
        assert_eq!(self.turns(), turns, "on {ROUTES}");
        let names: BTreeSet<&[u8]> = self.routes.iter().map(|(_, name)| name.as_slice()).collect();
        assert_eq!(names.len(), self.routes.len(), "two notifications of one name");
        self.check_hooks(&turns);
    }

    /// The webhook: all of it, one key and one body for each, and nothing behind an alert's end.
    fn check_hooks(&self, turns: &[(&str, i64, bool)]) {
        let told = told(&self.hooks);
        let named: Vec<(&str, bool)> = told.keys().map(|(alert, _, firing)| (alert.as_str(), *firing)).collect();
        let turns: Vec<(&str, bool)> = turns.iter().map(|(alert, _, firing)| (*alert, *firing)).collect();
        assert_eq!(named, turns, "at the webhook");
        for (transition, keys) in &told {
            assert_eq!(keys.len(), 1, "{transition:?} was told under several keys: {keys:?}");
        }
        let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
        let mut over = BTreeSet::new();
        for (key, body) in &self.hooks {
            assert_eq!(*bodies.entry(key).or_insert(body), body.as_slice(), "two bodies under the key {key}");
            for told in routes::read(body).unwrap() {
                if told.firing {
                    assert!(!over.contains(&told.alert_id), "{told:?} was told behind its end");
                } else {
                    over.insert(told.alert_id);
                }
            }
        }
        eprintln!("{} notifications in {} requests", bodies.len(), self.hooks.len());
    }
}

#[test]
fn twenty_kills_in_an_alerts_life_change_nothing_that_is_told() {
    let undisturbed = run(None);
    undisturbed.check();
    let disturbed = run(Some(ChaCha8Rng::seed_from_u64(SEED)));
    disturbed.check();
    assert!(undisturbed.alerts.len() > undisturbed.routes.len(), "no alert was repeated while it fired");
    assert_eq!(disturbed.transitions(), undisturbed.transitions());
}
