//! Routes that are edited while alerts fire: who was told under the old key is told the end under it.

use serde_json::Value;

use super::{Bench, alert, expected, failed, over, receiver, routing};
use crate::core::changes::Changes;
use crate::core::{Outcome, Stats};
use crate::matcher::Matcher;
use crate::routing::{Routing, Style};

/// For one receiver, in groups by these labels.
fn by(style: Style, group_by: &[&str]) -> Routing {
    routing(vec![receiver("default", style)], group_by)
}

/// A group's key, its status, and each alert's domain and status.
type Said = (String, String, Vec<(String, String)>);

/// What is sent.
fn said(changes: &Changes) -> Vec<Said> {
    let of = |body: &[u8]| {
        let key = serde_json::from_slice::<Value>(body).unwrap()["groupKey"].as_str().unwrap().to_owned();
        let (status, alerts) = super::told(body);
        (key, status, alerts)
    };
    let topics = changes.topics.iter().map(|record| of(&record.value));
    topics.chain(changes.sends.iter().map(|send| of(&send.body))).collect()
}

fn says(key: &str, status: &str, alerts: &[(&str, &str)]) -> Said {
    let (status, alerts) = expected(status, alerts);
    (key.to_owned(), status, alerts)
}

impl Bench {
    /// Lets time pass; what is sent is delivered.
    fn said(&mut self, seconds: i64) -> Vec<Said> {
        let changes = self.wait(seconds);
        self.answer(&changes, Outcome::Delivered);
        said(&changes)
    }

    fn is_empty(&self) -> bool {
        self.core.stats() == Stats { receivers: self.core.stats().receivers, ..Stats::default() }
    }
}

const OLD: &str = r#"{}/0:{rule="r"}"#;
const NEW: &str = r#"{}/0:{domain="a", rule="r"}"#;

#[test]
fn an_incident_is_closed_under_the_key_under_which_it_was_opened() {
    let mut bench = Bench::new(by(Style::PagerDuty, &["rule"]));
    let events = |changes: &Changes| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let bodies = changes.sends.iter().map(|send| serde_json::from_slice::<Value>(&send.body).unwrap());
        bodies.map(|body| (text(&body["dedup_key"]), text(&body["event_action"]))).collect()
    };
    let _ = bench.take(alert(1, "r", "warning", "a"));
    let sent = bench.wait(30);
    bench.answer(&sent, Outcome::Delivered);
    let [(old, _)] = &events(&sent)[..] else { panic!("{:?}", events(&sent)) };
    let _ = bench.restart(by(Style::PagerDuty, &["rule", "domain"]));
    let sent = bench.wait(30);
    bench.answer(&sent, Outcome::Delivered);
    let [(new, action)] = &events(&sent)[..] else { panic!("{:?}", events(&sent)) };
    assert!(new != old && action == "trigger");
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    let sent = bench.wait(300);
    bench.answer(&sent, Outcome::Delivered);
    let mut ended = events(&sent);
    ended.sort();
    let mut both = [(old.clone(), "resolve".to_owned()), (new.clone(), "resolve".to_owned())];
    both.sort();
    assert_eq!(ended, both);
    assert!(bench.is_empty(), "{:?}", bench.core.stats());
}

#[test]
fn the_old_group_takes_nothing_new_and_repeats_nothing() {
    let mut bench = Bench::new(by(Style::Webhook, &["rule"]));
    let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(1, "r", "warning", "b")));
    assert_eq!(bench.said(30), [says(OLD, "firing", &[("a", "firing"), ("b", "firing")])]);
    let _ = bench.restart(by(Style::Webhook, &["rule", "domain"]));
    let _ = bench.take(over(alert(2, "r", "warning", "b")));
    let mut told = Vec::new();
    for _ in 0..100 {
        told.extend(bench.said(300));
        // each core knows it anew
        let _ = bench.restart(bench.core.routing().clone());
    }
    let of = |key: &str| told.iter().filter(|(found, ..)| found == key).cloned().collect::<Vec<_>>();
    assert_eq!(of(OLD), [says(OLD, "firing", &[("b", "resolved"), ("a", "firing")])]);
    assert_eq!(of(NEW), vec![says(NEW, "firing", &[("a", "firing")]); 3], "every four hours");
    assert_eq!(told.len(), 4, "of b's end nobody is told who did not know of it: {told:?}");
    // it is over, and begins again before that was taken
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    let sent = bench.wait(300);
    assert_eq!(said(&sent).len(), 2);
    bench.answer(&sent, failed(false));
    let _ = bench.take(alert(3, "r", "warning", "a"));
    let mut told = Vec::new();
    for _ in 0..10 {
        told.extend(bench.said(100));
    }
    assert!(told.iter().all(|(key, status, _)| key != OLD || status == "resolved"), "{told:?}");
    let _ = bench.take(over(alert(4, "r", "warning", "a")));
    for _ in 0..10 {
        told.extend(bench.said(100));
    }
    for key in [OLD, NEW] {
        let last = told.iter().rfind(|(found, ..)| found == key);
        assert_eq!(last, Some(&says(key, "resolved", &[("a", "resolved")])));
    }
    assert!(bench.is_empty(), "{:?}", bench.core.stats());
}

