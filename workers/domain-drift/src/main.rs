//! The worker's binary: wiring only.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser as _;
use domain_drift::avro::AvroRows;
use domain_drift::config::{Configuration, defaults};
use domain_drift::fold::DriftFold;
use domain_drift::history::Pin;
use domain_drift::merge::DriftMerge;
use domain_drift::source::UserEmbeddings;
use records::{Decoder, DecoderConfig, DomainDrift};
use service::{Arguments, Context, Program};
use streaming::{Cleanup, EventTime, OutputTopic, Pipeline, Runtime, Topology};

const NAME: &str = "domain-drift";

/// Measures how far the users of one domain lie from those of others, and from their own past, by sliding windows of
/// event time.
///
/// Reads users' vectors from Kafka and writes a row for each pair of domains and window. Scale it by starting more
/// instances. Start with: domain-drift --print-default-config > domain-drift.toml
#[derive(clap::Parser)]
#[command(name = NAME, version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand, Clone)]
enum Command {
    /// Compare a domain with one of its windows from now on, and exit.
    ///
    /// The window is that reference until another one is pinned: it survives restarts, and takes the place of self_offset.
    /// It is known where it lies within self_offset, or is still to come; whether or not instances run does not matter.
    Pin {
        /// The domain.
        #[arg(long)]
        domain: String,
        /// End of the window: 2026-11-21T09:00:00Z, or epoch ms.
        #[arg(long, value_name = "TIME", value_parser = event_time, required_unless_present = "remove")]
        window_end: Option<i64>,
        /// Take the domain's reference back.
        #[arg(long, conflicts_with = "window_end")]
        remove: bool,
    },
}

fn event_time(text: &str) -> Result<i64, String> {
    if let Ok(milliseconds) = text.parse() {
        return Ok(milliseconds);
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| "a time before 1970".to_owned())?;
    i64::try_from(since.as_millis()).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let defaults = defaults();
    let program = Program { name: NAME, version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
    let CommandLine { arguments, command } = command_line;
    service::run::<Configuration>(&program, &arguments, |context| match &command {
        None => work(&context),
        Some(Command::Pin { domain, window_end, .. }) => pin(&context, domain, *window_end),
    })
}

fn pin(context: &Context<Configuration>, domain: &str, window_end: Option<i64>) -> anyhow::Result<()> {
    let command = serde_json::to_vec(&Pin { domain: domain.to_owned(), window_end })?;
    Runtime::command(&topology(context, None)?, 0, &context.settings.kafka.client_config(), &command)
}

fn work(context: &Context<Configuration>) -> anyhow::Result<()> {
    let settings = &context.settings;
    let kafka = settings.kafka.client_config();
    if context.arguments.reset_state {
        // no record is processed: schema ids do not matter
        return Runtime::reset(&topology(context, None)?, &settings.runtime, &kafka);
    }
    let _http = context.serve()?;
    let registry = registry(context)?;
    let topology = topology(context, Some(&registry))?;
    let create = context.arguments.create_topics;
    let runtime = Runtime::new(topology, settings.runtime.clone(), kafka, settings.threads, create)?;
    context.metrics.register("streaming", |registry| runtime.telemetry().register(registry));
    let (readiness, condition) = (runtime.readiness(), context.health.condition("partitions"));
    condition.fail("no partitions are assigned");
    let (switch, shutdown) = (runtime.stop_switch(), context.shutdown.clone());
    std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
        while !shutdown.wait_timeout(std::time::Duration::from_millis(200)) {
            condition.set(readiness.check());
        }
        switch.store(true, Ordering::Relaxed);
    })?;
    runtime.run()
}

fn registry(context: &Context<Configuration>) -> anyhow::Result<records::Registry> {
    let shutdown = context.shutdown.clone();
    Ok(records::Registry::new((&context.settings.registry).into(), move || shutdown.requested())?)
}

/// The worker: one pipeline from vectors to rows.
fn topology(context: &Context<Configuration>, registry: Option<&records::Registry>) -> anyhow::Result<Topology> {
    let configuration = &context.settings;
    let topics = configuration.topics.clone();
    let schema = match registry {
        Some(registry) => registry.register_for::<DomainDrift<'static>>(&topics.domain_drift)?,
        None => 0,
    };
    let settings = configuration.settings();
    let time = EventTime {
        windows: settings.windows,
        out_of_orderness: configuration.out_of_orderness.as_millis(),
        max_future_skew: configuration.max_future_skew.as_millis(),
        idle_timeout: configuration.idle_timeout.as_duration(),
    };
    let decoding = DecoderConfig {
        format: configuration.source.format,
        max_record_bytes: configuration.runtime.max_record_bytes.as_usize(),
        vector_length: Some(configuration.vector_dimensions as usize),
    };
    let (fold_settings, lookup) = (settings.clone(), registry.cloned());
    let fold = move || {
        let lookup: Box<dyn records::SchemaLookup> = match &lookup {
            Some(registry) => Box::new(registry.clone()),
            None => Box::new(records::FixedSchemas::default()),
        };
        (UserEmbeddings(Decoder::new(decoding, lookup)), DriftFold::new(&fold_settings))
    };
    let merge = move || DriftMerge::new(&settings, AvroRows::new(schema));
    Ok(Topology {
        worker: NAME.to_owned(),
        outputs: vec![OutputTopic { name: topics.domain_drift, cleanup: Cleanup::Delete }],
        late_topic: topics.late,
        dead_letter_topic: topics.dead_letters,
        semantics: configuration.semantics(),
        pipelines: vec![Pipeline::new(configuration.source.topic.clone(), time, fold, merge)],
    })
}
