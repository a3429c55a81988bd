//! The worker's binary: wiring only.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser as _;
use cosine_decay::avro::{AvroRows, SchemaIds};
use cosine_decay::clicks::{ClicksFold, PairSummary};
use cosine_decay::config::{Configuration, SourceConfig, defaults};
use cosine_decay::items::{ItemsFold, RateSummary};
use cosine_decay::merge::GroupMerge;
use cosine_decay::settings::Settings;
use cosine_decay::source::{Interactions, ItemEmbeddings};
use cosine_decay::table::ItemTable;
use records::{CosineDecay, DecayRate, Decoder, DecoderConfig, Input, RetrainRequest};
use service::{Arguments, Context, Program};
use streaming::window::Windows;
use streaming::{Cleanup, EventTime, OutputTopic, Pipeline, Runtime, SharedTable, Topology};

const NAME: &str = "cosine-decay";

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
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let defaults = defaults();
    let program = Program { name: NAME, version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
    service::run::<Configuration>(&program, &command_line.arguments, |context| work(&context))
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

/// The worker: items' vectors become the table, decay rates and requests; interactions, with that table, pairs.
fn topology(context: &Context<Configuration>, registry: Option<&records::Registry>) -> anyhow::Result<Topology> {
    let configuration = &context.settings;
    let topics = configuration.topics.clone();
    let ids = match registry {
        Some(registry) => SchemaIds {
            cosine_decay: registry.register_for::<CosineDecay<'static>>(&topics.cosine_decay)?,
            decay_rate: registry.register_for::<DecayRate<'static>>(&topics.decay_rate)?,
            retrain_requests: registry.register_for::<RetrainRequest<'static>>(&topics.retrain_requests)?,
        },
        None => SchemaIds::default(),
    };
    Ok(Topology {
        worker: NAME.to_owned(),
        outputs: vec![
            OutputTopic { name: topics.cosine_decay, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.decay_rate, cleanup: Cleanup::Delete },
            OutputTopic { name: topics.retrain_requests, cleanup: Cleanup::CompactAndDelete },
        ],
        late_topic: topics.late,
        dead_letter_topic: topics.dead_letters,
        semantics: configuration.semantics(),
        pipelines: pipelines(configuration, ids, registry),
    })
}

fn pipelines(configuration: &Configuration, ids: SchemaIds, registry: Option<&records::Registry>) -> Vec<Pipeline> {
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
    let merge = move || {
        let Settings { rate_windows, revision, .. } = for_merge;
        GroupMerge::<RateSummary, _>::new(rate_windows, for_merge.rate_limit(), revision, AvroRows::new(ids))
    };
    let topic = configuration.items.topic.clone();
    let items = Pipeline::looking_up(&table, topic, time(settings.rate_windows), fold, merge).feeding();

    let decoder = decoders(configuration, &configuration.source, None, registry);
    let windows = settings.windows;
    let for_fold = settings.clone();
    let fold = move || (Interactions(decoder()), ClicksFold::new(&for_fold));
    let merge = move || {
        GroupMerge::<PairSummary, _>::new(windows, settings.pairs_limit(), settings.revision, AvroRows::new(ids))
    };
    let topic = configuration.source.topic.clone();
    vec![items, Pipeline::looking_up(&table, topic, time(windows), fold, merge)]
}

/// Makes decoders for a source.
fn decoders<R: Input>(
    configuration: &Configuration,
    source: &SourceConfig,
    vector_length: Option<usize>,
    registry: Option<&records::Registry>,
) -> impl Fn() -> Decoder<R> + Send + Sync + 'static {
    let decoding = DecoderConfig {
        format: source.format,
        max_record_bytes: configuration.runtime.max_record_bytes.as_usize(),
        vector_length,
    };
    let registry = registry.cloned();
    move || {
        let lookup: Box<dyn records::SchemaLookup> = match &registry {
            Some(registry) => Box::new(registry.clone()),
            None => Box::new(records::FixedSchemas::default()),
        };
        Decoder::new(decoding, lookup)
    }
}
