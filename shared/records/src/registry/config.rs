//! Where the registry is, how it is asked, and what can go wrong.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the registry is and how it is asked.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Its base URLs, `http` or `https`, without user and password, separated by commas: the first is used, the next one
    /// where a request fails.
    pub url: String,
    /// User of basic authentication.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
    /// PEM file of the authorities that `https` trusts, instead of the system's.
    pub ca_location: Option<PathBuf>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Pause before the second attempt; doubled for each further one.
    pub first_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
    /// How long a lookup blocks until there is an answer, before it says [`LookupError::Unavailable`](crate::LookupError);
    /// `None`: until one comes. The request goes on in the background, whatever the patience.
    pub patience: Option<Duration>,
    /// How long an id that the registry does not know yet is asked about again.
    pub unknown_schema_wait: Duration,
    /// How long an id that was waited for in vain is not asked about again.
    pub unknown_for: Duration,
}

impl RegistryConfig {
    /// A registry at `url` for tools: requests of at most 5 s, pauses from 100 ms to 5 s, a patience of 1 s, unknown ids not
    /// waited for, and asked about again after a minute.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            ca_location: None,
            request_timeout: Duration::from_secs(5),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            patience: Some(Duration::from_secs(1)),
            unknown_schema_wait: Duration::ZERO,
            unknown_for: Duration::from_secs(60),
        }
    }
}

/// For workers: a lookup never blocks the thread that asks.
impl From<&service::Registry> for RegistryConfig {
    fn from(section: &service::Registry) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            user: some(&section.user),
            password: some(section.password.expose()),
            ca_location: section.ca_location.clone(),
            request_timeout: section.timeout.as_duration(),
            patience: Some(Duration::ZERO),
            unknown_schema_wait: section.unknown_schema_wait.as_duration(),
            ..Self::new(section.url.to_string())
        }
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("ca_location", &self.ca_location)
            .field("request_timeout", &self.request_timeout)
            .field("first_pause", &self.first_pause)
            .field("longest_pause", &self.longest_pause)
            .field("patience", &self.patience)
            .field("unknown_schema_wait", &self.unknown_schema_wait)
            .field("unknown_for", &self.unknown_for)
            .finish()
    }
}

/// Why the registry cannot be used, or did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The configuration cannot work.
    #[error("registry.{key} = {value:?}: {message}")]
    Config {
        /// The key in section `registry`.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        message: String,
    },
    /// The registry has answered, and says no; asked again it would say no again.
    #[error("the schema registry at {url} refuses {request}: {message}")]
    Refused {
        /// The registry.
        url: String,
        /// What was asked.
        request: String,
        /// What it said.
        message: String,
    },
    /// The process is stopping.
    #[error("waiting for the schema registry at {url} was given up because the process stops")]
    Stopped {
        /// The registry.
        url: String,
    },
}
