//! The core by hand: what an SRE expects of Alertmanager, step by step.

mod alertmanager;
mod clock;
mod ends;
mod rerouted;
mod suppressed;

use std::collections::BTreeMap;

use records::{Alert, AlertLabel, AlertState, AvroRecord as _, Encoder, FixedSchemas};
use serde_json::Value;

use super::{Core, Outcome, Stats, Taken};
use crate::core::changes::Changes;
use crate::core::restore::Restore;
use crate::labels::GroupBy;
use crate::matcher::Matcher;
use crate::route::{Route, Timing};
use crate::routing::{Receiver, Retry, Routing, Style};
use crate::silence::Silence;

/// An alert that fires, of a life called after rule and domain.
pub(crate) fn alert(sequence: i64, rule: &'static str, severity: &'static str, domain: &'static str) -> Alert<'static> {
    Alert {
        alert_id: format!("{rule}-{domain}").into(),
        sequence,
        fingerprint: format!("{rule}/{domain}").into(),
        state: AlertState::Firing,
        reason: "fired".into(),
        worker: "session-entropy".into(),
        rule: rule.into(),
        kind: "threshold".into(),
        severity: severity.into(),
        metric: "freshness".into(),
        value: Some(0.5),
        threshold: Some(0.25),
        baseline: None,
        window_start: 0,
        window_end: sequence * 60_000,
        started_at: 60_000,
        group: vec![AlertLabel { name: "domain".into(), value: domain.into() }],
        samples: Vec::new(),
        attribution: Vec::new(),
        summary: format!("{rule} in {domain}").into(),
        traceparent: None,
        revision: 1,
    }
}

fn over(alert: Alert<'static>) -> Alert<'static> {
    Alert { state: AlertState::Resolved, reason: "cleared".into(), ..alert }
}

pub(crate) fn lookup() -> Box<FixedSchemas> {
    Box::new(FixedSchemas::default().with(7, Alert::SCHEMA))
}

pub(crate) fn encoded(alert: &Alert<'static>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<Alert<'static>>::new(7).encode(alert, &mut value).unwrap();
    value
}

pub(crate) fn receiver(name: &str, style: Style) -> Receiver {
    let retry = Retry { first_pause: 1_000, longest_pause: 60_000, give_up_after: 900_000 };
    Receiver { name: name.to_owned(), style, send_resolved: true, max_alerts: 3, concurrency: 2, retry }
}

/// A root without matchers for the first receiver, and a route for each further one that takes alerts of the rule that is
/// called as it is.
pub(crate) fn routing(receivers: Vec<Receiver>, group_by: &[&str]) -> Routing {
    let route = |index: usize| Route {
        index,
        place: format!("routes[{index}]"),
        path: format!("{{}}/{index}"),
        matchers: (index > 0)
            .then(|| Matcher::parse(&format!("rule={}", receivers[index].name)).unwrap())
            .into_iter()
            .collect(),
        goes_on: false,
        receiver: index,
        group_by: GroupBy::Names(group_by.iter().map(|&name| name.to_owned()).collect()),
        timing: Timing { group_wait: 30_000, group_interval: 300_000, repeat_interval: 14_400_000 },
        mute_times: Vec::new(),
        routes: Vec::new(),
    };
    let mut root = route(0);
    root.routes = (1..receivers.len()).map(route).collect();
    Routing { root, receivers, inhibit: Vec::new(), mute_times: BTreeMap::new(), external_url: String::new() }
}

struct Bench {
    core: Core,
    now: i64,
    /// What is committed.
    state: BTreeMap<String, Vec<u8>>,
}

/// Who is told what: status of the notification, and of each alert in it by its domain.
type Told = (String, Vec<(String, String)>);

fn told(body: &[u8]) -> Told {
    let body: Value = serde_json::from_slice(body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = body["alerts"].as_array().unwrap().iter();
    (text(&body["status"]), alerts.map(|alert| (text(&alert["labels"]["domain"]), text(&alert["status"]))).collect())
}

fn expected(status: &str, alerts: &[(&str, &str)]) -> Told {
    (status.to_owned(), alerts.iter().map(|(domain, status)| ((*domain).to_owned(), (*status).to_owned())).collect())
}

impl Bench {
    fn new(routing: Routing) -> Self {
        Self { core: Core::new(routing, lookup(), 1_000_000), now: 1_000_000, state: BTreeMap::new() }
    }

    fn of(style: Style) -> Self {
        Self::new(routing(vec![receiver("default", style)], &["rule"]))
    }

    fn take(&mut self, alert: Alert<'static>) -> Taken {
        self.core.alert(&alert, &encoded(&alert), self.now)
    }

    /// Lets time pass, in seconds.
    fn wait(&mut self, seconds: i64) -> Changes {
        self.now += seconds * 1000;
        self.core.advance(self.now);
        self.commit()
    }

    fn commit(&mut self) -> Changes {
        let changes = self.core.take_changes();
        // the transaction shuts out who is not the active instance any more
        assert!(changes.sends.is_empty() || !changes.state.is_empty(), "sent without a transaction: {changes:?}");
        for (key, value) in &changes.state {
            match value {
                Some(value) => drop(self.state.insert(key.text(), value.clone())),
                None => drop(self.state.remove(&key.text())),
            }
        }
        changes
    }

    /// A new core out of what is committed, and the receivers that it has forgotten.
    fn restart(&mut self, routing: Routing) -> BTreeMap<String, usize> {
        let _ = self.commit();
        let mut restore = Restore::default();
        for (key, value) in &self.state {
            restore.take(key.as_bytes(), Some(value)).unwrap();
        }
        let restored = restore.finish(routing, lookup(), self.now).unwrap_or_else(|error| panic!("{error:?}"));
        self.core = restored.core;
        restored.forgotten
    }

    fn answer(&mut self, changes: &Changes, outcome: Outcome) {
        for send in &changes.sends {
            self.core.outcome(send.group, send.number, outcome.clone(), self.now, 1.0);
        }
    }

    /// Lets time pass; what is sent is delivered.
    fn delivered(&mut self, seconds: i64) -> Vec<Told> {
        let changes = self.wait(seconds);
        self.answer(&changes, Outcome::Delivered);
        changes.sends.iter().map(|send| told(&send.body)).collect()
    }
}

fn failed(reached: bool) -> Outcome {
    Outcome::Failed { message: "down".to_owned(), reached, retry_after: None }
}

#[test]
fn a_group_waits_tells_and_tells_again_only_what_is_new_or_due() {
    let mut bench = Bench::of(Style::Webhook);
    assert_eq!(bench.take(alert(1, "r", "warning", "a")), Taken::Changed);
    let _ = bench.take(alert(1, "r", "warning", "b"));
    assert!(bench.delivered(29).is_empty());
    assert_eq!(bench.delivered(1), [expected("firing", &[("a", "firing"), ("b", "firing")])]);
    assert!(bench.delivered(300).is_empty(), "nothing new");
    let _ = bench.take(alert(1, "r", "warning", "c"));
    assert!(bench.delivered(200).is_empty(), "the group has told lately");
    assert_eq!(bench.delivered(100), [expected("firing", &[("c", "firing"), ("a", "firing"), ("b", "firing")])]);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.delivered(300), [expected("firing", &[("a", "resolved"), ("b", "firing"), ("c", "firing")])]);
    let mut repeated = Vec::new();
    for _ in 0..48 {
        repeated.extend(bench.delivered(300));
    }
    assert_eq!(repeated, [expected("firing", &[("b", "firing"), ("c", "firing")])], "once in four hours");
    let _ = (bench.take(over(alert(2, "r", "warning", "b"))), bench.take(over(alert(2, "r", "warning", "c"))));
    assert_eq!(bench.delivered(300), [expected("resolved", &[("b", "resolved"), ("c", "resolved")])]);
    assert_eq!(bench.core.stats(), Stats { receivers: vec![(0, 0)], ..Stats::default() }, "nothing is left");
}

#[test]
fn an_alert_that_ends_before_anybody_was_told_is_not_told() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.take(over(alert(2, "r", "warning", "a"))), Taken::Changed);
    assert!(bench.delivered(1000).is_empty());
    assert_eq!(bench.core.stats().alerts, 0);
    assert_eq!(bench.take(over(alert(3, "r", "warning", "a"))), Taken::Unknown);
}

