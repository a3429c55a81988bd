//! Alerts that are silenced or inhibited while their group's receiver is told of others.

use super::{Bench, alert, expected, failed, over, receiver, routing};
use crate::core::{Outcome, Stats};
use crate::inhibition::Rule;
use crate::matcher::Matcher;
use crate::routing::Style;
use crate::silence::Silence;

fn silence(ends_at: i64) -> Silence {
    Silence {
        matchers: vec![Matcher::parse("domain=b").unwrap()],
        starts_at: 0,
        ends_at,
        created_by: String::new(),
        comment: String::new(),
    }
}

/// a and b were told, b is silenced for so many seconds, a is over.
fn closed(style: Style, seconds: i64) -> Bench {
    let mut bench = Bench::of(style);
    let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(1, "r", "warning", "b")));
    let sent = bench.wait(30);
    bench.answer(&sent, Outcome::Delivered);
    bench.core.silence("s", Some(silence(bench.now + seconds * 1000))).unwrap();
    let _ = bench.take(over(alert(2, "r", "warning", "a")));
    bench
}

#[test]
fn an_alert_that_fires_on_after_its_group_was_told_to_be_over_is_told_again_when_its_silence_ends() {
    for restarts in [false, true] {
        let mut bench = closed(Style::Webhook, 1_000);
        assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
        if restarts {
            let _ = bench.restart(bench.core.routing().clone());
            bench.core.silence("s", Some(silence(bench.now + 700_000))).unwrap();
        }
        assert!(bench.delivered(600).is_empty(), "it is silenced");
        assert_eq!(bench.delivered(300), [expected("firing", &[("b", "firing")])]);
        assert!(bench.delivered(300).is_empty(), "once");
        let _ = bench.take(over(alert(2, "r", "warning", "b")));
        assert_eq!(bench.delivered(300), [expected("resolved", &[("b", "resolved")])]);
        assert_eq!(bench.core.stats(), Stats { receivers: vec![(0, 0)], ..Stats::default() });
    }
}

#[test]
fn an_incident_that_was_closed_is_opened_again() {
    let mut bench = closed(Style::PagerDuty, 1_000);
    let action = |bench: &mut Bench, seconds| {
        let sent = bench.wait(seconds);
        bench.answer(&sent, Outcome::Delivered);
        let bodies = sent.sends.iter().map(|send| serde_json::from_slice::<serde_json::Value>(&send.body).unwrap());
        bodies.map(|body| body["event_action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(action(&mut bench, 300), ["resolve"]);
    assert_eq!((action(&mut bench, 600), action(&mut bench, 300)), (vec![], vec!["trigger".to_owned()]));
}

#[test]
fn the_end_of_an_alert_is_told_after_its_group_was_told_to_be_over_without_it() {
    let mut bench = closed(Style::Webhook, 1_000_000);
    assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
    let _ = bench.take(over(alert(2, "r", "warning", "b")));
    assert_eq!(bench.delivered(300), [expected("resolved", &[("b", "resolved")])]);
    assert_eq!(bench.core.stats().alerts, 0);
}

#[test]
fn what_fires_on_is_told_its_end_though_it_was_refused_to_be_told_again() {
    let mut bench = closed(Style::Webhook, 400);
    assert_eq!(bench.delivered(300), [expected("resolved", &[("a", "resolved")])]);
    let sent = bench.wait(300);
    assert_eq!(sent.sends.len(), 1, "b fires on");
    bench.answer(&sent, Outcome::Refused { message: String::new() });
    let _ = bench.take(over(alert(2, "r", "warning", "b")));
    assert_eq!(bench.delivered(300), [expected("resolved", &[("b", "resolved")])]);
}

#[test]
fn an_inhibition_that_ends_while_the_end_of_the_group_is_under_way_is_not_missed() {
    let mut routing = routing(vec![receiver("default", Style::Webhook)], &["rule"]);
    let matcher = |text| vec![Matcher::parse(text).unwrap()];
    routing.inhibit = vec![Rule { source: matcher("rule=down"), target: matcher("domain=b"), equal: Vec::new() }];
    let mut bench = Bench::new(routing);
    let _ = (bench.take(alert(1, "r", "warning", "a")), bench.take(alert(1, "r", "warning", "b")));
    assert_eq!(bench.delivered(30).len(), 1);
    let _ = (bench.take(alert(1, "down", "warning", "c")), bench.take(over(alert(2, "r", "warning", "a"))));
    let sent = bench.wait(300);
    assert_eq!(sent.sends.len(), 2, "the group's end, and what inhibits");
    let _ = bench.take(over(alert(2, "down", "warning", "c")));
    bench.answer(&sent, failed(true));
    let mut told = Vec::new();
    for _ in 0..5 {
        told.extend(bench.delivered(100));
    }
    assert!(told.contains(&expected("firing", &[("b", "firing")])), "{told:?}");
}

#[test]
fn a_group_of_which_only_a_full_list_is_told_is_over_when_all_others_are_silenced() {
    let mut bench = Bench::of(Style::Webhook);
    for domain in ["a1", "a2", "a3", "b"] {
        let _ = bench.take(alert(1, "r", "warning", domain));
    }
    assert_eq!(bench.delivered(30).len(), 1);
    bench.core.silence("s", Some(silence(bench.now + 1_000_000))).unwrap();
    for domain in ["a1", "a2", "a3"] {
        let _ = bench.take(over(alert(2, "r", "warning", domain)));
    }
    let ended = [("a1", "resolved"), ("a2", "resolved"), ("a3", "resolved")];
    assert_eq!(bench.delivered(300), [expected("resolved", &ended)]);
    assert!(bench.delivered(600).is_empty());
    assert_eq!(bench.delivered(300), [expected("firing", &[("b", "firing")])]);
}
