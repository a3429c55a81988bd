//! A client of Confluent-compatible schema registries. Lookups are answered from what is known; what is not is asked for in
//! the background, so that no thread that asks has to wait.

mod budget;
mod client;
mod config;
mod fetch;
mod http;
mod lookups;
mod register;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::lookup::{LookupError, RegisteredSchema, SchemaLookup, SchemaRef};
use client::Client;
pub use config::{RegistryConfig, RegistryError};
use fetch::Outcome;
use lookups::{Limits, Lookups, Verdict};
use service::Throttle;

/// How often a wait looks whether the process stops.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// How often what lasts is logged again.
const REPEAT_WARNING: Duration = Duration::from_secs(30);

/// The subject of a topic's values, by Confluent's TopicNameStrategy.
#[must_use]
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// A registry and what it has said. Clones share the cache.
///
/// Requests run on a runtime of its own, so that all functions may be called from any thread.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    patience: Option<Duration>,
    waits_for_unknown: bool,
}

struct Shared {
    client: Client,
    config: RegistryConfig,
    stop: Box<dyn Fn() -> bool + Send + Sync>,
    runtime: Option<Runtime>,
    lookups: Mutex<Lookups>,
    /// Notified behind each answer.
    answered: Condvar,
    warnings: Mutex<Warnings>,
}

/// Logged once in a while, however many lookups wait.
struct Warnings {
    outage: Throttle,
    /// Since when the registry does not answer.
    away_since: Option<Instant>,
    unknown: Throttle,
}

impl Registry {
    /// A client; asks nothing yet. `stop` is looked at while waiting: once true, waiting ends with an error.
    ///
    /// # Errors
    /// Where the URL or the CA file cannot be used.
    pub fn new(config: RegistryConfig, stop: impl Fn() -> bool + Send + Sync + 'static) -> Result<Self, RegistryError> {
        let client = Client::new(&config)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("registry").enable_all().build();
        let runtime = runtime.map_err(|error| RegistryError::Config {
            key: "url",
            value: client.url().to_owned(),
            message: format!("no runtime for its requests: {error}"),
        })?;
        let limits = Limits {
            unknown_schema_wait: config.unknown_schema_wait,
            unknown_for: config.unknown_for,
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
        };
        let warnings = Warnings {
            outage: Throttle::new(REPEAT_WARNING),
            away_since: None,
            unknown: Throttle::new(REPEAT_WARNING),
        };
        let patience = config.patience;
        let shared = Shared {
            client,
            config,
            stop: Box::new(stop),
            runtime: Some(runtime),
            lookups: Mutex::new(Lookups::new(limits, Instant::now())),
            answered: Condvar::new(),
            warnings: Mutex::new(warnings),
        };
        Ok(Self { shared: Arc::new(shared), patience, waits_for_unknown: true })
    }

    /// The same for commands and starts, which have nothing else to do meanwhile: a lookup blocks for `patience` (`None`:
    /// until there is an answer), and what the registry does not know is not waited for.
    #[must_use]
    pub fn blocking(&self, patience: Option<Duration>) -> Self {
        Self { shared: self.shared.clone(), patience, waits_for_unknown: false }
    }

    /// The base URLs, separated by commas.
    #[must_use]
    pub fn url(&self) -> &str {
        self.shared.client.url()
    }

    fn start_request(&self, schema: SchemaRef) {
        let Some(runtime) = &self.shared.runtime else { return };
        let shared = self.shared.clone();
        runtime.spawn(async move {
            let outcome = fetch::fetch(&shared.client, schema).await;
            shared.note_outcome(schema, &outcome);
            shared.lookups().answered(schema, outcome, Instant::now());
            shared.answered.notify_all();
        });
    }
}

impl Shared {
    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        // Each step leaves the decisions whole: there is no half-done state that a panic could leave.
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warnings(&self) -> MutexGuard<'_, Warnings> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_outcome(&self, schema: SchemaRef, outcome: &Outcome) {
        match outcome {
            Outcome::Unavailable(failure) => return self.note_failure(failure),
            Outcome::Unknown(said) => {
                if let Some(suppressed) = self.warnings().unknown.pass(Instant::now()) {
                    tracing::warn!(%schema, said, suppressed, "a record names a schema that the registry does not know");
                }
            }
            Outcome::Found(_) | Outcome::Unusable(_) => {}
        }
        self.note_answer();
    }

    fn note_failure(&self, failure: &str) {
        let now = Instant::now();
        let mut warnings = self.warnings();
        let since = *warnings.away_since.get_or_insert(now);
        if let Some(suppressed) = warnings.outage.pass(now) {
            let waited_seconds = now.duration_since(since).as_secs();
            tracing::warn!(failure, suppressed, waited_seconds, "waiting for the schema registry");
        }
    }

    fn note_answer(&self) {
        let ended = self.warnings().away_since.take();
        if let Some(since) = ended {
            let waited_seconds = since.elapsed().as_secs();
            tracing::info!(url = self.client.url(), waited_seconds, "the schema registry answers again");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop waits, which is not allowed where the last clone goes inside another runtime.
            runtime.shutdown_background();
        }
    }
}

impl SchemaLookup for Registry {
    fn schema(&self, schema: SchemaRef) -> Result<RegisteredSchema, LookupError> {
        if let SchemaRef::Id(id) = schema
            && id < 0
        {
            return Err(LookupError::Unknown { schema, message: "no id is negative".to_owned() });
        }
        let Shared { stop, answered, .. } = &*self.shared;
        let begun = Instant::now();
        loop {
            let verdict = self.shared.lookups().look(schema, Instant::now());
            let message = match verdict {
                Verdict::Known(found) => return Ok(found),
                Verdict::Unknown(message) => return Err(LookupError::Unknown { schema, message }),
                Verdict::Unusable(message) => return Err(LookupError::Unusable { schema, message }),
                Verdict::Wait { ask, unknown: true, message } if !self.waits_for_unknown => {
                    if ask {
                        self.start_request(schema);
                    }
                    return Err(LookupError::Unknown { schema, message });
                }
                Verdict::Wait { ask, message, .. } => {
                    if ask {
                        self.start_request(schema);
                    }
                    message
                }
            };
            if self.patience.is_some_and(|patience| begun.elapsed() >= patience) {
                return Err(LookupError::Unavailable { schema, message });
            }
            if stop() {
                return Err(LookupError::Stopped { schema });
            }
            // An answer that came just before is seen at the next look.
            drop(answered.wait_timeout(self.shared.lookups(), STOP_CHECK));
        }
    }
}