#[test]
fn a_record_that_was_taken_before_changes_nothing() {
    let mut bench = Bench::of(Style::Topic("t".to_owned()));
    let _ = bench.take(alert(2, "r", "warning", "a"));
    assert_eq!(bench.wait(0).topics.len(), 1);
    assert_eq!(bench.take(alert(2, "r", "warning", "a")), Taken::Known);
    assert_eq!(bench.take(over(alert(1, "r", "warning", "a"))), Taken::Known);
    assert!(bench.wait(0).topics.is_empty());
}

/// It is said to be over, and is told again from its first record on.
#[test]
fn what_fires_on_after_its_worker_was_reset_stays_told_or_is_told_again() {
    for end_is_told in [false, true] {
        let mut bench = Bench::of(Style::Webhook);
        let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(2, "r", "warning", "a")));
        assert_eq!(bench.delivered(30).len(), 1);
        let _ = bench.take(over(alert(3, "r", "warning", "a")));
        if end_is_told {
            assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
        }
        for sequence in [1, 2] {
            assert_eq!(bench.take(alert(sequence, "r", "warning", "a")), Taken::Changed);
        }
        let told = bench.delivered(300);
        let again = [expected("firing", &[("a", "firing")])];
        assert_eq!(told, if end_is_told { again.as_slice() } else { &[] });
        assert_eq!(bench.core.stats().firing, 1);
        let _ = bench.take(over(alert(3, "r", "warning", "a")));
        assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
    }
}

