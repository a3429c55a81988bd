//! A client of Confluent-compatible schema registries that waits for a registry that is down and remembers what it said.

mod http;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::AvroRecord;
use crate::lookup::{LookupError, SchemaLookup};
use http::{Answer, Client, Method};

/// Unknown ids that are remembered at most; beyond that, all of them are asked about again.
const MAX_UNKNOWN: usize = 10_000;

/// How often an outage that lasts is said again.
const REPEAT_OUTAGE: Duration = Duration::from_secs(30);

/// The subject of a topic's values, by Confluent's TopicNameStrategy.
#[must_use]
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// Where the registry is and how it is asked.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Its base URL, `http` or `https`, without user and password.
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
    /// How long a lookup waits for an answer before it says [`LookupError::Unavailable`], so that a consumer can be polled
    /// meanwhile; `None`: until one comes.
    pub patience: Option<Duration>,
    /// How long an id that the registry does not know is not asked about again.
    pub unknown_for: Duration,
}

impl RegistryConfig {
    /// A registry at `url`: requests of at most 5 s, pauses from 100 ms to 5 s, a patience of 1 s, unknown ids asked about
    /// again after 10 s.
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
            unknown_for: Duration::from_secs(10),
        }
    }
}

impl From<&service::Registry> for RegistryConfig {
    fn from(section: &service::Registry) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            user: some(&section.user),
            password: some(section.password.expose()),
            ca_location: section.ca_location.clone(),
            request_timeout: section.timeout.as_duration(),
            ..Self::new(section.url.as_str())
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
    /// No answer within the patience.
    #[error("the schema registry at {url} does not answer {request}: {message}")]
    Unavailable {
        /// The registry.
        url: String,
        /// What was asked.
        request: String,
        /// What the last attempt came to.
        message: String,
    },
}

/// A registry and what it has said. Clones share the cache.
///
/// Requests run on a runtime of its own, so that the blocking functions may be called from any thread.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    config: RegistryConfig,
    stop: Box<dyn Fn() -> bool + Send + Sync>,
    cache: Mutex<Cache>,
    outage: Mutex<Option<Outage>>,
}

/// A registry that does not answer; said once in a while, however many lookups wait for it.
struct Outage {
    since: Instant,
    said: Instant,
}

#[derive(Default)]
struct Cache {
    known: HashMap<i32, Arc<str>>,
    unknown: HashMap<i32, Instant>,
}

