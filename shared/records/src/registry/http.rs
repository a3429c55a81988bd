//! One request to one address, and what its answer means.

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use serde_json::Value;

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// An answer with more bytes than this is none: no schema that is of use is as large.
pub(super) const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Characters of an answer that messages repeat.
const SHOWN: usize = 300;

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

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Behind the base URL.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl Request {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), body: None }
    }
}

/// What the registry said.
#[derive(Debug)]
pub(super) enum Answer {
    Ok(Value),
    /// The registry itself knows no such thing; its code says what kind of thing.
    NotFound {
        code: i64,
        message: String,
    },
    /// Something else that asking again would not change.
    Refused(String),
}

/// No answer of a registry; asking again can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Whoever is there has nothing at that path.
    NoSuchPath(String),
    Other(String),
}

impl Failure {
    pub(super) fn message(&self) -> &str {
        match self {
            Self::NoSuchPath(message) | Self::Other(message) => message,
        }
    }
}

/// Sends a request and judges its answer.
pub(super) async fn exchange(
    http: &reqwest::Client,
    base: &str,
    user: Option<&(String, Option<String>)>,
    request: &Request,
) -> Result<Answer, Failure> {
    let url = format!("{base}{}", request.path);
    let mut builder = match request.method {
        Method::Get => http.get(url),
        Method::Post => http.post(url),
        Method::Put => http.put(url),
    };
    builder = builder.header(ACCEPT, MEDIA_TYPE);
    if let Some((user, password)) = user {
        builder = builder.basic_auth(user, password.as_ref());
    }
    if let Some(body) = &request.body {
        builder = builder.body(body.to_string()).header(CONTENT_TYPE, MEDIA_TYPE);
    }
    let mut response = builder.send().await.map_err(|error| Failure::Other(with_causes(&error)))?;
    let header =
        |name| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (content_type, location) = (header(CONTENT_TYPE), header(LOCATION));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Other(with_causes(&error)))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Other(format!("{}: more than {MAX_ANSWER_BYTES} bytes", response.status())));
        }
        body.extend_from_slice(&chunk);
    }
    judge(response.status(), content_type.as_deref(), location.as_deref(), &body)
}

/// What an answer says. Only a registry's own words count: pages of a proxy, a portal or another server say nothing about a
/// schema, whatever their status.
fn judge(
    status: StatusCode,
    content_type: Option<&str>,
    location: Option<&str>,
    body: &[u8],
) -> Result<Answer, Failure> {
    const OTHER_SERVER: &str = "is registry.url the registry's base URL, and nothing else before it?";
    // Old proxies and simple servers say no type; then the body alone has to be JSON.
    let is_json = content_type.is_none_or(|kind| kind.to_ascii_lowercase().contains("json"));
    let parsed: Option<Value> = if is_json { serde_json::from_slice(body).ok() } else { None };
    let said = || {
        let text = String::from_utf8_lossy(body);
        let message = parsed.as_ref().and_then(|body| body["message"].as_str()).unwrap_or(&text);
        format!("{status}: {}", message.chars().take(SHOWN).collect::<String>().trim_end())
    };
    if status.is_success() {
        return match parsed {
            Some(body) => Ok(Answer::Ok(body)),
            None => {
                let kind = content_type.unwrap_or("no content type");
                Err(Failure::Other(format!("{} ({kind}, no JSON; {OTHER_SERVER})", said())))
            }
        };
    }
    if status.is_redirection() {
        let to = location.unwrap_or("nowhere");
        return Err(Failure::Other(format!(
            "{status} to {}: {OTHER_SERVER}",
            to.chars().take(SHOWN).collect::<String>()
        )));
    }
    let code = parsed.as_ref().and_then(|body| body["error_code"].as_i64());
    match (status, code) {
        (StatusCode::NOT_FOUND, Some(code)) if (40_400..40_500).contains(&code) => {
            Ok(Answer::NotFound { code, message: said() })
        }
        (StatusCode::NOT_FOUND, _) => Err(Failure::NoSuchPath(format!("{} ({OTHER_SERVER})", said()))),
        (StatusCode::UNAUTHORIZED, _) => {
            Ok(Answer::Refused(format!("{} (check registry.user and registry.password)", said())))
        }
        (StatusCode::FORBIDDEN, _) => {
            Ok(Answer::Refused(format!("{} (the registry must let registry.user read and register schemas)", said())))
        }
        (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS, _) => Err(Failure::Other(said())),
        _ if status.is_server_error() => Err(Failure::Other(said())),
        _ => Ok(Answer::Refused(said())),
    }
}

/// A subject or version as a part of a path.
pub(super) fn encode(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// An error with what caused it: reqwest's own message does not say why a connection failed.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
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
    use super::*;

    const JSON: Option<&str> = Some("application/vnd.schemaregistry.v1+json");
    const HTML: Option<&str> = Some("text/html; charset=utf-8");

    fn judged(status: u16, content_type: Option<&str>, body: &str) -> Result<Answer, Failure> {
        judge(StatusCode::from_u16(status).unwrap(), content_type, Some("https://login.example.org"), body.as_bytes())
    }

    #[test]
    fn not_found_counts_only_where_the_registry_itself_says_so() {
        let own = r#"{"error_code":40403,"message":"Schema not found"}"#;
        for content_type in [JSON, Some("application/json"), None] {
            assert!(matches!(judged(404, content_type, own), Ok(Answer::NotFound { code: 40403, .. })));
        }
        for (content_type, body) in [
            (HTML, "<html>nothing here</html>"),
            (HTML, own),
            (JSON, r#"{"status":404}"#),
            (JSON, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
            (JSON, ""),
        ] {
            assert!(matches!(judged(404, content_type, body), Err(Failure::NoSuchPath(_))), "{body}");
        }
    }

    #[test]
    fn what_may_pass_is_asked_again_and_what_will_not_is_refused() {
        for status in [500, 502, 503, 504, 429, 408, 301, 302, 307] {
            assert!(matches!(judged(status, JSON, "{}"), Err(Failure::Other(_))), "{status}");
        }
        for status in [400, 401, 403, 409, 422] {
            assert!(matches!(judged(status, JSON, r#"{"error_code":1}"#), Ok(Answer::Refused(_))), "{status}");
        }
        assert!(matches!(judged(200, JSON, r#"{"id":1}"#), Ok(Answer::Ok(_))));
    }

    #[test]
    fn somebody_elses_200_is_no_answer() {
        for (content_type, body) in
            [(HTML, "<html>a captive portal</html>"), (HTML, r#"{"id":1}"#), (JSON, ""), (None, "<html>"), (JSON, "{")]
        {
            assert!(matches!(judged(200, content_type, body), Err(Failure::Other(_))), "{body}");
        }
    }

    #[test]
    fn messages_say_what_to_do_and_stay_short() {
        let Ok(Answer::Refused(message)) = judged(401, JSON, r#"{"message":"who are you?"}"#) else { panic!() };
        assert!(message.contains("who are you?") && message.contains("registry.password"), "{message}");
        let Err(failure) = judged(302, HTML, "") else { panic!() };
        assert!(failure.message().contains("login.example.org"), "{failure:?}");
        let Err(failure) = judged(500, HTML, &"x".repeat(100_000)) else { panic!() };
        assert!(failure.message().len() < 1_000);
    }

    #[test]
    fn a_subject_is_escaped_in_a_path() {
        assert_eq!(encode("recwatch.late.v1-value"), "recwatch.late.v1-value");
        assert_eq!(encode("a/b c?"), "a%2Fb%20c%3F");
    }
}
