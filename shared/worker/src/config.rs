//! Keys that every metric worker has.

use records::{DecoderConfig, Format, KeyRule};
use serde::Deserialize;
use service::{HumanDuration, Problems, Validate};
use streaming::Deployment;
use streaming::config::RuntimeConfig;
use streaming::window::{MAX_SLIDES, MAX_SPAN};

use crate::run::MetricWorker;

/// A source: its topic, and how its records are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // each worker's default.toml explains its keys
pub struct SourceConfig {
    pub topic: String,
    pub format: Format,
    pub key: KeyRule,
}

impl SourceConfig {
    /// What its decoders expect.
    #[must_use]
    pub fn decoding(&self, runtime: &RuntimeConfig, vector_length: Option<usize>) -> DecoderConfig {
        DecoderConfig {
            format: self.format,
            key: self.key,
            max_record_bytes: runtime.max_record_bytes.as_usize(),
            vector_length,
        }
    }

    /// Its part of the semantic configuration, under its section's name: it decides which records are taken, and a replay must take the same.
    #[must_use]
    pub fn semantics(&self, section: &str) -> String {
        format!("{section}.key={:?}", self.key)
    }
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
    let sources = configuration.source_topics();
    Deployment::check(problems, configuration.name(), &configuration.runtime().group, &sources);
}

/// A topic must have a name that Kafka takes.
pub fn check_topic(problems: &mut Problems, key: &str, name: &str) {
    let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 249 || !name.chars().all(named) || name == "." || name == ".." {
        let allowed = "the name of a Kafka topic: 1 to 249 letters, digits, '.', '_' and '-'";
        problems.add(key, format!("{name:?}"), allowed);
    }
}

/// A time must be one that can be computed with.
pub fn check_span(problems: &mut Problems, key: &str, span: HumanDuration) {
    if span.as_millis() > MAX_SPAN {
        problems.add(key, span, format!("at most {}", HumanDuration::from_millis(MAX_SPAN).unwrap_or_default()));
    }
}

/// A window must be a multiple of its slide, of not too many, and neither may be 0; both come with their keys.
pub fn check_windows(
    problems: &mut Problems,
    (window_key, window): (&str, HumanDuration),
    (slide_key, slide): (&str, HumanDuration),
) {
    if slide.as_millis() == 0 {
        problems.add(slide_key, slide, "longer than 0s");
    }
    check_span(problems, window_key, window);
    if window.as_millis() == 0 {
        problems.add(window_key, window, "longer than 0s");
    } else if slide.as_millis() > 0 && window.as_millis() / slide.as_millis() > MAX_SLIDES {
        problems.add(window_key, window, format!("at most {MAX_SLIDES} slides ({slide})"));
    } else if slide.as_millis() > 0 && window.as_millis() % slide.as_millis() != 0 {
        problems.add(window_key, window, format!("a multiple of the slide ({slide})"));
    }
}
