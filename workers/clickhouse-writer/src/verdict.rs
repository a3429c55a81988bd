//! What to do about an insert that failed: the one place that knows ClickHouse's error codes.
//!
//! | verdict | when | what follows |
//! |---|---|---|
//! | retry | ClickHouse is away, overloaded or half way up; anything unknown | the same rows and token again, later |
//! | split | the insert is too large for a limit of the server | two smaller ones; a single row is retried |
//! | refused | the rows are at fault | halves, until the row is found; it goes to the dead letters |
//! | stop | the set-up is at fault: no such table, no right, other columns | the writer ends and says so; nothing is lost |
//!
//! A wrong `retry` waits and shows; a wrong `refused` would empty a topic into the dead letters. So whatever is not
//! surely about rows is not `refused`.

/// What to do about a failed insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Send the same again after a pause.
    Retry,
    /// Send smaller pieces.
    Split,
    /// One or more of the rows cannot be inserted, ever.
    Refused,
    /// Only a person can help.
    Stop,
}

/// A failed insert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InsertError {
    /// What to do about it.
    pub verdict: Verdict,
    /// ClickHouse's error code, where the answer came from ClickHouse.
    pub code: Option<u32>,
    /// The answer, shortened.
    pub message: String,
}

/// The longest part of an answer that is kept: ClickHouse's answers may quote the data.
const MAX_MESSAGE_BYTES: usize = 600;

impl InsertError {
    /// Judges an answer of the server: its exception, or what a proxy in front of it said.
    pub fn from_answer(answer: &str) -> Self {
        let code = code(answer);
        Self { verdict: judge(code, answer), code, message: shortened(answer) }
    }

    /// No answer came, so nobody knows whether the rows are in.
    pub fn unanswered(message: &str) -> Self {
        Self { verdict: Verdict::Retry, code: None, message: shortened(message) }
    }
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.len() <= MAX_MESSAGE_BYTES {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)])
    }
}

/// The code of `Code: 252. DB::Exception: …`.
fn code(answer: &str) -> Option<u32> {
    let (_, rest) = answer.split_once("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn judge(code: Option<u32>, answer: &str) -> Verdict {
    let Some(code) = code else {
        return judge_proxy(answer);
    };
    match code {
        // TOO_MANY_PARTS says two things: this insert touches too many partitions, or merges do not keep up.
        252 if answer.contains("Too many partitions for single INSERT block") => Verdict::Split,
        252 => Verdict::Retry,
        // MEMORY_LIMIT_EXCEEDED, TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
        241 | 158 | 307 | 396 => Verdict::Split,
        // INCORRECT_DATA also says that the columns are others than the header claims.
        117 if answer.contains("while reading header") => Verdict::Stop,
        // CANNOT_PARSE_TEXT, CANNOT_PARSE_DATE, CANNOT_PARSE_DATETIME,
        // ARGUMENT_OUT_OF_BOUND, CANNOT_PARSE_NUMBER, INCORRECT_DATA, TOO_LARGE_STRING_SIZE,
        // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE, CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN,
        // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO (of a materialized view), DECIMAL_OVERFLOW, VIOLATED_CONSTRAINT
        6 | 38 | 41 | 69 | 72 | 117 | 131 | 321 | 349 | 395 | 407 | 469 => Verdict::Refused,
        // NO_SUCH_COLUMN_IN_TABLE, NOT_FOUND_COLUMN_IN_BLOCK, BAD_ARGUMENTS, ILLEGAL_COLUMN, UNKNOWN_IDENTIFIER,
        // NOT_IMPLEMENTED, TYPE_MISMATCH, UNKNOWN_TABLE, SYNTAX_ERROR, UNKNOWN_FORMAT, UNKNOWN_DATABASE,
        // UNKNOWN_SETTING, READONLY, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED,
        // QUERY_IS_PROHIBITED, ACCESS_DENIED, AUTHENTICATION_FAILED
        16 | 10 | 36 | 44 | 47 | 48 | 53 | 60 | 62 | 73 | 81 | 115 | 164 | 192 | 193 | 194 | 195 | 392 | 497 | 516 => {
            Verdict::Stop
        }
        _ => Verdict::Retry,
    }
}

/// A proxy answers with its status (the client library passes `401 Unauthorized` on where there is no text).
fn judge_proxy(answer: &str) -> Verdict {
    match answer.trim().get(..3) {
        Some("401" | "403" | "404") => Verdict::Stop,
        Some("413") => Verdict::Split,
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::{InsertError, Verdict};

    /// Answers of the engine and of proxies, as they were seen.
    #[test]
    fn every_kind_of_answer_has_its_verdict() {
        let answers = [
            (
                "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100). The limit is",
                Verdict::Split,
            ),
            (
                "Code: 252. DB::Exception: Too many parts (3000). Merges are processing significantly slower than inserts.",
                Verdict::Retry,
            ),
            (
                "Code: 469. DB::Exception: Constraint `c` for table recwatch.session_freshness is violated at row 2.",
                Verdict::Refused,
            ),
            (
                "Code: 117. DB::Exception: Type of 'domain' must be LowCardinality(String), not String: (while reading header)",
                Verdict::Stop,
            ),
            ("Code: 117. DB::Exception: Unexpected data", Verdict::Refused),
            ("Code: 60. DB::Exception: Table recwatch.nope does not exist. (UNKNOWN_TABLE)", Verdict::Stop),
            ("Code: 516. DB::Exception: default: Authentication failed", Verdict::Stop),
            ("Code: 241. DB::Exception: Memory limit (total) exceeded", Verdict::Split),
            ("Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100.", Verdict::Retry),
            ("Code: 242. DB::Exception: Table is in readonly mode", Verdict::Retry),
            ("Code: 424242. DB::Exception: a code of a later version", Verdict::Retry),
            ("503 Service Unavailable", Verdict::Retry),
            ("403 Forbidden", Verdict::Stop),
            ("413 Payload Too Large", Verdict::Split),
            ("<html>502 Bad Gateway</html>", Verdict::Retry),
            ("", Verdict::Retry),
        ];
        for (answer, verdict) in answers {
            assert_eq!(InsertError::from_answer(answer).verdict, verdict, "{answer}");
        }
    }

    #[test]
    fn the_code_is_read_and_a_long_answer_is_shortened_between_characters() {
        let error = InsertError::from_answer(&format!("Code: 469. DB::Exception: {}", "ü".repeat(1000)));
        assert_eq!(error.code, Some(469));
        assert!(error.message.len() <= 610, "{}", error.message.len());
    }
}
