//! The worker's configuration. `default.toml` says what each key means.

use std::collections::BTreeSet;

use alerting::{AlertsConfig, RowKind};
use measures::{Directions, Scale, ScaleError, Sinkhorn};
use serde::Deserialize;
use service::{Http, HumanDuration, Kafka, Log, Problems, Registry, Validate, sections};
use streaming::config::RuntimeConfig;
use streaming::window::Windows;
use worker::{MetricWorker, SourceConfig, check_sections, check_span, check_topic, check_windows};

use crate::alerts;
use crate::distance::ScaledBy;
use crate::pairs::{Pair, Pairs};
use crate::projector::{Normalise, Projector};
use crate::settings::Settings;

/// A domain's summary must fit a history record of 900 KiB: so many bins and components of a sample, of 4 bytes each.
const MAX_SUMMARY: u64 = 224 * 1024;

/// The range of normalised vectors' projections.
const UNIT_RANGE: [f64; 2] = [-1.0, 1.0];

/// The worker's name.
pub const NAME: &str = "domain-drift";

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
    pub vector_dimensions: u32,
    pub directions: u32,
    pub seed: u64,
    pub bins: u32,
    pub normalise: NormaliseConfig,
    pub range: [f64; 2],
    pub scale: ScaleConfig,
    pub reference: f64,
    pub min_users: u64,
    pub pairs: PairsConfig,
    pub self_offset: HumanDuration,
    pub sinkhorn: bool,
    pub sinkhorn_sample: u32,
    pub sinkhorn_epsilon: f64,
    pub sinkhorn_iterations: u32,
    pub max_domains: u32,
    pub max_pairs: u32,
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

/// What is done with vectors before they are projected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum NormaliseConfig {
    L2,
    None,
}

/// What distances are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ScaleConfig {
    TargetSigma,
    None,
}

/// Which domains are compared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenPairs")]
#[allow(missing_docs)]
pub enum PairsConfig {
    All,
    Listed(Vec<PairConfig>),
}

/// What stands in the configuration for [`PairsConfig`].
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be \"all\", or a list of { sources = [\"a\"], target = \"b\" }")]
enum WrittenPairs {
    Text(String),
    Listed(Vec<PairConfig>),
}

impl TryFrom<WrittenPairs> for PairsConfig {
    type Error = String;

    fn try_from(written: WrittenPairs) -> Result<Self, String> {
        match written {
            WrittenPairs::Listed(pairs) => Ok(Self::Listed(pairs)),
            WrittenPairs::Text(text) if text == "all" => Ok(Self::All),
            // a variable or `--set` of a key whose default is text is text, even if it is a list in writing
            WrittenPairs::Text(text) => match toml::from_str::<ListedPairs>(&format!("pairs = {text}")) {
                Ok(listed) => Ok(Self::Listed(listed.pairs)),
                Err(_) => Err("it must be \"all\", or a list of { sources = [\"a\"], target = \"b\" }".to_owned()),
            },
        }
    }
}

#[derive(Deserialize)]
struct ListedPairs {
    pairs: Vec<PairConfig>,
}

/// Sources that are pooled, against a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct PairConfig {
    pub sources: Vec<String>,
    pub target: String,
}