/// With other windows it fires since another time, which is another life.
#[test]
fn what_a_worker_with_other_windows_tells_of_an_earlier_time_is_news_too() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(90, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(91, "r", "warning", "a")));
    let other = Alert { alert_id: "other".into(), window_end: 3_000_000, ..alert(1, "r", "warning", "a") };
    assert_eq!(bench.take(other.clone()), Taken::Changed);
    assert!(bench.delivered(300).is_empty(), "it fires on");
    let _ = bench.take(over(Alert { sequence: 2, window_end: 3_060_000, ..other }));
    assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
}

#[test]
fn a_topic_is_told_each_change_at_once_and_never_again() {
    let mut bench = Bench::of(Style::Topic("t".to_owned()));
    let mut seen = Vec::new();
    let steps =
        [alert(1, "r", "w", "a"), alert(2, "r", "w", "a"), over(alert(3, "r", "w", "a")), alert(4, "r", "w", "a")];
    for step in steps {
        let _ = bench.take(step);
        seen.extend(bench.wait(1).topics);
    }
    seen.extend(bench.wait(100_000).topics);
    let states: Vec<Told> = seen.iter().map(|record| told(&record.value)).collect();
    assert_eq!(
        states,
        [
            expected("firing", &[("a", "firing")]),
            expected("resolved", &[("a", "resolved")]),
            expected("firing", &[("a", "firing")])
        ]
    );
    assert!(seen.iter().all(|record| record.key == r#"{}/0:{rule="r"}"# && record.topic == "t"));
    assert_ne!(seen[0].notification, seen[1].notification);
}

#[test]
fn a_receiver_that_is_down_is_tried_again_under_the_same_key_with_growing_pauses() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let first = bench.wait(30);
    bench.answer(&first, failed(false));
    assert!(bench.wait(0).sends.is_empty());
    let second = bench.wait(1);
    assert_eq!(second.sends, first.sends);
    bench.answer(&second, failed(true));
    assert!(bench.wait(1).sends.is_empty());
    let third = bench.wait(1);
    assert_eq!(third.sends, first.sends, "after twice the pause");
    bench.answer(&third, Outcome::Delivered);
    assert!(bench.delivered(600).is_empty());
}

#[test]
fn the_newest_state_takes_the_place_of_what_could_not_be_told() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let first = bench.wait(30);
    bench.answer(&first, failed(false));
    let _ = (bench.take(over(alert(2, "r", "warning", "a"))), bench.take(alert(1, "r", "warning", "b")));
    let second = bench.wait(1);
    assert_eq!(told(&second.sends[0].body), expected("firing", &[("b", "firing")]), "nobody knows of a");
    assert_ne!(second.sends[0].idempotency_key, first.sends[0].idempotency_key);
    bench.answer(&second, failed(true));
    let _ = bench.take(over(alert(2, "r", "warning", "b")));
    let third = bench.wait(2);
    assert_eq!(told(&third.sends[0].body), expected("resolved", &[("b", "resolved")]), "b was told perhaps");
    bench.answer(&third, Outcome::Delivered);
    assert_eq!(bench.core.stats().alerts, 0);
}