#[test]
fn who_is_told_no_more_because_of_a_matcher_is_told_the_end() {
    for style in [Style::Webhook, Style::Lines, Style::Topic("t".to_owned())] {
        let receivers = vec![receiver("default", Style::Webhook), receiver("r", style)];
        let mut routing = routing(receivers, &["rule"]);
        let mut bench = Bench::new(routing.clone());
        let _ = bench.take(alert(1, "r", "warning", "a"));
        let key = r#"{}/1:{rule="r"}"#;
        assert_eq!(bench.said(30), [says(key, "firing", &[("a", "firing")])]);
        routing.root.routes[0].matchers.push(Matcher::parse("severity=critical").unwrap());
        routing.root.routes[0].path = "{}/2".to_owned();
        let _ = bench.restart(routing);
        assert_eq!(bench.said(30), [says(OLD, "firing", &[("a", "firing")])]);
        let _ = bench.take(over(alert(2, "r", "warning", "a")));
        let mut told = bench.said(300);
        told.sort();
        assert_eq!(told, [says(OLD, "resolved", &[("a", "resolved")]), says(key, "resolved", &[("a", "resolved")])]);
        assert!(bench.is_empty(), "{:?}", bench.core.stats());
    }
}

#[test]
fn an_edit_that_is_taken_back_changes_nothing() {
    let mut bench = Bench::new(by(Style::Webhook, &["rule"]));
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.said(30).len(), 1);
    let _ = bench.restart(by(Style::Webhook, &["rule", "domain"]));
    assert!(bench.said(20).is_empty());
    let _ = bench.restart(by(Style::Webhook, &["rule"]));
    let mut told = Vec::new();
    for _ in 0..50 {
        told.extend(bench.said(300));
    }
    assert_eq!(told, [says(OLD, "firing", &[("a", "firing")])], "its repetition");
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.said(300), [says(OLD, "resolved", &[("a", "resolved")])]);
    assert!(bench.is_empty(), "{:?}", bench.core.stats());
}

#[test]
fn only_where_the_receiver_is_gone_nothing_is_told() {
    let receivers = |names: &[&str]| names.iter().map(|name| receiver(name, Style::Webhook)).collect();
    let mut bench = Bench::new(routing(receivers(&["default", "r"]), &["domain"]));
    for domain in ["a", "b"] {
        let _ = bench.take(alert(1, "r", "warning", domain));
    }
    assert_eq!(bench.said(30).len(), 2);
    let forgotten = bench.restart(routing(receivers(&["default"]), &["rule"]));
    assert_eq!(forgotten.into_iter().collect::<Vec<_>>(), [("r".to_owned(), 2)]);
    let _ = (bench.take(over(alert(2, "r", "warning", "a"))), bench.take(over(alert(2, "r", "warning", "b"))));
    assert!(bench.said(300).is_empty());
    assert!(bench.is_empty(), "{:?}", bench.core.stats());
    let held = bench.state.keys().filter(|key| *key != "router").count();
    assert_eq!(held, 0, "{:?}", bench.state.keys());
}

#[test]
fn a_receiver_of_another_type_knows_nothing_of_what_fires() {
    let of = |style| routing(vec![receiver("default", style)], &["domain"]);
    let topic = || of(Style::Topic("t".to_owned()));
    let mut bench = Bench::new(topic());
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.wait(0).topics.len(), 1);
    let forgotten = bench.restart(of(Style::PagerDuty));
    assert_eq!(forgotten.into_iter().collect::<Vec<_>>(), [("default".to_owned(), 1)]);
    let sent = bench.wait(30);
    let event: serde_json::Value = serde_json::from_slice(&sent.sends[0].body).unwrap();
    assert_eq!((sent.sends.len(), &event["event_action"]), (1, &"trigger".into()));
    bench.answer(&sent, Outcome::Failed { message: String::new(), reached: true, retry_after: None });

    // the event is still under way when it is a topic again
    let _ = bench.restart(topic());
    let told: Vec<_> = bench.wait(300).topics.iter().map(|record| super::told(&record.value)).collect();
    assert_eq!(told, [super::expected("firing", &[("a", "firing")])]);
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.wait(0).topics.len(), 1);
    assert!(bench.is_empty(), "{:?}", bench.core.stats());
    let held = bench.state.keys().filter(|key| *key != "router").count();
    assert_eq!(held, 0, "{:?}", bench.state.keys());
}

#[test]
fn a_group_of_an_older_state_that_names_no_type_is_the_receivers() {
    let mut bench = Bench::new(routing(vec![receiver("default", Style::Webhook)], &["domain"]));
    let _ = bench.take(alert(1, "r", "warning", "a"));
    assert_eq!(bench.said(30).len(), 1);
    let _ = bench.commit();
    let group = bench.state.get_mut("group/1").unwrap();
    let without = group.len() - "webhook".len() - 1;
    assert_eq!(group[without + 1..], *b"webhook", "its length stands before it");
    group.truncate(without);
    assert!(bench.restart(bench.core.routing().clone()).is_empty());
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    assert_eq!(bench.said(300).len(), 1);
}
