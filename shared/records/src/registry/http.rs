//! One request to the registry, and what its answer means.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{RegistryConfig, RegistryError};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// How often a wait looks whether the process stops.
const STOP_CHECK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// What the registry said.
#[derive(Debug)]
pub(super) enum Answer {
    Ok(Value),
    /// The registry itself knows no such thing.
    NotFound(String),
    /// Something else that asking again would not change.
    Refused(String),
}

/// HTTP client and the runtime that its requests run on.
pub(super) struct Client {
    url: String,
    http: reqwest::Client,
    user: Option<(String, Option<String>)>,
    runtime: Option<Runtime>,
}

impl Client {
    pub(super) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        let wrong = |key, value: &str, message: String| RegistryError::Config { key, value: value.to_owned(), message };
        let parsed = reqwest::Url::parse(&config.url)
            .map_err(|error| wrong("url", &config.url, format!("{error}; an http or https URL is expected")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            let message = "user and password belong into registry.user and registry.password".to_owned();
            return Err(wrong("url", "***", message));
        }
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("url", &config.url, "an http or https URL is expected".to_owned()));
        }
        let mut builder = reqwest::Client::builder().timeout(config.request_timeout).user_agent("recwatch");
        if parsed.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]")) {
            // what runs on this machine is not behind a proxy
            builder = builder.no_proxy();
        }
        if let Some(path) = &config.ca_location {
            let shown = path.display().to_string();
            let unusable = |error: &dyn std::fmt::Display| wrong("ca_location", &shown, format!("{error}"));
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            if authorities.is_empty() {
                return Err(unusable(&"the file holds no PEM certificate"));
            }
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|error| wrong("url", &config.url, with_causes(&error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|error| wrong("url", &config.url, format!("no runtime for its requests: {error}")))?;
        let user = config.user.clone().map(|user| (user, config.password.clone()));
        Ok(Self { url: config.url.trim_end_matches('/').to_owned(), http, user, runtime: Some(runtime) })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sends one request and waits for its answer; `None` once `stop` is true. The inner error is one that asking again
    /// can change.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        stop: &dyn Fn() -> bool,
    ) -> Option<Result<Answer, String>> {
        let url = format!("{}{path}", self.url);
        let mut request = match method {
            Method::Get => self.http.get(url),
            Method::Post => self.http.post(url),
            Method::Put => self.http.put(url),
        };
        request = request.header(ACCEPT, MEDIA_TYPE);
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, password.as_ref());
        }
        if let Some(body) = body {
            request = request.body(body.to_string()).header(CONTENT_TYPE, MEDIA_TYPE);
        }
        let (sender, receiver) = channel();
        let task = self.runtime.as_ref()?.spawn(async move {
            // nobody listens any more where the process stops
            let _ = sender.send(exchange(request).await);
        });
        loop {
            if stop() {
                task.abort();
                return None;
            }
            match receiver.recv_timeout(STOP_CHECK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Some(Err("the request broke off".to_owned())),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // a plain drop waits, which is not allowed where the last clone goes inside another runtime
            runtime.shutdown_background();
        }
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|error| with_causes(&error))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| with_causes(&error))?;
    judge(status, &text)
}

/// What status and body say. A `404` means that something is unknown only where the registry says so itself, in its error
/// format: one from a proxy or a wrong base URL says nothing about a schema.
fn judge(status: StatusCode, text: &str) -> Result<Answer, String> {
    let body: Option<Value> = serde_json::from_str(text).ok();
    let said = || {
        let message = body.as_ref().and_then(|body| body["message"].as_str()).unwrap_or(text);
        format!("{status}: {}", message.chars().take(500).collect::<String>())
    };
    if status.is_success() {
        return match body {
            Some(body) => Ok(Answer::Ok(body)),
            None => {
                Err(format!("{status} with a body that is no JSON: {}", text.chars().take(200).collect::<String>()))
            }
        };
    }
    let code = body.as_ref().and_then(|body| body["error_code"].as_i64());
    match status {
        StatusCode::NOT_FOUND if code.is_some_and(|code| code == 404 || (40_400..40_500).contains(&code)) => {
            Ok(Answer::NotFound(said()))
        }
        StatusCode::NOT_FOUND => Err(format!("{} (is this the registry's base URL?)", said())),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(said()),
        _ if status.is_server_error() => Err(said()),
        _ => Ok(Answer::Refused(said())),
    }
}

/// Waits; true as soon as `stop` is.
pub(super) fn wait_or_stop(pause: Duration, stop: &dyn Fn() -> bool) -> bool {
    let until = Instant::now() + pause;
    loop {
        if stop() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(STOP_CHECK));
    }
}

/// A subject as a part of a path.
pub(super) fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// An error with what caused it: reqwest's own message does not say why a connection failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Answer, StatusCode, encode, judge};

    #[test]
    fn not_found_counts_only_where_the_registry_itself_says_so() {
        let own = r#"{"error_code":40403,"message":"Schema not found"}"#;
        assert!(matches!(judge(StatusCode::NOT_FOUND, own), Ok(Answer::NotFound(_))));
        assert!(judge(StatusCode::NOT_FOUND, "<html>nothing here</html>").is_err());
        assert!(judge(StatusCode::NOT_FOUND, r#"{"status":404}"#).is_err());
    }

    #[test]
    fn what_may_pass_is_asked_again_and_what_will_not_is_refused() {
        assert!(judge(StatusCode::SERVICE_UNAVAILABLE, "").is_err());
        assert!(judge(StatusCode::TOO_MANY_REQUESTS, "").is_err());
        assert!(judge(StatusCode::OK, "<html>a captive portal</html>").is_err());
        assert!(matches!(judge(StatusCode::UNAUTHORIZED, ""), Ok(Answer::Refused(_))));
        assert!(matches!(judge(StatusCode::CONFLICT, r#"{"error_code":409}"#), Ok(Answer::Refused(_))));
        assert!(matches!(judge(StatusCode::OK, r#"{"id":1}"#), Ok(Answer::Ok(_))));
    }

    #[test]
    fn a_subject_is_escaped_in_a_path() {
        assert_eq!(encode("recwatch.late.v1-value"), "recwatch.late.v1-value");
        assert_eq!(encode("a/b c?"), "a%2Fb%20c%3F");
    }
}
