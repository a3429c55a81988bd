//! Mute times: when a route tells nobody.

use crate::civil::Civil;

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// An inclusive range of days, months or weekdays.
type Range = (i32, i32);

/// A time of the week or year; what is empty does not restrict it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MuteTime {
    /// Minutes of the day, from the first on, to before the second.
    pub times: Vec<(u32, u32)>,
    /// 0 for Sunday.
    pub weekdays: Vec<Range>,
    /// 1 to 31; from the end of the month where negative.
    pub days_of_month: Vec<Range>,
    /// 1 to 12.
    pub months: Vec<Range>,
    /// How far clocks are ahead of UTC there.
    pub offset_minutes: i32,
}

impl MuteTime {
    /// Whether `millis`, epoch ms, lies in it.
    #[must_use]
    pub fn contains(&self, millis: i64) -> bool {
        let civil = Civil::of(millis, self.offset_minutes);
        let within = |ranges: &[Range], value: u32| {
            ranges.is_empty() || ranges.iter().any(|(first, last)| (*first..=*last).contains(&(value as i32)))
        };
        let from_end = |day: i32| if day < 0 { civil.days_of_month as i32 + 1 + day } else { day };
        let days: Vec<Range> =
            self.days_of_month.iter().map(|(first, last)| (from_end(*first).max(1), from_end(*last))).collect();
        let of_day = |(from, to): &(u32, u32)| (*from..*to).contains(&civil.minute);
        (self.times.is_empty() || self.times.iter().any(of_day))
            && within(&self.weekdays, civil.weekday)
            && within(&days, civil.day)
            && within(&self.months, civil.month)
    }
}

/// Reads `22:00`; `24:00` is the day's end.
///
/// # Errors
/// Says what is allowed.
pub fn minute_of_day(text: &str) -> Result<u32, String> {
    let allowed = || "a time of day from \"00:00\" to \"24:00\"".to_owned();
    let (hours, minutes) = text.split_once(':').ok_or_else(allowed)?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 2);
    match (number(hours), number(minutes)) {
        (Some(hours), Some(minutes)) if minutes < 60 && hours * 60 + minutes <= 1440 => Ok(hours * 60 + minutes),
        _ => Err(allowed()),
    }
}

/// Reads `monday` or `monday:friday`.
///
/// # Errors
/// Says what is allowed.
pub fn weekdays(text: &str) -> Result<Range, String> {
    named(text, &WEEKDAYS, 0, "a weekday such as \"monday\", or \"monday:friday\"")
}

/// Reads `december`, `12` or `1:3`.
///
/// # Errors
/// Says what is allowed.
pub fn months(text: &str) -> Result<Range, String> {
    named(text, &MONTHS, 1, "a month such as \"december\" or \"12\", or \"june:august\"")
}

/// Reads `1`, `1:7` or `-3:-1`, counted from the month's end where negative.
///
/// # Errors
/// Says what is allowed.
pub fn days_of_month(text: &str) -> Result<Range, String> {
    let allowed = || "a day from 1 to 31, from -1 to -31 for the month's end, or a range such as \"1:7\"".to_owned();
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let day = |text: &str| text.parse::<i32>().ok().filter(|day| (1..=31).contains(&day.abs()));
    match (day(first), day(last)) {
        (Some(first), Some(last)) if (first > 0) != (last > 0) || first <= last => Ok((first, last)),
        _ => Err(allowed()),
    }
}

/// Reads `UTC`, `+02:00` or `-05:30` as minutes.
///
/// # Errors
/// Says what is allowed.
pub fn utc_offset(text: &str) -> Result<i32, String> {
    let allowed = || "\"UTC\", or an offset such as \"+02:00\"".to_owned();
    if text.eq_ignore_ascii_case("utc") {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(allowed()),
    };
    let minutes = minute_of_day(rest).map_err(|_| allowed())? as i32;
    if minutes <= 14 * 60 { Ok(sign * minutes) } else { Err(allowed()) }
}

fn named(text: &str, names: &[&str], first_number: i32, allowed: &str) -> Result<Range, String> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| {
        let by_name = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|index| index as i32);
        let by_number = || text.parse::<i32>().ok().map(|number| number - first_number);
        let of_numbers = || by_number().filter(|number| first_number == 1 && (0..names.len() as i32).contains(number));
        by_name.or_else(of_numbers).map(|index| index + first_number)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(allowed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MuteTime, days_of_month, minute_of_day, months, utc_offset, weekdays};
    use crate::civil::parse_time;

    fn at(text: &str) -> i64 {
        parse_time(text).unwrap()
    }

    #[test]
    fn a_night_on_weekdays_is_muted_in_its_own_place() {
        let night = MuteTime {
            times: vec![(0, minute_of_day("06:00").unwrap()), (minute_of_day("22:00").unwrap(), 1440)],
            weekdays: vec![weekdays("monday:friday").unwrap()],
            offset_minutes: utc_offset("+02:00").unwrap(),
            ..MuteTime::default()
        };
        assert!(night.contains(at("2026-11-26T03:59:59Z")), "05:59 on Thursday there");
        assert!(!night.contains(at("2026-11-26T04:00:00Z")), "06:00: the end is outside");
        assert!(night.contains(at("2026-11-26T20:00:00Z")), "22:00: the start is inside");
        assert!(!night.contains(at("2026-11-27T22:30:00Z")), "already Saturday there");
    }

    #[test]
    fn days_count_from_the_months_end_and_months_have_names() {
        let last = MuteTime { days_of_month: vec![days_of_month("-2:-1").unwrap()], ..MuteTime::default() };
        assert!(last.contains(at("2026-02-27T12:00:00Z")) && last.contains(at("2026-02-28T12:00:00Z")));
        assert!(!last.contains(at("2026-02-26T12:00:00Z")) && !last.contains(at("2026-03-28T12:00:00Z")));
        let middle = MuteTime { days_of_month: vec![days_of_month("10:-10").unwrap()], ..MuteTime::default() };
        assert!(middle.contains(at("2026-02-19T12:00:00Z")) && !middle.contains(at("2026-02-20T12:00:00Z")));
        let summer = MuteTime { months: vec![months("June:8").unwrap()], ..MuteTime::default() };
        assert!(summer.contains(at("2026-08-31T23:00:00Z")) && !summer.contains(at("2026-09-01T00:00:00Z")));
        assert!(MuteTime::default().contains(0), "without any restriction it is always");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["24:01", "7:00", "07:60", "seven", "07:000", "-1:00"] {
            assert!(minute_of_day(text).is_err(), "{text}");
        }
        for text in ["funday", "friday:monday", "1", ""] {
            assert!(weekdays(text).is_err(), "{text}");
        }
        for text in ["0", "32", "7:1", "x"] {
            assert!(days_of_month(text).is_err(), "{text}");
        }
        for text in ["13", "0", "march:january"] {
            assert!(months(text).is_err(), "{text}");
        }
        for text in ["2", "+15:00", "Europe/Berlin", ""] {
            assert!(utc_offset(text).is_err(), "{text}");
        }
    }
}
