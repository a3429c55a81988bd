//! PagerDuty, as the documentation of its Events API v2 has it ("Send an Alert Event", "Events API v2 Overview"): it refuses
//! what is no event, and keeps the alerts that follow from what it takes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Map, Value, json};

pub(crate) const ROUTING_KEY: &str = "0123456789abcdef0123456789ABCDEF";
const MAX_BYTES: usize = 512 * 1024;

/// A request, as it arrived, and what was answered.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) idempotency_key: String,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An alert at PagerDuty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incident {
    pub(crate) dedup_key: String,
    pub(crate) open: bool,
    pub(crate) severity: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// It is not looked at.
    Refuse(u16),
    /// It is taken, and answered so nevertheless.
    Take(u16),
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    incidents: Vec<Incident>,
    next: VecDeque<Answer>,
    always: Option<Answer>,
}

/// The server; it runs until the test process ends.
#[derive(Clone)]
pub(crate) struct PagerDuty {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
}

impl PagerDuty {
    pub(crate) fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let routes = Router::new()
            .route("/v2/enqueue", post(enqueue))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(seen.clone());
        Self { url: format!("{}/v2/enqueue", crate::peers::serve(routes)), seen }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// In the order in which they were opened.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.seen.lock().unwrap().incidents.clone()
    }

    /// What becomes of the next requests, in their order.
    pub(crate) fn next(&self, answers: &[Answer]) {
        self.seen.lock().unwrap().next.extend(answers);
    }

    /// What becomes of all others; `None`: they are judged by what they hold.
    pub(crate) fn always(&self, answer: Option<Answer>) {
        self.seen.lock().unwrap().always = answer;
    }
}

async fn enqueue(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let mut seen = seen.lock().unwrap();
    let event = judge(&headers, &body);
    let answer = seen.next.pop_front().or(seen.always);
    let (status, said) = match (&event, answer) {
        (_, Some(Answer::Refuse(status))) => (status, json!({"status": "error"})),
        (Err(errors), _) => {
            (400, json!({"status": "invalid event", "message": "Event object is invalid", "errors": errors}))
        }
        (Ok(event), answer) => {
            take(&mut seen.incidents, event);
            let said = json!({"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]});
            (if let Some(Answer::Take(status)) = answer { status } else { 202 }, said)
        }
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    seen.requests.push(Request { idempotency_key: text("idempotency-key"), body: body.to_vec(), status });
    (StatusCode::from_u16(status).unwrap(), said.to_string())
}

/// A trigger opens an alert or is one more entry of an open one; a resolution of what is not open is dropped.
fn take(incidents: &mut Vec<Incident>, event: &Value) {
    let dedup_key = event["dedup_key"].as_str().unwrap();
    let open = incidents.iter_mut().find(|incident| incident.open && incident.dedup_key == dedup_key);
    match (event["event_action"].as_str().unwrap(), open) {
        ("trigger", open) => {
            let severity = event["payload"]["severity"].as_str().unwrap().to_owned();
            match open {
                Some(incident) => incident.severity = severity,
                None => incidents.push(Incident { dedup_key: dedup_key.to_owned(), open: true, severity }),
            }
        }
        (_, Some(incident)) => incident.open = false,
        (_, None) => {}
    }
}

/// The event, or all that is wrong about it.
fn judge(headers: &HeaderMap, body: &[u8]) -> Result<Value, Vec<String>> {
    let mut errors = Vec::new();
    if headers.get("content-type").is_none_or(|kind| kind != "application/json") {
        errors.push("the content is no application/json".to_owned());
    }
    if body.len() > MAX_BYTES {
        errors.push(format!("{} bytes", body.len()));
    }
    let Ok(Value::Object(event)) = serde_json::from_slice(body) else {
        return Err(vec!["JSON parse error".to_owned()]);
    };
    let nothing = Map::new();
    let payload = event.get("payload").and_then(Value::as_object).unwrap_or(&nothing);
    let top = ["routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "images", "links"];
    let inner = ["summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"];
    for (fields, known) in [(&event, &top), (payload, &inner)] {
        errors.extend(fields.keys().filter(|name| !known.contains(&name.as_str())).map(|name| format!("{name}?")));
    }
    let mut texts = |fields: &Map<String, Value>, needed: bool, names: &[&str]| {
        for &name in names {
            match fields.get(name) {
                None if !needed => {}
                Some(Value::String(text)) if !text.is_empty() => {}
                other => errors.push(format!("{name} is {other:?}")),
            }
        }
    };
    texts(&event, true, &["routing_key", "event_action", "dedup_key"]);
    texts(&event, false, &["client", "client_url"]);
    texts(payload, true, &["summary", "source", "severity"]);
    texts(payload, false, &["timestamp", "component", "group", "class"]);
    let mut check = |fields: &Map<String, Value>, name: &str, holds: &dyn Fn(&str) -> bool| {
        if let Some(text) = fields.get(name).and_then(Value::as_str)
            && !holds(text)
        {
            errors.push(format!("{name} is {text:?}"));
        }
    };
    check(&event, "routing_key", &|key| key == ROUTING_KEY);
    check(&event, "event_action", &|action| ["trigger", "acknowledge", "resolve"].contains(&action));
    check(&event, "dedup_key", &|key| key.chars().count() <= 255);
    check(&event, "client_url", &|url| reqwest::Url::parse(url).is_ok());
    check(payload, "summary", &|summary| summary.chars().count() <= 1024);
    check(payload, "severity", &|severity| ["critical", "error", "warning", "info"].contains(&severity));
    check(payload, "timestamp", &|time| humantime::parse_rfc3339(time).is_ok());
    if payload.get("custom_details").is_some_and(|details| !details.is_object()) {
        errors.push("custom_details is no object".to_owned());
    }
    if errors.is_empty() { Ok(Value::Object(event)) } else { Err(errors) }
}
