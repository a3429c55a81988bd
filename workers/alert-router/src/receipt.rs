//! What a receiver's answer means: a status alone is not its own, where it has more to say.
//!
//! | receiver | has taken a notification where it answers |
//! |---|---|
//! | webhook | 2xx: there is nothing else that all webhooks say |
//! | Alertmanager | 2xx with nothing, as its API does, or with JSON; a page is somebody else's |
//! | PagerDuty | 2xx with JSON: `status` is `success`, and `dedup_key` the event's, where it has one |
//!
//! Redirects are not followed, since a POST would become a GET: they refuse. An untrue success is repeated: a proxy that
//! restarts gives such answers, and `give_up_after` bounds it.

use std::time::SystemTime;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::config::Protocol;
use crate::core::Outcome;

/// So much of an answer's body is read, in bytes: what receivers say is far below.
pub const LARGEST_RECEIPT: usize = 16 * 1024;
/// What of it goes into messages.
const MAX_MESSAGE: usize = 500;

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Receipt<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The beginning of its body.
    pub body: &'a [u8],
}

impl Receipt<'_> {
    /// What it means that the notification `sent` was answered so at `now`.
    #[must_use]
    pub fn outcome(&self, protocol: &Protocol, sent: &[u8], now: SystemTime) -> Outcome {
        let failed = |reached, retry_after| Outcome::Failed { message: self.message(), reached, retry_after };
        match self.status {
            status if status.is_success() => match self.foreign(protocol, sent) {
                None => Outcome::Delivered,
                Some(problem) => {
                    let message = format!("not the receiver's own answer, {problem}: {}", self.message());
                    Outcome::Failed { message, reached: true, retry_after: None }
                }
            },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => failed(false, self.retry_after(now)),
            StatusCode::REQUEST_TIMEOUT => failed(true, None),
            status if status.is_server_error() => failed(true, None),
            _ => Outcome::Refused { message: self.message() },
        }
    }

    /// Why a success is not the receiver's own; `None` where it is.
    fn foreign(&self, protocol: &Protocol, sent: &[u8]) -> Option<&'static str> {
        match protocol {
            Protocol::Webhook(_) => None,
            Protocol::Alertmanager if self.body.trim_ascii().is_empty() => None,
            Protocol::Alertmanager => self.json().is_none().then_some("it is neither empty nor JSON"),
            Protocol::PagerDuty(_) => {
                let Some(said) = self.json() else { return Some("it is no JSON") };
                if said["status"] != "success" {
                    return Some("its status is not success");
                }
                let key = serde_json::from_slice::<Value>(sent).map(|event| event["dedup_key"].clone());
                let is_other = said.get("dedup_key").is_some_and(|found| key.is_ok_and(|key| *found != key));
                is_other.then_some("its dedup_key is another")
            }
        }
    }

    /// The body as a JSON object or list.
    fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.body).ok().filter(|value: &Value| value.is_object() || value.is_array())
    }

    /// In ms.
    fn retry_after(&self, now: SystemTime) -> Option<i64> {
        let wait = service::retry_after(self.headers.get(RETRY_AFTER)?.to_str().ok()?, now)?;
        Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    fn message(&self) -> String {
        let body = &self.body[..self.body.len().min(MAX_MESSAGE)];
        format!("{}: {}", self.status, String::from_utf8_lossy(body))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;
    use service::Secret;

    use super::Receipt;
    use crate::config::Protocol;
    use crate::core::Outcome;

    const PAGE: &str = "<html><title>Sign in</title></html>";
    const SENT: &[u8] = br#"{"routing_key":"k","dedup_key":"d1"}"#;

    fn outcome(protocol: &Protocol, status: u16, retry_after: Option<&'static str>, body: &str) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert("retry-after", value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let receipt = Receipt { status, headers: &headers, body: body.as_bytes() };
        receipt.outcome(protocol, SENT, SystemTime::UNIX_EPOCH)
    }

    fn pager_duty() -> Protocol {
        Protocol::PagerDuty(Secret::default())
    }

    #[test]
    fn a_status_says_whether_a_repetition_helps_whoever_the_receiver_is() {
        for protocol in [Protocol::Webhook(None), Protocol::Alertmanager, pager_duty()] {
            for status in [301, 302, 307, 308, 400, 401, 403, 404, 407, 410, 413, 422] {
                assert!(matches!(outcome(&protocol, status, None, PAGE), Outcome::Refused { .. }), "{status}");
            }
            for status in [408, 429, 500, 502, 503, 504] {
                assert!(matches!(outcome(&protocol, status, None, PAGE), Outcome::Failed { .. }), "{status}");
            }
            let busy = outcome(&protocol, 429, Some("7"), "");
            assert!(matches!(busy, Outcome::Failed { retry_after: Some(7000), reached: false, .. }), "{busy:?}");
            assert!(matches!(outcome(&protocol, 500, None, ""), Outcome::Failed { reached: true, .. }));
        }
    }

    #[test]
    fn a_success_counts_only_in_the_receiver_s_own_words() {
        let accepted = r#"{"status":"success","message":"Event processed","dedup_key":"d1"}"#;
        let taken: &[(Protocol, u16, &str)] = &[
            (Protocol::Webhook(None), 200, PAGE),
            (Protocol::Webhook(None), 204, ""),
            (Protocol::Alertmanager, 200, ""),
            (Protocol::Alertmanager, 200, "\n"),
            // the API before version 2, and what stands for it
            (Protocol::Alertmanager, 200, r#"{"status":"success"}"#),
            (pager_duty(), 202, accepted),
            (pager_duty(), 200, r#"{"status":"success"}"#),
        ];
        for (protocol, status, body) in taken {
            assert_eq!(outcome(protocol, *status, None, body), Outcome::Delivered, "{protocol:?} {body}");
        }
        let foreign: &[(Protocol, u16, &str)] = &[
            (Protocol::Alertmanager, 200, PAGE),
            (Protocol::Alertmanager, 200, "OK"),
            (Protocol::Alertmanager, 202, "1"),
            (pager_duty(), 200, ""),
            (pager_duty(), 202, ""),
            (pager_duty(), 200, PAGE),
            (pager_duty(), 202, r#"{"status":"invalid event"}"#),
            (pager_duty(), 202, r#"{"message":"ok"}"#),
            (pager_duty(), 202, r#"{"status":"success","dedup_key":"of somebody else"}"#),
            (pager_duty(), 202, r#"["success"]"#),
        ];
        for (protocol, status, body) in foreign {
            let outcome = outcome(protocol, *status, None, body);
            assert!(matches!(outcome, Outcome::Failed { reached: true, .. }), "{protocol:?} {body}: {outcome:?}");
        }
    }
}
