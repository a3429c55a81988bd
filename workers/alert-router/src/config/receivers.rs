use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use service::{Problems, Secret};

use super::duration;
use crate::routing::{Receiver, Retry, Style};

const DEFAULT_TOPIC: &str = "recwatch.routes.default.v1";
const PAGER_DUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const TYPES: [&str; 5] = ["topic", "alertmanager", "webhook", "pagerduty", "file"];
const ALL_HTTP: [&str; 3] = ["alertmanager", "webhook", "pagerduty"];
const ALL_BUT_TOPIC: [&str; 4] = ["alertmanager", "webhook", "pagerduty", "file"];

/// A table in `[receivers]`. Which keys it may have depends on its type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ReceiverSection {
    #[serde(rename = "type")]
    pub kind: String,
    pub topic: Option<String>,
    pub url: Option<String>,
    pub path: Option<String>,
    pub secret: Option<Secret>,
    pub routing_key: Option<Secret>,
    pub headers: Option<BTreeMap<String, Secret>>,
    pub ca_location: Option<String>,
    pub timeout: Option<String>,
    pub resend_interval: Option<String>,
    pub first_pause: Option<String>,
    pub longest_pause: Option<String>,
    pub give_up_after: Option<String>,
    pub max_alerts: Option<usize>,
    pub concurrency: Option<usize>,
    pub send_resolved: Option<bool>,
}

/// What is done with an HTTP receiver's body before it is sent.
#[derive(Debug, Clone)]
pub enum Protocol {
    /// Signed, where there is a secret.
    Webhook(Option<Secret>),
    /// Nothing.
    Alertmanager,
    /// The routing key is put into it.
    PagerDuty(Secret),
}

/// Where a receiver is told.
#[derive(Debug, Clone)]
pub enum Target {
    /// In the router's own transactions.
    Topic,
    /// By lines at the end of this file.
    File(PathBuf),
    /// By requests.
    Http {
        /// Where to.
        url: String,
        /// Headers to add.
        headers: BTreeMap<String, Secret>,
        /// Certificates to trust instead of the public ones.
        ca_location: Option<PathBuf>,
        /// For one request, in ms.
        timeout: i64,
        /// What the body is.
        protocol: Protocol,
    },
}

pub(super) fn compile(
    sections: &BTreeMap<String, ReceiverSection>,
    problems: &mut Problems,
) -> Vec<(Receiver, Target)> {
    if sections.is_empty() {
        let kind = "topic".to_owned();
        let section = ReceiverSection { kind, topic: Some(DEFAULT_TOPIC.to_owned()), ..ReceiverSection::default() };
        return vec![section.compile("default", problems)];
    }
    sections.iter().map(|(name, section)| section.compile(name, problems)).collect()
}

impl ReceiverSection {
    fn compile(&self, name: &str, problems: &mut Problems) -> (Receiver, Target) {
        let key = |key: &str| format!("receivers.{name}.{key}");
        if !TYPES.contains(&self.kind.as_str()) {
            problems.add(key("type"), format!("{:?}", self.kind), format!("one of {}", TYPES.join(", ")));
        } else {
            self.check_keys(name, problems);
        }
        let resend_interval = duration(&key("resend_interval"), self.resend_interval.as_ref(), 60_000, 1_000, problems);
        let timeout = duration(&key("timeout"), self.timeout.as_ref(), 10_000, 1, problems);
        let retry = self.retry(name, problems);
        let (style, target) = match self.kind.as_str() {
            "topic" => (Style::Topic(self.topic.clone().unwrap_or_default()), Target::Topic),
            "file" => (Style::Lines, Target::File(self.path.clone().unwrap_or_default().into())),
            "alertmanager" => {
                let url = self.url(name, None, problems);
                let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
                (Style::Alertmanager { resend_interval }, self.http(url, timeout, Protocol::Alertmanager))
            }
            "pagerduty" => {
                let protocol = Protocol::PagerDuty(self.routing_key.clone().unwrap_or_default());
                (Style::PagerDuty, self.http(self.url(name, Some(PAGER_DUTY), problems), timeout, protocol))
            }
            "webhook" => {
                let secret = self.secret.clone().filter(|secret| !secret.is_empty());
                (Style::Webhook, self.http(self.url(name, None, problems), timeout, Protocol::Webhook(secret)))
            }
            _ => (Style::Webhook, Target::Topic),
        };
        let mut within = |name: &str, value: Option<usize>, default: usize, most: usize| {
            let value = value.unwrap_or(default);
            if !(1..=most).contains(&value) {
                problems.add(key(name), value, format!("1 to {most}"));
            }
            value
        };
        let receiver = Receiver {
            name: name.to_owned(),
            style,
            send_resolved: self.send_resolved.unwrap_or(true),
            max_alerts: within("max_alerts", self.max_alerts, 100, 1000),
            concurrency: within("concurrency", self.concurrency, 8, 64),
            retry,
        };
        (receiver, target)
    }