#[test]
fn what_is_refused_or_given_up_becomes_a_letter_and_is_tried_at_the_groups_next_time() {
    let mut bench = Bench::of(Style::Webhook);
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let sent = bench.wait(30);
    bench.answer(&sent, Outcome::Refused { message: "400 no such hook".to_owned() });
    let changes = bench.wait(0);
    assert!(changes.sends.is_empty());
    assert_eq!((changes.letters[0].reason, changes.letters[0].message.as_str()), ("refused", "400 no such hook"));
    assert_eq!(changes.letters[0].body, sent.sends[0].body);
    assert_eq!(bench.wait(299).sends.len(), 0);
    let mut sent = bench.wait(1);
    assert_eq!(sent.sends.len(), 1);
    let mut letters = Vec::new();
    for _ in 0..100 {
        bench.answer(&sent, failed(true));
        sent = bench.wait(60);
        letters.append(&mut sent.letters);
        if !letters.is_empty() {
            break;
        }
    }
    assert_eq!(letters[0].reason, "gave_up");
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(
        bench.delivered(300),
        [expected("resolved", &[("a", "resolved")])],
        "it may have been told that it fires"
    );
}

#[test]
fn silenced_alerts_are_told_when_the_silence_ends_and_ends_are_told_in_spite_of_it() {
    let mut bench = Bench::of(Style::Webhook);
    let silence = |ends_at| Silence {
        matchers: vec![Matcher::parse("domain=a").unwrap()],
        starts_at: 0,
        ends_at,
        created_by: String::new(),
        comment: String::new(),
    };
    bench.core.silence("s", Some(silence(bench.now + 400_000))).unwrap();
    let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(1, "r", "warning", "b")));
    assert_eq!(bench.delivered(30), [expected("firing", &[("b", "firing")])]);
    assert!(bench.delivered(300).is_empty());
    assert_eq!(bench.core.stats().suppressed, 1);
    assert_eq!(bench.delivered(300), [expected("firing", &[("a", "firing"), ("b", "firing")])]);
    bench.core.silence("s", Some(silence(i64::MAX))).unwrap();
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.delivered(300), [expected("firing", &[("a", "resolved"), ("b", "firing")])]);
}

#[test]
fn inhibited_alerts_wait_for_the_end_of_what_inhibits_them() {
    let mut routing = routing(vec![receiver("default", Style::Topic("t".to_owned()))], &["rule"]);
    routing.inhibit = vec![crate::inhibition::Rule {
        source: vec![Matcher::parse("severity=critical").unwrap()],
        target: vec![Matcher::parse("severity=warning").unwrap()],
        equal: vec!["domain".to_owned()],
    }];
    let mut bench = Bench::new(routing);
    let _ = bench.take(alert(1, "down", "critical", "a"));
    let _ = (bench.take(alert(1, "slow", "warning", "a")), bench.take(alert(1, "slow", "warning", "b")));
    let domains =
        |changes: &Changes| changes.topics.iter().map(|record| told(&record.value).1[0].0.clone()).collect::<Vec<_>>();
    assert_eq!(domains(&bench.wait(1)), ["a", "b"], "the critical one, and the other domain's");
    let _ = bench.take(over(alert(2, "down", "critical", "a")));
    assert_eq!(bench.wait(1).topics.len(), 1);
    assert_eq!(domains(&bench.wait(300)), ["a"], "the warning, at its group's next time");
}

#[test]
fn a_muted_route_tells_nothing_until_the_mute_time_ends() {
    let mut routing = routing(vec![receiver("default", Style::Webhook)], &["rule"]);
    let early = crate::mute_time::MuteTime { times: vec![(0, 30)], ..Default::default() };
    routing.mute_times.insert("early".to_owned(), vec![early]);
    routing.root.mute_times = vec!["early".to_owned()];
    let mut bench = Bench::new(routing);
    bench.now = 60_000;
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let mut at = Vec::new();
    for _ in 0..60 {
        if !bench.delivered(60).is_empty() {
            at.push(bench.now / 60_000);
        }
    }
    assert_eq!(at, [32], "muted to minute 30; the group's times are 2, 7, 12, …");
}

