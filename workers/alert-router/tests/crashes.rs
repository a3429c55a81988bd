//! Crashes at any point: the log of alerts and the committed state are all that is left, and a new core goes on from them.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use alert_router::core::changes::{Key, Send, TopicRecord};
use alert_router::core::restore::{NextOffset, Restore};
use alert_router::core::{Core, Outcome};
use alert_router::labels::{GroupBy, Labels};
use alert_router::matcher::Matcher;
use alert_router::routing::{Routing, Style};
use alert_router::silence::Silence;
use proptest::prelude::*;
use records::{Alert, AlertState};
use serde_json::Value;

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// An alert begins to fire, changes, or is over, whichever of it can be.
    Turn(usize),
    Change(usize),
    /// Time passes, in seconds.
    Wait(u16),
    /// The router reads up to so many records, decides and commits; what it sends arrives, and the answer is noted.
    Work(usize),
    /// The same, and its receiver fails: it may have taken the notification nevertheless.
    Fail {
        reached: bool,
    },
    /// The same, and its receiver refuses: it has not taken the notification.
    Refuse,
    /// It dies before its transaction, behind it, or behind what it sends.
    Crash(u8),
    /// An alert is silenced for so many seconds.
    Silence(usize, u16),
    /// Its routes are edited, which needs a restart.
    Reroute(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..5).prop_map(Step::Turn),
        1 => (0_usize..5).prop_map(Step::Change),
        3 => (1_u16..900).prop_map(Step::Wait),
        4 => (1_usize..4).prop_map(Step::Work),
        2 => any::<bool>().prop_map(|reached| Step::Fail { reached }),
        1 => Just(Step::Refuse),
        2 => (0_u8..3).prop_map(Step::Crash),
    ]
}

fn edit() -> impl Strategy<Value = Step> {
    any::<bool>().prop_map(Step::Reroute)
}

fn silence() -> impl Strategy<Value = Step> {
    (0_usize..5, 1_u16..3000).prop_map(|(number, seconds)| Step::Silence(number, seconds))
}

/// By an alert's number.
const DOMAINS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Other groups for the receivers, one of which is told of fewer alerts.
fn edited() -> Routing {
    let by_domain = GroupBy::Names(vec!["domain".to_owned()]);
    let mut routing = support::routing(vec![
        (support::receiver("topic", Style::Topic("t".to_owned())), by_domain.clone()),
        (support::receiver("hook", Style::Webhook), GroupBy::Names(vec!["severity".to_owned()])),
        (support::receiver("lines", Style::Lines), by_domain),
    ]);
    routing.root.routes[2].matchers = vec![Matcher::parse("rule=slow").unwrap()];
    routing
}

/// All that outlives a router.
struct World {
    log: Vec<Alert<'static>>,
    state: BTreeMap<String, Vec<u8>>,
    topic: Vec<TopicRecord>,
    /// What the receivers have seen, repetitions included.
    seen: Vec<Send>,
    silences: BTreeMap<String, Silence>,
    /// Whether receivers may fail for so long that they are given up.
    gives_up: bool,
    routing: Routing,
    now: i64,
    core: Core,
    next: usize,
}

fn all() -> Routing {
    let by_rule = GroupBy::Names(vec!["rule".to_owned()]);
    support::routing(vec![
        (support::receiver("topic", Style::Topic("t".to_owned())), GroupBy::All),
        (support::receiver("hook", Style::Webhook), by_rule.clone()),
        (support::receiver("lines", Style::Lines), by_rule),
    ])
}

impl World {
    fn new() -> Self {
        let core = Core::new(all(), support::lookup(), 0);
        Self {
            log: Vec::new(),
            state: BTreeMap::new(),
            topic: Vec::new(),
            seen: Vec::new(),
            silences: BTreeMap::new(),
            gives_up: false,
            routing: all(),
            now: 0,
            core,
            next: 0,
        }
    }

    /// Does all of it, until everything is told.
    fn live(steps: Vec<Step>, gives_up: bool) -> Self {
        let mut world = Self { gives_up, ..Self::new() };
        let mut lives = BTreeMap::new();
        for step in steps {
            match step {
                Step::Turn(number) => next_record(&mut world, &mut lives, number, true),
                Step::Change(number) => next_record(&mut world, &mut lives, number, false),
                Step::Wait(seconds) => world.now += i64::from(seconds) * 1000,
                Step::Work(records) => world.work(records, &Outcome::Delivered),
                Step::Fail { reached } => {
                    let outcome = Outcome::Failed { message: String::new(), reached, retry_after: None };
                    world.work(2, &outcome);
                    world.now += 1;
                }
                Step::Refuse => world.work(2, &Outcome::Refused { message: String::new() }),
                Step::Crash(point) => world.crash(point),
                Step::Silence(number, seconds) => world.silence(number, seconds),
                Step::Reroute(edit) => {
                    world.routing = if edit { edited() } else { all() };
                    world.crash(1);
                }
            }
            let pending = world.state.keys().filter(|key| key.starts_with("pending/")).count();
            if pending > 0 && !gives_up {
                // pauses are kept shorter than give_up_after
                world.now += 60_000;
                world.work(0, &Outcome::Delivered);
            }
        }
        world.settle();
        world
    }