/// Where rows and refused records go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Topics {
    pub domain_drift: String,
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
        let windows = Windows::new(self.window.as_millis(), self.slide.as_millis());
        let directions = Directions::new(self.directions as usize, self.vector_dimensions as usize, self.seed);
        let [low, high] = self.range;
        let scale = Scale::new(low, high, self.bins).expect("range and bins have been validated");
        let normalise = match self.normalise {
            NormaliseConfig::L2 => Normalise::L2,
            NormaliseConfig::None => Normalise::None,
        };
        let sinkhorn = Sinkhorn { epsilon: self.sinkhorn_epsilon, iterations: self.sinkhorn_iterations };
        Settings {
            windows: windows.expect("window and slide have been validated"),
            projector: Projector::new(directions, scale, normalise),
            scaled_by: match self.scale {
                ScaleConfig::TargetSigma => ScaledBy::TargetSigma,
                ScaleConfig::None => ScaledBy::Nothing,
            },
            reference: self.reference,
            min_users: self.min_users,
            pairs: self.pairs(),
            self_offset: Some(self.self_offset.as_millis()).filter(|offset| *offset > 0),
            sinkhorn: self.sinkhorn.then_some((sinkhorn, self.sinkhorn_sample as usize)),
            max_domains: self.max_domains as usize,
            revision: self.revision,
        }
    }

    fn pairs(&self) -> Pairs {
        match &self.pairs {
            PairsConfig::All => Pairs::All { max: self.max_pairs as usize },
            PairsConfig::Listed(pairs) => Pairs::Listed(
                pairs.iter().map(|pair| Pair { sources: pair.sources.clone(), target: pair.target.clone() }).collect(),
            ),
        }
    }

    /// What alert rules can watch.
    #[must_use]
    pub fn row_kinds(&self) -> Vec<RowKind> {
        vec![alerts::row_kind(self.window.as_millis(), self.slide.as_millis())]
    }

    /// All that changes results, one way of writing for one meaning: a state made under another text is not continued.
    #[must_use]
    pub fn semantics(&self) -> String {
        let pairs = match &self.pairs {
            PairsConfig::All => format!("all:{}", self.max_pairs),
            PairsConfig::Listed(pairs) => {
                let pairs = pairs.iter().map(|pair| format!("{:?}>{:?}", pair.sources, pair.target));
                format!("[{}]", pairs.collect::<Vec<_>>().join(" "))
            }
        };
        let sinkhorn = match self.sinkhorn {
            true => format!("{}:{}:{}", self.sinkhorn_sample, self.sinkhorn_epsilon, self.sinkhorn_iterations),
            false => "none".to_owned(),
        };
        format!(
            "window={} slide={} out_of_orderness={} max_future_skew={} vector_dimensions={} directions={} seed={} bins={} \
             normalise={:?} range={:?} scale={:?} reference={} min_users={} pairs={pairs} self_offset={} \
             sinkhorn={sinkhorn} max_domains={} {}",
            self.window.as_millis(),
            self.slide.as_millis(),
            self.out_of_orderness.as_millis(),
            self.max_future_skew.as_millis(),
            self.vector_dimensions,
            self.directions,
            self.seed,
            self.bins,
            self.normalise,
            self.range,
            self.scale,
            self.reference,
            self.min_users,
            self.self_offset.as_millis(),
            self.max_domains,
            self.source.semantics("source"),
        )
    }

    fn validate_times(&self, problems: &mut Problems) {
        check_windows(problems, ("window", self.window), ("slide", self.slide));
        check_span(problems, "out_of_orderness", self.out_of_orderness);
        check_span(problems, "max_future_skew", self.max_future_skew);
        check_span(problems, "self_offset", self.self_offset);
        let slide = self.slide.as_millis();
        if slide > 0 && self.self_offset.as_millis() % slide != 0 {
            let allowed = format!("0s, or a multiple of the slide ({})", self.slide);
            problems.add("self_offset", self.self_offset, allowed);
        }
        if self.idle_timeout.as_millis() == 0 {
            problems.add("idle_timeout", self.idle_timeout, "longer than 0s");
        }
    }

    fn validate_projections(&self, problems: &mut Problems) {
        if !(1..=4096).contains(&self.vector_dimensions) {
            problems.add("vector_dimensions", self.vector_dimensions, "from 1 to 4096");
        }
        if !(1..=1024).contains(&self.directions) {
            problems.add("directions", self.directions, "from 1 to 1024");
        }
        let [low, high] = self.range;
        match Scale::new(low, high, self.bins) {
            Err(ScaleError::Bins) => problems.add("bins", self.bins, format!("from 1 to {}", Scale::MAX_BINS)),
            Err(ScaleError::Range) => problems.add("range", shown(self.range), "two finite numbers, the lesser first"),
            Ok(_) if u64::from(self.directions) * u64::from(self.bins) > MAX_SUMMARY => {
                let allowed = format!("at most {MAX_SUMMARY} / directions ({})", self.directions);
                problems.add("bins", self.bins, allowed);
            }
            Ok(_) if self.normalise == NormaliseConfig::L2 && self.range != UNIT_RANGE => {
                problems.add("range", shown(self.range), format!("{} where normalise is \"l2\"", shown(UNIT_RANGE)));
            }
            Ok(_) => {}
        }
    }

    fn validate_distances(&self, problems: &mut Problems) {
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        if !is_positive(self.reference) {
            problems.add("reference", self.reference, "above 0");
        }
        if !is_positive(self.sinkhorn_epsilon) {
            problems.add("sinkhorn_epsilon", self.sinkhorn_epsilon, "above 0");
        }
        if !(1..=10_000).contains(&self.sinkhorn_iterations) {
            problems.add("sinkhorn_iterations", self.sinkhorn_iterations, "from 1 to 10000");
        }
        let room = MAX_SUMMARY.saturating_sub(u64::from(self.directions) * u64::from(self.bins));
        let most = room / u64::from(self.vector_dimensions.max(1));
        if self.sinkhorn_sample == 0 {
            problems.add("sinkhorn_sample", self.sinkhorn_sample, "1 or more");
        } else if self.sinkhorn && u64::from(self.sinkhorn_sample) > most {
            let allowed = format!("at most {most} (with vector_dimensions) beside directions * bins, of {MAX_SUMMARY}");
            problems.add("sinkhorn_sample", self.sinkhorn_sample, allowed);
        }
        if let PairsConfig::Listed(pairs) = &self.pairs {
            self.validate_pairs(pairs, problems);
        }
        if !(1..=10_000).contains(&self.max_domains) {
            problems.add("max_domains", self.max_domains, "from 1 to 10000");
        }
        if !(1..=1_000_000).contains(&self.max_pairs) {
            problems.add("max_pairs", self.max_pairs, "from 1 to 1000000");
        }
    }

    fn validate_pairs(&self, pairs: &[PairConfig], problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (at, pair) in pairs.iter().enumerate() {
            let sources: BTreeSet<&String> = pair.sources.iter().collect();
            if sources.is_empty() || sources.len() < pair.sources.len() {
                let allowed = "one or more domains, each once";
                problems.add(format!("pairs[{at}].sources"), format!("{:?}", pair.sources), allowed);
            }
            // as rows name them
            if !seen.insert((pair.sources.join(crate::pairs::JOINED_WITH), &pair.target)) {
                let text = format!("{:?} -> {:?}", pair.sources, pair.target);
                problems.add(format!("pairs[{at}]"), text, "a pair that is not listed before");
            }
        }
        if pairs.len() > self.max_pairs as usize {
            let allowed = format!("at most max_pairs ({}) of them", self.max_pairs);
            problems.add("pairs", format!("{} pairs", pairs.len()), allowed);
        }
    }
}

