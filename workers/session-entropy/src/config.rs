//! The worker's configuration. `default.toml` says what each key means.

use alerting::{AlertsConfig, RowKind};
use grouping::{Dimension, Grouping};
use measures::{Bins, BinsError, Estimator, MAX_BINS, Normalise, Scorer};
use serde::Deserialize;
use service::{Http, HumanDuration, Kafka, Log, Problems, Registry, Validate, sections};
use streaming::config::RuntimeConfig;
use streaming::window::Windows;
use worker::{MetricWorker, SourceConfig, check_sections, check_span, check_topic, check_windows};

use crate::alerts;
use crate::settings::Settings;

/// Times inside of a window are kept as 32 bits of ms, which end at 49.7 days.
const MAX_WINDOW_MS: i64 = 49 * 24 * 3_600_000;

/// The worker's name.
pub const NAME: &str = "session-entropy";

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
    pub min_events: u32,
    pub bins: BinsConfig,
    pub normalise: NormaliseConfig,
    pub estimator: EstimatorConfig,
    pub dimensions: Vec<Dimension>,
    pub max_groups: u32,
    pub merge_key: Vec<Dimension>,
    pub threads: usize,
    pub revision: i64,
    pub source: SourceConfig,
    pub topics: Topics,
    pub alerts: AlertsConfig,
    pub kafka: Kafka,
    pub registry: Registry,
    pub runtime: RuntimeConfig,
    pub http: Http,
    pub log: Log,
}

/// Bins of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum BinsConfig {
    Log2 { unit: HumanDuration, count: u32 },
    Linear { min: HumanDuration, max: HumanDuration, count: u32 },
}

impl BinsConfig {
    fn bins(self) -> Result<Bins, BinsError> {
        match self {
            Self::Log2 { unit, count } => Bins::log2(unit.as_millis(), count),
            Self::Linear { min, max, count } => Bins::linear(min.as_millis(), max.as_millis(), count),
        }
    }
}

/// What entropy is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum NormaliseConfig {
    All,
    Occupied,
}

/// How entropy is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum EstimatorConfig {
    PlugIn,
    MillerMadow,
    ChaoShen,
}

/// Where rows and refused records go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Topics {
    pub session_freshness: String,
    pub session_entropy: String,
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
        let estimator = match self.estimator {
            EstimatorConfig::PlugIn => Estimator::PlugIn,
            EstimatorConfig::MillerMadow => Estimator::MillerMadow,
            EstimatorConfig::ChaoShen => Estimator::ChaoShen,
        };
        let normalise = match self.normalise {
            NormaliseConfig::All => Normalise::All,
            NormaliseConfig::Occupied => Normalise::Occupied,
        };
        let windows = Windows::new(self.window.as_millis(), self.slide.as_millis());
        Settings {
            windows: windows.expect("window and slide have been validated"),
            scorer: Scorer::new(self.bins.bins().expect("bins have been validated"), estimator, normalise),
            min_events: self.min_events,
            grouping: self.grouping(),
            max_groups: self.max_groups as usize,
            revision: self.revision,
        }
    }

    fn grouping(&self) -> Grouping {
        Grouping::new(&self.dimensions, &self.merge_key)
    }

    /// What alert rules can watch.
    #[must_use]
    pub fn row_kinds(&self) -> Vec<RowKind> {
        vec![alerts::row_kind(self.grouping().dimensions(), self.window.as_millis(), self.slide.as_millis())]
    }

    /// All that changes results, one way of writing for one meaning: a state made under another text is not continued.
    #[must_use]
    pub fn semantics(&self) -> String {
        let bins = match self.bins {
            BinsConfig::Log2 { unit, count } => format!("log2:{}:{count}", unit.as_millis()),
            BinsConfig::Linear { min, max, count } => format!("linear:{}:{}:{count}", min.as_millis(), max.as_millis()),
        };
        format!(
            "window={} slide={} out_of_orderness={} max_future_skew={} min_events={} bins={bins} normalise={:?} \
             estimator={:?} {} max_groups={} {}",
            self.window.as_millis(),
            self.slide.as_millis(),
            self.out_of_orderness.as_millis(),
            self.max_future_skew.as_millis(),
            self.min_events,
            self.normalise,
            self.estimator,
            self.grouping().semantics(),
            self.max_groups,
            self.source.semantics("source"),
        )
    }

    fn validate_windows(&self, problems: &mut Problems) {
        check_windows(problems, ("window", self.window), ("slide", self.slide));
        check_span(problems, "out_of_orderness", self.out_of_orderness);
        check_span(problems, "max_future_skew", self.max_future_skew);
        if self.window.as_millis() > MAX_WINDOW_MS {
            problems.add("window", self.window, "at most 49d");
        }
    }

    fn validate_bins(&self, problems: &mut Problems) {
        if let (Err(error), count) = match self.bins {
            BinsConfig::Log2 { count, .. } | BinsConfig::Linear { count, .. } => (self.bins.bins(), count),
        } {
            match (error, self.bins) {
                (BinsError::Unit(_), BinsConfig::Log2 { unit, .. }) => {
                    problems.add("bins.unit", unit, "longer than 0s");
                }
                (BinsError::Range(..), BinsConfig::Linear { min, max, .. }) => {
                    problems.add("bins.max", max, format!("longer than bins.min ({min})"));
                }
                _ => problems.add("bins.count", count, format!("from 1 to {MAX_BINS}")),
            }
        }
    }
}

