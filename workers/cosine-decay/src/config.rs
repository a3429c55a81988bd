//! The worker's configuration. `default.toml` says what each key means.

use std::collections::BTreeMap;

use alerting::{AlertsConfig, RowKind};
use grouping::{Dimension, Grouping};
use serde::Deserialize;
use service::{Http, HumanDuration, Kafka, Log, Problems, Registry, Validate, sections};
use streaming::config::RuntimeConfig;
use streaming::window::Windows;
use worker::{MetricWorker, SourceConfig, check_sections, check_span, check_topic, check_windows};

use crate::alerts;
use crate::settings::{Decay, Retraining, Settings};

/// The worker's name.
pub const NAME: &str = "cosine-decay";

/// The whole default configuration as commented TOML.
#[must_use]
pub fn defaults() -> String {
    let own = include_str!("default.toml");
    let shared =
        [sections::KAFKA, sections::REGISTRY, streaming::config::DEFAULTS, sections::HTTP, sections::LOG].join("\n");
    service::defaults(&[own, alerting::DEFAULTS, include_str!("alerts.toml"), "\n", &shared])
}

/// What can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // default.toml explains each key
pub struct Configuration {
    pub window: HumanDuration,
    pub slide: HumanDuration,
    pub out_of_orderness: HumanDuration,
    pub max_future_skew: HumanDuration,
    pub idle_timeout: HumanDuration,
    pub session_gap: HumanDuration,
    pub lambda: f64,
    pub lambda_by_domain: BTreeMap<String, DomainLambda>,
    pub dimensions: Vec<Dimension>,
    pub max_groups: u32,
    pub merge_key: Vec<Dimension>,
    pub vector_dimensions: u32,
    pub decay_rate_window: HumanDuration,
    pub decay_rate_slide: HumanDuration,
    pub neighbours: u32,
    pub observations: u32,
    pub max_slope: f64,
    pub max_norm: f64,
    pub threads: usize,
    pub revision: i64,
    pub source: SourceConfig,
    pub items: SourceConfig,
    pub topics: Topics,
    pub alerts: AlertsConfig,
    pub kafka: Kafka,
    pub registry: Registry,
    pub runtime: RuntimeConfig,
    pub http: Http,
    pub log: Log,
}

/// The decay of one domain, per hour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "WrittenLambda")]
pub struct DomainLambda(pub f64);

/// What stands in the configuration for [`DomainLambda`]: a variable or `--set` of a key that has no default is text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a number")]
enum WrittenLambda {
    Number(f64),
    Text(String),
}

impl TryFrom<WrittenLambda> for DomainLambda {
    type Error = String;

    fn try_from(written: WrittenLambda) -> Result<Self, String> {
        match written {
            WrittenLambda::Number(lambda) => Ok(Self(lambda)),
            WrittenLambda::Text(text) => text.parse().map(Self).map_err(|_| "it must be a number".to_owned()),
        }
    }
}

/// Where rows and refused records go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Topics {
    pub cosine_decay: String,
    pub decay_rate: String,
    pub retrain_requests: String,
    pub alerts: String,
    pub late: String,
    pub dead_letters: String,
}