    fn http(&self, url: String, timeout: i64, protocol: Protocol) -> Target {
        let headers = self.headers.clone().unwrap_or_default();
        let ca_location = self.ca_location.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
        Target::Http { url, headers, ca_location, timeout, protocol }
    }

    fn retry(&self, name: &str, problems: &mut Problems) -> Retry {
        let mut read = |key: &str, text: Option<&String>, default, least| {
            duration(&format!("receivers.{name}.{key}"), text, default, least, problems)
        };
        let first_pause = read("first_pause", self.first_pause.as_ref(), 1_000, 1);
        let longest_pause = read("longest_pause", self.longest_pause.as_ref(), 60_000.max(first_pause), first_pause);
        let give_up_after = read("give_up_after", self.give_up_after.as_ref(), 900_000, 0);
        Retry { first_pause, longest_pause, give_up_after }
    }

    /// The url is not shown where it is wrong: it may hold a token.
    fn url(&self, name: &str, default: Option<&str>, problems: &mut Problems) -> String {
        let Some(url) = self.url.as_deref().or(default) else { return String::new() };
        let wrong = match reqwest::Url::parse(url) {
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => "begin with http:// or https://",
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                "hold no user and password: put them into headers"
            }
            Ok(_) => return url.to_owned(),
            Err(_) => "be an address such as https://example.org/hook",
        };
        problems.tell(format!("receivers.{name}.url"), format!("must {wrong}"));
        String::new()
    }

    /// Keys that the type needs, and those that it does not have.
    fn check_keys(&self, name: &str, problems: &mut Problems) {
        let kind = self.kind.as_str();
        let is_text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let is_secret = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| !secret.is_empty());
        let needed = [
            ("topic", "topic", is_text(&self.topic)),
            ("file", "path", is_text(&self.path)),
            ("alertmanager", "url", is_text(&self.url)),
            ("webhook", "url", is_text(&self.url)),
            ("pagerduty", "routing_key", is_secret(&self.routing_key)),
        ];
        for (of, key, given) in needed {
            if of == kind && !given {
                problems.tell(format!("receivers.{name}.{key}"), format!("is needed by a receiver of type {kind:?}"));
            }
        }
        let keys: [(&str, bool, &[&str]); 12] = [
            ("topic", self.topic.is_some(), &["topic"]),
            ("path", self.path.is_some(), &["file"]),
            ("url", self.url.is_some(), &ALL_HTTP),
            ("secret", self.secret.is_some(), &["webhook"]),
            ("routing_key", self.routing_key.is_some(), &["pagerduty"]),
            ("headers", self.headers.is_some(), &ALL_HTTP),
            ("ca_location", self.ca_location.is_some(), &ALL_HTTP),
            ("timeout", self.timeout.is_some(), &ALL_HTTP),
            ("resend_interval", self.resend_interval.is_some(), &["alertmanager"]),
            ("first_pause", self.first_pause.is_some(), &ALL_BUT_TOPIC),
            ("longest_pause", self.longest_pause.is_some(), &ALL_BUT_TOPIC),
            ("give_up_after", self.give_up_after.is_some(), &ALL_BUT_TOPIC),
        ];
        for (key, given, types) in keys {
            if given && !types.contains(&kind) {
                let message = format!("is no key of a receiver of type {kind:?}, only of {}", types.join(", "));
                problems.tell(format!("receivers.{name}.{key}"), message);
            }
        }
        for (header, value) in self.headers.iter().flatten() {
            if reqwest::header::HeaderName::from_bytes(header.as_bytes()).is_err()
                || reqwest::header::HeaderValue::from_str(value.expose()).is_err()
            {
                problems.tell(
                    format!("receivers.{name}.headers"),
                    format!("{header:?} is no header, or its value is none"),
                );
            }
        }
        if let Some(path) = self.ca_location.as_ref().filter(|path| !path.is_empty())
            && let Err(error) = std::fs::File::open(path)
        {
            let key = format!("receivers.{name}.ca_location");
            problems.add(key, format!("{path:?}"), format!("a file that can be read ({error})"));
        }
    }
}