fn shown([low, high]: [f64; 2]) -> String {
    format!("[{low:?}, {high:?}]")
}

impl Validate for Topics {
    fn validate(&self, problems: &mut Problems) {
        check_topic(problems, "domain_drift", &self.domain_drift);
        check_topic(problems, "alerts", &self.alerts);
        check_topic(problems, "late", &self.late);
        check_topic(problems, "dead_letters", &self.dead_letters);
    }
}

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        self.validate_times(problems);
        self.validate_projections(problems);
        self.validate_distances(problems);
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
            "window=3600000 slide=300000 out_of_orderness=5000 max_future_skew=30000 vector_dimensions=64 directions=32 \
             seed=42 bins=2048 normalise=L2 range=[-1.0, 1.0] scale=TargetSigma reference=0.9 min_users=30 pairs=all:4096 \
             self_offset=0 sinkhorn=none max_domains=64 source.key=Entity"
        );
        let settings = configuration.settings();
        assert_eq!((settings.windows.size(), settings.windows.slide()), (3_600_000, 300_000));
        assert_eq!((settings.pairs.clone(), settings.self_offset), (Pairs::All { max: 4096 }, None));
        let shape = settings.shape();
        assert_eq!((shape.directions, shape.bins, shape.dimensions, shape.sample), (32, 2048, 64, 0));
    }

    #[test]
    fn options_are_written_as_documented() {
        let configuration = configured(&[
            r#"pairs=[{ sources = ["a", "b"], target = "c" }, { sources = ["c"], target = "a" }]"#,
            "self_offset=24h",
            "sinkhorn=true",
            "normalise=none",
            "range=[-4, 4.5]",
            "scale=none",
            "source.format=json",
        ])
        .unwrap();
        let settings = configuration.settings();
        let pair = |sources: &[&str], target: &str| Pair {
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
            target: target.to_owned(),
        };
        assert_eq!(settings.pairs, Pairs::Listed(vec![pair(&["a", "b"], "c"), pair(&["c"], "a")]));
        assert_eq!((settings.self_offset, settings.scaled_by), (Some(86_400_000), ScaledBy::Nothing));
        assert_eq!(settings.shape().sample, 256);
        assert_eq!(settings.sinkhorn.unwrap().0, Sinkhorn { epsilon: 0.01, iterations: 50 });
        assert_eq!(configuration.source.format, Format::Json);
        assert!(configuration.semantics().contains(r#"range=[-4.0, 4.5] scale=None"#), "{}", configuration.semantics());
        assert_eq!(configured(&["pairs=[]"]).unwrap().settings().pairs, Pairs::Listed(Vec::new()));
        assert_eq!(configured(&["pairs=all"]).unwrap().settings().pairs, Pairs::All { max: 4096 });
    }

    #[test]
    fn times_that_cannot_be_computed_with_are_refused() {
        for set in ["window=3651d", "self_offset=3655d", "out_of_orderness=3651d", "max_future_skew=3651d"] {
            let (key, _) = set.split_once('=').unwrap();
            let problems = configured(&[set]).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(key)), "{set}: {problems:?}");
        }
    }

    #[test]
    fn what_changes_no_result_is_not_part_of_the_semantics() {
        let semantics = |sets: &[&str]| configured(sets).unwrap().semantics();
        let changes_nothing =
            ["idle_timeout=1s", "threads=3", "revision=9", "runtime.max_lead=2h", "sinkhorn_sample=9"];
        assert_eq!(semantics(&changes_nothing), semantics(&[]));
        assert_eq!(semantics(&["window=60m"]), semantics(&[]), "another way of writing");
        for set in [
            "source.key=ignore",
            "window=10m",
            "slide=1m",
            "out_of_orderness=1s",
            "max_future_skew=1s",
            "vector_dimensions=32",
            "directions=8",
            "seed=7",
            "bins=64",
            "normalise=none",
            "scale=none",
            "reference=1",
            "min_users=3",
            "pairs=[]",
            "self_offset=24h",
            "sinkhorn=true",
            "max_domains=9",
            "max_pairs=9",
        ] {
            assert_ne!(semantics(&[set]), semantics(&[]), "{set}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_each_with_its_key_and_value() {
        let problems = configured(&[
            "window=7m",
            "idle_timeout=0s",
            "vector_dimensions=0",
            "directions=0",
            "bins=0",
            "reference=0",
            "self_offset=7m",
            "sinkhorn_epsilon=-1",
            "sinkhorn_iterations=0",
            "sinkhorn_sample=0",
            "max_domains=0",
            "max_pairs=0",
            "threads=5000",
            "revision=-1",
            "source.topic=a b",
            "topics.late=",
            "pair=all",
        ])
        .unwrap_err();
        for key in [
            "window = 7m",
            "idle_timeout = 0s",
            "vector_dimensions = 0",
            "directions = 0",
            "bins = 0",
            "reference = 0",
            "self_offset = 7m",
            "sinkhorn_epsilon = -1",
            "sinkhorn_iterations = 0",
            "sinkhorn_sample = 0",
            "max_domains = 0",
            "max_pairs = 0",
            "threads = 5000",
            "revision = -1",
            r#"source.topic = "a b""#,
            r#"topics.late = """#,
            "pair",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key} is not in {problems:#?}");
        }
        assert_eq!(problems.len(), 17, "{problems:#?}");
    }

    #[test]
    fn ranges_and_pairs_that_make_no_sense_are_refused_by_their_key() {
        for (sets, problem) in [
            (&["normalise=none", "range=[1, 1]"][..], "range = [1.0, 1.0]"),
            (&["range=[-2, 2]"], "range = [-2.0, 2.0]"),
            (&["bins=10000"], "bins = 10000"),
            (&["vector_dimensions=4096", "sinkhorn=true"], "sinkhorn_sample = 256"),
            (&[r#"pairs=[{ sources = [], target = "b" }]"#], "pairs[0].sources = []"),
            (&[r#"pairs=[{ sources = ["a", "a"], target = "b" }]"#], r#"pairs[0].sources = ["a", "a"]"#),
            (
                &[r#"pairs=[{ sources = ["a"], target = "b" }, { sources = ["a"], target = "b" }]"#],
                r#"pairs[1] = ["a"] -> "b""#,
            ),
        ] {
            let problems = configured(sets).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problems:?}");
        }
        let unknown = configured(&["pairs=some"]).unwrap_err();
        assert!(unknown.len() == 1 && unknown[0].contains("\"all\", or a list of"), "{unknown:?}");
        assert!(configured(&[r#"pairs=[{ source = ["a"], target = "b" }]"#]).is_err());
    }
}