impl Configuration {
    /// What the operators need.
    ///
    /// # Panics
    /// On a configuration that [`validate`](Validate::validate) refuses.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let windows = |window: HumanDuration, slide: HumanDuration| {
            Windows::new(window.as_millis(), slide.as_millis()).expect("window and slide have been validated")
        };
        let retraining = Retraining {
            neighbours: self.neighbours as usize,
            observations: self.observations as usize,
            max_slope: self.max_slope,
            max_norm: self.max_norm,
        };
        Settings {
            windows: windows(self.window, self.slide),
            grouping: Grouping::new(&self.dimensions, &self.merge_key),
            max_groups: self.max_groups as usize,
            session_gap: self.session_gap.as_millis(),
            decay: Decay { lambda: self.lambda, by_domain: self.by_domain() },
            vector_dimensions: self.vector_dimensions as usize,
            rate_windows: windows(self.decay_rate_window, self.decay_rate_slide),
            retraining: (self.neighbours > 0).then_some(retraining),
            revision: self.revision,
        }
    }

    /// What alert rules can watch.
    #[must_use]
    pub fn row_kinds(&self) -> Vec<RowKind> {
        let grouping = Grouping::new(&self.dimensions, &self.merge_key);
        let (window, slide) = (self.decay_rate_window.as_millis(), self.decay_rate_slide.as_millis());
        vec![
            alerts::pairs_kind(grouping.dimensions(), self.window.as_millis(), self.slide.as_millis()),
            alerts::rates_kind(window, slide),
        ]
    }

    /// All that changes results, one way of writing for one meaning: a state made under another text is not continued.
    #[must_use]
    pub fn semantics(&self) -> String {
        let retraining = match self.neighbours {
            0 => "none".to_owned(),
            neighbours => format!("{neighbours}:{}:{}:{}", self.observations, self.max_slope, self.max_norm),
        };
        format!(
            "window={} slide={} out_of_orderness={} max_future_skew={} session_gap={} lambda={} lambda_by_domain={:?} {} \
             max_groups={} vector_dimensions={} decay_rate_window={} decay_rate_slide={} retraining={retraining} {} {}",
            self.window.as_millis(),
            self.slide.as_millis(),
            self.out_of_orderness.as_millis(),
            self.max_future_skew.as_millis(),
            self.session_gap.as_millis(),
            self.lambda,
            self.by_domain(),
            Grouping::new(&self.dimensions, &self.merge_key).semantics(),
            self.max_groups,
            self.vector_dimensions,
            self.decay_rate_window.as_millis(),
            self.decay_rate_slide.as_millis(),
            self.source.semantics("source"),
            self.items.semantics("items"),
        )
    }

    fn by_domain(&self) -> BTreeMap<String, f64> {
        self.lambda_by_domain.iter().map(|(domain, lambda)| (domain.clone(), lambda.0)).collect()
    }

    fn validate_times(&self, problems: &mut Problems) {
        check_windows(problems, ("window", self.window), ("slide", self.slide));
        let (window, slide) = (self.decay_rate_window, self.decay_rate_slide);
        check_windows(problems, ("decay_rate_window", window), ("decay_rate_slide", slide));
        check_span(problems, "out_of_orderness", self.out_of_orderness);
        check_span(problems, "max_future_skew", self.max_future_skew);
        check_span(problems, "session_gap", self.session_gap);
        if self.idle_timeout.as_millis() == 0 {
            problems.add("idle_timeout", self.idle_timeout, "longer than 0s");
        }
    }

    fn validate_decay(&self, problems: &mut Problems) {
        let is_rate = |lambda: f64| lambda.is_finite() && lambda >= 0.0;
        if !is_rate(self.lambda) {
            problems.add("lambda", self.lambda, "0 or more");
        }
        for (domain, lambda) in self.by_domain().iter().filter(|(_, lambda)| !is_rate(**lambda)) {
            problems.add(format!("lambda_by_domain.{domain}"), lambda, "0 or more");
        }
    }

    fn validate_retraining(&self, problems: &mut Problems) {
        if self.neighbours > 1000 {
            problems.add("neighbours", self.neighbours, "from 0 (no retraining) to 1000");
        }
        if !(2..=1000).contains(&self.observations) {
            problems.add("observations", self.observations, "from 2 to 1000");
        }
        for (key, value) in [("max_slope", self.max_slope), ("max_norm", self.max_norm)] {
            if !value.is_finite() {
                problems.add(key, value, "a number");
            }
        }
    }
}

impl Validate for Topics {
    fn validate(&self, problems: &mut Problems) {
        check_topic(problems, "cosine_decay", &self.cosine_decay);
        check_topic(problems, "decay_rate", &self.decay_rate);
        check_topic(problems, "retrain_requests", &self.retrain_requests);
        check_topic(problems, "alerts", &self.alerts);
        check_topic(problems, "late", &self.late);
        check_topic(problems, "dead_letters", &self.dead_letters);
    }
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        self.validate_times(problems);
        self.validate_decay(problems);
        self.validate_retraining(problems);
        grouping::validate(&self.dimensions, &self.merge_key, problems);
        if !(1..=1_000_000).contains(&self.max_groups) {
            problems.add("max_groups", self.max_groups, "from 1 to 1000000");
        }
        if !(1..=4096).contains(&self.vector_dimensions) {
            problems.add("vector_dimensions", self.vector_dimensions, "from 1 to 4096");
        }
        if self.threads > 1024 {
            problems.add("threads", self.threads, "from 0 (one for each core) to 1024");
        }
        if self.revision < 0 {
            problems.add("revision", self.revision, "0 or more");
        }
        if self.items.topic == self.source.topic {
            problems.add("items.topic", format!("{:?}", self.items.topic), "another topic than source.topic");
        }
        problems.within("source", &self.source);
        problems.within("items", &self.items);
        problems.within("topics", &self.topics);
        self.alerts.validate(&self.row_kinds(), problems);
        check_sections(problems, self);
    }
}

