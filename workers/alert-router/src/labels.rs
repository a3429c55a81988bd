//! The labels of an alert: what routes, silences and inhibitions look at.

use records::{Alert, Text};
use xxhash_rust::xxh3::xxh3_128;

use crate::matcher::Matcher;

/// Names and values, by name; what is empty is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Labels<'a> {
    /// `rule`, `kind`, `severity`, `worker`, `metric` and the dimensions of the alert's group. A dimension of one of these
    /// names is left out: the alert's own word counts.
    #[must_use]
    pub fn of(alert: &'a Alert<'_>) -> Self {
        let own = [
            ("kind", &alert.kind),
            ("metric", &alert.metric),
            ("rule", &alert.rule),
            ("severity", &alert.severity),
            ("worker", &alert.worker),
        ];
        let text = |(name, value): (&'a str, &'a Text<'_>)| (name, value.as_str());
        let mut labels: Vec<(&str, &str)> = own.into_iter().map(text).collect();
        for label in &alert.group {
            if labels.iter().all(|(name, _)| *name != label.name.as_str()) {
                labels.push((&label.name, &label.value));
            }
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
            text.push_str(&format!("{comma}{name}={value:?}"));
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
