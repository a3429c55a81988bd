//! Carries notifications to their receivers, one attempt at a time; what follows from an answer, the core decides.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use sha2::Sha256;

use crate::config::{Protocol, Target};
use crate::core::Outcome;

/// Header: the same for each repetition of a notification.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Header: `sha256=` and the HMAC-SHA256 of the body, in hexadecimal.
pub const SIGNATURE: &str = "X-Recwatch-Signature-256";

/// What an answer says is cut behind as many bytes, and no more is read.
const MAX_ANSWER: usize = 500;

/// An attempt's end.
#[derive(Debug)]
pub struct Answer {
    /// What it means.
    pub outcome: Outcome,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// Of an attempt that panicked `took` after its begin: what the receiver has of it is not known.
    #[must_use]
    pub fn broken_off(panicked: &tokio::task::JoinError, took: Duration) -> Self {
        let outcome = Outcome::Failed { message: panicked.to_string(), reached: true, retry_after: None };
        Self { outcome, status: None, took }
    }
}

/// A receiver as it is reached.
#[derive(Clone)]
pub enum Courier {
    /// A file.
    File(Arc<Path>),
    /// An HTTP server.
    Http(Arc<Http>),
}

/// An HTTP receiver.
pub struct Http {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    protocol: Protocol,
}

impl Courier {
    /// A courier for a target; `None` for topics, which the router writes to itself.
    ///
    /// # Errors
    /// Where the certificates cannot be used.
    pub fn new(name: &str, target: Target) -> anyhow::Result<Option<Self>> {
        let (url, headers, ca_location, timeout, protocol) = match target {
            Target::Topic => return Ok(None),
            Target::File(path) => return Ok(Some(Self::File(path.into()))),
            Target::Http { url, headers, ca_location, timeout, protocol } => {
                (url, headers, ca_location, timeout, protocol)
            }
        };
        let timeout = Duration::from_millis(timeout.unsigned_abs());
        let mut builder = reqwest::Client::builder()
            .timeout(timeout)
            .user_agent(concat!("recwatch-alert-router/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none());
        let host = reqwest::Url::parse(&url).ok().and_then(|url| url.host_str().map(str::to_owned));
        if matches!(host.as_deref(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            // what runs on this machine is not behind a proxy
            builder = builder.no_proxy();
        }
        if let Some(path) = ca_location {
            let context = || format!("receivers.{name}.ca_location = {path:?}");
            let pem = std::fs::read(&path).with_context(context)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).with_context(context)?;
            anyhow::ensure!(!authorities.is_empty(), "{}: the file holds no PEM certificate", context());
            builder = builder.tls_certs_only(authorities);
        }
        let mut sent = HeaderMap::new();
        for (header, value) in headers {
            let mut value =
                HeaderValue::from_str(value.expose()).with_context(|| format!("receivers.{name}.headers"))?;
            value.set_sensitive(true);
            sent.insert(HeaderName::from_bytes(header.as_bytes())?, value);
        }
        let client = builder.build().with_context(|| format!("receivers.{name}: no HTTP client can be made"))?;
        Ok(Some(Self::Http(Arc::new(Http { client, url, headers: sent, protocol }))))
    }

    /// Makes one attempt.
    pub async fn deliver(&self, idempotency_key: &str, body: Arc<[u8]>) -> Answer {
        let begun = std::time::Instant::now();
        let (outcome, status) = match self {
            Self::File(path) => (append(path.clone(), idempotency_key.to_owned(), body).await, None),
            Self::Http(http) => http.post(idempotency_key, &body).await,
        };
        Answer { outcome, status, took: begun.elapsed() }
    }
}

impl Http {
    async fn post(&self, idempotency_key: &str, body: &[u8]) -> (Outcome, Option<u16>) {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        request = request.headers(self.headers.clone()).header(IDEMPOTENCY_KEY, idempotency_key);
        let body = match &self.protocol {
            Protocol::PagerDuty(key) => with_routing_key(body, key.expose()),
            Protocol::Alertmanager => body.to_vec(),
            Protocol::Webhook(None) => body.to_vec(),
            Protocol::Webhook(Some(secret)) => {
                request = request.header(SIGNATURE, format!("sha256={}", signature(secret.expose(), body)));
                body.to_vec()
            }
        };
        match request.body(body).send().await {
            Err(error) => {
                let outcome =
                    Outcome::Failed { message: with_causes(&error), reached: !error.is_connect(), retry_after: None };
                (outcome, None)
            }
            Ok(answer) => {
                let status = answer.status();
                let retry_after =
                    answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
                let said: String = match status.is_success() {
                    true => String::new(),
                    false => beginning(answer).await,
                };
                (verdict(status, retry_after.as_deref(), &said), Some(status.as_u16()))
            }
        }
    }
}

/// What an answer says first.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut said = Vec::new();
    while said.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        said.extend_from_slice(&chunk);
    }
    said.truncate(MAX_ANSWER);
    String::from_utf8_lossy(&said).into_owned()
}

