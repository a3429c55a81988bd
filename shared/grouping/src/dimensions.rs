//! What sessions are grouped by, and the bytes that stand for a group.
//!
//! A group's key is its dimensions' values joined by a 0 byte; a 0 byte inside a value is followed by 0xFF. No UTF-8 text
//! starts with 0xFF, so keys are unambiguous, and they sort as the tuples of their values do. The byte 0xFE, which no
//! text contains either, stands for a value that was merged away because there were too many groups.

use std::borrow::Cow;

use records::Interaction;
use serde::{Deserialize, Serialize};

const SEPARATOR: u8 = 0;
const ESCAPE: u8 = 0xff;
const MERGED: u8 = 0xfe;

/// The value in rows of a dimension that was merged away.
pub const OTHER: &str = "__other__";

/// A property of an event by which rows can be grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The shop or section.
    Domain,
    /// Where on the page.
    Surface,
    /// The user's segment.
    UserSegment,
    /// The recommender's strategy.
    RecStrategy,
    /// The arm of an experiment.
    AbGroup,
    /// The kind of item.
    ItemType,
}

impl Dimension {
    /// All dimensions, in the order of the rows' columns.
    pub const ALL: [Self; 6] =
        [Self::Domain, Self::Surface, Self::UserSegment, Self::RecStrategy, Self::AbGroup, Self::ItemType];

    /// The name in configuration and rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Surface => "surface",
            Self::UserSegment => "user_segment",
            Self::RecStrategy => "rec_strategy",
            Self::AbGroup => "ab_group",
            Self::ItemType => "item_type",
        }
    }

    /// An interaction's value; empty where it has none.
    #[must_use]
    pub fn of<'a>(self, interaction: &'a Interaction<'_>) -> &'a str {
        let optional = match self {
            Self::Domain => return &interaction.domain,
            Self::Surface => &interaction.surface,
            Self::UserSegment => &interaction.user_segment,
            Self::RecStrategy => &interaction.rec_strategy,
            Self::AbGroup => &interaction.ab_group,
            Self::ItemType => &interaction.item_type,
        };
        optional.as_deref().unwrap_or_default()
    }
}

/// A value for each dimension, empty where it is not grouped by.
pub type Values<'a> = [Cow<'a, str>; 6];

/// The dimensions that make a group, and those of them whose groups must meet in one merge partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// Dimensions in the order of the key, and whether they belong to the merge key.
    dimensions: Vec<(Dimension, bool)>,
}

impl Grouping {
    /// Groups by `dimensions`; those of them that `merge_key` names too are the merge key.
    #[must_use]
    pub fn new(dimensions: &[Dimension], merge_key: &[Dimension]) -> Self {
        Self { dimensions: dimensions.iter().map(|dimension| (*dimension, merge_key.contains(dimension))).collect() }
    }

    /// The dimensions, in the order of the key.
    pub fn dimensions(&self) -> impl Iterator<Item = Dimension> {
        self.dimensions.iter().map(|(dimension, _)| *dimension)
    }

    /// What is grouped by, one way of writing for one meaning.
    #[must_use]
    pub fn semantics(&self) -> String {
        let names = |only_merged: bool| {
            let dimensions = self.dimensions.iter().filter(|(_, merged)| *merged || !only_merged);
            dimensions.map(|(dimension, _)| dimension.name()).collect::<Vec<_>>().join(",")
        };
        format!("dimensions={} merge_key={}", names(false), names(true))
    }

    /// Replaces `key` by the key of the group with these values.
    pub fn group_key<'a>(&self, value_of: impl Fn(Dimension) -> &'a str, key: &mut Vec<u8>) {
        key.clear();
        for (at, (dimension, _)) in self.dimensions.iter().enumerate() {
            if at > 0 {
                key.push(SEPARATOR);
            }
            let value = value_of(*dimension).as_bytes();
            if value.contains(&SEPARATOR) {
                for byte in value {
                    key.push(*byte);
                    if *byte == SEPARATOR {
                        key.push(ESCAPE);
                    }
                }
            } else {
                key.extend_from_slice(value);
            }
        }
    }

    /// Replaces `merge_key` by the part of a group's key whose groups must meet.
    pub fn merge_key(&self, group: &[u8], merge_key: &mut Vec<u8>) {
        merge_key.clear();
        let mut first = true;
        for ((_, merged), value) in self.dimensions.iter().zip(split(group)) {
            if *merged {
                if !first {
                    merge_key.push(SEPARATOR);
                }
                merge_key.extend_from_slice(value);
                first = false;
            }
        }
    }

    /// Replaces `other` by the key of the group that takes in what is too much under this group's merge key.
    pub fn overflow_key(&self, group: &[u8], other: &mut Vec<u8>) {
        other.clear();
        for (at, ((_, merged), value)) in self.dimensions.iter().zip(split(group)).enumerate() {
            if at > 0 {
                other.push(SEPARATOR);
            }
            if *merged {
                other.extend_from_slice(value);
            } else {
                other.push(MERGED);
            }
        }
    }

    /// Whether the key is one of [`overflow_key`](Self::overflow_key) and of no group that events name.
    #[must_use]
    pub fn is_overflow(group: &[u8]) -> bool {
        group.contains(&MERGED)
    }

    /// The values that a key stands for; for merged ones [`OTHER`].
    #[must_use]
    pub fn values<'a>(&self, group: &'a [u8]) -> Values<'a> {
        let mut values = Values::default();
        for ((dimension, _), value) in self.dimensions.iter().zip(split(group)) {
            values[*dimension as usize] = text_of(value);
        }
        values
    }

    /// The key of a group's rows, for people: its values in the order of the dimensions, joined by `|`.
    pub fn readable_key(&self, values: &Values<'_>, key: &mut Vec<u8>) {
        key.clear();
        for (at, (dimension, _)) in self.dimensions.iter().enumerate() {
            if at > 0 {
                key.push(b'|');
            }
            key.extend_from_slice(values[*dimension as usize].as_bytes());
        }
    }
}

