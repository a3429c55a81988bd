//! What an answer of the HTTP interface means: by its status and headers, so that nobody else's answer counts.
//!
//! An insert is acknowledged by an answer that carries its query id and at least its number of rows; materialized views
//! add theirs. An insert that ClickHouse knows by its token already reports all of its rows, too. So what was stored in part
//! must not be sent again under the same token: it is split.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};

use crate::codes;
use crate::verdict::{InsertError, SingleRow, Verdict, shortened};

/// Header: which query an answer is for.
pub const QUERY_ID: &str = "X-ClickHouse-Query-Id";
/// Header: what the query has read and written, as JSON; complete where `wait_end_of_query=1` was asked for.
pub const SUMMARY: &str = "X-ClickHouse-Summary";
/// Header: the code of ClickHouse's exception.
pub const EXCEPTION_CODE: &str = "X-ClickHouse-Exception-Code";

/// An answer, with the headers that matter.
#[derive(Debug, Clone)]
pub struct Answer {
    status: StatusCode,
    exception_code: Option<u32>,
    query_id: Option<String>,
    /// Where there is one that can be read.
    summary: Option<Summary>,
    retry_after: Option<Duration>,
    location: Option<String>,
    body: Vec<u8>,
}

/// Numbers are written as texts.
#[derive(Debug, Clone, serde::Deserialize)]
struct Summary {
    written_rows: String,
    #[serde(default)]
    read_rows: String,
}

impl Summary {
    /// How many rows have arrived; `None` where it does not say.
    fn rows(&self) -> Option<u64> {
        let written: u64 = self.written_rows.parse().ok()?;
        // not all versions count what they read of an insert; those that do count it without the views
        match self.read_rows.parse() {
            Ok(read @ 1..) => Some(written.min(read)),
            _ => Some(written),
        }
    }
}

impl Answer {
    /// An answer that came at `now`; `body` is as much of it as is wanted.
    #[must_use]
    pub fn new(status: StatusCode, headers: &HeaderMap, body: Vec<u8>, now: SystemTime) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            exception_code: text(EXCEPTION_CODE).and_then(|code| code.trim().parse().ok()),
            query_id: text(QUERY_ID).map(str::to_owned),
            summary: text(SUMMARY).and_then(|summary| serde_json::from_str(summary).ok()),
            retry_after: text(RETRY_AFTER.as_str()).and_then(|value| service::retry_after(value, now)),
            location: text(LOCATION.as_str()).map(str::to_owned),
            body,
        }
    }

    /// Whether it may be that of an insert that a proxy has taken the headers from: the rows themselves can prove it.
    #[must_use]
    pub fn may_be_acknowledgement(&self) -> bool {
        self.status == StatusCode::OK && self.exception_code.is_none() && self.body.is_empty()
    }

    /// Whether it acknowledges the insert `query_id` of `rows` rows.
    ///
    /// # Errors
    /// What it says instead, judged.
    pub fn acknowledges(&self, query_id: &str, rows: usize) -> Result<(), InsertError> {
        self.is_success()?;
        let written = self.summary.as_ref().and_then(Summary::rows);
        let (verdict, problem) = match (self.query_id.as_deref(), written) {
            (None, _) => (Verdict::Unexpected, format!("it has no header {QUERY_ID}")),
            (Some(found), _) if found != query_id => {
                (Verdict::Unexpected, format!("its {QUERY_ID} is {:?}, and not {query_id:?}", shortened(found)))
            }
            _ if !self.body.is_empty() => return Err(self.late_exception()),
            (_, None) => (Verdict::Unexpected, format!("it has no header {SUMMARY} with written_rows")),
            (_, Some(0)) => (Verdict::Unexpected, format!("its {SUMMARY} says that no row was written, of {rows}")),
            (_, Some(written)) if written < rows as u64 => (
                Verdict::Split(SingleRow::Unexpected),
                format!("its {SUMMARY} says that {written} rows were written, of {rows}"),
            ),
            _ => return Ok(()),
        };
        let what = format!("it does not acknowledge the insert: {problem}");
        Err(InsertError { verdict, ..self.unexpected(&what) })
    }

    /// The body, where the answer is a success, whoever has sent it.
    ///
    /// # Errors
    /// What it says instead, judged.
    pub fn is_success(&self) -> Result<&[u8], InsertError> {
        if let Some(code) = self.exception_code {
            return Err(self.exception(code));
        }
        let verdict = match self.status.as_u16() {
            200 => return Ok(&self.body),
            413 => Verdict::Split(SingleRow::Refuse),
            // of the URL, or of headers: both hold the token, which is shorter for fewer partitions
            414 | 431 => Verdict::Split(SingleRow::Unexpected),
            408 | 425 | 429 => Verdict::Retry,
            501 | 505 | 511 => Verdict::Unexpected,
            500..=599 => Verdict::Retry,
            _ => Verdict::Unexpected,
        };
        Err(InsertError { verdict, ..self.unexpected("it is not ClickHouse's") })
    }

    fn exception(&self, code: u32) -> InsertError {
        let text = String::from_utf8_lossy(&self.body);
        InsertError {
            verdict: codes::judge(code, &text),
            code: Some(code),
            message: match text.trim() {
                "" => format!("HTTP {}, {EXCEPTION_CODE} {code}", self.status.as_u16()),
                text => shortened(text),
            },
            ..self.error()
        }
    }

    /// ClickHouse has answered, and then failed: its exception is all that the body of an insert's answer can be.
    fn late_exception(&self) -> InsertError {
        match codes::of_text(&String::from_utf8_lossy(&self.body)) {
            Some(code) => self.exception(code),
            None => InsertError { verdict: Verdict::Retry, ..self.unexpected("an insert's answer is empty") },
        }
    }

    fn unexpected(&self, what: &str) -> InsertError {
        let mut message = format!("HTTP {}: {what}", self.status.as_u16());
        if self.status.is_redirection()
            && let Some(location) = &self.location
        {
            // behind the question mark there may be secrets
            let location = location.split(['?', '#']).next().unwrap_or_default();
            message.push_str(&format!(", it redirects to {:?}", shortened(location)));
        }
        let beginning = &self.body[..self.body.len().min(BEGINNING)];
        if !beginning.is_empty() {
            message.push_str(&format!("; its body begins {:?}", String::from_utf8_lossy(beginning)));
        }
        message.push_str(&format!(
            "; does clickhouse.url lead to ClickHouse? A proxy on the way has to pass on {QUERY_ID}, {SUMMARY} and {EXCEPTION_CODE}"
        ));
        InsertError { message, ..self.error() }
    }

    fn error(&self) -> InsertError {
        InsertError {
            status: Some(self.status.as_u16()),
            retry_after: self.retry_after,
            ..InsertError::new(Verdict::Unexpected, "")
        }
    }
}

/// So much of a foreign body is quoted, in bytes.
const BEGINNING: usize = 200;

#[cfg(test)]
mod tests;
