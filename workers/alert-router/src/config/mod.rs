//! The configuration: `default.toml` explains each key.

mod mute_times;
mod receivers;
mod routes;

use std::collections::BTreeMap;

use serde::Deserialize;
use service::{GroupProtocol, Http, HumanDuration, Kafka, Log, Problems, Registry, Settings, Validate, sections};

use crate::inhibition;
use crate::matcher::Matcher;
use crate::routing::Routing;

pub use mute_times::MuteTimeSection;
pub use receivers::{Protocol, ReceiverSection, Target};
pub use routes::RouteSection;

/// The whole default configuration, as commented TOML.
#[must_use]
pub fn defaults() -> String {
    service::defaults(&[
        include_str!("../default.toml"),
        sections::KAFKA,
        sections::REGISTRY,
        sections::HTTP,
        sections::LOG,
    ])
}

/// The configuration of alert-router.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Configuration {
    pub external_url: String,
    pub inhibit: Vec<InhibitSection>,
    pub route: RouteSection,
    pub receivers: BTreeMap<String, ReceiverSection>,
    pub mute_times: BTreeMap<String, Vec<MuteTimeSection>>,
    pub topics: Topics,
    pub runtime: Runtime,
    pub kafka: Kafka,
    pub registry: Registry,
    pub http: Http,
    pub log: Log,
}

/// An entry of `[[inhibit]]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct InhibitSection {
    pub source_matchers: Vec<String>,
    pub target_matchers: Vec<String>,
    pub equal: Vec<String>,
}

/// The section `[topics]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Topics {
    pub alerts: String,
    pub silences: String,
    pub dead_letters: String,
    pub state: String,
}

/// The section `[runtime]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Runtime {
    pub group: String,
    pub instance: String,
    pub protocol: GroupProtocol,
    pub session_timeout: HumanDuration,
    pub transaction_timeout: HumanDuration,
    pub partitions: i32,
    pub replication_factor: i32,
}

impl Configuration {
    /// The routing, with everything that is wrong about it told to `problems`; what is wrong is left out of it.
    pub fn routing(&self, problems: &mut Problems) -> Routing {
        let receivers = receivers::compile(&self.receivers, problems);
        let mute_times = mute_times::compile(&self.mute_times, problems);
        let names: Vec<&str> = receivers.iter().map(|(receiver, _)| receiver.name.as_str()).collect();
        let root = routes::compile(&self.route, &names, &mute_times, problems);
        let inhibit =
            self.inhibit.iter().enumerate().map(|(index, section)| section.compile(index, problems)).collect();
        let receivers = receivers.into_iter().map(|(receiver, _)| receiver).collect();
        Routing { root, receivers, inhibit, mute_times, external_url: self.external_url.clone() }
    }

    /// Where the receivers of [`routing`](Self::routing) are told, in the same order.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        receivers::compile(&self.receivers, &mut Problems::new()).into_iter().map(|(_, target)| target).collect()
    }
}

impl InhibitSection {
    fn compile(&self, index: usize, problems: &mut Problems) -> inhibition::Rule {
        let key = format!("inhibit[{index}]");
        let mut side = |name: &str, texts: &[String]| {
            if texts.is_empty() {
                problems.add(format!("{key}.{name}"), "[]", "at least one matcher");
            }
            matchers(&format!("{key}.{name}"), texts, problems)
        };
        let source = side("source_matchers", &self.source_matchers);
        let target = side("target_matchers", &self.target_matchers);
        inhibition::Rule { source, target, equal: self.equal.clone() }
    }
}

/// Reads matchers; those that cannot be read are told and left out.
fn matchers(key: &str, texts: &[String], problems: &mut Problems) -> Vec<Matcher> {
    let mut read = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Matcher::parse(text) {
            Ok(matcher) => read.push(matcher),
            Err(error) => problems.tell(format!("{key}[{index}]"), format!("{text:?} is no matcher: {error}")),
        }
    }
    read
}

