//! The binary: wiring only.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use clickhouse_writer::config::{Configuration, defaults};
use clickhouse_writer::ddl;
use clickhouse_writer::dead_letters::DeadLetters;
use clickhouse_writer::deliver::Destination;
use clickhouse_writer::lane::Lane;
use clickhouse_writer::metrics::Metrics;
use clickhouse_writer::server::{Server, TableError};
use clickhouse_writer::source::Source;
use clickhouse_writer::topics::Cluster;
use clickhouse_writer::worker::{Delivery, Worker};
use records::Registry;
use service::{Arguments, Context, Program, Shutdown};

/// Writes the rows of recwatch's topics into ClickHouse.
///
/// Reads every topic of [topics] that `tables` names, and commits an offset only when ClickHouse has acknowledged its row.
/// First use: clickhouse-writer --config FILE --apply-ddl, then clickhouse-writer --config FILE --create-topics.
#[derive(Parser)]
#[command(name = "clickhouse-writer", version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,

    /// Create the database, tables and views in ClickHouse where they are missing, and exit.
    #[arg(long)]
    apply_ddl: bool,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let defaults = defaults();
    let program = Program { name: "clickhouse-writer", version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
    service::run::<Configuration>(&program, &command_line.arguments, |context| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let result = run(&context, command_line.apply_ddl, &runtime);
        // A delivery that still waits for ClickHouse is dropped: its rows are not committed.
        runtime.shutdown_background();
        result
    })
}

fn run(context: &Context<Configuration>, apply_ddl: bool, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let (settings, shutdown) = (&context.settings, &context.shutdown);
    let server = Server::new(&settings.clickhouse)?;
    if apply_ddl {
        return runtime.block_on(apply(&server, shutdown));
    }
    let cluster = Cluster::new(settings)?;
    if context.arguments.reset_state {
        return cluster.reset();
    }
    let start = context.health.condition("start");
    start.fail("the brokers have to show the topics");
    let _http = context.serve()?;
    runtime.block_on(cluster.check(context.arguments.create_topics))?;
    start.fail("the group has to be joined");

    let tables: Vec<_> = settings.tables().into_iter().map(|(table, _)| table).collect();
    let metrics = Arc::new(Metrics::new(&context.metrics, &context.health, &tables));
    let found = context.health.condition("tables found");
    found.fail("waiting for ClickHouse");
    let Some(destinations) = runtime.block_on(destinations(&server, settings, shutdown))? else {
        return Ok(());
    };
    found.ok();

    let stopping = shutdown.clone();
    let registry = Registry::new((&settings.registry).into(), move || stopping.requested())?;
    let lanes = settings
        .tables()
        .into_iter()
        .map(|(table, topic)| Lane::new(table, topic, settings.limits(), (table.decoder)(Box::new(registry.clone()))))
        .collect();
    let kafka = settings.kafka.client_config();
    let topics: Vec<&str> = destinations.iter().map(|destination| destination.topic.as_str()).collect();
    let source = Source::join(&kafka, &settings.runtime, &topics)?;
    let delivery = Delivery {
        sink: Arc::new(server),
        dead_letters: DeadLetters::new(&kafka, settings.dead_letters())?,
        policy: settings.policy(),
        runtime: runtime.handle().clone(),
        destinations,
    };
    shutdown.started();
    let worker = Worker::new(source, lanes, delivery, metrics, &context.health, shutdown.clone());
    start.remove();
    worker.run()
}

async fn apply(server: &Server, shutdown: &Shutdown) -> anyhow::Result<()> {
    let up = server.until_answered(shutdown, async || server.ping().await).await.with_context(|| at(server))?;
    let applied = up.is_some() && ddl::apply(server, shutdown).await.with_context(|| at(server))?;
    anyhow::ensure!(applied, "the end was asked for while ClickHouse at {} was waited for", server.url());
    Ok(())
}

/// The tables, once ClickHouse is up and has them all; `None` where the end was asked for first.
async fn destinations(
    server: &Server,
    settings: &Configuration,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Vec<Arc<Destination>>>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (table, topic) in settings.tables() {
        let ask = async || match server.destination(table, &topic).await {
            Ok(destination) => Ok(Ok(destination)),
            Err(TableError::Unfit(problem)) => Ok(Err(problem)),
            Err(TableError::Server(error)) => Err(error),
        };
        match server.until_answered(shutdown, ask).await.with_context(|| at(server))? {
            None => return Ok(None),
            Some(Ok(destination)) => found.push(Arc::new(destination)),
            Some(Err(problem)) => problems.push(problem),
        }
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(Some(found))
}

fn at(server: &Server) -> String {
    format!("clickhouse.url = {:?}", server.url())
}
