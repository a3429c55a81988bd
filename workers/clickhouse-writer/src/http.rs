//! Requests to ClickHouse's HTTP interface, answered with status, headers and body.
//!
//! The `clickhouse` crate (0.15) cannot be asked for these: its error keeps the body alone, `Insert::end` drops the headers
//! of a success, and its `HttpClient` is a sealed trait, so that nothing can be put between.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Body, Client, Url};
use tokio::sync::watch;

use crate::answer::Answer;
use crate::config::ClickHouse;

/// Shorter than ClickHouse's own 3 s, so that no insert is sent into a connection that is being closed.
const IDLE: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What is sent at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// The interface behind one address.
#[derive(Clone)]
pub struct Http {
    client: Client,
    url: Url,
    send_timeout: Duration,
    answer_timeout: Duration,
}

/// What is sent.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Parameters of the query: statement, id, settings.
    pub parameters: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
    /// How the body is compressed, as `Content-Encoding`.
    pub encoding: Option<&'static str>,
    /// So much of the answer's body is read, in bytes.
    pub largest_answer: usize,
}

impl Http {
    /// A client; connects to nothing yet. Redirects are not followed (an insert would be lost as a GET), and proxies of the
    /// environment are not used.
    ///
    /// # Errors
    /// Where the certificates cannot be read.
    pub fn new(config: &ClickHouse) -> anyhow::Result<Self> {
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .tcp_keepalive(KEEP_ALIVE)
            .user_agent(concat!("recwatch/", env!("CARGO_PKG_VERSION")))
            .default_headers(credentials(config)?);
        if let Some(path) = &config.ca_location {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        Ok(Self {
            client: builder.build().context("no HTTP client for ClickHouse can be made")?,
            url: Url::parse(config.url.as_str()).with_context(|| format!("clickhouse.url = {:?}", config.url))?,
            send_timeout: config.send_timeout.as_duration(),
            answer_timeout: config.answer_timeout.as_duration(),
        })
    }

    /// Posts and reads the answer.
    ///
    /// # Errors
    /// Where no answer came, with the reason.
    pub async fn post(&self, request: Request<'_>) -> Result<Answer, String> {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(request.parameters);
        let (body, sent) = watched(request.body);
        let mut post = self.client.post(url).body(Body::wrap(body));
        if let Some(encoding) = request.encoding {
            post = post.header(CONTENT_ENCODING, encoding);
        }
        tokio::select! {
            answer = answer(post, request.largest_answer) => answer.map_err(|error| with_causes(&error.without_url())),
            message = self.too_slow(sent) => Err(message),
        }
    }

    /// Resolves when the server has left data unread, or has not answered, for too long.
    async fn too_slow(&self, mut sent: watch::Receiver<()>) -> String {
        loop {
            match tokio::time::timeout(self.send_timeout, sent.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => return format!("sent data was not read within {:?}", self.send_timeout),
            }
        }
        tokio::time::sleep(self.answer_timeout).await;
        format!("no answer within {:?}", self.answer_timeout)
    }
}

async fn answer(post: reqwest::RequestBuilder, largest: usize) -> reqwest::Result<Answer> {
    let mut response = post.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while body.len() < largest {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(largest - body.len())]),
            Ok(None) => break,
            Err(error) if status.is_success() => return Err(error),
            // the status says enough
            Err(_) => break,
        }
    }
    Ok(Answer::new(status, &headers, body, SystemTime::now()))
}

fn credentials(config: &ClickHouse) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let given = [
        ("x-clickhouse-user", "user", config.user.as_str()),
        ("x-clickhouse-key", "password", config.password.expose()),
    ];
    for (header, key, value) in given {
        if !value.is_empty() {
            // as bytes: ClickHouse takes UTF-8 here
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .with_context(|| format!("clickhouse.{key} holds characters that no HTTP header takes"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
    }
    Ok(headers)
}

/// The authorities to trust instead of the public ones.
fn authorities(path: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let context = || format!("clickhouse.ca_location = {path:?}");
    let pem = std::fs::read(path).with_context(context)?;
    let authorities = reqwest::Certificate::from_pem_bundle(&pem).with_context(context)?;
    anyhow::ensure!(!authorities.is_empty(), "{}: the file holds no certificate", context());
    Ok(authorities)
}

/// A body that reports each chunk that is taken from it, and its end by closing the channel.
fn watched(bytes: Bytes) -> (WatchedBody, watch::Receiver<()>) {
    let (taken, sent) = watch::channel(());
    (WatchedBody { bytes, taken: Some(taken) }, sent)
}

struct WatchedBody {
    bytes: Bytes,
    taken: Option<watch::Sender<()>>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.bytes.is_empty() {
            this.taken = None;
            return Poll::Ready(None);
        }
        let chunk = this.bytes.split_to(this.bytes.len().min(CHUNK));
        match &this.taken {
            Some(taken) if !this.bytes.is_empty() => taken.send_replace(()),
            _ => this.taken = None,
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Known, so that a proxy can refuse what is too large before it is sent.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// An error with its causes: the library's own text for a refused connection says only that there was one.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::authorities;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let path = std::env::temp_dir().join(format!("recwatch-no-certificate-{}.pem", std::process::id()));
        std::fs::write(&path, "nothing").unwrap();
        let error = format!("{:#}", authorities(&path).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("clickhouse.ca_location") && error.contains("no certificate"), "{error}");
        assert!(authorities(&path).is_err());
    }
}
