//! The labels of an alert: what routes, silences and inhibitions look at.

use std::borrow::Cow;

use records::Alert;
use xxhash_rust::xxh3::xxh3_128;

use crate::matcher::Matcher;

/// Names and values, by name; what is empty is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Labels<'a> {
    /// `rule`, `kind`, `severity`, `worker`, `metric` and the dimensions of the alert's group. A dimension of one of these
    /// names is called `exported_kind` and so on, as Prometheus does with labels that are taken.
    #[must_use]
    pub fn of(alert: &'a Alert<'_>) -> Self {
        let own = [
            ("kind", "exported_kind", &alert.kind),
            ("metric", "exported_metric", &alert.metric),
            ("rule", "exported_rule", &alert.rule),
            ("severity", "exported_severity", &alert.severity),
            ("worker", "exported_worker", &alert.worker),
        ];
        let mut labels: Vec<(&str, &str)> = own.iter().map(|(name, _, value)| (*name, value.as_str())).collect();
        for label in &alert.group {
            let taken = own.iter().find(|(name, ..)| *name == label.name.as_str());
            labels.push((taken.map_or(label.name.as_str(), |(_, exported, _)| *exported), &label.value));
        }
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        Self(labels)
    }

    /// The value of a label, empty where it is absent.
    #[must_use]
    pub fn get(&self, name: &str) -> &'a str {
        self.0.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.0.iter().copied()
    }

    /// Whether all matchers hold.
    #[must_use]
    pub fn fulfil(&self, matchers: &[Matcher]) -> bool {
        self.failing(matchers).is_none()
    }

    /// The first matcher that does not hold.
    #[must_use]
    pub fn failing<'m>(&self, matchers: &'m [Matcher]) -> Option<&'m Matcher> {
        matchers.iter().find(|matcher| !matcher.matches(self.get(matcher.name())))
    }

    /// Those of these names that are there, as `{a="x", b="y"}`.
    #[must_use]
    pub fn selected(&self, names: &GroupBy) -> String {
        let mut text = String::from("{");
        for (name, value) in self.iter().filter(|(name, _)| names.has(name)) {
            let comma = if text.len() > 1 { ", " } else { "" };
            text.push_str(&format!("{comma}{name}={:?}", bounded(value, MAX_VALUE)));
        }
        text.push('}');
        text
    }

    /// A number for the values of these labels: equal for equal values.
    #[must_use]
    pub fn hash_of(&self, names: &[String]) -> u128 {
        let mut bytes = Vec::new();
        for name in names {
            let value = self.get(name);
            bytes.extend_from_slice(&value.len().to_le_bytes());
            bytes.extend_from_slice(value.as_bytes());
        }
        xxh3_128(&bytes)
    }

    /// A number for all labels and their values.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            for text in [name, value] {
                bytes.extend_from_slice(&text.len().to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

/// What people are told of a label's value, in bytes at most: whole records of values must not become notifications that no
/// topic takes.
pub const MAX_VALUE: usize = 1000;

/// The text, or of a longer one its beginning and a hash of all of it: different texts stay different.
#[must_use]
pub fn bounded(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let beginning = &text[..text.floor_char_boundary(bytes)];
    Cow::Owned(format!("{beginning}…{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes())))
}

/// The labels that tell groups apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// All of them: each alert is a group of its own.
    All,
    /// These.
    Names(Vec<String>),
}

impl GroupBy {
    /// Whether groups are told apart by this label.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.iter().any(|found| found == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use records::AlertLabel;

    use super::{Labels, bounded};
    use crate::core::tests::alert;

    #[test]
    fn a_dimension_whose_name_is_taken_has_another_one() {
        let mut alert = alert(1, "drift", "warning", "a");
        alert.group = vec![
            AlertLabel { name: "kind".into(), value: "self".into() },
            AlertLabel { name: "domain".into(), value: "b".into() },
        ];
        let labels = Labels::of(&alert);
        assert_eq!((labels.get("kind"), labels.get("exported_kind"), labels.get("domain")), ("threshold", "self", "b"));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_stay_different() {
        assert_eq!(bounded("short", 5), "short");
        let (left, right) = (format!("ää{}", "x".repeat(9)), format!("ää{}", "y".repeat(9)));
        let cut = [bounded(&left, 3), bounded(&right, 3)];
        assert!(cut.iter().all(|text| text.starts_with("ä…") && text.len() == 2 + 3 + 16), "{cut:?}");
        assert_ne!(cut[0], cut[1]);
    }
}
