//! How a worker's runtime behaves: the `[runtime]` section of its configuration. Nothing here changes a result.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `[runtime]` section as a commented TOML text with the defaults.
pub const DEFAULTS: &str = r#"
[runtime]
# Name of this instance, unique among the instances of the worker: a restarted instance under the same name ends what
# its predecessor left open. Empty: the host's name.
instance = ""
# Group protocol: "consumer" (KIP-848, Kafka 4.0 or newer) or "classic" (static members, cooperative-sticky).
protocol = "consumer"
# Time between two commits when caught up, and behind a backlog.
commit_interval = "200ms"
backlog_commit_interval = "1s"
# A task's snapshot is at most this old.
snapshot_interval = "60s"
# A partition pauses while its watermark is this far (event time) ahead of the slowest one.
max_lead = "1h"
# The broker ends a transaction that is open for longer.
transaction_timeout = "10s"
# Classic protocol only: a member that is silent for this long has left.
session_timeout = "45s"
# Partitions of the repartition topic, where this worker creates it: 1 carries far; more are for thousands of groups on
# hundreds of source partitions.
merge_partitions = 1
# Output that waits for its commit, per thread; above it a thread pauses its partitions and keeps polling.
max_pending_bytes = 67108864
# Live state per instance; above it /readyz says so, with the keys and bytes.
max_state_bytes = 8589934592
# A source record that is larger is bad input.
max_record_bytes = 1048576
# The largest record that source topics accept; dead letters of that size are handed on whole.
max_source_record_bytes = 4194304
# Replication factor of the topics that --create-topics creates; -1: the broker's default.
replication_factor = -1
"#;

/// Consumer group protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// KIP-848: the broker assigns.
    Consumer,
    /// The older one: cooperative-sticky, static members.
    Classic,
}

/// See [`DEFAULTS`] for the meaning of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RuntimeConfig {
    pub instance: String,
    pub protocol: Protocol,
    #[serde(with = "humantime_serde")]
    pub commit_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub backlog_commit_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub snapshot_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub max_lead: Duration,
    #[serde(with = "humantime_serde")]
    pub transaction_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub session_timeout: Duration,
    pub merge_partitions: i32,
    pub max_pending_bytes: usize,
    pub max_state_bytes: u64,
    pub max_record_bytes: usize,
    pub max_source_record_bytes: usize,
    pub replication_factor: i32,
}

/// A key of the section whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key, without the section.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl RuntimeConfig {
    /// All values that cannot be.
    #[must_use]
    pub fn problems(&self) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut check = |key, fine: bool, value: String, allowed| {
            if !fine {
                problems.push(ConfigProblem { key, value, allowed });
            }
        };
        let durations = [
            ("commit_interval", self.commit_interval),
            ("backlog_commit_interval", self.backlog_commit_interval),
            ("snapshot_interval", self.snapshot_interval),
            ("max_lead", self.max_lead),
        ];
        for (key, value) in durations {
            check(key, !value.is_zero(), format!("{value:?}"), "a duration above 0");
        }
        let seconds = |range: std::ops::RangeInclusive<u64>, value: Duration| range.contains(&value.as_secs());
        let (transaction, session) = (self.transaction_timeout, self.session_timeout);
        check("transaction_timeout", seconds(1..=900, transaction), format!("{transaction:?}"), "1s to 15m");
        check("session_timeout", seconds(1..=1800, session), format!("{session:?}"), "1s to 30m");
        let partitions = self.merge_partitions;
        check("merge_partitions", (1..=10_000).contains(&partitions), partitions.to_string(), "1 to 10000");
        let factor = self.replication_factor;
        check("replication_factor", factor == -1 || (1..=32).contains(&factor), factor.to_string(), "-1 or 1 to 32");
        let allowed = "1024 or more, and at most max_source_record_bytes";
        let (record, source) = (self.max_record_bytes, self.max_source_record_bytes);
        check("max_record_bytes", (1024..=source).contains(&record), record.to_string(), allowed);
        let fine = (1024..=900_000_000).contains(&source);
        check("max_source_record_bytes", fine, source.to_string(), "1024 to 900000000");
        let name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let instance = self.instance.clone();
        check("instance", instance.chars().all(name), instance, "letters, digits, '.', '_', '-'");
        problems
    }

    /// The largest message that the producer sends, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_source_record_bytes.max(1024 * 1024) + 64 * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        runtime: RuntimeConfig,
    }

    #[test]
    fn the_defaults_are_complete_and_valid_and_all_problems_are_told_at_once() {
        let mut config = toml::from_str::<File>(DEFAULTS).unwrap().runtime;
        assert_eq!(config.problems(), []);
        config.commit_interval = Duration::ZERO;
        config.merge_partitions = 0;
        config.instance = "a b".into();
        let keys: Vec<_> = config.problems().iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["commit_interval", "merge_partitions", "instance"]);
    }
}
