use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use serde::Deserialize;

use super::properties::Properties;
use crate::configuration::is_sensitive;
use crate::{Problems, Secret, Validate};

/// The section `[kafka]`: how to reach the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to ask first: `host:port`, separated by commas.
    pub brokers: String,
    /// Encryption and authentication.
    pub security_protocol: SecurityProtocol,
    /// How user and password are proven.
    pub sasl_mechanism: SaslMechanism,
    /// User; empty for none.
    pub sasl_user: String,
    /// Password.
    pub sasl_password: Secret,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(deserialize_with = "super::optional_path")]
    pub ssl_ca_location: Option<PathBuf>,
    /// The client's own certificate (PEM).
    #[serde(deserialize_with = "super::optional_path")]
    pub ssl_certificate_location: Option<PathBuf>,
    /// The client's own key (PEM).
    #[serde(deserialize_with = "super::optional_path")]
    pub ssl_key_location: Option<PathBuf>,
    /// Password of the key.
    pub ssl_key_password: Secret,
    /// Further settings of librdkafka.
    pub properties: Properties,
}

/// Encryption and authentication of the connections to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither.
    Plaintext,
    /// TLS.
    Ssl,
    /// TLS, user and password.
    SaslSsl,
    /// User and password, not encrypted.
    SaslPlaintext,
}

impl SecurityProtocol {
    /// As configured, and as librdkafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslSsl => "sasl_ssl",
            Self::SaslPlaintext => "sasl_plaintext",
        }
    }

    fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    fn has_sasl(self) -> bool {
        matches!(self, Self::SaslSsl | Self::SaslPlaintext)
    }
}

/// How user and password are proven to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SaslMechanism {
    /// The password itself is sent.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A challenge with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// A challenge with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// As configured, and as Kafka calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Which protocol a worker's consumers speak with their group's coordinator (`[runtime] protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// KIP-848: the broker assigns, rebalances are incremental.
    Consumer,
    /// The older one, for brokers before 4.0.
    Classic,
}

impl GroupProtocol {
    /// As configured, and as librdkafka's `group.protocol` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Classic => "classic",
        }
    }
}

/// Settings that are not the user's to set, and what to use or know instead.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use kafka.brokers"),
    ("metadata.broker.list", "use kafka.brokers"),
    ("security.protocol", "use kafka.security_protocol"),
    ("sasl.mechanism", "use kafka.sasl_mechanism"),
    ("sasl.mechanisms", "use kafka.sasl_mechanism"),
    ("sasl.username", "use kafka.sasl_user"),
    ("sasl.password", "use kafka.sasl_password"),
    ("ssl.ca.location", "use kafka.ssl_ca_location"),
    ("ssl.certificate.location", "use kafka.ssl_certificate_location"),
    ("ssl.key.location", "use kafka.ssl_key_location"),
    ("ssl.key.password", "use kafka.ssl_key_password"),
    ("enable.ssl.certificate.verification", "certificates are always verified"),
    ("ssl.endpoint.identification.algorithm", "host names are always verified"),
    ("client.id", "use runtime.instance"),
    ("group.id", "every worker has its own group"),
    ("group.instance.id", "use runtime.instance"),
    ("group.protocol", "use runtime.protocol"),
    ("group.remote.assignor", OWNED),
    ("session.timeout.ms", "use runtime.session_timeout"),
    ("partition.assignment.strategy", OWNED),
    ("transactional.id", "use runtime.instance"),
    ("transaction.timeout.ms", OWNED),
    ("enable.idempotence", OWNED),
    ("enable.gapless.guarantee", OWNED),
    ("acks", OWNED),
    ("request.required.acks", OWNED),
    ("retries", OWNED),
    ("message.send.max.retries", OWNED),
    ("partitioner", "a key's records must lie where other producers put them"),
    ("message.max.bytes", "the runtime's sizes decide it"),
    ("delivery.report.only.error", OWNED),
    ("isolation.level", OWNED),
    ("enable.auto.commit", OWNED),
    ("auto.commit.enable", OWNED),
    ("auto.commit.interval.ms", OWNED),
    ("enable.auto.offset.store", OWNED),
    ("auto.offset.reset", OWNED),
    ("enable.partition.eof", OWNED),
    ("check.crcs", OWNED),
];
const OWNED: &str = "exactly-once processing decides it";

