//! The worker's binary: wiring only.

use std::process::ExitCode;

use alerting::{AlertStage, Evaluator};
use clap::Parser as _;
use grouping::GroupMerge;
use records::{Alert, Decoder, Registry, SessionEntropy, SessionFreshness};
use service::{Arguments, Program};
use session_entropy::alerts::ROWS;
use session_entropy::avro::AvroRows;
use session_entropy::config::{Configuration, NAME, defaults};
use session_entropy::fold::SessionFold;
use session_entropy::rows::ALERTS_TOPIC;
use session_entropy::source::Interactions;
use session_entropy::summary::Summary;
use streaming::{Cleanup, Deployment, EventTime, OutputTopic, Pipeline, Topology};

/// Measures how fresh sessions stay: the entropy of the gaps between a session's events, by sliding windows of event
/// time.
///
/// Reads interactions from Kafka, writes a row for each session and slide, and aggregates by group. Scale it by starting
/// more instances. Start with: session-entropy --print-default-config > session-entropy.toml
#[derive(clap::Parser)]
#[command(name = NAME, version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
    #[command(flatten)]
    options: worker::Options,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let defaults = defaults();
    let program = Program { name: NAME, version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
    service::run::<Configuration>(&program, &command_line.arguments, |context| {
        worker::run(&context, command_line.options, topology)
    })
}

/// The worker: one pipeline from interactions to rows.
fn topology(configuration: &Configuration, registry: Option<&Registry>) -> anyhow::Result<Topology> {
    let topics = configuration.topics.clone();
    let (freshness, entropy, alerts) = match registry {
        Some(registry) => (
            registry.register_for::<SessionFreshness<'static>>(&topics.session_freshness)?,
            registry.register_for::<SessionEntropy<'static>>(&topics.session_entropy)?,
            registry.register_for::<Alert<'static>>(&topics.alerts)?,
        ),
        None => (0, 0, 0),
    };
    let settings = configuration.settings();
    let time = EventTime {
        windows: settings.windows,
        out_of_orderness: configuration.out_of_orderness.as_millis(),
        max_future_skew: configuration.max_future_skew.as_millis(),
        idle_timeout: configuration.idle_timeout.as_duration(),
    };
    let decoding = configuration.source.decoding(&configuration.runtime, None);
    let (fold_settings, lookup) = (settings.clone(), registry.cloned());
    let fold = move || {
        let source = Interactions(Decoder::new(decoding, worker::lookup(lookup.as_ref())));
        (source, SessionFold::new(&fold_settings, AvroRows::new(freshness, entropy)))
    };
    let kinds = configuration.row_kinds();
    let rules = configuration.alerts.rules(&kinds, ROWS);
    let deployment = Deployment::new(NAME, &configuration.runtime.group);
    let merge = move || {
        let evaluator = Evaluator::new(NAME, kinds[0].clone(), settings.revision, rules.clone());
        let evaluator = evaluator.of_deployment(deployment.own_group());
        let stage = AlertStage::new(evaluator, alerts, ALERTS_TOPIC);
        let (limit, encoder) = (settings.limit(), AvroRows::new(freshness, entropy));
        GroupMerge::<Summary, _>::new(settings.windows, limit, settings.revision, encoder, stage)
    };
    Ok(Topology {
        worker: NAME.to_owned(),
        group: configuration.runtime.group.clone(),
        outputs: vec![
            OutputTopic { name: topics.session_freshness, cleanup: Cleanup::CompactAndDelete },
            OutputTopic { name: topics.session_entropy, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.alerts, cleanup: Cleanup::CompactAndDelete },
        ],
        late_topic: topics.late,
        dead_letter_topic: topics.dead_letters,
        semantics: configuration.semantics(),
        pipelines: vec![Pipeline::new(configuration.source.topic.clone(), time, fold, merge)],
    })
}
