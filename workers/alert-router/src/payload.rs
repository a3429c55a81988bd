//! What receivers are told, as JSON: Alertmanager's webhook payload of version 4, the alerts of its API v2, and PagerDuty's
//! events of version 2.

use std::borrow::Cow;
use std::collections::BTreeMap;

use records::Alert;
use records::names::bounded_to;
use serde_json::{Value, json};

use crate::labels::{GroupBy, Labels, MAX_VALUE};
use crate::timestamp::rfc3339;

/// How Go writes a time that is none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// So large are all alerts of a body, but for a single one: alerts beyond are counted in `truncatedAlerts`, or told by a
/// notification of their own.
const MAX_BODY: usize = 512 * 1024;
/// No body gets larger: Kafka's default for `max.message.bytes`, without room for a key and headers.
pub const LARGEST_NOTIFICATION: usize = 1_000_000;
/// What is told of an annotation, in bytes at most.
const MAX_ANNOTATION: usize = 4000;

/// What PagerDuty takes as a summary, in characters.
const MAX_SUMMARY: usize = 1024;
/// All summaries of an event for PagerDuty, as JSON; its other texts are far below the rest of 512 KB.
const MAX_SUMMARIES: usize = 256 * 1024;

/// An alert as receivers see it.
#[derive(Debug)]
struct Entry {
    firing: bool,
    fingerprint: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
    severity: String,
    started_at: i64,
    ended_at: i64,
}

/// A notification in the making.
#[derive(Debug, Default)]
pub struct Notification {
    entries: Vec<Entry>,
    group_labels: BTreeMap<String, String>,
    size: usize,
}

/// What stands around the alerts.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The receiver's name.
    pub receiver: &'a str,
    /// The group's key.
    pub group_key: &'a str,
    /// Where the router is found; may be empty.
    pub external_url: &'a str,
    /// Whether any alert of the group fires, those left out included.
    pub firing: bool,
    /// How many alerts of the group are left out.
    pub truncated: usize,
}

impl Notification {
    /// Adds an alert; `false` where it does not fit any more. The first one always fits.
    pub fn add(&mut self, alert: &Alert<'_>, labels: &Labels<'_>, group_by: &GroupBy, firing: bool) -> bool {
        let entry = Entry::of(alert, labels, firing);
        let labels_size: usize = entry.labels.iter().map(|(name, value)| size_of(name) + size_of(value)).sum();
        let annotations_size: usize =
            entry.annotations.iter().map(|(name, value)| size_of(name) + size_of(value)).sum();
        let size = labels_size + annotations_size + 200;
        if !self.entries.is_empty() && self.size + size > MAX_BODY {
            return false;
        }
        if self.entries.is_empty() {
            let of_group = labels.iter().filter(|(name, _)| group_by.has(name));
            self.group_labels = of_group.map(named).collect();
        }
        self.size += size;
        self.entries.push(entry);
        true
    }

    /// How many alerts it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// As Alertmanager's webhook sends it.
    #[must_use]
    pub fn webhook(&self, frame: &Frame<'_>) -> Value {
        let labels = common(self.entries.iter().map(|entry| &entry.labels));
        let annotations = common(self.entries.iter().map(|entry| &entry.annotations));
        json!({
            "receiver": frame.receiver,
            "status": status(frame.firing),
            "alerts": self.entries.iter().map(|entry| json!({
                "status": status(entry.firing),
                "labels": entry.labels,
                "annotations": entry.annotations,
                "startsAt": rfc3339(entry.started_at),
                "endsAt": if entry.firing { NO_TIME.to_owned() } else { rfc3339(entry.ended_at) },
                "generatorURL": frame.external_url,
                "fingerprint": entry.fingerprint,
            })).collect::<Vec<_>>(),
            "groupLabels": self.group_labels,
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": frame.external_url,
            "version": "4",
            "groupKey": frame.group_key,
            "truncatedAlerts": frame.truncated,
        })
    }

    /// As `POST /api/v2/alerts` takes them; firing ones end at `fires_until`, unless they are sent again.
    #[must_use]
    pub fn alertmanager(&self, frame: &Frame<'_>, now: i64, fires_until: i64) -> Value {
        let alert = |entry: &Entry| {
            // an end that lies ahead would let it fire on, one before the start is refused
            let ended_at = entry.ended_at.min(now).max(entry.started_at);
            json!({
                "labels": entry.labels,
                "annotations": entry.annotations,
                "startsAt": rfc3339(entry.started_at),
                "endsAt": rfc3339(if entry.firing { fires_until } else { ended_at }),
                "generatorURL": frame.external_url,
            })
        };
        self.entries.iter().map(alert).collect()
    }

