//! Times as RFC 3339 writes them.

use std::time::{Duration, UNIX_EPOCH};

/// As RFC 3339, in UTC, to the millisecond; 1970 for what lies before.
#[must_use]
pub fn rfc3339(millis: i64) -> String {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    // the year 9999 is where the format ends
    let time = UNIX_EPOCH + since.min(Duration::from_secs(253_402_300_799));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Reads RFC 3339 in UTC (`2026-11-21T09:00:00Z`), or epoch milliseconds.
///
/// # Errors
/// Says what is wrong.
pub fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        return if milliseconds >= 0 { Ok(milliseconds) } else { Err("a time before 1970".to_owned()) };
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| "a time before 1970".to_owned())?;
    i64::try_from(since.as_millis()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{parse_time, rfc3339};

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(rfc3339(1_795_230_000_123), "2026-11-21T03:00:00.123Z");
        assert_eq!(parse_time("2026-11-21T03:00:00.123Z"), Ok(1_795_230_000_123));
        assert_eq!(parse_time("17"), Ok(17));
        assert!(parse_time("-1").is_err() && parse_time("yesterday").is_err());
    }
}