#[test]
fn a_groups_list_is_bounded_and_says_how_many_are_left_out() {
    let mut bench = Bench::of(Style::Webhook);
    for domain in ["a", "b", "c", "d", "e"] {
        let _ = bench.take(alert(1, "r", "warning", domain));
    }
    let changes = bench.wait(30);
    let body: Value = serde_json::from_slice(&changes.sends[0].body).unwrap();
    assert_eq!((body["alerts"].as_array().unwrap().len(), &body["truncatedAlerts"]), (3, &2.into()));
    bench.answer(&changes, Outcome::Delivered);
    let _ = bench.take(over(alert(2, "r", "warning", "e")));
    assert_eq!(bench.delivered(300)[0].1[0], ("e".to_owned(), "resolved".to_owned()), "it was told, if not listed");
}

#[test]
fn an_alertmanager_is_told_at_once_in_pieces_and_again_before_it_forgets() {
    let mut bench = Bench::of(Style::Alertmanager { resend_interval: 60_000 });
    for domain in ["a", "b", "c", "d"] {
        let _ = bench.take(alert(1, "r", "warning", domain));
    }
    let domains = |changes: &Changes| -> Vec<String> {
        let bodies = changes.sends.iter().map(|send| serde_json::from_slice::<Value>(&send.body).unwrap());
        bodies
            .flat_map(|body| body.as_array().unwrap().clone())
            .map(|alert| alert["labels"]["domain"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut piece = |seconds| {
        let changes = bench.wait(seconds);
        bench.answer(&changes, Outcome::Delivered);
        domains(&changes)
    };
    assert_eq!(piece(0), ["a", "b", "c"]);
    assert_eq!(piece(0), ["d"]);
    assert!(piece(10).is_empty());
    assert_eq!((piece(50), piece(0), piece(0)), (vec!["a".into(), "b".into(), "c".into()], vec!["d".into()], vec![]));
    assert!(piece(30).is_empty());
    assert_eq!(piece(40).len(), 3);
}

#[test]
fn a_rule_whose_labels_change_ends_the_alert_under_the_old_ones() {
    let mut bench = Bench::of(Style::Topic("t".to_owned()));
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let _ = bench.take(Alert { alert_id: "next".into(), ..alert(2, "r", "critical", "a") });
    let states: Vec<Told> = bench.wait(0).topics.iter().map(|record| told(&record.value)).collect();
    let firing = expected("firing", &[("a", "firing")]);
    assert_eq!(states, [firing.clone(), expected("resolved", &[("a", "resolved")]), firing]);
    assert_eq!(bench.core.stats().alerts, 1);
}

#[test]
fn of_an_alert_that_no_route_takes_nothing_is_kept() {
    let mut narrow = routing(vec![receiver("default", Style::Webhook)], &["rule"]);
    narrow.root.matchers = vec![Matcher::parse("domain=b").unwrap()];
    let mut bench = Bench::new(narrow.clone());
    let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(1, "r", "warning", "b")));
    assert_eq!(bench.core.stats().alerts, 1);
    let alerts = |bench: &Bench| bench.state.keys().filter(|key| key.starts_with("alert/")).count();
    let _ = bench.commit();
    assert_eq!(alerts(&bench), 1);
    // and of one that a route took before
    narrow.root.matchers = vec![Matcher::parse("domain=c").unwrap()];
    let _ = bench.restart(narrow);
    let _ = bench.commit();
    assert_eq!((bench.core.stats().alerts, alerts(&bench)), (0, 0));
    assert_eq!(bench.take(over(alert(2, "r", "warning", "b"))), Taken::Unknown);
}

#[test]
fn receivers_without_interest_in_ends_are_not_told_them() {
    let quiet = Receiver { send_resolved: false, ..receiver("default", Style::Webhook) };
    let mut bench = Bench::new(routing(vec![quiet], &[]));
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert!(bench.delivered(300).is_empty());
    assert_eq!(bench.core.stats().alerts, 0);
}