    /// As an event of PagerDuty's Events API v2 without its routing key: `dedup_key` names the incident. Stays below the
    /// 512 KB that PagerDuty takes; alerts whose summaries do not fit are counted in `truncated`.
    #[must_use]
    pub fn pager_duty(&self, frame: &Frame<'_>, dedup_key: &str) -> Value {
        let of = |firing: bool| -> Vec<&Entry> { self.entries.iter().filter(|entry| entry.firing == firing).collect() };
        let (firing, resolved) = (of(true), of(false));
        let severity = firing.iter().map(|entry| pager_duty_severity(&entry.severity)).max().unwrap_or(Severity::Info);
        let told = if firing.is_empty() { &resolved } else { &firing };
        let first = told.first().copied();
        let summary = first.map(Entry::summary).filter(|summary| !summary.is_empty()).unwrap_or(frame.group_key);
        let summary = match told.len().saturating_sub(1) + frame.truncated {
            0 => cut(summary, MAX_SUMMARY),
            more => {
                let more = format!(" (and {more} more)");
                cut(summary, MAX_SUMMARY - more.len()) + &more
            }
        };
        let label = |name: &str| first.and_then(|entry| entry.labels.get(name)).map(|value| cut(value, MAX_SUMMARY));
        let mut room = MAX_SUMMARIES;
        let mut list = |entries: &[&Entry]| -> Vec<String> {
            let summaries = entries.iter().map(|entry| cut(entry.summary(), MAX_SUMMARY));
            let fits = |summary: &String| {
                let size = Value::from(summary.as_str()).to_string().len() + 1;
                let fits = size <= room;
                room = if fits { room - size } else { 0 };
                fits
            };
            summaries.take_while(fits).collect()
        };
        let (told_firing, told_resolved) = (list(&firing), list(&resolved));
        let mut payload = json!({
            "summary": summary,
            "source": label("worker").unwrap_or_else(|| "recwatch".to_owned()),
            "severity": severity.name(),
            "group": cut(frame.group_key, MAX_SUMMARY),
            "custom_details": {
                "num_firing": firing.len(),
                "num_resolved": resolved.len(),
                "truncated": frame.truncated + self.entries.len() - told_firing.len() - told_resolved.len(),
                "firing": told_firing,
                "resolved": told_resolved,
            },
        });
        // its fields are texts: what is not there is left out
        let optional = [
            ("timestamp", first.map(|entry| rfc3339(entry.started_at))),
            ("component", label("metric")),
            ("class", label("rule")),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                payload[name] = value.into();
            }
        }
        let mut event = json!({
            "event_action": if frame.firing { "trigger" } else { "resolve" },
            "dedup_key": dedup_key,
            "client": "recwatch",
            "payload": payload,
        });
        if !frame.external_url.is_empty() {
            event["client_url"] = frame.external_url.into();
        }
        event
    }
}

impl Entry {
    fn of(alert: &Alert<'_>, labels: &Labels<'_>, firing: bool) -> Self {
        let mut labels: BTreeMap<String, String> = labels.iter().map(named).collect();
        // what Alertmanager's own pages and templates call an alert
        labels.entry("alertname".to_owned()).or_insert_with(|| bounded_to(&alert.rule, MAX_VALUE).into_owned());
        let mut annotations = BTreeMap::from([
            ("summary", alert.summary.to_string()),
            ("reason", alert.reason.to_string()),
            ("alert_id", alert.alert_id.to_string()),
            ("sequence", alert.sequence.to_string()),
            ("window_start", rfc3339(alert.window_start)),
            ("window_end", rfc3339(alert.window_end)),
        ]);
        let numbers = [("value", alert.value), ("threshold", alert.threshold), ("baseline", alert.baseline)];
        for (name, number) in numbers {
            if let Some(number) = number {
                annotations.insert(name, number.to_string());
            }
        }
        let mut list = |name, texts: Vec<String>| {
            if !texts.is_empty() {
                annotations.insert(name, texts.join(", "));
            }
        };
        list("samples", alert.samples.iter().map(|found| format!("{} {}", found.count, found.name)).collect());
        let carried = alert.attribution.iter();
        let carried = carried.map(|part| format!("{}={} ({:.0} %)", part.dimensions, part.values, part.share * 100.0));
        list("attribution", carried.collect());
        if let Some(traceparent) = &alert.traceparent {
            annotations.insert("traceparent", traceparent.to_string());
        }
        for text in annotations.values_mut() {
            if let Cow::Owned(shorter) = bounded_to(text, MAX_ANNOTATION) {
                *text = shorter;
            }
        }
        Self {
            firing,
            fingerprint: alert.fingerprint.to_string(),
            labels,
            annotations,
            severity: alert.severity.to_string(),
            started_at: alert.started_at,
            ended_at: alert.window_end,
        }
    }

