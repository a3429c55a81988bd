//! Small HTTP calls from ordinary code: to the components and to the workers' endpoints on this machine.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Client;

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body of an answer with a 2xx status.
    ///
    /// # Errors
    /// Any other status; the error is the body.
    pub fn ok(self) -> Result<String> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("HTTP {}: {}", self.status, self.body.trim())
    }
}

/// `GET url`.
///
/// # Errors
/// Nobody answers within `timeout`.
pub fn get(url: &str, timeout: Duration) -> Result<Answer> {
    send(url, timeout, |client| client.get(url))
}

/// `POST url` with a body.
///
/// # Errors
/// Nobody answers within `timeout`.
pub fn post(url: &str, content_type: &str, body: impl Into<Vec<u8>>, timeout: Duration) -> Result<Answer> {
    let body = body.into();
    send(url, timeout, |client| client.post(url).header("Content-Type", content_type).body(body))
}

fn send(
    url: &str,
    timeout: Duration,
    request: impl FnOnce(&Client) -> reqwest::blocking::RequestBuilder + Send,
) -> Result<Answer> {
    outside_async(|| {
        let response = request(client()?).timeout(timeout).send().with_context(|| format!("no answer from {url}"))?;
        let status = response.status().as_u16();
        let body = response.text().with_context(|| format!("the answer of {url} broke off"))?;
        Ok(Answer { status, body })
    })
}

fn client() -> Result<&'static Client> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    // Everything is on this machine: a proxy from the environment would only be in the way. Idle connections are not
    // kept, because components are stopped and started on purpose.
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().context("no HTTP client")?;
    Ok(CLIENT.get_or_init(|| client))
}

/// Runs blocking code in a thread of its own, so that callers inside an async runtime may use it as well.
pub(crate) fn outside_async<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
