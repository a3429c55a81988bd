//! The configuration: `default.toml` explains each key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use service::{
    GroupProtocol, Http, HttpUrl, HumanDuration, Kafka, Log, Problems, Registry, Secret, Settings, Size, Validate,
    sections,
};

use crate::batch::Limits;
use crate::deliver::Policy;
use crate::tables::{TABLES, Table};

/// The whole default configuration, as commented TOML.
#[must_use]
pub fn defaults() -> String {
    service::defaults(&[
        include_str!("default.toml"),
        sections::KAFKA,
        sections::REGISTRY,
        sections::HTTP,
        sections::LOG,
    ])
}

/// The configuration of clickhouse-writer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Configuration {
    pub tables: Vec<String>,
    pub clickhouse: ClickHouse,
    pub batch: BatchSection,
    /// By table, and `dead_letters`.
    pub topics: BTreeMap<String, String>,
    pub runtime: Runtime,
    pub kafka: Kafka,
    pub registry: Registry,
    pub http: Http,
    pub log: Log,
}

/// The section `[clickhouse]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ClickHouse {
    pub url: HttpUrl,
    pub user: String,
    pub password: Secret,
    pub database: String,
    #[serde(deserialize_with = "optional_path")]
    pub ca_location: Option<PathBuf>,
    pub compression: Compression,
    pub send_timeout: HumanDuration,
    pub answer_timeout: HumanDuration,
    pub unexpected_answer_timeout: HumanDuration,
    pub first_pause: HumanDuration,
    pub longest_pause: HumanDuration,
}

/// How inserts travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are.
    None,
    /// In ClickHouse's LZ4 blocks.
    Lz4,
}

/// The section `[batch]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct BatchSection {
    pub max_rows: usize,
    pub max_bytes: Size,
    pub max_wait: HumanDuration,
    pub max_months: usize,
    pub max_refused: usize,
}

/// The section `[runtime]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Runtime {
    pub instance: String,
    pub group: String,
    pub protocol: GroupProtocol,
    pub session_timeout: HumanDuration,
    pub partitions: i32,
    pub replication_factor: i32,
}

/// The key of the dead letters' topic in `[topics]`.
const DEAD_LETTERS: &str = "dead_letters";

/// An insert should be one block of the server, whose default limit is 1,048,449 rows.
const MAX_BATCH_ROWS: usize = 1_000_000;

impl Configuration {
    /// The configured tables with their topics, in the order of [`TABLES`].
    #[must_use]
    pub fn tables(&self) -> Vec<(&'static Table, String)> {
        TABLES
            .iter()
            .filter(|table| self.tables.iter().any(|name| name == table.name))
            .map(|&table| (table, self.topics.get(table.name).map_or(table.topic, String::as_str).to_owned()))
            .collect()
    }

    /// The dead letters' topic.
    #[must_use]
    pub fn dead_letters(&self) -> &str {
        self.topics.get(DEAD_LETTERS).map_or("recwatch.dead-letters.v1", String::as_str)
    }

    /// When batches are sent.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            max_rows: self.batch.max_rows,
            max_bytes: self.batch.max_bytes.as_usize(),
            max_wait: self.batch.max_wait.as_duration(),
        }
    }

    /// How inserts are repeated.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            max_months: self.batch.max_months,
            first_pause: self.clickhouse.first_pause.as_duration(),
            longest_pause: self.clickhouse.longest_pause.as_duration(),
            max_refused: self.batch.max_refused,
            unexpected_answer_timeout: self.clickhouse.unexpected_answer_timeout.as_duration(),
        }
    }
}

impl Settings for Configuration {
    fn http(&self) -> &Http {
        &self.http
    }

    fn log(&self) -> &Log {
        &self.log
    }
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        let known: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
        for name in &self.tables {
            if !known.contains(&name.as_str()) {
                problems.add("tables", format!("{name:?}"), format!("of {}", known.join(", ")));
            }
        }
        if self.tables.is_empty() {
            problems.add("tables", "[]", format!("at least one of {}", known.join(", ")));
        }
        let mut users: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, topic) in &self.topics {
            if key != DEAD_LETTERS && !known.contains(&key.as_str()) {
                problems.add(format!("topics.{key}"), format!("{topic:?}"), "left out: there is no such table");
            } else if topic.is_empty() {
                problems.add(format!("topics.{key}"), "\"\"", "a topic's name");
            } else if let Some(other) = users.insert(topic, key) {
                problems.add(
                    format!("topics.{key}"),
                    format!("{topic:?}"),
                    format!("another topic than topics.{other}"),
                );
            }
        }
        problems.within("clickhouse", &self.clickhouse);
        problems.within("batch", &self.batch);
        problems.within("runtime", &self.runtime);
        problems.within("kafka", &self.kafka);
        problems.within("registry", &self.registry);
        problems.within("http", &self.http);
        problems.within("log", &self.log);
    }
}