impl Registry {
    /// A client; asks nothing yet. `stop` is looked at while waiting: once true, waiting ends with an error.
    ///
    /// # Errors
    /// Where the URL or the CA file cannot be used.
    pub fn new(config: RegistryConfig, stop: impl Fn() -> bool + Send + Sync + 'static) -> Result<Self, RegistryError> {
        let client = Client::new(&config)?;
        let shared = Shared { client, config, stop: Box::new(stop), cache: Mutex::default(), outage: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Registers a record's schema for a topic's values and returns its id; see [`register`](Self::register).
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_for<R: AvroRecord>(&self, topic: &str) -> Result<i32, RegistryError> {
        self.register(&subject(topic), R::SCHEMA)
    }

    /// Registers a schema under a subject and returns its id, the same one each time. A subject without a compatibility
    /// rule of its own is set to `BACKWARD`; a stricter rule that somebody has set stays. Waits for a registry that is
    /// down, whatever the patience.
    ///
    /// # Errors
    /// Where the registry refuses the schema, for instance as incompatible, or the process stops.
    pub fn register(&self, subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let path = format!("/subjects/{}", http::encode(subject));
        let config_path = format!("/config/{}", http::encode(subject));
        self.require_compatibility(&config_path)?;
        let request = json!({ "schema": schema });
        let answer = self.ask(Method::Post, &format!("{path}/versions"), Some(&request), None)?;
        let body = self.accepted(&format!("schema for subject {subject}"), answer)?;
        // Some registries know a subject's rule only once the subject exists.
        self.require_compatibility(&config_path)?;
        body["id"].as_i64().and_then(|id| i32::try_from(id).ok()).ok_or_else(|| RegistryError::Refused {
            url: self.url().to_owned(),
            request: format!("schema for subject {subject}"),
            message: format!("the answer has no id: {body}"),
        })
    }

    fn require_compatibility(&self, config_path: &str) -> Result<(), RegistryError> {
        if self.has_compatibility(config_path)? {
            return Ok(());
        }
        let request = json!({ "compatibility": "BACKWARD" });
        match self.ask(Method::Put, config_path, Some(&request), None)? {
            Answer::Ok(_) | Answer::NotFound(_) => Ok(()),
            // Another instance that starts may have set it in between.
            Answer::Refused(_) if self.has_compatibility(config_path)? => Ok(()),
            Answer::Refused(message) => Err(self.refused(format!("compatibility BACKWARD at {config_path}"), message)),
        }
    }

    fn has_compatibility(&self, config_path: &str) -> Result<bool, RegistryError> {
        let answer = self.ask(Method::Get, config_path, None, None)?;
        let Answer::Ok(body) = answer else { return Ok(false) };
        Ok(body["compatibilityLevel"].as_str().is_some_and(|level| level != "NONE"))
    }

    /// The base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.shared.client.url()
    }

    fn accepted(&self, request: &str, answer: Answer) -> Result<Value, RegistryError> {
        match answer {
            Answer::Ok(body) => Ok(body),
            Answer::NotFound(message) | Answer::Refused(message) => Err(self.refused(request.to_owned(), message)),
        }
    }

    fn refused(&self, request: String, message: String) -> RegistryError {
        RegistryError::Refused { url: self.url().to_owned(), request, message }
    }

    /// Asks until there is an answer.
    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Option<Duration>,
    ) -> Result<Answer, RegistryError> {
        let Shared { client, config, stop, .. } = &*self.shared;
        let begun = Instant::now();
        let mut pause = config.first_pause;
        loop {
            let stopped = || RegistryError::Stopped { url: client.url().to_owned() };
            let failure = match client.send(method, path, body, stop).ok_or_else(stopped)? {
                Ok(answer) => {
                    self.note_answer();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            self.note_failure(path, &failure);
            if patience.is_some_and(|patience| begun.elapsed() + pause > patience) {
                return Err(RegistryError::Unavailable {
                    url: client.url().to_owned(),
                    request: format!("{} {path}", method.name()),
                    message: failure,
                });
            }
            if http::wait_or_stop(pause, stop) {
                return Err(stopped());
            }
            pause = (pause * 2).min(config.longest_pause);
        }
    }

    fn note_failure(&self, path: &str, failure: &str) {
        let now = Instant::now();
        let mut outage = self.shared.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = outage.is_none();
        let outage = outage.get_or_insert(Outage { since: now, said: now });
        if is_new || outage.said.elapsed() >= REPEAT_OUTAGE {
            outage.said = now;
            let waited_seconds = outage.since.elapsed().as_secs();
            tracing::warn!(url = self.url(), path, failure, waited_seconds, "waiting for the schema registry");
        }
    }

    fn note_answer(&self) {
        let ended = self.shared.outage.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outage) = ended {
            let waited_seconds = outage.since.elapsed().as_secs();
            tracing::info!(url = self.url(), waited_seconds, "the schema registry answers again");
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Single insertions and removals: there is no half-done state that a panic could leave.
        self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SchemaLookup for Registry {
    fn schema(&self, id: i32) -> Result<Arc<str>, LookupError> {
        if id < 0 {
            return Err(LookupError::Unknown { id });
        }
        {
            let mut cache = self.cache();
            if let Some(schema) = cache.known.get(&id) {
                return Ok(schema.clone());
            }
            match cache.unknown.get(&id) {
                Some(told) if told.elapsed() < self.shared.config.unknown_for => {
                    return Err(LookupError::Unknown { id });
                }
                Some(_) => drop(cache.unknown.remove(&id)),
                None => {}
            }
        }
        let path = format!("/schemas/ids/{id}");
        let unavailable = |message: String| LookupError::Unavailable { id, message };
        let answer = self.ask(Method::Get, &path, None, self.shared.config.patience).map_err(|error| match error {
            RegistryError::Stopped { .. } => LookupError::Stopped { id },
            other => unavailable(other.to_string()),
        })?;
        match answer {
            Answer::Ok(body) => match body["schema"].as_str() {
                Some(text) => {
                    let schema: Arc<str> = text.into();
                    self.cache().known.insert(id, schema.clone());
                    Ok(schema)
                }
                None => Err(unavailable(format!("{} answers {path} without a schema", self.url()))),
            },
            Answer::NotFound(_) => {
                let mut cache = self.cache();
                if cache.unknown.len() >= MAX_UNKNOWN {
                    cache.unknown.clear();
                }
                cache.unknown.insert(id, Instant::now());
                Err(LookupError::Unknown { id })
            }
            Answer::Refused(message) => Err(unavailable(format!("{} refuses {path}: {message}", self.url()))),
        }
    }
}
