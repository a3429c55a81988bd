use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// Settings of librdkafka by their names there.
///
/// In TOML, `socket.timeout.ms = 5000` and `"socket.timeout.ms" = 5000` mean the same, and values may be text, numbers or
/// booleans. Shows names only: some values are passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Dotted names are nested tables to TOML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Node {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    Table(BTreeMap<String, Node>),
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = BTreeMap::<String, Node>::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("must be a table of texts, numbers and booleans"))?;
        let mut properties = BTreeMap::new();
        flatten("", table, &mut properties);
        Ok(Self(properties))
    }
}

fn flatten(prefix: &str, table: BTreeMap<String, Node>, into: &mut BTreeMap<String, String>) {
    for (key, node) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let value = match node {
            Node::Table(table) => {
                flatten(&name, table, into);
                continue;
            }
            Node::Boolean(value) => value.to_string(),
            Node::Integer(value) => value.to_string(),
            Node::Number(value) => value.to_string(),
            Node::Text(value) => value,
        };
        into.insert(name, value);
    }
}