/// Reads a duration that may be left out, in ms; what cannot be read, or is shorter than `least` ms, is told.
fn duration(key: &str, text: Option<&String>, default: i64, least: i64, problems: &mut Problems) -> i64 {
    let Some(text) = text else { return default };
    match text.parse::<HumanDuration>() {
        Ok(duration) if duration.as_millis() >= least => duration.as_millis(),
        Ok(_) => {
            let least = HumanDuration::from_millis(least).unwrap_or_default();
            problems.add(key, format!("{text:?}"), format!("at least {least}"));
            default
        }
        Err(error) => {
            problems.tell(key, error);
            default
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

/// The group of the default configuration.
const DEFAULT_GROUP: &str = "recwatch.alert-router";
/// The state topic of the default configuration: two groups with one state would take each other's.
const DEFAULT_STATE: &str = "recwatch.internal.alert-router.state";

impl Validate for Configuration {
    fn validate(&self, problems: &mut Problems) {
        let routing = self.routing(problems);
        let mut users = BTreeMap::new();
        let own = [
            ("topics.alerts", &self.topics.alerts),
            ("topics.silences", &self.topics.silences),
            ("topics.dead_letters", &self.topics.dead_letters),
            ("topics.state", &self.topics.state),
        ];
        for (key, topic) in own {
            if topic.is_empty() {
                problems.add(key, "\"\"", "a topic's name");
            } else if let Some(other) = users.insert(topic.clone(), key) {
                problems.add(key, format!("{topic:?}"), format!("another topic than {other}"));
            }
        }
        for receiver in &routing.receivers {
            if let crate::routing::Style::Topic(topic) = &receiver.style
                && let Some(other) = users.get(topic)
            {
                let key = format!("receivers.{}.topic", receiver.name);
                problems.add(key, format!("{topic:?}"), format!("another topic than {other}"));
            }
        }
        if self.runtime.group != DEFAULT_GROUP && self.topics.state == DEFAULT_STATE {
            let allowed = format!("a state topic of its own, since runtime.group is {:?}", self.runtime.group);
            problems.add("topics.state", format!("{DEFAULT_STATE:?}"), allowed);
        }
        problems.within("runtime", &self.runtime);
        problems.within("kafka", &self.kafka);
        problems.within("registry", &self.registry);
        problems.within("http", &self.http);
        problems.within("log", &self.log);
    }
}

impl Validate for Runtime {
    fn validate(&self, problems: &mut Problems) {
        let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !self.instance.chars().all(named) {
            problems.add("instance", format!("{:?}", self.instance), "letters, digits, '.', '_' and '-'");
        }
        if self.group.is_empty() || !self.group.chars().all(named) {
            problems.add("group", format!("{:?}", self.group), "letters, digits, '.', '_' and '-'");
        }
        if !(1_000..=1_800_000).contains(&self.session_timeout.as_millis()) {
            problems.add("session_timeout", self.session_timeout, "1s to 30m");
        }
        if !(1_000..=900_000).contains(&self.transaction_timeout.as_millis()) {
            problems.add("transaction_timeout", self.transaction_timeout, "1s to 15m");
        }
        if !(1..=10_000).contains(&self.partitions) {
            problems.add("partitions", self.partitions, "1 to 10000");
        }
        if self.replication_factor != -1 && !(1..=32).contains(&self.replication_factor) {
            problems.add("replication_factor", self.replication_factor, "-1 or 1 to 32");
        }
    }
}

#[cfg(test)]
mod tests {
    use service::{Problems, Sources, load};

    use super::{Configuration, defaults};
    use crate::routing::Style;

    fn loaded(file: &str) -> Result<Configuration, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("router.toml");
        std::fs::write(&path, file).unwrap();
        let defaults = defaults();
        load::<Configuration>(Sources { file: Some(&path), ..Sources::of_defaults(&defaults) })
            .map(|loaded| loaded.settings)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_router_of_another_group_needs_a_state_topic_of_its_own() {
        let problems = loaded("[runtime]\ngroup = \"team\"").unwrap_err();
        assert!(problems.contains("topics.state"), "{problems}");
        assert!(loaded("[runtime]\ngroup = \"team\"\n[topics]\nstate = \"team.state\"").is_ok());
    }

    #[test]
    fn the_defaults_write_everything_to_one_topic() {
        let routing = loaded("").unwrap().routing(&mut Problems::new());
        assert_eq!(routing.receivers[0].style, Style::Topic("recwatch.routes.default.v1".to_owned()));
        assert_eq!((routing.root.receiver, routing.root.timing.group_wait), (0, 30_000));
    }

    /// What `default.toml` shows as an example is one.
    #[test]
    fn the_examples_in_the_defaults_are_good_when_they_are_uncommented() {
        let lines = include_str!("../default.toml").lines().filter_map(|line| line.strip_prefix("#   "));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text.replace("routing_key = \"\"", "routing_key = \"R\"").replace("secret = \"\"", "secret = \"s\"");
        assert!(text.contains("[receivers.incidents]") && text.contains("[[mute_times.nights]]"), "{text}");
        let text = format!("{text}\n[receivers.default]\ntype = \"topic\"\ntopic = \"t\"\n");
        let routing = loaded(&text).unwrap().routing(&mut Problems::new());
        assert_eq!((routing.receivers.len(), routing.root.routes.len(), routing.inhibit.len()), (6, 1, 1));
    }

    #[test]
    fn nodes_inherit_what_they_do_not_set() {
        let file = r#"
            [route]
            group_wait = "1s"
            [[route.routes]]
            matchers = ['severity="critical"']
            group_by = ["..."]
            [[route.routes.routes]]
            matchers = ["domain=books"]
            repeat_interval = "1h"
        "#;
        let root = loaded(file).unwrap().routing(&mut Problems::new()).root;
        let leaf = &root.routes[0].routes[0];
        assert_eq!(leaf.timing.group_wait, 1_000);
        assert_eq!((leaf.timing.repeat_interval, root.routes[0].timing.repeat_interval), (3_600_000, 14_400_000));
        assert_eq!(leaf.group_by, crate::labels::GroupBy::All);
        assert_eq!((leaf.index, leaf.place.as_str()), (2, "route.routes[0].routes[0]"));
        assert_eq!(leaf.path, r#"{}/{severity="critical"}/{domain="books"}"#);
    }

    #[test]
    fn all_problems_are_told_at_once_each_with_key_and_value() {
        let problems = loaded(
            r#"
            [[inhibit]]
            source_matchers = ["severity"]
            [route]
            group_interval = "0s"
            [[route.routes]]
            receiver = "pagr"
            matchers = ['domain=~"("']
            group_wait = "soon"
            mute_times = ["night"]
            [[route.routes]]
            matchers = ["severity=critical"]
            [[route.routes]]
            matchers = ['severity="critical"', "domain=books"]
            [receivers.default]
            type = "topic"
            topic = "recwatch.alerts.v1"
            [receivers.pager]
            type = "webhook"
            url = "example.org"
            path = "/tmp/x"
            [receivers.incidents]
            type = "pagerduty"
            [receivers.bird]
            type = "pigeon"
            [[mute_times.nights]]
            times = ["22:00-25:00"]
            location = "Berlin"
            "#,
        )
        .unwrap_err();
        for told in [
            "inhibit[0].source_matchers[0]",
            "inhibit[0].target_matchers = []",
            "route.group_interval = \"0s\"",
            "route.routes[0].receiver = \"pagr\"",
            "did you mean",
            "route.routes[0].matchers[0]",
            "at character 9",
            "route.routes[0].group_wait",
            "route.routes[0].mute_times",
            "route.routes[2]",
            "never matches: route.routes[1] before it",
            "receivers.default.topic",
            "receivers.pager.url",
            "receivers.pager.path",
            "receivers.incidents.routing_key",
            "receivers.bird.type = \"pigeon\"",
            "mute_times.nights[0].times",
            "mute_times.nights[0].location = \"Berlin\"",
            "such as \"Europe/Berlin\"",
        ] {
            assert!(problems.contains(told), "{told} in:\n{problems}");
        }
    }

    /// Else alerts that fulfil no matcher would reach nobody.
    #[test]
    fn the_root_has_no_matchers_and_does_not_continue() {
        let told = loaded("[route]\nmatchers = [\"domain=books\"]\ncontinue = true\n").unwrap_err();
        assert!(told.contains("route.matchers") && told.contains("route.continue"), "{told}");
    }

    #[test]
    fn unknown_keys_are_refused_and_secrets_are_not_shown() {
        let told = loaded("[receivers.pager]\ntype = \"webhook\"\nurll = \"http://x\"\n").unwrap_err();
        assert!(told.contains("urll"), "{told}");
        assert!(loaded("[[route.routes]]\nmatcher = \"a=b\"\n").unwrap_err().contains("matcher"));
        let file = "[receivers.default]\ntype = \"webhook\"\nurl = \"http://x\"\nsecret = \"hunter2\"\n\
                    headers = { Authorization = \"hunter2\" }\n[receivers.pd]\ntype = \"pagerduty\"\nrouting_key = \"hunter2\"\n";
        let configuration = loaded(file).unwrap();
        let shown = format!("{configuration:?}{:?}", configuration.targets());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
