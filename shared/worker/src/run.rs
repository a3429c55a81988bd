//! Runs a worker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientConfig;
use records::{FixedSchemas, Registry, SchemaLookup};
use service::Context;
use streaming::config::RuntimeConfig;
use streaming::{Runtime, Topology};

use crate::left_alerts::LeftAlerts;

/// The sections of a metric worker's configuration that running it needs.
pub trait MetricWorker: service::Settings {
    /// `[kafka]`.
    fn kafka(&self) -> &service::Kafka;

    /// `[registry]`.
    fn registry(&self) -> &service::Registry;

    /// `[runtime]`.
    fn runtime(&self) -> &RuntimeConfig;

    /// Stream threads; 0 is one for each core.
    fn threads(&self) -> usize;

    /// The topic of its alerts.
    fn alerts_topic(&self) -> &str;
}

/// Resets the worker's state where that is asked for; else runs it until the process is told to stop. `topology` is given
/// no registry where no record will be processed: schema ids do not matter then.
///
/// # Errors
/// What keeps the worker from starting, or has ended it.
pub fn run<C: MetricWorker>(
    context: &Context<C>,
    topology: impl Fn(&C, Option<&Registry>) -> anyhow::Result<Topology>,
) -> anyhow::Result<()> {
    let settings = &context.settings;
    let kafka = settings.kafka().client_config();
    let shutdown = context.shutdown.clone();
    let registry = || Registry::new(settings.registry().into(), move || shutdown.requested());
    if context.arguments.reset_state {
        return reset(context, &topology(settings, None)?, &kafka, &registry()?);
    }
    let _http = context.serve()?;
    let registry = registry()?;
    let topology = topology(settings, Some(&registry))?;
    let create = context.arguments.create_topics;
    let runtime = Runtime::new(topology, settings.runtime().clone(), kafka, settings.threads(), create)?;
    context.metrics.register("streaming", |registry| runtime.telemetry().register(registry));
    let (readiness, condition) = (runtime.readiness(), context.health.condition("partitions"));
    condition.fail("no partitions are assigned");
    let (switch, shutdown) = (runtime.stop_switch(), context.shutdown.clone());
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while !shutdown.wait_timeout(Duration::from_millis(200)) {
            condition.set(readiness.check());
        }
        switch.store(true, Ordering::Relaxed);
    })?;
    runtime.run()
}

/// Gives the state up, and ends the alerts that fired by it.
fn reset<C: MetricWorker>(
    context: &Context<C>,
    topology: &Topology,
    kafka: &ClientConfig,
    registry: &Registry,
) -> anyhow::Result<()> {
    let settings = &context.settings;
    let alerts = LeftAlerts::read(kafka, registry, settings.alerts_topic(), &topology.worker, &context.shutdown)?;
    Runtime::reset(topology, settings.runtime(), kafka)?;
    let ended = alerts.end()?;
    if ended > 0 {
        tracing::info!(ended, "alerts that fired are told to be over");
    }
    Ok(())
}

/// What a decoder asks about schemas: the registry, or nobody where no record will be processed.
#[must_use]
pub fn lookup(registry: Option<&Registry>) -> Box<dyn SchemaLookup> {
    match registry {
        Some(registry) => Box::new(registry.clone()),
        None => Box::new(FixedSchemas::default()),
    }
}