impl Validate for ClickHouse {
    fn validate(&self, problems: &mut Problems) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.database.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            || !self.database.chars().all(plain)
        {
            problems.add(
                "database",
                format!("{:?}", self.database),
                "letters, digits and _, not beginning with a digit",
            );
        }
        if self.user.is_empty() && !self.password.is_empty() {
            problems.add("user", "\"\"", "set where password is");
        }
        let durations = [
            ("send_timeout", self.send_timeout),
            ("answer_timeout", self.answer_timeout),
            ("unexpected_answer_timeout", self.unexpected_answer_timeout),
            ("first_pause", self.first_pause),
        ];
        for (key, value) in durations {
            if value.as_millis() == 0 {
                problems.add(key, value, "longer than 0s");
            }
        }
        if self.longest_pause.as_millis() < self.first_pause.as_millis() {
            problems.add("longest_pause", self.longest_pause, "at least first_pause");
        }
        if let Some(path) = &self.ca_location
            && let Err(error) = std::fs::metadata(path)
        {
            problems.add("ca_location", format!("{path:?}"), format!("a file that can be read ({error})"));
        }
    }
}

impl Validate for BatchSection {
    fn validate(&self, problems: &mut Problems) {
        if !(1..=MAX_BATCH_ROWS).contains(&self.max_rows) {
            problems.add("max_rows", self.max_rows, format!("1 to {MAX_BATCH_ROWS}"));
        }
        if !(1024..=200 * 1024 * 1024).contains(&self.max_bytes.as_bytes()) {
            problems.add("max_bytes", self.max_bytes, "1KiB to 200MiB");
        }
        if !(1..=60_000).contains(&self.max_wait.as_millis()) {
            problems.add("max_wait", self.max_wait, "1ms to 60s");
        }
        if self.max_months == 0 {
            problems.add("max_months", self.max_months, "at least 1");
        }
    }
}

impl Validate for Runtime {
    fn validate(&self, problems: &mut Problems) {
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !self.instance.chars().all(named) {
            problems.add("instance", format!("{:?}", self.instance), "letters, digits, '.', '_' and '-'");
        }
        if self.group.is_empty() || self.group.len() > 249 || !self.group.chars().all(named) {
            problems.add("group", format!("{:?}", self.group), "1 to 249 letters, digits, '.', '_' and '-'");
        }
        if !(1_000..=1_800_000).contains(&self.session_timeout.as_millis()) {
            problems.add("session_timeout", self.session_timeout, "1s to 30m");
        }
        if !(1..=10_000).contains(&self.partitions) {
            problems.add("partitions", self.partitions, "1 to 10000");
        }
        if self.replication_factor != -1 && !(1..=32).contains(&self.replication_factor) {
            problems.add("replication_factor", self.replication_factor, "-1 or 1 to 32");
        }
    }
}

/// A path; the empty text is none.
fn optional_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
pub(crate) mod tests {
    use service::{Sources, load};

    use super::{Configuration, defaults};
    use crate::tables::TABLES;

    fn loaded(sets: &[&str]) -> Result<Configuration, String> {
        let defaults = defaults();
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        load::<Configuration>(Sources { sets: &sets, ..Sources::of_defaults(&defaults) })
            .map(|loaded| loaded.settings)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_defaults_write_every_table_from_its_topic() {
        let configuration = loaded(&[]).unwrap();
        let tables: Vec<_> = configuration.tables().into_iter().map(|(table, topic)| (table.name, topic)).collect();
        assert_eq!(tables, TABLES.iter().map(|table| (table.name, table.topic.to_owned())).collect::<Vec<_>>());
        assert_eq!(configuration.dead_letters(), "recwatch.dead-letters.v1");
    }

    #[test]
    fn all_problems_are_told_at_once_each_with_key_and_value() {
        let problems = loaded(&[
            "tables=[\"session_entropie\"]",
            "clickhouse.database=\"a-b\"",
            "batch.max_rows=0",
            "batch.max_wait=2h",
            "topics.dead_letters=recwatch.session-entropy.v1",
            "runtime.partitions=0",
        ])
        .unwrap_err();
        let expected = [
            "session_entropie",
            "clickhouse.database",
            "batch.max_rows",
            "batch.max_wait",
            "topics.",
            "runtime.partitions",
        ];
        for key in expected {
            assert!(problems.contains(key), "{key} in:\n{problems}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(loaded(&["topics.cosine=x"]).is_err());
        assert!(loaded(&["clickhouse.pasword=x"]).is_err());
    }
}
