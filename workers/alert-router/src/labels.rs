//! The labels of an alert: what routes, silences and inhibitions look at.

use records::Alert;
use records::names::bounded_to;
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

    /// Whether there are not more of them, and their names not longer, than notifications have room for.
    ///
    /// # Errors
    /// Says what is too much.
    pub fn check(&self) -> Result<(), String> {
        if self.0.len() > MAX_LABELS {
            return Err(format!("the alert has {} labels, at most {MAX_LABELS} are taken", self.0.len()));
        }
        match self.0.iter().find(|(name, _)| name.len() > MAX_LABEL_NAME) {
            Some((name, _)) => {
                let (bytes, beginning) = (name.len(), bounded_to(name, MAX_LABEL_NAME));
                Err(format!("the label {beginning:?} has a name of {bytes} bytes, at most {MAX_LABEL_NAME} are taken"))
            }
            None => Ok(()),
        }
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
            text.push_str(&format!("{comma}{name}={:?}", bounded_to(value, MAX_VALUE)));
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

/// So many labels has an alert at most.
pub const MAX_LABELS: usize = 16;
/// So many bytes have their names at most.
pub const MAX_LABEL_NAME: usize = 128;

/// What people are told of a label's value, in bytes at most: whole records of values must not become notifications that no
/// topic takes.
pub const MAX_VALUE: usize = 1000;

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

    use super::Labels;
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
    fn more_labels_or_longer_names_than_notifications_hold_are_refused() {
        let mut alert = alert(1, "drift", "warning", "a");
        let label = |name: String| AlertLabel { name: name.into(), value: "x".into() };
        alert.group = (0..11).map(|at| label(format!("l{at}"))).collect();
        assert_eq!(Labels::of(&alert).check(), Ok(()));
        alert.group.extend((0..100_000).map(|at| label(format!("m{at}"))));
        assert!(Labels::of(&alert).check().unwrap_err().contains("labels, at most 16"));
        alert.group = vec![label("n".repeat(1_000_000))];
        let error = Labels::of(&alert).check().unwrap_err();
        assert!(error.contains("1000000 bytes") && error.len() < 300, "{error}");
    }
}
