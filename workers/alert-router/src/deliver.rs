//! Carries notifications to their receivers, one attempt at a time; what follows from an answer, the core decides.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::config::{Protocol, Target};
use crate::core::Outcome;
use crate::receipt::{LARGEST_RECEIPT, Receipt};

/// Header: the same for each repetition of a notification.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Header: `sha256=` and the HMAC-SHA256 of the body, in hexadecimal.
pub const SIGNATURE: &str = "X-Recwatch-Signature-256";

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
        let sent = match &self.protocol {
            Protocol::PagerDuty(key) => with_routing_key(body, key.expose()),
            Protocol::Alertmanager => body.to_vec(),
            Protocol::Webhook(None) => body.to_vec(),
            Protocol::Webhook(Some(secret)) => {
                request = request.header(SIGNATURE, format!("sha256={}", signature(secret.expose(), body)));
                body.to_vec()
            }
        };
        match request.body(sent.clone()).send().await {
            Err(error) => {
                let outcome =
                    Outcome::Failed { message: with_causes(&error), reached: !error.is_connect(), retry_after: None };
                (outcome, None)
            }
            Ok(answer) => {
                let (status, headers) = (answer.status(), answer.headers().clone());
                // a webhook's success says nothing that matters
                let is_read = !(status.is_success() && matches!(self.protocol, Protocol::Webhook(_)));
                let body = if is_read { beginning(answer).await } else { Vec::new() };
                let receipt = Receipt { status, headers: &headers, body: &body };
                (receipt.outcome(&self.protocol, &sent, SystemTime::now()), Some(status.as_u16()))
            }
        }
    }
}

/// The beginning of an answer's body; where it breaks off, what has come.
async fn beginning(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < LARGEST_RECEIPT
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(LARGEST_RECEIPT - body.len())]);
    }
    body
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
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::{Courier, signature, with_routing_key};
    use crate::config::{Protocol, Target};
    use crate::core::Outcome;

    /// A receiver that answers for as long as somebody reads; how many bytes that were.
    fn endless(status: &'static str) -> (String, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 1000000000000\r\n\r\n").unwrap();
            let mut written = 0;
            while connection.write_all(&[b'x'; 4096]).is_ok() {
                written += 4096;
            }
            written
        });
        (url, thread)
    }

    #[tokio::test]
    async fn of_an_answer_that_does_not_end_only_its_beginning_is_read() {
        for (status, refuses) in [("400 Bad Request", true), ("200 OK", false)] {
            let (url, receiver) = endless(status);
            let target = Target::Http {
                url,
                headers: std::collections::BTreeMap::new(),
                ca_location: None,
                timeout: 60_000,
                protocol: Protocol::Alertmanager,
            };
            let courier = Courier::new("hook", target).unwrap().unwrap();
            let answer = courier.deliver("key", b"[]".to_vec().into()).await;
            let message = match answer.outcome {
                Outcome::Refused { message } if refuses => message,
                Outcome::Failed { message, reached: true, .. } if !refuses => message,
                other => panic!("{other:?}"),
            };
            assert!((400..700).contains(&message.len()), "{} bytes: {message}", message.len());
            drop(courier);
            // the connection closes on this thread
            let written = tokio::task::spawn_blocking(|| receiver.join().unwrap()).await.unwrap();
            // what lies in the buffers of both ends
            assert!(written < 50_000_000, "{written}");
        }
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
