//! What must not be shown of a configuration.

use figment::value::{Dict, Value};

use super::problems::Problem;

/// What stands in the place of a secret.
pub(crate) const STARS: &str = "***";

/// Words in the names of keys and settings whose values are secrets. They cover every setting that librdkafka marks so.
const WORDS: [&str; 23] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "oauthbearer",
    "jaas",
    ".pem",
    "_pem",
    "private",
    "username",
    "routing_key",
    "headers",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "authorization",
    "bearer",
    "cookie",
    "signature",
    "ssl.key",
];

/// A secret of fewer bytes is not looked for in other texts: it would be found everywhere.
const SHORTEST_SECRET: usize = 4;

/// Whether the value of the key or setting `name` may be a secret, going by its name.
pub(crate) fn is_sensitive(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// An address without user, password, path and query, each of which may be a secret; any other text as it is.
pub(crate) fn without_credentials(text: &str) -> String {
    let Some(scheme) = text.find("://") else { return without_user(text) };
    let (scheme, address) = text.split_at(scheme + 3);
    let (stars, host) = match address.rfind('@') {
        Some(at) => (STARS, &address[at..]),
        None => ("", address),
    };
    // Of several addresses, each has a path.
    let hosts: Vec<String> = host.split(',').map(without_path).collect();
    format!("{scheme}{stars}{}", hosts.join(","))
}

/// `host/***` of `host/path?query`; what stands before the host is kept.
fn without_path(address: &str) -> String {
    let begin = address.find("://").map_or(0, |scheme| scheme + 3);
    match address[begin..].find(['/', '?', '#']) {
        Some(end) if address[begin + end..].len() > 1 => format!("{}/{STARS}", &address[..begin + end]),
        _ => address.to_owned(),
    }
}

/// `***@host` of `user:password@host`.
fn without_user(text: &str) -> String {
    match text.rfind('@') {
        Some(at) if text[..at].contains(':') => {
            let quote = if text.starts_with('"') { "\"" } else { "" };
            format!("{quote}{STARS}{}", &text[at..])
        }
        _ => text.to_owned(),
    }
}

/// `value` of the dotted `key` as TOML writes it, with everything that is or may be a secret replaced by `***`.
pub(super) fn shown(key: &str, value: &Value) -> String {
    // Settings of another program, of which some may be secrets.
    let in_properties = key.split('.').any(|part| part == "properties");
    if in_properties || is_sensitive(key) {
        return STARS.to_owned();
    }
    match value {
        // Also a table that could not be read, and came as text.
        Value::String(_, text) if is_sensitive(text) => STARS.to_owned(),
        Value::String(_, text) => format!("{:?}", without_credentials(text)),
        Value::Array(_, values) => {
            let values: Vec<String> = values.iter().map(|value| shown(key, value)).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Dict(_, table) => {
            let entries: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", shown(key, value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Bool(_, value) => value.to_string(),
        Value::Num(..) => match (value.to_i128(), value.to_f64()) {
            (Some(integer), _) => integer.to_string(),
            (None, Some(number)) => number.to_string(),
            (None, None) => "a number".to_owned(),
        },
        Value::Char(_, character) => format!("{character:?}"),
        Value::Empty(..) => "nothing".to_owned(),
    }
}

/// `value` where a table or list belongs: a text there may be one that could not be read, and hold secrets. Only a plain
/// word is none.
pub(super) fn shown_instead_of_table(key: &str, value: &Value) -> String {
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match value {
        Value::String(_, text) if !is_word(text) => STARS.to_owned(),
        _ => shown(key, value),
    }
}

/// The secrets of a configuration, which no message may repeat.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Those of a whole configuration.
    pub(super) fn of(tree: &Dict) -> Self {
        let mut secrets = Self::default();
        secrets.collect(tree, false);
        // A secret may hold another one.
        secrets.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }

    fn collect(&mut self, table: &Dict, outer_sensitive: bool) {
        for (key, value) in table {
            self.add(value, outer_sensitive || is_sensitive(key));
        }
    }

    fn add(&mut self, value: &Value, sensitive: bool) {
        match value {
            Value::Dict(_, table) => self.collect(table, sensitive),
            Value::Array(_, values) => values.iter().for_each(|value| self.add(value, sensitive)),
            _ if !sensitive => {}
            Value::String(_, text) => self.push(text.clone()),
            Value::Num(..) => self.push(value.to_i128().map(|number| number.to_string()).unwrap_or_default()),
            _ => {}
        }
    }

    fn push(&mut self, secret: String) {
        if secret.len() >= SHORTEST_SECRET {
            self.0.push(secret);
        }
    }

    /// Takes them out of what a problem says, whoever wrote it.
    pub(super) fn conceal(&self, problem: &mut Problem) {
        if let Some(value) = &problem.value {
            let value = self.concealed(value);
            problem.value = Some(if value.contains('@') { without_credentials(&value) } else { value });
        }
        problem.message = self.concealed(&problem.message);
    }

    fn concealed(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), STARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `_RK_SENSITIVE` in librdkafka's `rdkafka_conf.c`, and Java's names of the same.
    #[test]
    fn every_setting_that_librdkafka_marks_is_sensitive_and_common_ones_are_not() {
        for name in [
            "ssl.key.location",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.ca.pem",
            "ssl.keystore.password",
            "sasl.username",
            "sasl.password",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.assertion.private.key.file",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "sasl.jaas.config",
        ] {
            assert!(is_sensitive(name), "{name}");
        }
        for name in ["window", "kafka.brokers", "registry.url", "topics.alerts", "source.key", "merge_key", "timeout"] {
            assert!(!is_sensitive(name), "{name}");
        }
    }

    #[test]
    fn addresses_are_shown_without_what_may_be_a_secret() {
        for (text, shown) in [
            ("http://me:hunter2@host:8081/x", "http://***@host:8081/***"),
            ("https://hooks.example.org/services/hunter2", "https://hooks.example.org/***"),
            ("http://host?token=hunter2", "http://host/***"),
            ("http://a:8081,http://me:hunt@er2@b:8081", "http://***@b:8081"),
            ("http://a:8081/x,http://b:8081/y", "http://a:8081/***,http://b:8081/***"),
            ("me:hunter2@broker:9092", "***@broker:9092"),
            ("http://host:8081/", "http://host:8081/"),
            ("broker:9092", "broker:9092"),
            ("someone@example.org", "someone@example.org"),
        ] {
            assert_eq!(without_credentials(text), shown, "{text}");
        }
    }
}
