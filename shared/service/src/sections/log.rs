use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::{Problems, Validate};

/// The section `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or `tracing` directives.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Validate for Log {
    fn validate(&self, problems: &mut Problems) {
        // A bare unknown word is a target to tracing, and would silence everything.
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        let level_missing =
            !self.level.split(',').any(|part| words.contains(&part.trim().to_ascii_lowercase().as_str()));
        if level_missing || EnvFilter::try_new(&self.level).is_err() {
            problems.add("level", format!("{:?}", self.level), "off, error, warn, info, debug or trace, if need be followed by levels of parts, such as \"info,rdkafka=debug\"");
        }
    }
}
