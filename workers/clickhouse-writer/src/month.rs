//! The table partition of a row, as `toYYYYMM` has it.

const MILLIS_PER_DAY: i64 = 86_400_000;

/// The month of a time in UTC, as `year * 100 + month`: rows of one month share a table partition.
#[must_use]
pub fn of(epoch_millis: i64) -> i64 {
    let (year, month) = civil(epoch_millis.div_euclid(MILLIS_PER_DAY));
    year * 100 + month
}

/// Year and month of a day counted from 1970-01-01, in the proleptic Gregorian calendar. Years start in March here, so
/// that the leap day is the last one (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use super::{MILLIS_PER_DAY, of};

    #[test]
    fn known_times_have_their_month() {
        assert_eq!(of(0), 197_001);
        assert_eq!(of(-1), 196_912);
        assert_eq!(of(1_396_310_399_999), 201_403); // 2014-03-31T23:59:59.999Z
        assert_eq!(of(1_396_310_400_000), 201_404);
        assert_eq!(of(951_782_400_000), 200_002); // 2000-02-29
        assert_eq!(of(951_868_800_000), 200_003);
    }

    #[test]
    fn every_month_from_1900_to_2100_starts_where_counting_days_says() {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut day: i64 = -(70 * 365 + 17); // 1900-01-01: 17 leap days before 1970
        for year in 1900..=2100 {
            let february = if leap(year) { 29 } else { 28 };
            for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                assert_eq!(of(day * MILLIS_PER_DAY), year * 100 + month);
                day += length;
                assert_eq!(of(day * MILLIS_PER_DAY - 1), year * 100 + month);
            }
        }
    }
}
