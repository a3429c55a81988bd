//! What to do about an insert that failed.
//!
//! | verdict | when | what follows |
//! |---|---|---|
//! | retry | ClickHouse is unavailable, overloaded or starting; anything unknown | the same rows and token again, later |
//! | unexpected | an answer that a ClickHouse behind `clickhouse.url` does not give: a page, no right, a wrong port | the same, but the writer ends when nothing else comes for a while |
//! | split | the insert is too large for a limit of the server or of a proxy | two smaller ones; what a single row means, [`SingleRow`] says |
//! | refused | the rows are at fault | halves, until the row is found; it goes to the dead letters |
//! | stop | the set-up is at fault: no such table, no right, other columns | the writer ends and says so; nothing is lost |
//!
//! A wrong `retry` waits and shows; a wrong `refused` would empty a topic into the dead letters. So whatever is not
//! surely about rows is not `refused`.

use std::time::Duration;

use tokio::time::Instant;

/// What to do about a failed insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Send the same again after a pause.
    Retry,
    /// Send the same again after a pause, within [`Patience`].
    Unexpected,
    /// Send smaller pieces.
    Split(SingleRow),
    /// One or more of the rows cannot be inserted, ever.
    Refused,
    /// Only a person can help.
    Stop,
}

/// What "too large" means for a single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleRow {
    /// The limit is the server's memory: it may fit later.
    Retry,
    /// The row itself is too large, and is refused.
    Refuse,
    /// The row is not at fault.
    Unexpected,
}

/// A failed insert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InsertError {
    /// What to do about it.
    pub verdict: Verdict,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// ClickHouse's error code, where the answer came from ClickHouse.
    pub code: Option<u32>,
    /// How long the answer asks to wait.
    pub retry_after: Option<Duration>,
    /// The answer, shortened.
    pub message: String,
}

/// The longest part of an answer that is kept: ClickHouse's answers may quote the data.
const MAX_MESSAGE_BYTES: usize = 600;

impl InsertError {
    /// An error without an answer's details.
    pub fn new(verdict: Verdict, message: &str) -> Self {
        Self { verdict, status: None, code: None, retry_after: None, message: shortened(message) }
    }

    /// No answer came, so nobody knows whether the rows are in.
    pub fn unanswered(message: &str) -> Self {
        Self::new(Verdict::Retry, message)
    }
}

/// The beginning of a text, cut between characters.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.len() <= MAX_MESSAGE_BYTES {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)])
    }
}

/// The longest pause that an answer may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The pause before the next attempt: `pause`, or longer where the answer asks for it.
#[must_use]
pub fn wait(pause: Duration, error: &InsertError) -> Duration {
    pause.max(error.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// How long unexpected answers are borne: a proxy that restarts may give some, a wrong address gives nothing else.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    since: Option<Instant>,
}

impl Patience {
    /// Ends when nothing but unexpected answers has come for `limit`.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, since: None }
    }

    /// Something else came: an acknowledgement, an answer of ClickHouse, or none.
    pub fn restore(&mut self) {
        self.since = None;
    }

    /// Takes an error; returns it for another attempt.
    ///
    /// # Errors
    /// [`Verdict::Stop`] where the patience is over.
    pub fn bear(&mut self, error: InsertError, now: Instant) -> Result<InsertError, InsertError> {
        if error.verdict != Verdict::Unexpected {
            self.since = None;
            return Ok(error);
        }
        if now.duration_since(*self.since.get_or_insert(now)) < self.limit {
            return Ok(error);
        }
        let message = format!(
            "for {:?} (clickhouse.unexpected_answer_timeout) nothing came but unexpected answers, the last one: {}",
            self.limit, error.message
        );
        Err(InsertError { verdict: Verdict::Stop, message, ..error })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{InsertError, Patience, Verdict};

    #[test]
    fn a_long_message_is_shortened_between_characters() {
        let error = InsertError::unanswered(&"ü".repeat(1000));
        assert!(error.message.len() <= 610, "{}", error.message.len());
    }

    #[test]
    fn unexpected_answers_are_borne_for_a_while_and_anything_else_begins_a_new_while() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let unexpected = || InsertError::new(Verdict::Unexpected, "a page");
        let mut patience = Patience::new(Duration::from_secs(120));
        assert!(patience.bear(unexpected(), at(0)).is_ok());
        assert!(patience.bear(unexpected(), at(119)).is_ok());
        assert!(patience.bear(InsertError::unanswered("refused"), at(119)).is_ok());
        assert!(patience.bear(unexpected(), at(121)).is_ok());
        patience.restore();
        assert!(patience.bear(unexpected(), at(241)).is_ok());
        let end = patience.bear(unexpected(), at(361)).unwrap_err();
        assert_eq!(end.verdict, Verdict::Stop);
        assert!(end.message.contains("unexpected_answer_timeout") && end.message.ends_with("a page"), "{end}");
    }
}
