//! The worker's binary: wiring only.

use std::process::ExitCode;

use alerting::{AlertStage, Evaluator};
use clap::Parser as _;
use cosine_decay::alerts::{PAIRS, RATES};
use cosine_decay::avro::{AvroRows, SchemaIds};
use cosine_decay::clicks::{ClicksFold, PairSummary};
use cosine_decay::config::{Configuration, NAME, defaults};
use cosine_decay::items::{ItemsFold, RateSummary};
use cosine_decay::rows::ALERTS_TOPIC;
use cosine_decay::settings::Settings;
use cosine_decay::source::{Interactions, ItemEmbeddings};
use cosine_decay::table::ItemTable;
use grouping::GroupMerge;
use records::{Alert, CosineDecay, DecayRate, Decoder, Input, Registry, RetrainRequest};
use service::{Arguments, Program};
use streaming::window::Windows;
use streaming::{Cleanup, Deployment, EventTime, OutputTopic, Pipeline, SharedTable, Topology};
use worker::SourceConfig;

/// Measures how alike the items are that sessions meet one after the other, how fast items' vectors lose their likeness to
/// what they were, and which items ask for retraining.
///
/// Reads interactions and items' vectors from Kafka, writes aggregates by group and by domain, and requests by item. Scale it
/// by starting more instances. Start with: cosine-decay --print-default-config > cosine-decay.toml
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

/// The worker: items' vectors become the table, decay rates and requests; interactions, with that table, pairs.
fn topology(configuration: &Configuration, registry: Option<&Registry>) -> anyhow::Result<Topology> {
    let topics = configuration.topics.clone();
    let ids = match registry {
        Some(registry) => SchemaIds {
            cosine_decay: registry.register_for::<CosineDecay<'static>>(&topics.cosine_decay)?,
            decay_rate: registry.register_for::<DecayRate<'static>>(&topics.decay_rate)?,
            retrain_requests: registry.register_for::<RetrainRequest<'static>>(&topics.retrain_requests)?,
            alerts: registry.register_for::<Alert<'static>>(&topics.alerts)?,
        },
        None => SchemaIds::default(),
    };
    Ok(Topology {
        worker: NAME.to_owned(),
        group: configuration.runtime.group.clone(),
        outputs: vec![
            OutputTopic { name: topics.cosine_decay, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.decay_rate, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.retrain_requests, cleanup: Cleanup::CompactAndDelete },
            OutputTopic { name: topics.alerts, cleanup: Cleanup::CompactAndDelete },
        ],
        late_topic: topics.late,
        dead_letter_topic: topics.dead_letters,
        semantics: configuration.semantics(),
        pipelines: pipelines(configuration, ids, registry),
    })
}

fn pipelines(configuration: &Configuration, ids: SchemaIds, registry: Option<&Registry>) -> Vec<Pipeline> {
    let settings = configuration.settings();
    let table = SharedTable::new(ItemTable::new(settings.vector_dimensions));
    let time = |windows: Windows| EventTime {
        windows,
        out_of_orderness: configuration.out_of_orderness.as_millis(),
        max_future_skew: configuration.max_future_skew.as_millis(),
        idle_timeout: configuration.idle_timeout.as_duration(),
    };

    let decoder = decoders(configuration, &configuration.items, Some(settings.vector_dimensions), registry);
    let (for_fold, for_merge) = (settings.clone(), settings.clone());
    let fold = move || (ItemEmbeddings(decoder()), ItemsFold::new(&for_fold, AvroRows::new(ids)));
    let alerts = alert_stages(configuration, RATES, ids.alerts);
    let merge = move || {
        let Settings { rate_windows, revision, .. } = for_merge;
        let limit = for_merge.rate_limit();
        GroupMerge::<RateSummary, _>::new(rate_windows, limit, revision, AvroRows::new(ids), alerts())
    };
    let topic = configuration.items.topic.clone();
    let items = Pipeline::looking_up(&table, topic, time(settings.rate_windows), fold, merge).feeding();

    let decoder = decoders(configuration, &configuration.source, None, registry);
    let windows = settings.windows;
    let for_fold = settings.clone();
    let fold = move || (Interactions(decoder()), ClicksFold::new(&for_fold));
    let alerts = alert_stages(configuration, PAIRS, ids.alerts);
    let merge = move || {
        let (limit, revision) = (settings.pairs_limit(), settings.revision);
        GroupMerge::<PairSummary, _>::new(windows, limit, revision, AvroRows::new(ids), alerts())
    };
    let topic = configuration.source.topic.clone();
    vec![items, Pipeline::looking_up(&table, topic, time(windows), fold, merge)]
}

/// Makes what judges the rows of this name.
fn alert_stages(
    configuration: &Configuration,
    rows: &'static str,
    schema: i32,
) -> impl Fn() -> AlertStage + Send + Sync + 'static {
    let kinds = configuration.row_kinds();
    let rules = configuration.alerts.rules(&kinds, rows);
    let kind = kinds.into_iter().find(|kind| kind.name == rows).expect("rows of this name are among them");
    let revision = configuration.revision;
    let deployment = Deployment::new(NAME, &configuration.runtime.group);
    move || {
        let evaluator = Evaluator::new(NAME, kind.clone(), revision, rules.clone());
        AlertStage::new(evaluator.of_deployment(deployment.own_group()), schema, ALERTS_TOPIC)
    }
}

/// Makes decoders for a source.
fn decoders<R: Input>(
    configuration: &Configuration,
    source: &SourceConfig,
    vector_length: Option<usize>,
    registry: Option<&Registry>,
) -> impl Fn() -> Decoder<R> + Send + Sync + 'static {
    let decoding = source.decoding(&configuration.runtime, vector_length);
    let registry = registry.cloned();
    move || Decoder::new(decoding, worker::lookup(registry.as_ref()))
}