/// What a status means: what has to change before a repetition helps.
fn verdict(status: StatusCode, retry_after: Option<&str>, said: &str) -> Outcome {
    let message = format!("{status}: {said}");
    match status {
        _ if status.is_success() => Outcome::Delivered,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Outcome::Failed { message, reached: false, retry_after: retry_after.and_then(wait) }
        }
        StatusCode::REQUEST_TIMEOUT => Outcome::Failed { message, reached: true, retry_after: None },
        _ if status.is_server_error() => Outcome::Failed { message, reached: true, retry_after: None },
        _ => Outcome::Refused { message },
    }
}

/// `Retry-After` in ms: seconds, or a date.
fn wait(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(i64::from(seconds) * 1000);
    }
    // "Thu, 26 Nov 2026 03:05:00 GMT"
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? + 1;
    let at = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(at.duration_since(SystemTime::now()).map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// The HMAC-SHA256 of a body, in hexadecimal.
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    // any length of key is taken
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The state topic holds bodies, and no secrets.
fn with_routing_key(body: &[u8], key: &str) -> Vec<u8> {
    let mut whole = format!("{{\"routing_key\":{},", serde_json::Value::from(key)).into_bytes();
    whole.extend_from_slice(body.strip_prefix(b"{").unwrap_or(body));
    whole
}

/// Appends a line with the notification, its key first, and returns once the disk has it.
async fn append(path: Arc<Path>, idempotency_key: String, body: Arc<[u8]>) -> Outcome {
    let write = move || -> std::io::Result<()> {
        let mut line = format!("{{\"idempotencyKey\":{},", serde_json::Value::from(idempotency_key)).into_bytes();
        line.extend_from_slice(body.strip_prefix(b"{").unwrap_or(&body));
        line.push(b'\n');
        let mut file = std::fs::OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            // half a line, left by a crash, would spoil this one
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_data()
    };
    let failed = |message: String| Outcome::Failed { message, reached: true, retry_after: None };
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => Outcome::Delivered,
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}

/// An error and what lies below it, without addresses, which may hold tokens.
fn with_causes(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the request failed"
    };
    let mut text = what.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::{signature, verdict, wait, with_routing_key};
    use crate::core::Outcome;

    #[test]
    fn a_status_says_whether_a_repetition_helps() {
        let of = |status: u16, header| verdict(StatusCode::from_u16(status).unwrap(), header, "");
        assert_eq!(of(202, None), Outcome::Delivered);
        for status in [400, 401, 403, 404, 410, 413, 422, 301] {
            assert!(matches!(of(status, None), Outcome::Refused { .. }), "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(of(status, None), Outcome::Failed { .. }), "{status}");
        }
        assert!(matches!(of(429, Some("7")), Outcome::Failed { retry_after: Some(7000), reached: false, .. }));
        assert!(matches!(of(500, None), Outcome::Failed { reached: true, .. }));
        assert_eq!(wait("Thu, 26 Nov 2015 03:05:00 GMT"), Some(0), "it is over");
        assert_eq!(wait("soon"), None);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac_sha256() {
        assert_eq!(
            signature("Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_routing_key_is_the_first_field() {
        assert_eq!(with_routing_key(b"{\"a\":1}", "k\""), br#"{"routing_key":"k\"","a":1}"#);
    }
}
