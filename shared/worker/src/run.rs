//! Runs a worker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::ClientConfig;
use records::{FixedSchemas, Registry, SchemaLookup};
use service::Context;
use streaming::config::RuntimeConfig;
use streaming::{Runtime, StartOptions, Topology};

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

    /// The worker's name.
    fn name(&self) -> &'static str;

    /// The topics that it reads.
    fn source_topics(&self) -> Vec<&str>;
}

/// Options of the command line that metric workers have beside those of all workers.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Options {
    /// Go on where source records were deleted before they were read: skip them, and count them as lost.
    ///
    /// The way out, without giving all state up, where retention has overtaken a committed offset. Rows of windows that
    /// were closed before stay exact; windows that were open then are without what is gone, and so is what follows from it.
    /// Each gap is logged with topic, partition and offsets, and counted in recwatch_streaming_records_lost_total. The flag
    /// can stay: without a gap it does nothing.
    #[arg(long)]
    pub skip_lost: bool,
}

/// Resets the worker's state where that is asked for; else runs it until the process is told to stop. `topology` is given
/// no registry where no record will be processed: schema ids do not matter then.
///
/// # Errors
/// What keeps the worker from starting, or has ended it.
pub fn run<C: MetricWorker>(
    context: &Context<C>,
    options: Options,
    topology: impl Fn(&C, Option<&Registry>) -> anyhow::Result<Topology>,
) -> anyhow::Result<()> {
    let settings = &context.settings;
    let kafka = settings.kafka().client_config();
    let shutdown = context.shutdown.clone();
    let registry = || Registry::new(settings.registry().into(), move || shutdown.requested());
    if context.arguments.reset_state {
        return reset(context, &topology(settings, None)?, &kafka, &registry()?.blocking(None));
    }
    let _http = context.serve()?;
    let start = context.health.condition("start");
    start.fail("the schema registry has to take the schemas");
    let registry = registry()?;
    let topology = topology(settings, Some(&registry))?;
    start.fail("the brokers have to show the topics");
    let allowed = StartOptions { create_topics: context.arguments.create_topics, skip_lost: options.skip_lost };
    let health = &context.health;
    let runtime = Runtime::new(topology, settings.runtime().clone(), kafka, settings.threads(), allowed, health)?;
    start.remove();
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
    context.shutdown.started();
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
    let deployment = topology.deployment();
    let alerts = LeftAlerts::read(kafka, registry, settings.alerts_topic(), &deployment, &context.shutdown)?;
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
