//! The router's binary and PagerDuty: a group is an incident, and an event that is repeated is the same one.

#[path = "common/pager_duty.rs"]
mod pager_duty;
#[path = "common/peers.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod peers;
#[path = "common/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod rig;
mod support;

use pager_duty::{Answer, Incident, PagerDuty, ROUTING_KEY, Request};
use records::{Alert, AlertState};
use rig::{DEADLINE, Rig, firing, resolved};
use testkit::eventually;

fn rig(pager_duty: &PagerDuty) -> Rig {
    let routes = format!(
        r#"
        external_url = "https://router.example.org/alerts"
        [route]
        receiver = "incidents"
        group_by = ["rule"]
        group_wait = "0s"
        group_interval = "1s"
        [receivers.incidents]
        type = "pagerduty"
        routing_key = "{ROUTING_KEY}"
        url = "{}"
        first_pause = "50ms"
        longest_pause = "200ms"
        "#,
        pager_duty.url
    );
    Rig::new("classic", &routes)
}

/// Waits until PagerDuty has these incidents, `true` for open ones.
fn incidents(pager_duty: &PagerDuty, open: &[bool]) -> Vec<Incident> {
    eventually(&format!("incidents {open:?}"), DEADLINE, || {
        let incidents = pager_duty.incidents();
        incidents.iter().map(|incident| incident.open).eq(open.iter().copied()).then_some(incidents)
    })
}

/// Waits for a request that was taken and fulfils this.
fn taken(pager_duty: &PagerDuty, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> Request {
    eventually(what, DEADLINE, || {
        pager_duty.requests().into_iter().find(|request| request.status == 202 && holds(&request.json()))
    })
}

#[test]
fn a_group_is_an_incident_that_is_triggered_and_resolved_under_one_key() {
    let pager_duty = PagerDuty::start();
    let rig = rig(&pager_duty);
    let router = rig.start("one").active();
    rig.send(&[firing("slow", "books", 1)]);
    assert_eq!(incidents(&pager_duty, &[true])[0].severity, "warning");
    let critical = |state, sequence| support::alert("slow", "critical", "films", 1, sequence, state);
    let counts = |firing: u64, resolved: u64| {
        move |event: &serde_json::Value| {
            let details = &event["payload"]["custom_details"];
            details["num_firing"] == firing && details["num_resolved"] == resolved
        }
    };
    rig.send(&[critical(AlertState::Firing, 1)]);
    taken(&pager_duty, "the second alert of the group", counts(2, 0));
    assert_eq!(incidents(&pager_duty, &[true])[0].severity, "critical");
    rig.send(&[critical(AlertState::Resolved, 2)]);
    taken(&pager_duty, "its end", counts(1, 1));
    assert_eq!(incidents(&pager_duty, &[true])[0].severity, "warning");
    rig.send(&[resolved("slow", "books", 1)]);
    incidents(&pager_duty, &[false]);
    rig.send(&[firing("slow", "books", 2), firing("fast", "books", 1)]);
    let incidents = incidents(&pager_duty, &[false, true, true]);

    let slow = incidents[0].dedup_key.as_str();
    assert_eq!(incidents.iter().filter(|incident| incident.dedup_key == slow).count(), 2, "a group has one key");
    let requests = pager_duty.requests();
    assert!(requests.iter().all(|request| request.status == 202), "{requests:?}");
    let of_slow = requests.iter().map(Request::json).filter(|event| event["dedup_key"] == slow);
    let actions: Vec<String> = of_slow.map(|event| event["event_action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["trigger", "trigger", "trigger", "resolve", "trigger"]);
    let mut names: Vec<&str> = requests.iter().map(|request| request.idempotency_key.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), requests.len(), "each notification has its own name");

    let first = requests[0].json();
    let alert: Alert<'_> = firing("slow", "books", 1);
    assert_eq!(first["payload"]["summary"], alert.summary.as_str());
    assert_eq!(first["payload"]["source"], "session-entropy");
    assert_eq!(first["payload"]["component"], "share_scattered");
    assert_eq!(first["payload"]["class"], "slow");
    assert_eq!(first["client_url"], "https://router.example.org/alerts");

    // What is kept of notifications holds no secret.
    let state = rig.read("state");
    let holds = |text: &str| {
        let has = |value: &Vec<u8>| value.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        state.iter().any(|record| record.value.as_ref().is_some_and(has))
    };
    assert!(holds(slow) && !holds(ROUTING_KEY));
    router.stop();
}

#[test]
fn an_event_that_is_not_taken_is_sent_again_as_it_is() {
    let pager_duty = PagerDuty::start();
    let rig = rig(&pager_duty);
    let router = rig.start("one").active();
    // The second one was taken, which nobody could know.
    pager_duty.next(&[Answer::Refuse(429), Answer::Take(500), Answer::Refuse(503)]);
    rig.send(&[firing("slow", "books", 1)]);
    let trigger = taken(&pager_duty, "the trigger", |event| event["event_action"] == "trigger");
    pager_duty.next(&[Answer::Take(502), Answer::Refuse(429)]);
    rig.send(&[resolved("slow", "books", 1)]);
    let resolve = taken(&pager_duty, "the resolution", |event| event["event_action"] == "resolve");
    incidents(&pager_duty, &[false]);

    let requests = pager_duty.requests();
    let statuses: Vec<u16> = requests.iter().map(|request| request.status).collect();
    assert_eq!(statuses, [429, 500, 503, 202, 502, 429, 202]);
    for (request, told) in requests.iter().zip([&trigger, &trigger, &trigger, &trigger, &resolve, &resolve, &resolve]) {
        assert_eq!((&request.idempotency_key, &request.body), (&told.idempotency_key, &told.body));
    }
    assert_eq!(trigger.json()["dedup_key"], resolve.json()["dedup_key"]);
    let failures = |status| {
        let labels = format!("{{receiver=\"incidents\",status=\"{status}\"}}");
        router.metric(&format!("recwatch_alert_router_notification_failures_total{labels}"))
    };
    eventually("the counts", DEADLINE, || {
        let notifications = router.metric("recwatch_alert_router_notifications_total{receiver=\"incidents\"}");
        let failures = [429, 500, 502, 503].map(failures);
        (notifications == 2.0 && failures == [2.0, 1.0, 1.0, 1.0]).then_some(())
    });
    router.stop();
}

#[test]
fn a_router_that_was_killed_sends_the_same_event_again() {
    let pager_duty = PagerDuty::start();
    let rig = rig(&pager_duty);
    let mut router = rig.start("one").active();
    for (alert, answer, open) in [
        (firing("slow", "books", 1), Answer::Refuse(503), [true]),
        (resolved("slow", "books", 1), Answer::Take(500), [false]),
    ] {
        let before = pager_duty.requests().len();
        pager_duty.always(Some(answer));
        rig.send(&[alert]);
        eventually("an attempt", DEADLINE, || (pager_duty.requests().len() > before).then_some(()));
        router.worker.kill9().unwrap();
        pager_duty.always(None);
        router = rig.start("one").active();
        eventually("the next attempt", DEADLINE, || {
            pager_duty.requests()[before..].iter().any(|request| request.status == 202).then_some(())
        });
        incidents(&pager_duty, &open);
        let requests = pager_duty.requests().split_off(before);
        for request in &requests {
            assert_eq!(request.idempotency_key, requests[0].idempotency_key);
            assert_eq!(request.body, requests[0].body);
        }
    }
    router.stop();
}
