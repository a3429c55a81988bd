//! The HTTP header `Retry-After`.

use std::time::{Duration, SystemTime};

/// How long `Retry-After: text` asks to wait from `now` on: seconds, or until a date ("Thu, 26 Nov 2026 03:05:00 GMT"),
/// which may be over. `None` where it is neither.
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? + 1;
    let at = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::retry_after;

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_448_507_090);
        assert_eq!(retry_after(" 7", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("Thu, 26 Nov 2015 03:05:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Wed, 25 Nov 2015 03:05:00 GMT", now), Some(Duration::ZERO), "it is over");
        for text in ["soon", "-1", "", "Thu, 26 Nie 2015 03:05:00 GMT"] {
            assert_eq!(retry_after(text, now), None, "{text:?}");
        }
    }
}
