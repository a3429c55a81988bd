//! Days of the Gregorian calendar from epoch milliseconds, and times as RFC 3339 writes them.

use std::time::{Duration, UNIX_EPOCH};

const DAY: i64 = 86_400_000;

/// A moment on the clock and calendar of some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// Days of the month.
    pub days_of_month: u32,
    /// 0 for Sunday, to 6.
    pub weekday: u32,
    /// Minutes since midnight, 0 to 1439.
    pub minute: u32,
}

impl Civil {
    /// The moment `millis` where clocks are `offset_minutes` ahead of UTC.
    #[must_use]
    pub fn of(millis: i64, offset_minutes: i32) -> Self {
        let local = millis + i64::from(offset_minutes) * 60_000;
        let days = local.div_euclid(DAY);
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": eras of 400 years that begin in March
        let shifted = days + 719_468;
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + shifted.div_euclid(146_097) * 400 + i64::from(month <= 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of_month = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        Self {
            month: month as u32,
            day: day as u32,
            days_of_month,
            weekday: (days + 4).rem_euclid(7) as u32,
            minute: (local.rem_euclid(DAY) / 60_000) as u32,
        }
    }
}

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
    use super::{Civil, parse_time, rfc3339};

    #[test]
    fn calendar_days_are_those_of_known_dates() {
        let at = |text: &str, offset| Civil::of(parse_time(text).unwrap(), offset);
        let day = at("2026-11-26T03:05:00Z", 0);
        assert_eq!((day.month, day.day, day.weekday, day.minute, day.days_of_month), (11, 26, 4, 185, 30));
        let leap = at("2024-02-29T23:30:00Z", 60);
        assert_eq!((leap.month, leap.day, leap.weekday, leap.minute), (3, 1, 5, 30), "an hour ahead it is March");
        assert_eq!(at("2024-02-10T00:00:00Z", 0).days_of_month, 29);
        assert_eq!(at("1970-01-01T00:00:00Z", 0).weekday, 4);
        let west = at("2026-01-01T00:10:00Z", -300);
        assert_eq!((west.month, west.day, west.minute), (12, 31, 19 * 60 + 10));
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        assert_eq!(rfc3339(1_795_230_000_123), "2026-11-21T03:00:00.123Z");
        assert_eq!(parse_time("2026-11-21T03:00:00.123Z"), Ok(1_795_230_000_123));
        assert_eq!(parse_time("17"), Ok(17));
        assert!(parse_time("-1").is_err() && parse_time("yesterday").is_err());
    }
}