impl Kafka {
    /// A client configuration that reaches the cluster; the caller adds what its consumer or producer needs.
    ///
    /// The user's `properties` are in it. What the caller then sets wins over them: set what must be so, and what is only a
    /// better default than librdkafka's where nothing is set yet.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("security.protocol", self.security_protocol.name());
        if self.security_protocol.has_sasl() {
            config
                .set("sasl.mechanism", self.sasl_mechanism.name())
                .set("sasl.username", &self.sasl_user)
                .set("sasl.password", self.sasl_password.expose());
        }
        if self.security_protocol.has_tls() {
            config
                .set("enable.ssl.certificate.verification", "true")
                .set("ssl.endpoint.identification.algorithm", "https");
            let mut set_path = |name: &str, path: Option<&Path>| {
                if let Some(path) = path {
                    config.set(name, path.to_string_lossy());
                }
            };
            set_path("ssl.ca.location", self.ssl_ca_location.as_deref());
            set_path("ssl.certificate.location", self.ssl_certificate_location.as_deref());
            set_path("ssl.key.location", self.ssl_key_location.as_deref());
            if !self.ssl_key_password.is_empty() {
                config.set("ssl.key.password", self.ssl_key_password.expose());
            }
        }
        config
    }
}

impl Validate for Kafka {
    fn validate(&self, problems: &mut Problems) {
        let broken = |broker: &str| {
            let port = broker.trim().rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
            !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if self.brokers.split(',').any(broken) {
            problems.add("brokers", format!("{:?}", self.brokers), "host:port, several separated by commas");
        }
        self.validate_sasl(problems);
        self.validate_tls(problems);
        for (name, value) in self.properties.iter() {
            validate_property(problems, name, value);
        }
    }
}

impl Kafka {
    fn validate_sasl(&self, problems: &mut Problems) {
        let protocol = self.security_protocol;
        if protocol.has_sasl() {
            let needed = format!("set, because security_protocol is \"{}\"", protocol.name());
            if self.sasl_user.is_empty() {
                problems.add("sasl_user", "\"\"", &needed);
            }
            if self.sasl_password.is_empty() {
                problems.add("sasl_password", "\"\"", &needed);
            }
        } else if !self.sasl_user.is_empty() || !self.sasl_password.is_empty() {
            let key = if self.sasl_user.is_empty() { "sasl_password" } else { "sasl_user" };
            problems.add(
                key,
                "***",
                format!("empty, because security_protocol is \"{}\" and would not use it", protocol.name()),
            );
        }
    }

    fn validate_tls(&self, problems: &mut Problems) {
        let paths = [
            ("ssl_ca_location", &self.ssl_ca_location),
            ("ssl_certificate_location", &self.ssl_certificate_location),
            ("ssl_key_location", &self.ssl_key_location),
        ];
        for (key, path) in paths {
            if let Some(path) = path
                && !self.security_protocol.has_tls()
            {
                let allowed = format!(
                    "empty, because security_protocol is \"{}\" and would not use it",
                    self.security_protocol.name()
                );
                problems.add(key, format!("{path:?}"), allowed);
            } else {
                super::check_readable(problems, key, path.as_deref());
            }
        }
        if self.ssl_certificate_location.is_some() != self.ssl_key_location.is_some() {
            let (missing, other) = match self.ssl_key_location {
                None => ("ssl_key_location", "ssl_certificate_location"),
                Some(_) => ("ssl_certificate_location", "ssl_key_location"),
            };
            problems.add(missing, "\"\"", format!("set, because {other} is"));
        }
    }
}

/// librdkafka itself knows its settings' names and ranges; it is asked about each alone, so that every wrong one is told.
fn validate_property(problems: &mut Problems, name: &str, value: &str) {
    let key = format!("properties.{name}");
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        problems.add(key, "***", format!("left out: {reason}"));
    } else if let Err(error) = ClientConfig::new().set(name, value).create_native_config() {
        match error {
            // Of an unknown setting nobody knows whether its value is a secret under a misspelt name.
            KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => {
                problems.add(key, "***", "a setting that librdkafka knows");
            }
            KafkaError::ClientConfig(_, description, ..) if !is_sensitive(name) => {
                problems.add(key, format!("{value:?}"), format!("as librdkafka wants it ({description})"));
            }
            _ => problems.add(key, "***", "as librdkafka wants it (its message is withheld: it may hold a secret)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_setting_is_one_that_librdkafka_has() {
        for (name, _) in REFUSED {
            if let Err(error) = ClientConfig::new().set(*name, "0").create_native_config() {
                let unknown = matches!(error, KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..));
                assert!(!unknown, "{name}");
            }
        }
    }
}
