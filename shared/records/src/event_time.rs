//! The range of event times.

use std::ops::RangeInclusive;

use crate::{Reason, Rejection};

/// Event times in epoch ms: up to 2299-12-31T23:59:59.999Z, the last one that ClickHouse's `DateTime64` holds.
pub const EVENT_TIMES: RangeInclusive<i64> = 0..=10_413_791_999_999;

/// The event time, if it lies in [`EVENT_TIMES`]; `name` says where it stands.
///
/// # Errors
/// `bad_value`, with the time.
pub fn check_event_time(name: &str, time: i64) -> Result<i64, Rejection> {
    if EVENT_TIMES.contains(&time) {
        return Ok(time);
    }
    let problem = if time < 0 { "is not negative" } else { "ends with the year 2299" };
    let message = format!("{name} is {time}: a time in epoch ms {problem}");
    Err(Rejection { out_of_time: true, ..Rejection::new(Reason::BadValue, message) })
}
