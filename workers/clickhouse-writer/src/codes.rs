//! ClickHouse's error codes: the one place that knows them.

use crate::verdict::{SingleRow, Verdict};

/// What to do about an insert that ended with ClickHouse's exception `code`; `text` is what it says.
pub fn judge(code: u32, text: &str) -> Verdict {
    match code {
        // TOO_MANY_PARTS says two things: this insert touches too many partitions, or merges do not keep up.
        252 if text.contains("Too many partitions for single INSERT block") => Verdict::Split(SingleRow::Retry),
        252 => Verdict::Retry,
        // MEMORY_LIMIT_EXCEEDED: of the server, perhaps; then a single row is not at fault
        241 => Verdict::Split(SingleRow::Retry),
        // TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
        158 | 307 | 396 => Verdict::Split(SingleRow::Refuse),
        // INCORRECT_DATA also says that the columns are others than the header claims.
        117 if text.contains("while reading header") => Verdict::Stop,
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

/// The code of `Code: 252. DB::Exception: …`, where `text` begins with one.
#[must_use]
pub fn of_text(text: &str) -> Option<u32> {
    let (digits, rest) = text.trim_start().strip_prefix("Code: ")?.split_once('.')?;
    rest.starts_with(" DB::").then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{judge, of_text};
    use crate::verdict::{SingleRow, Verdict};

    /// Exceptions of the engine, as they were seen.
    #[test]
    fn every_kind_of_exception_has_its_verdict() {
        let exceptions = [
            (
                "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100). The limit is",
                Verdict::Split(SingleRow::Retry),
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
            ("Code: 241. DB::Exception: Memory limit (total) exceeded", Verdict::Split(SingleRow::Retry)),
            ("Code: 307. DB::Exception: Limit for rows or bytes to read exceeded", Verdict::Split(SingleRow::Refuse)),
            ("Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100.", Verdict::Retry),
            ("Code: 242. DB::Exception: Table is in readonly mode", Verdict::Retry),
            ("Code: 424242. DB::Exception: a code of a later version", Verdict::Retry),
        ];
        for (text, verdict) in exceptions {
            assert_eq!(judge(of_text(text).unwrap(), text), verdict, "{text}");
        }
    }

    #[test]
    fn a_text_that_only_quotes_an_exception_has_no_code() {
        for text in ["<html>Code: 469. DB::Exception</html>", "Code: 4x. DB::Exception", "Code: 469", "413", ""] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }
}
