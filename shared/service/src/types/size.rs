use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::quantity;

const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];
const PRINTED: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A number of bytes written with its unit: `900KiB`, `1MiB` (2^20 bytes), `1MB` (10^6 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// Of `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// In bytes, as a length in memory; what no memory can hold is the largest length.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity::parse(text, &UNITS).map(Self).ok_or_else(|| {
            format!("{text:?} is not a size: expected a whole number with a unit out of B, kB, KiB, MB, MiB, GB, GiB, such as \"1MiB\"")
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quantity::format(self.0, &PRINTED, "0B"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with its unit in quotes, such as \"1MiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_differ() {
        assert_eq!("1MiB".parse::<Size>().unwrap().as_bytes(), 1_048_576);
        assert_eq!("1MB".parse::<Size>().unwrap().as_bytes(), 1_000_000);
        assert_eq!("900KiB".parse::<Size>().unwrap().as_bytes(), 921_600);
        assert_eq!("12B".parse::<Size>().unwrap().as_bytes(), 12);
    }

    #[test]
    fn bare_numbers_and_ambiguous_units_are_refused() {
        for text in ["1", "1K", "1M", "1mb", "", "MiB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_printed_size_is_read_back_as_the_same() {
        for (bytes, printed) in [(0, "0B"), (1_048_576, "1MiB"), (1_000_000, "1000000B"), (3 << 30, "3GiB")] {
            assert_eq!(Size::from_bytes(bytes).to_string(), printed);
            assert_eq!(printed.parse::<Size>().unwrap().as_bytes(), bytes);
        }
    }
}