    fn summary(&self) -> &str {
        self.annotations.get("summary").map_or("", String::as_str)
    }
}

/// A label as it is told.
fn named((name, value): (&str, &str)) -> (String, String) {
    (bounded_to(name, MAX_VALUE).into_owned(), bounded_to(value, MAX_VALUE).into_owned())
}

/// A text's size in JSON, with what stands between it and the next one.
fn size_of(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 3
}

/// The text's first characters.
fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// PagerDuty knows four; what it does not know is an error.
fn pager_duty_severity(severity: &str) -> Severity {
    match severity {
        "info" => Severity::Info,
        "warning" => Severity::Warning,
        "critical" => Severity::Critical,
        _ => Severity::Error,
    }
}

fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

/// The entries that all maps have.
fn common<'a, K: Ord + Clone + 'a>(mut maps: impl Iterator<Item = &'a BTreeMap<K, String>>) -> BTreeMap<K, String> {
    let mut common = maps.next().cloned().unwrap_or_default();
    for map in maps {
        common.retain(|name, value| map.get(name) == Some(value));
    }
    common
}

#[cfg(test)]
mod tests {
    use records::{Alert, AlertState};
    use serde_json::Value;

    use super::{Frame, LARGEST_NOTIFICATION, Notification};
    use crate::labels::{GroupBy, Labels};

