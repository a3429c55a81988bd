//! `--set WORKER.KEY=VALUE`, and the configuration file of each process.

use std::str::FromStr;

/// One setting passed on to the instances of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The worker that it is for.
    pub worker: String,
    /// Dotted key of the worker's configuration.
    pub key: String,
    /// Value, as the worker's own `--set` takes it.
    pub value: String,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name.trim().split_once('.')?, value)));
        match parts {
            Some(((worker, key), value)) if !worker.is_empty() && !key.is_empty() => {
                Ok(Self { worker: worker.to_owned(), key: key.to_owned(), value: value.trim().to_owned() })
            }
            _ => Err("it has to be WORKER.KEY=VALUE, e.g. session-entropy.window=10m".to_owned()),
        }
    }
}

impl Setting {
    /// A setting of `worker`.
    #[must_use]
    pub fn new(worker: &str, key: &str, value: &str) -> Self {
        Self { worker: worker.to_owned(), key: key.to_owned(), value: value.to_owned() }
    }

    /// As the worker's command line takes it.
    #[must_use]
    pub fn arguments(&self) -> [String; 2] {
        ["--set".to_owned(), format!("{}={}", self.key, self.value)]
    }
}

/// Which of Kafka's group protocols the workers use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// The newer one (KIP-848).
    #[default]
    Consumer,
    /// The older one.
    Classic,
}

/// Where the components of the stack are.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// The schema registry's base URL.
    pub registry: String,
    /// The ClickHouse gateway's URL.
    pub clickhouse: String,
}

/// The configuration file of one instance of a worker; `http` is the port of its metrics.
#[must_use]
pub(crate) fn configuration(
    worker: &str,
    instance: &str,
    protocol: Protocol,
    http: u16,
    addresses: &Addresses,
) -> String {
    let section = |pairs: &[(&str, String)]| -> toml::Value {
        toml::Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect())
    };
    let protocol = match protocol {
        Protocol::Consumer => "consumer",
        Protocol::Classic => "classic",
    };
    let mut file = toml::Table::new();
    file.insert("kafka".to_owned(), section(&[("brokers", addresses.brokers.clone())]));
    file.insert("registry".to_owned(), section(&[("url", addresses.registry.clone())]));
    file.insert("runtime".to_owned(), section(&[("instance", instance.to_owned()), ("protocol", protocol.to_owned())]));
    file.insert("http".to_owned(), section(&[("listen", format!("127.0.0.1:{http}"))]));
    if worker == super::WRITER {
        // The gateway serves uncompressed bodies only.
        let clickhouse = section(&[("url", addresses.clickhouse.clone()), ("compression", "none".to_owned())]);
        file.insert("clickhouse".to_owned(), clickhouse);
    }
    file.to_string()
}

/// The value of a duration key (ms) as a worker will see it: from the last setting that names it, else its default.
///
/// # Errors
/// The value is no duration.
pub(super) fn duration(key: &str, worker: &str, settings: &[Setting], defaults: &str) -> Result<i64, String> {
    let set = settings.iter().rev().find(|setting| setting.worker == worker && setting.key == key);
    let text = match set {
        Some(setting) => setting.value.trim_matches('"').to_owned(),
        None => {
            let table: toml::Table = defaults
                .parse()
                .map_err(|error| format!("the default configuration of {worker} is no TOML: {error}"))?;
            let value = table.get(key).and_then(toml::Value::as_str);
            value.ok_or_else(|| format!("{worker} has no default for {key}"))?.to_owned()
        }
    };
    let wrong =
        |error: &dyn std::fmt::Display| format!("{worker}.{key} = {text:?} is no duration such as 10s: {error}");
    let duration = humantime::parse_duration(&text).map_err(|error| wrong(&error))?;
    i64::try_from(duration.as_millis()).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> Setting {
        text.parse().unwrap()
    }

    #[test]
    fn a_setting_is_split_at_the_first_dot_and_the_first_equals_sign() {
        let plain = setting("session-entropy.window=10m");
        assert_eq!(plain.arguments(), ["--set", "window=10m"]);
        let table = setting(r#"session-entropy.bins={ kind = "linear", min = "0.5s" }"#);
        assert_eq!((table.worker.as_str(), table.key.as_str()), ("session-entropy", "bins"));
        assert_eq!(table.arguments()[1], r#"bins={ kind = "linear", min = "0.5s" }"#);
        assert_eq!(setting("session-entropy.runtime.commit=1s").key, "runtime.commit");
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in ["window", "window=10m", ".window=10m", "session-entropy.=1", ""] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_setting_of_a_duration_wins_over_the_default() {
        let defaults = "slide = \"10s\"\n[kafka]\nbrokers = \"\"\n";
        let of = |settings: &[Setting]| duration("slide", "session-entropy", settings, defaults);
        assert_eq!(of(&[]), Ok(10_000));
        assert_eq!(of(&[setting("session-entropy.slide=5s"), setting("session-entropy.slide=\"1m\"")]), Ok(60_000));
        assert_eq!(of(&[setting("cosine-decay.slide=5s")]), Ok(10_000));
        assert!(of(&[setting("session-entropy.slide=ten")]).unwrap_err().contains("\"ten\""));
    }

    #[test]
    fn the_configuration_names_addresses_and_instance() {
        let addresses = Addresses {
            brokers: "127.0.0.1:1".to_owned(),
            registry: "http://127.0.0.1:2".to_owned(),
            clickhouse: "http://127.0.0.1:3".to_owned(),
        };
        let of = |worker: &str| -> toml::Table {
            configuration(worker, "instance-1", Protocol::Classic, 9, &addresses).parse().unwrap()
        };
        let metric = of("session-entropy");
        assert_eq!(metric["kafka"]["brokers"].as_str(), Some("127.0.0.1:1"));
        assert_eq!(metric["runtime"]["instance"].as_str(), Some("instance-1"));
        assert_eq!(metric["runtime"]["protocol"].as_str(), Some("classic"));
        assert_eq!(metric["http"]["listen"].as_str(), Some("127.0.0.1:9"));
        assert!(!metric.contains_key("clickhouse"));
        assert_eq!(of("clickhouse-writer")["clickhouse"]["url"].as_str(), Some("http://127.0.0.1:3"));
    }
}