/// The values of a key, still escaped.
fn split(mut key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut from = 0;
        while let Some(at) = key[from..].iter().position(|byte| *byte == SEPARATOR) {
            let at = from + at;
            if key.get(at + 1) == Some(&ESCAPE) {
                from = at + 2;
                continue;
            }
            let value = &key[..at];
            key = &key[at + 1..];
            return Some(value);
        }
        ended = true;
        Some(key)
    })
}

fn text_of(value: &[u8]) -> Cow<'_, str> {
    if value == [MERGED] {
        Cow::Borrowed(OTHER)
    } else if value.contains(&SEPARATOR) {
        // escapes are the only 0xFF bytes
        let plain: Vec<u8> = value.iter().copied().filter(|byte| *byte != ESCAPE).collect();
        Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
    } else {
        String::from_utf8_lossy(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THREE: [Dimension; 3] = [Dimension::Domain, Dimension::AbGroup, Dimension::Surface];

    fn key(grouping: &Grouping, values: &[String; 3]) -> Vec<u8> {
        let mut key = Vec::new();
        let at = |dimension| THREE.iter().position(|other| *other == dimension).unwrap();
        grouping.group_key(|dimension| &values[at(dimension)], &mut key);
        key
    }

    fn value() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!['\0', '\u{1}', 'a', 'b', 'é', '\u{10ffff}']), 0..4)
            .prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_values_do_and_read_back(left in [value(), value(), value()], right in [value(), value(), value()]) {
            let grouping = Grouping::new(&THREE, &[Dimension::AbGroup]);
            let (left_key, right_key) = (key(&grouping, &left), key(&grouping, &right));
            prop_assert_eq!(left_key.cmp(&right_key), left.cmp(&right));
            let values = grouping.values(&left_key);
            prop_assert_eq!(&values[Dimension::Domain as usize], &left[0]);
            prop_assert_eq!(&values[Dimension::AbGroup as usize], &left[1]);
            prop_assert_eq!(&values[Dimension::Surface as usize], &left[2]);
            prop_assert_eq!(&values[Dimension::ItemType as usize], "");
            prop_assert!(!Grouping::is_overflow(&left_key));

            let mut merge_keys = [Vec::new(), Vec::new()];
            grouping.merge_key(&left_key, &mut merge_keys[0]);
            grouping.merge_key(&right_key, &mut merge_keys[1]);
            prop_assert_eq!(merge_keys[0] == merge_keys[1], left[1] == right[1]);
        }
    }

    #[test]
    fn the_overflow_group_keeps_the_merge_key_and_is_told_apart_from_events_that_say_other() {
        let grouping = Grouping::new(&THREE, &[Dimension::AbGroup]);
        let mut overflow = Vec::new();
        grouping.overflow_key(&key(&grouping, &["shop".into(), "a\0b".into(), String::new()]), &mut overflow);
        assert!(Grouping::is_overflow(&overflow));
        let values = grouping.values(&overflow);
        assert_eq!(values[Dimension::Domain as usize], OTHER);
        assert_eq!(values[Dimension::AbGroup as usize], "a\0b");
        let literal = key(&grouping, &[OTHER.into(), "a\0b".into(), OTHER.into()]);
        assert_ne!(literal, overflow);
        assert_eq!(grouping.values(&literal), values);
        let mut readable = Vec::new();
        grouping.readable_key(&values, &mut readable);
        assert_eq!(readable, b"__other__|a\0b|__other__");
    }

    #[test]
    fn no_dimensions_are_one_group() {
        let grouping = Grouping::new(&[], &[]);
        let mut group = vec![1];
        grouping.group_key(|_| "x", &mut group);
        assert!(group.is_empty());
        assert_eq!(grouping.values(&group), Values::default());
        let mut overflow = vec![1];
        grouping.overflow_key(&group, &mut overflow);
        assert!(overflow.is_empty());
    }
}
