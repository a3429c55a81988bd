//! What alert-router writes to a topic, read as whoever subscribes to it would: Alertmanager's webhook payload, version 4.

use anyhow::{Context, Result};
use serde::Deserialize;

/// What the router adds to the labels of an alert's group.
const NOT_OF_THE_GROUP: [&str; 6] = ["alertname", "kind", "metric", "rule", "severity", "worker"];

/// One transition of an alert, as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// One life of the alert.
    pub alert_id: String,
    /// Number of the record in that life.
    pub sequence: i64,
    /// Whether it fires; otherwise it is over.
    pub firing: bool,
    /// `threshold`, `deviation`, `change` or `absence`.
    pub kind: String,
    /// The rule's name.
    pub rule: String,
    /// As the rule has it.
    pub severity: String,
    /// Names and values of the group's dimensions, by name; without empty ones.
    pub group: Vec<(String, String)>,
    /// One sentence for people.
    pub summary: String,
    /// Which values of which dimensions carry it, the most concentrated first; empty where nothing was said.
    pub attribution: String,
    /// The end of the window that caused it, as RFC 3339, UTC.
    pub window_end: String,
}

impl Told {
    /// The group as `domain=books, user_segment=new`.
    #[must_use]
    pub fn place(&self) -> String {
        let labels: Vec<String> = self.group.iter().map(|(name, value)| format!("{name}={value}")).collect();
        labels.join(", ")
    }

    /// The time of day at which the window ends (UTC).
    #[must_use]
    pub fn time_of_day(&self) -> &str {
        self.window_end.get(11..19).unwrap_or(&self.window_end)
    }
}

#[derive(Deserialize)]
struct Payload {
    alerts: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    status: String,
    labels: std::collections::BTreeMap<String, String>,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    alert_id: String,
    sequence: String,
    summary: String,
    #[serde(default)]
    attribution: String,
    window_end: String,
}

/// The transitions that a notification tells.
///
/// # Errors
/// It is no such payload, or an alert in it does not say what it is.
pub fn read(payload: &[u8]) -> Result<Vec<Told>> {
    let context = || format!("no notification: {}", String::from_utf8_lossy(payload));
    let payload: Payload = serde_json::from_slice(payload).with_context(context)?;
    payload.alerts.into_iter().map(told).collect::<Result<Vec<Told>>>().with_context(context)
}

fn told(entry: Entry) -> Result<Told> {
    let Entry { status, mut labels, annotations } = entry;
    let mut label = |name: &str| labels.remove(name).with_context(|| format!("the label {name} is missing"));
    let (kind, rule, severity) = (label("kind")?, label("rule")?, label("severity")?);
    labels.retain(|name, _| !NOT_OF_THE_GROUP.contains(&name.as_str()));
    // a dimension of one of these names has its label beside it
    let dimension = |name: String| name.strip_prefix("exported_").map(str::to_owned).unwrap_or(name);
    let sequence = &annotations.sequence;
    Ok(Told {
        sequence: sequence.parse().with_context(|| format!("the sequence {sequence:?} is no number"))?,
        alert_id: annotations.alert_id,
        firing: status == "firing",
        kind,
        rule,
        severity,
        group: labels.into_iter().map(|(name, value)| (dimension(name), value)).collect(),
        summary: annotations.summary,
        attribution: annotations.attribution,
        window_end: annotations.window_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"version":"4","status":"firing","alerts":[
        {"status":"resolved","labels":{"alertname":"r","rule":"r","kind":"change","metric":"events","severity":"warning",
         "worker":"session-entropy","domain":"books","exported_kind":"pair","user_segment":"new"},
         "annotations":{"alert_id":"a1","sequence":"3","summary":"it is over","reason":"cleared",
         "window_end":"2026-11-21T03:05:00.000Z"}}]}"#;

    #[test]
    fn a_notification_is_read_with_the_group_apart_from_other_labels() {
        let told = read(PAYLOAD.as_bytes()).unwrap();
        let [told] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((told.alert_id.as_str(), told.sequence, told.firing), ("a1", 3, false));
        assert_eq!((told.kind.as_str(), told.rule.as_str()), ("change", "r"));
        assert_eq!(
            (told.place().as_str(), told.time_of_day()),
            ("domain=books, kind=pair, user_segment=new", "03:05:00")
        );
        assert_eq!((told.summary.as_str(), told.attribution.as_str()), ("it is over", ""));
    }

    #[test]
    fn what_is_no_notification_is_shown() {
        let error = read(b"[]").unwrap_err();
        assert!(format!("{error:#}").contains("no notification: []"), "{error:#}");
        let error = read(PAYLOAD.replace("\"3\"", "\"x\"").as_bytes()).unwrap_err();
        assert!(format!("{error:#}").contains("\"x\" is no number"), "{error:#}");
    }
}
