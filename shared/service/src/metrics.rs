//! The process's metrics, in Prometheus's OpenMetrics text.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::health::Health;
use crate::process::ProcessCollector;
use crate::watchdog::HealthCollector;

/// The registry that `/metrics` prints. Clones share it; every name in it begins with `recwatch_`.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Empty, as tests need it.
    pub fn new() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("recwatch"))) }
    }

    /// With what every process shows of itself: name, version, CPU time, memory, what waits in it and what hangs.
    pub(crate) fn of_process(name: &str, version: &str, health: &Health) -> Self {
        let mut registry = Registry::with_prefix("recwatch");
        let labels = vec![("worker", name.to_owned()), ("version", version.to_owned())];
        registry.register("build", "Which worker this is, and its version", Info::new(labels));
        registry.register_collector(Box::new(ProcessCollector::new()));
        registry.register_collector(Box::new(HealthCollector(health.clone())));
        Self { registry: Arc::new(Mutex::new(registry)) }
    }

    /// Registers metrics under `recwatch_<part>_`; keep clones of them to count with.
    ///
    /// ```
    /// use prometheus_client::metrics::counter::Counter;
    /// let metrics = service::Metrics::new();
    /// let retries = Counter::<u64>::default();
    /// metrics.register("clickhouse_writer", |registry| {
    ///     registry.register("insert_retries", "Inserts sent again", retries.clone());
    /// });
    /// retries.inc();
    /// assert!(metrics.encode().contains("recwatch_clickhouse_writer_insert_retries_total 1"));
    /// ```
    pub fn register<R>(&self, part: &str, register: impl FnOnce(&mut Registry) -> R) -> R {
        // A panic in `register` leaves at worst a metric out: the registry itself stays whole.
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix(part))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a String fails only where a metric's own encoder does: a broken metric, told where it shows.
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "a metric cannot be encoded");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