impl Validate for Topics {
    fn validate(&self, problems: &mut Problems) {
        check_topic(problems, "session_freshness", &self.session_freshness);
        check_topic(problems, "session_entropy", &self.session_entropy);
        check_topic(problems, "alerts", &self.alerts);
        check_topic(problems, "late", &self.late);
        check_topic(problems, "dead_letters", &self.dead_letters);
    }
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        self.validate_windows(problems);
        if self.idle_timeout.as_millis() == 0 {
            problems.add("idle_timeout", self.idle_timeout, "longer than 0s");
        }
        if self.min_events == 0 {
            problems.add("min_events", self.min_events, "1 or more");
        }
        self.validate_bins(problems);
        grouping::validate(&self.dimensions, &self.merge_key, problems);
        if !(1..=1_000_000).contains(&self.max_groups) {
            problems.add("max_groups", self.max_groups, "from 1 to 1000000");
        }
        if self.threads > 1024 {
            problems.add("threads", self.threads, "from 0 (one for each core) to 1024");
        }
        if self.revision < 0 {
            problems.add("revision", self.revision, "0 or more");
        }
        problems.within("source", &self.source);
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
        vec![&self.source.topic]
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
        let configuration = configured(&[]).unwrap();
        assert_eq!(
            configuration.semantics(),
            "window=300000 slide=10000 out_of_orderness=5000 max_future_skew=30000 min_events=2 bins=log2:1000:10 \
             normalise=All estimator=PlugIn dimensions=domain,user_segment,rec_strategy,ab_group merge_key=domain \
             max_groups=10000 source.key=Entity"
        );
        let settings = configuration.settings();
        assert_eq!((settings.windows.size(), settings.windows.slide()), (300_000, 10_000));
        assert_eq!(settings.scorer.bins(), &Bins::log2(1000, 10).unwrap());
        assert_eq!((settings.min_events, settings.max_groups, settings.revision), (2, 10_000, 1));
    }

    #[test]
    fn options_are_written_as_documented() {
        let configuration = configured(&[
            "window=10m",
            r#"bins={ kind = "linear", min = "0s", max = "600s", count = 12 }"#,
            "normalise=occupied",
            "estimator=chao_shen",
            r#"dimensions=["item_type", "surface"]"#,
            r#"merge_key=["surface"]"#,
            "source.format=json",
        ])
        .unwrap();
        assert_eq!(configuration.settings().scorer.bins(), &Bins::linear(0, 600_000, 12).unwrap());
        assert_eq!(configuration.source.format, Format::Json);
        assert!(configuration.semantics().contains("bins=linear:0:600000:12 normalise=Occupied estimator=ChaoShen"));
    }

    #[test]
    fn the_default_merge_key_counts_only_where_it_is_a_dimension() {
        let configuration = configured(&[r#"dimensions=["user_segment"]"#]).unwrap();
        assert!(configuration.semantics().contains("merge_key="), "{}", configuration.semantics());
        assert!(!configuration.semantics().contains("merge_key=domain"), "{}", configuration.semantics());
    }

    #[test]
    fn what_changes_no_result_is_not_part_of_the_semantics() {
        let semantics = |sets: &[&str]| configured(sets).unwrap().semantics();
        let changes_nothing =
            ["idle_timeout=1s", "threads=3", "revision=9", "runtime.max_lead=2h", "alerts.no_data_windows=9"];
        assert_eq!(semantics(&changes_nothing), semantics(&[]));
        assert_eq!(semantics(&["window=300s"]), semantics(&[]), "another way of writing");
        for set in [
            "source.key=ignore",
            "window=10m",
            "slide=5s",
            "out_of_orderness=1s",
            "max_future_skew=1s",
            "min_events=3",
            "bins.count=9",
            "normalise=occupied",
            "estimator=chao_shen",
            r#"dimensions=["domain"]"#,
            "max_groups=9",
            "merge_key=[]",
        ] {
            assert_ne!(semantics(&[set]), semantics(&[]), "{set}");
        }
    }

    #[test]
    fn times_that_cannot_be_computed_with_are_refused() {
        for set in ["window=50d", "window=100000000d", "slide=1ms", "out_of_orderness=3651d", "max_future_skew=3651d"] {
            let (key, _) = set.split_once('=').unwrap();
            let key = if key == "slide" { "window" } else { key };
            let problems = configured(&[set]).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(key)), "{set}: {problems:?}");
        }
        assert!(configured(&["max_future_skew=3650d", "out_of_orderness=3650d"]).is_ok());
    }

    #[test]
    fn all_problems_are_told_at_once_each_with_its_key_and_value() {
        let problems = configured(&[
            "window=25s",
            "idle_timeout=0s",
            "min_events=0",
            "bins.count=0",
            r#"dimensions=["domain", "domain"]"#,
            r#"merge_key=["surface"]"#,
            "max_groups=0",
            "threads=5000",
            "revision=-1",
            "source.topic=a b",
            "topics.late=",
            "alerts.rules.freshness-scattered.metric=freshness",
            "alerts.rules.freshness-scattered.require.users=30",
            "windows=1m",
        ])
        .unwrap_err();
        for key in [
            "window = 25s",
            "idle_timeout = 0s",
            "min_events = 0",
            "bins.count = 0",
            r#"dimensions = ["domain", "domain"]"#,
            r#"merge_key = ["surface"]"#,
            "max_groups = 0",
            "threads = 5000",
            "revision = -1",
            r#"source.topic = "a b""#,
            r#"topics.late = """#,
            r#"alerts.rules.freshness-scattered.metric = "freshness""#,
            "windows",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} is not in {problems:#?}");
        }
        assert_eq!(problems.len(), 13, "{problems:#?}");
        assert!(problems.iter().any(|problem| problem.contains("a multiple of the slide (10s)")));
    }

    #[test]
    fn bins_that_make_no_sense_are_refused_by_their_key() {
        for (set, problem) in [
            (r#"bins={ kind = "log2", unit = "0s", count = 10 }"#, "bins.unit = 0s"),
            (r#"bins={ kind = "linear", min = "9s", max = "9s", count = 10 }"#, "bins.max = 9s"),
            (r#"bins={ kind = "linear", min = "0s", max = "9s", count = 10001 }"#, "bins.count = 10001"),
        ] {
            let problems = configured(&[set]).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
        }
        assert!(configured(&[r#"bins={ kind = "cubic", count = 3 }"#]).is_err());
        assert!(configured(&[r#"bins={ kind = "linear", min = "0s", max = "9s", unit = "1s", count = 3 }"#]).is_err());
    }

    #[test]
    fn windows_that_32_bits_cannot_measure_are_refused() {
        assert!(configured(&["window=49d", "slide=1h"]).is_ok());
        assert!(configured(&["window=50d", "slide=1h"]).is_err());
        assert!(configured(&["slide=0s"]).is_err());
    }
}
