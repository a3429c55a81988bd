//! How a worker's runtime behaves: the `[runtime]` section of its configuration. Nothing here changes a result.

use serde::Deserialize;
use service::{GroupProtocol, HumanDuration, Problems, Size, Validate};

/// The `[runtime]` section as a commented TOML text with the defaults.
pub const DEFAULTS: &str = include_str!("runtime.toml");

/// See [`DEFAULTS`] for the meaning of each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RuntimeConfig {
    pub instance: String,
    pub group: String,
    pub protocol: GroupProtocol,
    pub commit_interval: HumanDuration,
    pub backlog_commit_interval: HumanDuration,
    pub snapshot_interval: HumanDuration,
    pub max_lead: HumanDuration,
    pub transaction_timeout: HumanDuration,
    pub session_timeout: HumanDuration,
    pub merge_partitions: i32,
    pub max_pending: Size,
    pub max_state: Size,
    pub max_record_bytes: Size,
    pub max_source_record_bytes: Size,
    pub replication_factor: i32,
}

impl Validate for RuntimeConfig {
    fn validate(&self, problems: &mut Problems) {
        let mut check = |key: &str, fine: bool, value: &dyn std::fmt::Display, allowed: &str| {
            if !fine {
                problems.add(key, value, allowed);
            }
        };
        let durations = [
            ("commit_interval", self.commit_interval),
            ("backlog_commit_interval", self.backlog_commit_interval),
            ("snapshot_interval", self.snapshot_interval),
            ("max_lead", self.max_lead),
        ];
        for (key, value) in durations {
            check(key, value.as_millis() > 0, &value, "longer than 0s");
        }
        let (transaction, session) = (self.transaction_timeout, self.session_timeout);
        check("transaction_timeout", (1_000..=900_000).contains(&transaction.as_millis()), &transaction, "1s to 15m");
        check("session_timeout", (1_000..=1_800_000).contains(&session.as_millis()), &session, "1s to 30m");
        let partitions = self.merge_partitions;
        check("merge_partitions", (1..=10_000).contains(&partitions), &partitions, "1 to 10000");
        let factor = self.replication_factor;
        check("replication_factor", factor == -1 || (1..=32).contains(&factor), &factor, "-1 or 1 to 32");
        let (record, source) = (self.max_record_bytes, self.max_source_record_bytes);
        let fine = (1024..=source.as_bytes()).contains(&record.as_bytes());
        check("max_record_bytes", fine, &record, "1KiB to max_source_record_bytes");
        let fine = (1024..=900_000_000).contains(&source.as_bytes());
        check("max_source_record_bytes", fine, &source, "1KiB to 900MB");
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        check("instance", self.instance.chars().all(named), &self.instance, "letters, digits, '.', '_' and '-'");
    }
}

impl RuntimeConfig {
    /// The largest message that the producer sends, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.max_source_record_bytes.as_usize().max(1024 * 1024) + 64 * 1024
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
        let problems = |config: &RuntimeConfig| {
            let mut problems = Problems::new();
            config.validate(&mut problems);
            problems.len()
        };
        assert_eq!(problems(&config), 0);
        config.commit_interval = HumanDuration::from_millis(0).unwrap();
        config.merge_partitions = 0;
        config.instance = "a b".into();
        assert_eq!(problems(&config), 3);
    }
}