    const FRAME: Frame<'_> = Frame {
        receiver: "pager",
        group_key: "{}:{rule=\"freshness-scattered\"}",
        external_url: "http://router",
        firing: true,
        truncated: 3,
    };

    fn example() -> Alert<'static> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/examples/Alert/firing.json");
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str(Box::leak(text.into_boxed_str())).unwrap()
    }

    /// Five minutes later, in another domain.
    fn ended() -> Alert<'static> {
        let mut alert = example();
        alert.state = AlertState::Resolved;
        alert.window_end += 300_000;
        alert.group[0].value = "films".into();
        alert
    }

    fn notification() -> Notification {
        let group_by = GroupBy::Names(vec!["rule".to_owned()]);
        let mut notification = Notification::default();
        for (alert, firing) in [(example(), true), (ended(), false)] {
            assert!(notification.add(&alert, &Labels::of(&alert), &group_by, firing));
        }
        notification
    }

    /// The fields of Alertmanager's documentation of `<webhook_config>`, by name and kind.
    #[test]
    fn the_webhook_payload_is_that_of_version_4() {
        let payload = notification().webhook(&FRAME);
        assert_eq!(payload["version"], "4");
        assert_eq!(payload["groupKey"], FRAME.group_key);
        assert_eq!(payload["truncatedAlerts"], 3);
        assert_eq!((&payload["status"], &payload["receiver"]), (&"firing".into(), &"pager".into()));
        assert_eq!(payload["groupLabels"], serde_json::json!({"rule": "freshness-scattered"}));
        assert_eq!(payload["commonLabels"]["severity"], "warning");
        assert_eq!(payload["externalURL"], "http://router");
        let [firing, resolved] = payload["alerts"].as_array().unwrap().as_slice() else { panic!("{payload}") };
        assert_eq!(firing["status"], "firing");
        assert_eq!(firing["endsAt"], "0001-01-01T00:00:00Z");
        assert_eq!(firing["startsAt"], "2026-11-21T03:00:00.000Z");
        assert_eq!(firing["labels"]["domain"], "fashion");
        assert_eq!(firing["labels"]["alertname"], "freshness-scattered");
        assert!(firing["labels"].get("rec_strategy").is_none(), "an empty label is none");
        assert_eq!(firing["annotations"]["value"], "0.6875");
        assert_eq!(firing["annotations"]["samples"], "412 sessions, 3511 events");
        assert_eq!(
            firing["annotations"]["attribution"],
            "user_segment=returning (97 %), domain+user_segment=fashion+returning (50 %)"
        );
        assert_eq!(firing["fingerprint"], "8c1d2e3f4a5b6c7d");
        assert_eq!(resolved["status"], "resolved");
        assert_eq!(resolved["endsAt"], "2026-11-21T03:05:00.000Z");
        assert!(payload["commonLabels"].get("domain").is_none(), "it differs");
    }

    #[test]
    fn an_alert_for_alertmanager_ends_ahead_while_it_fires_and_in_the_past_when_it_is_over() {
        let now = 1_795_300_000_000;
        let alerts = notification().alertmanager(&FRAME, now, now + 240_000);
        let times: Vec<&str> =
            alerts.as_array().unwrap().iter().map(|alert| alert["endsAt"].as_str().unwrap()).collect();
        assert_eq!(times[0], crate::timestamp::rfc3339(now + 240_000));
        assert_eq!(times[1], "2026-11-21T03:05:00.000Z");
        // a window that ends ahead of the clock
        let alerts = notification().alertmanager(&FRAME, 1_795_230_000_001, 0);
        assert_eq!(alerts[1]["endsAt"], crate::timestamp::rfc3339(1_795_230_000_001));
    }

    #[test]
    fn a_group_is_an_incident_for_pager_duty() {
        let event = notification().pager_duty(&FRAME, "k");
        assert_eq!((&event["event_action"], &event["dedup_key"]), (&"trigger".into(), &"k".into()));
        assert_eq!(event["payload"]["severity"], "warning");
        assert_eq!(event["payload"]["source"], "session-entropy");
        assert_eq!(event["payload"]["summary"], format!("{} (and 3 more)", example().summary));
        assert_eq!(event["payload"]["custom_details"]["num_resolved"], 1);
        let over = notification().pager_duty(&Frame { firing: false, ..FRAME }, "k");
        assert_eq!(over["event_action"], "resolve");
        assert_eq!(event.get("routing_key"), None::<&Value>, "the secret is added where it is sent");
    }

    #[test]
    fn what_an_alert_does_not_have_pager_duty_is_not_told() {
        let mut alert = example();
        (alert.metric, alert.rule, alert.worker, alert.summary) = ("".into(), "".into(), "".into(), "".into());
        let mut notification = Notification::default();
        assert!(notification.add(&alert, &Labels::of(&alert), &GroupBy::All, true));
        let event = notification.pager_duty(&Frame { external_url: "", truncated: 0, ..FRAME }, "k");
        assert_eq!((event.get("client_url"), event["payload"].get("component")), (None, None));
        assert_eq!(event["payload"].get("class"), None);
        assert_eq!(event["payload"]["source"], "recwatch");
        assert_eq!(event["payload"]["summary"], FRAME.group_key);
    }

    /// Quotes take two bytes each.
    #[test]
    fn pager_duty_gets_no_more_than_it_takes_and_is_told_how_much_is_missing() {
        let mut notification = Notification::default();
        let mut alert = example();
        for text in [&mut alert.summary, &mut alert.metric, &mut alert.rule, &mut alert.worker] {
            *text = "\"".repeat(20_000).into();
        }
        let labels = Labels::of(&alert);
        assert!(notification.add(&alert, &labels, &GroupBy::All, true));
        let mut small = example();
        small.summary = "\"".repeat(1_000).into();
        while notification.add(&small, &Labels::of(&small), &GroupBy::All, true) {}
        let group_key = "\"".repeat(60_000);
        let event = notification.pager_duty(&Frame { group_key: &group_key, ..FRAME }, "k");
        assert!(event.to_string().len() < 512 * 1024 - 100, "{} bytes", event.to_string().len());
        let details = &event["payload"]["custom_details"];
        let listed = |name: &str| details[name].as_array().unwrap().len();
        let (listed, count) = (listed("firing") + listed("resolved"), notification.len());
        assert!(listed > 100 && listed < count, "{listed} of {count}");
        assert_eq!(details["truncated"], count - listed + FRAME.truncated);
        let summary = event["payload"]["summary"].as_str().unwrap();
        assert_eq!(summary.chars().count(), 1024);
        assert!(summary.ends_with(" more)"), "{summary}");
    }

    /// Control characters take six bytes each. They stand in the alert's labels, those of the group and the common ones.
    #[test]
    fn no_notification_is_larger_than_a_topic_takes() {
        let mut alert = example();
        let text = "\u{1}".repeat(100_000);
        alert.summary = text.as_str().into();
        alert.rule = text.as_str().into();
        for label in &mut alert.group {
            label.value = text.as_str().into();
        }
        for attribution in &mut alert.attribution {
            attribution.values = text.as_str().into();
        }
        let labels = Labels::of(&alert);
        let group_key = labels.selected(&GroupBy::All);
        let mut notification = Notification::default();
        while notification.add(&alert, &labels, &GroupBy::All, true) {}
        assert!(notification.len() > 1);
        let frame = Frame { group_key: &group_key, ..FRAME };
        for body in [notification.webhook(&frame), notification.alertmanager(&frame, 0, 0)] {
            let size = body.to_string().len() + group_key.len();
            assert!((400_000..LARGEST_NOTIFICATION).contains(&size), "{size} bytes");
        }
    }
}
