use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::quantity;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Printed units stop at hours: a window of `24h` is not the calendar's day.
const PRINTED: &[(&str, u64)] = UNITS.split_at(4).0;

/// A duration in whole milliseconds, from 0 to `i64::MAX`, written with its unit: `500ms`, `10s`, `5m`, `24h`, `1h30m`.
///
/// A bare number is refused: whether `300` means seconds or milliseconds is nobody's guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(i64);

impl HumanDuration {
    /// Of `milliseconds`; `None` if they are negative.
    pub fn from_millis(milliseconds: i64) -> Option<Self> {
        (milliseconds >= 0).then_some(Self(milliseconds))
    }

    /// In milliseconds, never negative.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// As the standard library's type.
    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.0.unsigned_abs())
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Self {
        duration.as_duration()
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity::parse(text, &UNITS)
            .and_then(|milliseconds| i64::try_from(milliseconds).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a duration: expected whole numbers with units out of ms, s, m, h, d, such as \"500ms\", \"10s\", \"1h30m\""))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quantity::format(self.0.unsigned_abs(), PRINTED, "0s"))
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = HumanDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with its unit in quotes, such as \"10s\" or \"5m\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i64> {
        text.parse::<HumanDuration>().ok().map(HumanDuration::as_millis)
    }

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("10s"), Some(10_000));
        assert_eq!(millis("5m"), Some(300_000));
        assert_eq!(millis("24h"), Some(86_400_000));
        assert_eq!(millis("1d"), Some(86_400_000));
        assert_eq!(millis("1h30m"), Some(5_400_000));
        assert_eq!(millis("1h 30m"), Some(5_400_000));
        assert_eq!(millis("0s"), Some(0));
    }

    #[test]
    fn bare_numbers_fractions_signs_and_foreign_units_are_refused() {
        for text in [
            "",
            " ",
            "5",
            "5M",
            "1.5s",
            "-1s",
            "s",
            "5 s",
            "5m3",
            "1y",
            "99999999999999999999s",
            "9223372036854775807s",
        ] {
            assert_eq!(millis(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_printed_duration_is_read_back_as_the_same() {
        for (text, printed) in
            [("90m", "90m"), ("60m", "1h"), ("24h", "24h"), ("2d", "48h"), ("1500ms", "1500ms"), ("0m", "0s")]
        {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration.to_string(), printed);
            assert_eq!(printed.parse::<HumanDuration>().unwrap(), duration);
        }
    }
}