impl service::Settings for Configuration {
    fn http(&self) -> &Http {
        &self.http
    }

    fn log(&self) -> &Log {
        &self.log
    }
}

impl MetricWorker for Configuration {
    fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn alerts_topic(&self) -> &str {
        &self.topics.alerts
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn source_topics(&self) -> Vec<&str> {
        vec![&self.source.topic, &self.items.topic]
    }
}

#[cfg(test)]
mod tests {
    use records::Format;
    use service::{Sources, load};

    use super::*;

    fn configured(sets: &[&str]) -> Result<Configuration, Vec<String>> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let defaults = defaults();
        let sources = Sources { defaults: &defaults, file: None, environment: Vec::new(), sets: &sets };
        match load::<Configuration>(sources) {
            Ok(loaded) => Ok(loaded.settings),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_definition() {
        assert_eq!(
            configured(&[]).unwrap().semantics(),
            "window=300000 slide=10000 out_of_orderness=5000 max_future_skew=30000 session_gap=1800000 lambda=0.02 \
             lambda_by_domain={} dimensions=domain,user_segment,rec_strategy,ab_group merge_key=domain max_groups=10000 \
             vector_dimensions=64 decay_rate_window=86400000 decay_rate_slide=600000 retraining=5:10:-0.015:0.3 \
             source.key=Entity items.key=Entity"
        );
    }

    #[test]
    fn options_are_written_as_documented() {
        let configuration = configured(&[
            "lambda_by_domain={ news = 0.05, \"a b\" = 0 }",
            "lambda_by_domain.books=0.01",
            "neighbours=0",
            r#"dimensions=["item_type"]"#,
            "items.format=json",
        ])
        .unwrap();
        let settings = configuration.settings();
        let rates = ["news", "a b", "books", "other"].map(|domain| settings.decay.of(domain));
        assert_eq!((rates, settings.retraining), ([0.05, 0.0, 0.01, 0.02], None));
        assert_eq!(configuration.items.format, Format::Json);
    }

    #[test]
    fn times_that_cannot_be_computed_with_are_refused() {
        for set in [
            "window=3651d",
            "decay_rate_window=3651d",
            "out_of_orderness=3651d",
            "max_future_skew=3651d",
            "session_gap=3651d",
        ] {
            let (key, _) = set.split_once('=').unwrap();
            let problems = configured(&[set]).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(key)), "{set}: {problems:?}");
        }
    }

    #[test]
    fn what_changes_no_result_is_not_part_of_the_semantics() {
        let semantics = |sets: &[&str]| configured(sets).unwrap().semantics();
        assert_eq!(semantics(&["idle_timeout=1s", "threads=3", "revision=9", "window=300s"]), semantics(&[]));
        for set in [
            "source.key=ignore",
            "items.key=ignore",
            "window=10m",
            "slide=5s",
            "out_of_orderness=1s",
            "max_future_skew=1s",
            "session_gap=1h",
            "lambda=0.5",
            "lambda_by_domain.a=1.5",
            r#"dimensions=["domain"]"#,
            "max_groups=9",
            "merge_key=[]",
            "vector_dimensions=3",
            "decay_rate_window=1h",
            "decay_rate_slide=5m",
            "neighbours=0",
            "observations=3",
            "max_slope=-0.5",
            "max_norm=1.5",
        ] {
            assert_ne!(semantics(&[set]), semantics(&[]), "{set}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_each_with_its_key_and_value() {
        let problems = configured(&[
            "window=25s",
            "decay_rate_slide=0s",
            "idle_timeout=0s",
            "lambda=-1",
            "lambda_by_domain.news=-0.5",
            r#"dimensions=["domain", "domain"]"#,
            "max_groups=0",
            "vector_dimensions=0",
            "neighbours=2000",
            "observations=1",
            "threads=5000",
            "revision=-1",
            "items.topic=recsys.interactions.v1",
            "topics.late=",
        ])
        .unwrap_err();
        for key in [
            "window = 25s",
            "decay_rate_slide = 0s",
            "idle_timeout = 0s",
            "lambda = -1",
            "lambda_by_domain.news = -0.5",
            r#"dimensions = ["domain", "domain"]"#,
            "max_groups = 0",
            "vector_dimensions = 0",
            "neighbours = 2000",
            "observations = 1",
            "threads = 5000",
            "revision = -1",
            r#"items.topic = "recsys.interactions.v1""#,
            r#"topics.late = """#,
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} is not in {problems:#?}");
        }
        assert_eq!(problems.len(), 14, "{problems:#?}");
    }
}
