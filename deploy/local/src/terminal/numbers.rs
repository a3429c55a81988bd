//! Numbers and times as people read them.

/// A number with its thousands apart.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The UTC time of day of an epoch time in ms.
#[must_use]
pub fn time_of_day(time: i64) -> String {
    let seconds = time.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 26_066, 1_234_567].map(thousands), ["0", "999", "1,000", "26,066", "1,234,567"]);
        assert_eq!(time_of_day(1_396_649_029_950), "22:03:49");
    }
}