    fn silence(&mut self, number: usize, seconds: u16) {
        let silence = Silence {
            matchers: vec![Matcher::parse(&format!("domain={}", DOMAINS[number])).unwrap()],
            starts_at: 0,
            ends_at: self.now + i64::from(seconds) * 1000,
            created_by: String::new(),
            comment: String::new(),
        };
        self.core.silence(DOMAINS[number], Some(silence.clone())).unwrap();
        self.silences.insert(DOMAINS[number].to_owned(), silence);
    }

    /// A router that knows nothing but what is committed.
    fn restart(&mut self) {
        let mut restore = Restore::default();
        for (key, value) in &self.state {
            restore.take(key.as_bytes(), Some(value)).unwrap();
        }
        let restored = restore.finish(self.routing.clone(), support::lookup(), self.now);
        let restored = restored.unwrap_or_else(|error| panic!("{error:?}"));
        assert!(restored.forgotten.is_empty(), "{:?}", restored.forgotten);
        self.next =
            restored.offsets.get(&("alerts".to_owned(), 0)).map_or(0, |offset| usize::try_from(offset.next).unwrap());
        self.core = restored.core;
        for (id, silence) in &self.silences {
            self.core.silence(id, Some(silence.clone())).unwrap();
        }
    }

    fn read(&mut self, records: usize) {
        for alert in self.log.iter().skip(self.next).take(records) {
            let _ = self.core.alert(alert, &support::encoded(alert), self.now);
            self.next += 1;
        }
        self.core.advance(self.now);
    }

    fn commit(&mut self) -> Vec<Send> {
        let changes = self.core.take_changes();
        let given_up = changes.letters.iter().filter(|letter| letter.reason != "refused").count();
        assert!(given_up == 0 || self.gives_up, "a notification is given up");
        for (key, value) in changes.state {
            match value {
                Some(value) => drop(self.state.insert(key.text(), value)),
                None => drop(self.state.remove(&key.text())),
            }
        }
        let offset = Key::Offset("alerts".to_owned(), 0);
        self.state.insert(offset.text(), NextOffset { next: i64::try_from(self.next).unwrap(), topic: None }.value());
        self.topic.extend(changes.topics);
        changes.sends
    }

    /// One turn; the receivers answer so.
    fn work(&mut self, records: usize, outcome: &Outcome) {
        self.read(records);
        let sends = self.commit();
        for send in sends {
            if !matches!(outcome, Outcome::Failed { reached: false, .. } | Outcome::Refused { .. }) {
                self.seen.push(send.clone());
            }
            self.core.outcome(send.group, send.number, outcome.clone(), self.now, 0.5);
        }
        self.commit_answers();
    }

    /// Answers make no sends of their own.
    fn commit_answers(&mut self) {
        let sends = self.commit();
        assert!(sends.is_empty());
    }

    fn crash(&mut self, point: u8) {
        self.read(2);
        if point > 0 {
            let sends = self.commit();
            if point > 1 {
                self.seen.extend(sends);
            }
        }
        self.restart();
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.now += 60_000;
            self.work(10, &Outcome::Delivered);
        }
    }
}

/// The next record of an alert: `turn` begins or ends its life.
fn next_record(world: &mut World, lives: &mut BTreeMap<usize, (i64, i64, bool)>, number: usize, turn: bool) {
    let (life, sequence, fires) = lives.entry(number).or_insert((0, 0, false));
    match (*fires, turn) {
        (false, true) => (*life, *sequence, *fires) = (*life + 1, 1, true),
        (true, true) => (*sequence, *fires) = (*sequence + 1, false),
        (true, false) => *sequence += 1,
        (false, false) => return,
    }
    let state = if *fires { AlertState::Firing } else { AlertState::Resolved };
    let (rule, domain) = (["slow", "down"][number % 2], DOMAINS[number]);
    world.log.push(support::alert(rule, "warning", domain, *life, *sequence, state));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// (fingerprint, status) of each alert in a notification.
fn told(body: &[u8]) -> Vec<(String, String)> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let alerts = body["alerts"].as_array().unwrap().iter();
    alerts.map(|alert| (text(&alert["fingerprint"]), text(&alert["status"]))).collect()
}

/// What the receivers were told last.
struct ToldLast {
    /// By receiver, group's key and fingerprint.
    alerts: BTreeMap<(usize, String, String), String>,
    /// The status of the hook's groups.
    groups: BTreeMap<String, String>,
}

