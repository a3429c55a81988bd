//! Alerts and routings that tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;

use alert_router::labels::GroupBy;
use alert_router::route::{Route, Timing};
use alert_router::routing::{Receiver, Retry, Routing, Style};
use records::{Alert, AlertLabel, AlertState, AvroRecord as _, Encoder, FixedSchemas, Silence};

/// The schema id of alerts.
pub(crate) const SCHEMA_ID: i32 = 1;
/// The schema id of silences.
pub(crate) const SILENCE_SCHEMA_ID: i32 = 2;

/// A record of an alert of `rule` in `domain`; `life` and `sequence` name it.
pub(crate) fn alert(
    rule: &str,
    severity: &str,
    domain: &str,
    life: i64,
    sequence: i64,
    state: AlertState,
) -> Alert<'static> {
    let time = 1_795_230_000_000 + (life * 1000 + sequence) * 60_000;
    Alert {
        alert_id: format!("{rule}-{domain}-{life}").into(),
        sequence,
        fingerprint: format!("{rule}/{domain}").into(),
        state,
        reason: if state == AlertState::Firing { "fired" } else { "cleared" }.into(),
        worker: "session-entropy".into(),
        rule: rule.to_owned().into(),
        kind: "threshold".into(),
        severity: severity.to_owned().into(),
        metric: "share_scattered".into(),
        value: Some(0.6875),
        threshold: Some(0.5),
        baseline: None,
        window_start: time - 300_000,
        window_end: time,
        started_at: time,
        group: vec![
            AlertLabel { name: "domain".into(), value: domain.to_owned().into() },
            AlertLabel { name: "ab_group".into(), value: "".into() },
        ],
        samples: Vec::new(),
        attribution: Vec::new(),
        summary: format!("share_scattered is 0.688, above 0.5, for 3 windows in domain={domain}").into(),
        traceparent: None,
        revision: 1,
    }
}

pub(crate) fn encoded(alert: &Alert<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<Alert<'static>>::new(SCHEMA_ID).encode(alert, &mut value).unwrap();
    value
}

pub(crate) fn encoded_silence(silence: &Silence<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::<Silence<'static>>::new(SILENCE_SCHEMA_ID).encode(silence, &mut value).unwrap();
    value
}

pub(crate) fn lookup() -> Box<FixedSchemas> {
    Box::new(FixedSchemas::default().with(SCHEMA_ID, Alert::SCHEMA))
}

pub(crate) fn receiver(name: &str, style: Style) -> Receiver {
    let retry = Retry { first_pause: 1_000, longest_pause: 60_000, give_up_after: 900_000 };
    Receiver { name: name.to_owned(), style, send_resolved: true, max_alerts: 100, concurrency: 8, retry }
}

/// A route of every alert for each of these receivers, in groups by these labels.
pub(crate) fn routing(receivers: Vec<(Receiver, GroupBy)>) -> Routing {
    let route = |index: usize, receiver: usize, group_by: &GroupBy| Route {
        index,
        place: format!("{index}"),
        path: format!("{{}}/{index}"),
        matchers: Vec::new(),
        goes_on: true,
        receiver,
        group_by: group_by.clone(),
        timing: Timing { group_wait: 30_000, group_interval: 300_000, repeat_interval: 14_400_000 },
        mute_times: Vec::new(),
        routes: Vec::new(),
    };
    let mut root = route(0, 0, &GroupBy::All);
    root.routes = receivers.iter().enumerate().map(|(index, (_, by))| route(index + 1, index, by)).collect();
    let receivers = receivers.into_iter().map(|(receiver, _)| receiver).collect();
    Routing { root, receivers, inhibit: Vec::new(), mute_times: BTreeMap::new(), external_url: String::new() }
}
