//! The worker's binary: wiring only.

use std::process::ExitCode;

use alerting::{AlertStage, Evaluator};
use clap::Parser as _;
use domain_drift::alerts::ROWS;
use domain_drift::avro::AvroRows;
use domain_drift::config::{Configuration, NAME, defaults};
use domain_drift::fold::DriftFold;
use domain_drift::history::{Pin, Pinned};
use domain_drift::merge::DriftMerge;
use domain_drift::rows::ALERTS_TOPIC;
use domain_drift::source::UserEmbeddings;
use records::{Alert, Decoder, DomainDrift, Registry};
use service::{Arguments, Context, Program};
use streaming::{Cleanup, Deployment, EventTime, OutputTopic, Pipeline, Runtime, Topology};

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
    #[command(flatten)]
    options: worker::Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand, Clone)]
enum Command {
    /// Compare a domain with one of its windows from now on, and exit.
    ///
    /// The window is that reference until another one is pinned: it survives restarts, and takes the place of self_offset.
    /// It is known where it lies within self_offset, or is still to come; whether or not instances run does not matter.
    /// The log of the instance that writes the rows says what has become of the pin, with a warning if nothing has.
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
    let CommandLine { arguments, options, command } = command_line;
    service::run::<Configuration>(&program, &arguments, |context| match &command {
        None => worker::run(&context, options, topology),
        Some(Command::Pin { domain, window_end, .. }) => pin(&context, domain, *window_end),
    })
}

fn pin(context: &Context<Configuration>, domain: &str, window_end: Option<i64>) -> anyhow::Result<()> {
    let settings = &context.settings;
    let is_end = |end: i64| end % settings.slide.as_millis() == 0;
    anyhow::ensure!(window_end.is_none_or(is_end), "windows end at multiples of the slide, {}", settings.slide);
    let command = serde_json::to_vec(&Pin { domain: domain.to_owned(), window_end })?;
    Runtime::command(&topology(settings, None)?, 0, &settings.kafka.client_config(), &command)
}

/// Says what has become of a pin: its sender has gone by then.
fn tell(Pin { domain, window_end }: &Pin, pinned: Pinned) {
    match pinned {
        Pinned::Now => tracing::info!(domain, window_end, "the pinned window is the domain's reference"),
        Pinned::Later => tracing::info!(domain, window_end, "the pinned window will be the domain's reference"),
        Pinned::Removed => tracing::info!(domain, "the domain has no pinned reference any more"),
        Pinned::Unknown => tracing::warn!(
            domain,
            window_end,
            "the pinned window is no longer kept, or the domain had no users in it: its reference stays what it was"
        ),
    }
}

/// The worker: one pipeline from vectors to rows.
fn topology(configuration: &Configuration, registry: Option<&Registry>) -> anyhow::Result<Topology> {
    let topics = configuration.topics.clone();
    let (schema, alerts) = match registry {
        Some(registry) => (
            registry.register_for::<DomainDrift<'static>>(&topics.domain_drift)?,
            registry.register_for::<Alert<'static>>(&topics.alerts)?,
        ),
        None => (0, 0),
    };
    let settings = configuration.settings();
    let time = EventTime {
        windows: settings.windows,
        out_of_orderness: configuration.out_of_orderness.as_millis(),
        max_future_skew: configuration.max_future_skew.as_millis(),
        idle_timeout: configuration.idle_timeout.as_duration(),
    };
    let vector_length = Some(configuration.vector_dimensions as usize);
    let decoding = configuration.source.decoding(&configuration.runtime, vector_length);
    let (fold_settings, lookup) = (settings.clone(), registry.cloned());
    let fold = move || {
        (UserEmbeddings(Decoder::new(decoding, worker::lookup(lookup.as_ref()))), DriftFold::new(&fold_settings))
    };
    let kinds = configuration.row_kinds();
    let rules = configuration.alerts.rules(&kinds, ROWS);
    let deployment = Deployment::new(NAME, &configuration.runtime.group);
    let merge = move || {
        let evaluator = Evaluator::new(NAME, kinds[0].clone(), settings.revision, rules.clone());
        let evaluator = evaluator.of_deployment(deployment.own_group());
        let stage = AlertStage::new(evaluator, alerts, ALERTS_TOPIC);
        DriftMerge::new(&settings, AvroRows::new(schema)).telling(tell).with_alerts(stage)
    };
    Ok(Topology {
        worker: NAME.to_owned(),
        group: configuration.runtime.group.clone(),
        outputs: vec![
            OutputTopic { name: topics.domain_drift, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.alerts, cleanup: Cleanup::CompactAndDelete },
        ],
        late_topic: topics.late,
        dead_letter_topic: topics.dead_letters,
        semantics: configuration.semantics(),
        pipelines: vec![Pipeline::new(configuration.source.topic.clone(), time, fold, merge)],
    })
}