/// Index of the receiver that is told of groups.
const HOOK: usize = 1;

fn told_last(world: &World) -> ToldLast {
    let mut last = ToldLast { alerts: BTreeMap::new(), groups: BTreeMap::new() };
    let records = world.topic.iter().map(|record| (0, record.value.as_slice()));
    for (receiver, body) in records.chain(world.seen.iter().map(|send| (send.receiver, &*send.body))) {
        let whole: Value = serde_json::from_slice(body).unwrap();
        let group = text(&whole["groupKey"]);
        for (fingerprint, status) in told(body) {
            last.alerts.insert((receiver, group.clone(), fingerprint), status);
        }
        if receiver == HOOK {
            last.groups.insert(group, text(&whole["status"]));
        }
    }
    last
}

/// The transitions of each alert, out of the log alone.
fn transitions(log: &[Alert<'static>]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for alert in log {
        let status = if alert.state == AlertState::Firing { "firing" } else { "resolved" };
        let of_alert = all.entry(alert.fingerprint.to_string()).or_default();
        if of_alert.last().is_none_or(|last| last != status) {
            of_alert.push(status.to_owned());
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_dies_when_topics_are_told_each_transition_once_and_receivers_the_end_of_all_they_were_told(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let world = World::live(steps, false);
        let expected = transitions(&world.log);
        let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in &world.topic {
            for (fingerprint, status) in told(&record.value) {
                written.entry(fingerprint).or_default().push(status);
            }
        }
        prop_assert_eq!(&written, &expected, "the topic");
        let mut names: Vec<&String> = world.topic.iter().map(|record| &record.notification).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), world.topic.len(), "two notifications of one name");

        let mut bodies: BTreeMap<&String, &[u8]> = BTreeMap::new();
        let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut last: BTreeMap<(usize, String), String> = BTreeMap::new();
        for send in &world.seen {
            prop_assert_eq!(*bodies.entry(&send.idempotency_key).or_insert(&send.body), &*send.body, "one key, two bodies");
            let newest = newest.entry(send.group).or_default();
            prop_assert!(send.number >= *newest, "out of order");
            *newest = send.number;
            for (fingerprint, status) in told(&send.body) {
                last.insert((send.receiver, fingerprint), status);
            }
        }
        for (fingerprint, expected) in &expected {
            for receiver in [1, 2] {
                match (last.get(&(receiver, fingerprint.clone())), expected.last().unwrap().as_str()) {
                    // it was over before anybody was told
                    (None, "resolved") => {}
                    (told, expected) => prop_assert_eq!(told.map(String::as_str), Some(expected), "{} {}", receiver, fingerprint),
                }
            }
        }
        let stats = world.core.stats();
        let firing = expected.values().filter(|all| all.last().unwrap() == "firing").count();
        prop_assert_eq!((stats.firing, stats.alerts), (firing, firing), "nothing else is held");
        let held = |kind: &str| world.state.keys().filter(|key| key.starts_with(kind)).count();
        prop_assert_eq!(held("alert/"), firing);
        prop_assert_eq!((held("told/"), held("pending/")), (3 * firing, 0));
        prop_assert_eq!(held("group/"), stats.groups);
    }

    #[test]
    fn whatever_is_silenced_given_up_or_rerouted_receivers_are_told_in_the_end_what_fires_and_what_is_over(
        steps in prop::collection::vec(prop_oneof![16 => step(), 1 => silence(), 1 => edit()], 1..120),
    ) {
        let world = World::live(steps, true);
        let expected = transitions(&world.log);
        let told = told_last(&world);
        let mut current = BTreeSet::new();
        for alert in &world.log {
            let (labels, mut routes) = (Labels::of(alert), Vec::new());
            world.routing.root.matching(&labels, &mut routes);
            for route in routes {
                let place = (route.receiver, route.group_key(&labels), alert.fingerprint.to_string());
                let fires = expected[&place.2].last().unwrap() == "firing";
                let status = told.alerts.get(&place).map(String::as_str);
                prop_assert_eq!(status == Some("firing"), fires, "{:?}", place);
                current.insert((place.0, place.1));
            }
        }
        for ((receiver, group, fingerprint), told) in &told.alerts {
            let is_over = expected[fingerprint].last().unwrap() == "resolved";
            prop_assert!(!is_over || told == "resolved", "{} {} {}", receiver, group, fingerprint);
        }
        for (group, status) in &told.groups {
            let mut members = told.alerts.iter().filter(|((receiver, key, _), _)| *receiver == HOOK && key == group);
            let fires = members.any(|(_, status)| status == "firing");
            prop_assert!(status == "resolved" || fires, "{} is over", group);
            prop_assert!(status == "firing" || !fires || !current.contains(&(HOOK, group.clone())), "{} fires", group);
        }
    }
}
