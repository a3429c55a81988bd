//! Mute times: when a route tells nobody.

use jiff::Timestamp;
use jiff::tz::{self, TimeZone, TimeZoneDatabase};

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

/// A time of the week or year on the clocks of some place; what is empty does not restrict it. An hour that these clocks
/// leave out is not muted on that day, one that they repeat is muted twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuteTime {
    /// Minutes of the day, from the first on, to before the second.
    pub times: Vec<(u32, u32)>,
    /// 0 for Sunday.
    pub weekdays: Vec<Range>,
    /// 1 to 31; from the end of the month where negative.
    pub days_of_month: Vec<Range>,
    /// 1 to 12.
    pub months: Vec<Range>,
    /// Whose clocks.
    pub location: TimeZone,
}

/// Always, in UTC.
impl Default for MuteTime {
    fn default() -> Self {
        let (times, weekdays, days_of_month, months) = Default::default();
        Self { times, weekdays, days_of_month, months, location: TimeZone::UTC }
    }
}

impl MuteTime {
    /// Whether `millis`, epoch ms, lies in it.
    #[must_use]
    pub fn contains(&self, millis: i64) -> bool {
        // the calendar ends with the year 9999
        let Ok(time) = Timestamp::from_millisecond(millis) else { return false };
        let local = self.location.to_datetime(time);
        let minute = u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
        let within = |ranges: &[Range], value: i8| {
            ranges.is_empty() || ranges.iter().any(|(first, last)| (*first..=*last).contains(&i32::from(value)))
        };
        let from_end = |day: i32| if day < 0 { i32::from(local.days_in_month()) + 1 + day } else { day };
        let of_month = |(first, last): &Range| (from_end(*first)..=from_end(*last)).contains(&i32::from(local.day()));
        (self.times.is_empty() || self.times.iter().any(|(from, to)| (*from..*to).contains(&minute)))
            && within(&self.weekdays, local.weekday().to_sunday_zero_offset())
            && (self.days_of_month.is_empty() || self.days_of_month.iter().any(of_month))
            && within(&self.months, local.month())
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

/// Looks up `Europe/Berlin` or `UTC`: in the machine's time zone database, which is kept up to date there, and what that
/// does not have in the one of the build.
///
/// # Errors
/// Says what is allowed.
pub fn location(text: &str) -> Result<TimeZone, String> {
    let found = tz::db().get(text).or_else(|_| TimeZoneDatabase::bundled().get(text)).ok();
    // Etc/Unknown is known, and would be UTC
    let known = found.filter(|zone| !zone.is_unknown());
    known.ok_or_else(|| "a name of the IANA time zone database such as \"Europe/Berlin\", or \"UTC\"".to_owned())
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
    use jiff::tz::{TimeZone, TimeZoneDatabase};

    use super::{MuteTime, days_of_month, location, minute_of_day, months, weekdays};
    use crate::timestamp::parse_time;

    fn at(text: &str) -> i64 {
        parse_time(text).unwrap()
    }

    fn nights(location: TimeZone) -> MuteTime {
        let times = vec![(0, minute_of_day("06:00").unwrap()), (minute_of_day("22:00").unwrap(), 1440)];
        MuteTime { times, location, ..MuteTime::default() }
    }

    #[test]
    fn a_night_follows_the_clocks_of_its_place_into_summer_time_and_out_of_it() {
        changes_of_summer_time(&nights(location("Europe/Berlin").unwrap()));
    }

    /// As in a container without tzdata.
    #[test]
    fn the_build_has_a_time_zone_database() {
        changes_of_summer_time(&nights(TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap()));
    }

    fn changes_of_summer_time(berlin: &MuteTime) {
        // 2026-03-29: at 01:00 UTC clocks go from 02:00 (+01:00) to 03:00 (+02:00)
        assert!(!berlin.contains(at("2026-03-28T20:59:59Z")), "21:59 of the evening before");
        assert!(berlin.contains(at("2026-03-28T21:00:00Z")), "22:00: the start is inside");
        assert!(berlin.contains(at("2026-03-29T03:59:59Z")), "05:59, an hour earlier than the day before");
        assert!(!berlin.contains(at("2026-03-29T04:00:00Z")), "06:00: the end is outside");
        assert!(!berlin.contains(at("2026-03-29T19:59:59Z")) && berlin.contains(at("2026-03-29T20:00:00Z")));
        // 2026-10-25: at 01:00 UTC clocks go from 03:00 (+02:00) back to 02:00 (+01:00)
        assert!(!berlin.contains(at("2026-10-24T19:59:59Z")) && berlin.contains(at("2026-10-24T20:00:00Z")));
        assert!(berlin.contains(at("2026-10-25T04:59:59Z")), "05:59, an hour later than the day before");
        assert!(!berlin.contains(at("2026-10-25T05:00:00Z")), "06:00");
        assert!(!berlin.contains(at("2026-10-25T20:59:59Z")) && berlin.contains(at("2026-10-25T21:00:00Z")));
    }

    #[test]
    fn an_hour_that_clocks_leave_out_is_not_muted_and_one_that_they_repeat_is_muted_twice() {
        let times = vec![(minute_of_day("02:00").unwrap(), minute_of_day("03:00").unwrap())];
        let hour = MuteTime { times, location: location("Europe/Berlin").unwrap(), ..MuteTime::default() };
        let muted = |day: &str| {
            let minutes = (0..24 * 60).map(|minute| at(day) + minute * 60_000);
            minutes.filter(|minute| hour.contains(*minute)).count()
        };
        assert_eq!(["2026-03-28T00:00:00Z", "2026-03-29T00:00:00Z", "2026-10-25T00:00:00Z"].map(muted), [60, 0, 120]);
    }

    #[test]
    fn clocks_may_be_half_an_hour_apart_and_elsewhere_it_is_another_day() {
        let kolkata = MuteTime {
            weekdays: vec![weekdays("monday:friday").unwrap()],
            ..nights(location("Asia/Kolkata").unwrap())
        };
        // +05:30; 2026-11-26 is a Thursday
        assert!(!kolkata.contains(at("2026-11-26T16:29:59Z")) && kolkata.contains(at("2026-11-26T16:30:00Z")), "22:00");
        assert!(kolkata.contains(at("2026-11-27T00:29:59Z")) && !kolkata.contains(at("2026-11-27T00:30:00Z")), "06:00");
        assert!(kolkata.contains(at("2026-11-27T18:29:59Z")), "23:59 on Friday there");
        assert!(!kolkata.contains(at("2026-11-27T18:30:00Z")), "Saturday there, and Friday in UTC");
        let new_year = MuteTime { months: vec![months("january").unwrap()], ..MuteTime::default() };
        let west = MuteTime { location: location("America/New_York").unwrap(), ..new_year.clone() };
        let midnight = at("2026-01-01T00:10:00Z");
        assert!(new_year.contains(midnight) && !west.contains(midnight), "there it is 19:10 in December");
    }

    #[test]
    fn days_count_from_the_months_end_and_months_have_names() {
        let last = MuteTime { days_of_month: vec![days_of_month("-2:-1").unwrap()], ..MuteTime::default() };
        assert!(last.contains(at("2026-02-27T12:00:00Z")) && last.contains(at("2026-02-28T12:00:00Z")));
        assert!(!last.contains(at("2026-02-26T12:00:00Z")) && !last.contains(at("2026-03-28T12:00:00Z")));
        assert!(!last.contains(at("2024-02-27T12:00:00Z")) && last.contains(at("2024-02-29T12:00:00Z")), "a leap year");
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
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in
            ["", "Berlin", "Europe/Berlin ", "Europe", "+02:00", "Local", "Etc/Unknown", "../zoneinfo/UTC", "CET-1CEST"]
        {
            assert!(location(text).is_err(), "{text}");
        }
        assert_eq!(location("utc"), location("UTC"));
    }
}
