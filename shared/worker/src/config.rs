//! Keys that every metric worker has.

use records::Format;
use serde::Deserialize;
use service::{HumanDuration, Problems, Validate};

use crate::run::MetricWorker;

/// A source: its topic, and how its records are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each worker's default.toml explains its keys
pub struct SourceConfig {
    pub topic: String,
    pub format: Format,
}

impl Validate for SourceConfig {
    fn validate(&self, problems: &mut Problems) {
        check_topic(problems, "topic", &self.topic);
    }
}

/// Checks the sections that all workers have.
pub fn check_sections(problems: &mut Problems, configuration: &impl MetricWorker) {
    problems.within("kafka", configuration.kafka());
    problems.within("registry", configuration.registry());
    problems.within("runtime", configuration.runtime());
    problems.within("http", configuration.http());
    problems.within("log", configuration.log());
}

/// A topic must have a name that Kafka takes.
pub fn check_topic(problems: &mut Problems, key: &str, name: &str) {
    let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 249 || !name.chars().all(named) || name == "." || name == ".." {
        let allowed = "the name of a Kafka topic: 1 to 249 letters, digits, '.', '_' and '-'";
        problems.add(key, format!("{name:?}"), allowed);
    }
}

/// A window must be a multiple of its slide, and neither may be 0; both come with their keys.
pub fn check_windows(
    problems: &mut Problems,
    (window_key, window): (&str, HumanDuration),
    (slide_key, slide): (&str, HumanDuration),
) {
    if slide.as_millis() == 0 {
        problems.add(slide_key, slide, "longer than 0s");
    }
    if window.as_millis() == 0 {
        problems.add(window_key, window, "longer than 0s");
    } else if slide.as_millis() > 0 && window.as_millis() % slide.as_millis() != 0 {
        problems.add(window_key, window, format!("a multiple of the slide ({slide})"));
    }
}
