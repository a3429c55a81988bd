//! The binary: wiring only.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use alert_router::active::{Parts, now};
use alert_router::config::{Configuration, defaults};
use alert_router::deliver::Courier;
use alert_router::explain::explain;
use alert_router::metrics::Metrics;
use alert_router::router;
use alert_router::silence::{Silence, Silences};
use alert_router::silence_command::{SilenceTopic, Wish};
use alert_router::timestamp::parse_time;
use alert_router::topics::Cluster;
use anyhow::Context as _;
use clap::Parser as _;
use records::{Alert, Registry};
use service::{Arguments, Context, HumanDuration, Problems, Program};

/// Groups the alerts of recwatch's workers and tells those who want to know: topics, Alertmanager, webhooks, PagerDuty, files.
///
/// One instance is active, further ones stand by. Start with: alert-router --print-default-config > alert-router.toml
#[derive(clap::Parser)]
#[command(name = "alert-router", version)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show which routes an alert takes, and why, and exit.
    ///
    /// Needs no Kafka; where brokers answer, silences are looked at too.
    Test {
        /// An alert as JSON, as in schemas/examples/Alert.
        #[arg(long, value_name = "FILE")]
        alert: PathBuf,
    },
    /// Tell nobody of certain alerts for a while.
    #[command(subcommand)]
    Silence(SilenceCommand),
}

#[derive(clap::Subcommand)]
enum SilenceCommand {
    /// Add a silence; prints its id.
    Add {
        /// A condition on a label, such as 'rule="gamma-high"' (may be repeated; all must hold).
        #[arg(long = "matcher", value_name = "MATCHER", required = true)]
        matchers: Vec<String>,
        /// How long, such as 2h.
        #[arg(long = "for", value_name = "DURATION")]
        lasts: HumanDuration,
        /// From when on, such as 2026-11-21T09:00:00Z; now if left out.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        starts_at: Option<i64>,
        /// Why.
        #[arg(long)]
        comment: String,
        /// Who asks; the user's name if left out.
        #[arg(long, value_name = "NAME")]
        created_by: Option<String>,
    },
    /// List silences.
    List {
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// End a silence now.
    Expire {
        /// As `add` and `list` print it.
        id: String,
    },
}

fn main() -> ExitCode {
    let CommandLine { arguments, command } = CommandLine::parse();
    let defaults = defaults();
    let program = Program { name: "alert-router", version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
    service::run::<Configuration>(&program, &arguments, |context| match command {
        None => run(&context),
        Some(Command::Test { alert }) => test(&context, &alert),
        Some(Command::Silence(command)) => silence(&context, command),
    })
}

fn run(context: &Context<Configuration>) -> anyhow::Result<()> {
    let (settings, shutdown) = (&context.settings, &context.shutdown);
    let routing = settings.routing(&mut Problems::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let cluster = Cluster::new(settings, &routing)?;
    if context.arguments.reset_state {
        return runtime.block_on(cluster.reset());
    }
    let start = context.health.condition("start");
    start.fail("the brokers have to show the topics");
    let _http = context.serve()?;
    runtime.block_on(cluster.check(context.arguments.create_topics))?;
    let names: Vec<String> = routing.receivers.iter().map(|receiver| receiver.name.clone()).collect();
    let couriers = names.iter().zip(settings.targets()).map(|(name, target)| Courier::new(name, target));
    let stopping = shutdown.clone();
    let parts = Parts {
        couriers: couriers.collect::<anyhow::Result<_>>()?,
        kafka: settings.kafka.client_config(),
        registry: Registry::new((&settings.registry).into(), move || stopping.requested())?,
        runtime: runtime.handle().clone(),
        metrics: Arc::new(Metrics::new(&context.metrics, &names)),
        shutdown: shutdown.clone(),
        waits: context.health.waits().clone(),
        configuration: settings.clone(),
        routing,
    };
    shutdown.started();
    start.remove();
    let result = router::run(&Arc::new(parts), &context.health);
    // A notification without an answer is sent again by who takes over.
    runtime.shutdown_background();
    result
}

fn test(context: &Context<Configuration>, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let alert: Alert<'_> = serde_json::from_str(&text).with_context(|| format!("{} holds no alert", file.display()))?;
    let routing = context.settings.routing(&mut Problems::new());
    let silences = SilenceTopic::new(&context.settings, &context.shutdown).and_then(|topic| topic.all());
    let silences = silences.map(|found| {
        let mut silences = Silences::default();
        for (id, record) in &found {
            if let Ok(silence) = Silence::of(record)
                && let Err(error) = silences.put(id, silence)
            {
                eprintln!("silence {id:?}: {error}");
            }
        }
        silences
    });
    let silences = silences.as_ref().map_err(ToString::to_string);
    print!("{}", explain(&routing, &alert, silences.as_ref().map(|found| *found).map_err(String::as_str), now()));
    Ok(())
}

fn silence(context: &Context<Configuration>, command: SilenceCommand) -> anyhow::Result<()> {
    let topic = SilenceTopic::new(&context.settings, &context.shutdown)?;
    match command {
        SilenceCommand::Add { matchers, lasts, starts_at, comment, created_by } => {
            let created_by = created_by.or_else(|| std::env::var("USER").ok()).unwrap_or_default();
            println!("{}", topic.add(Wish { matchers, starts_at, lasts, created_by, comment })?);
        }
        SilenceCommand::List { all } => print!("{}", topic.list(all)?),
        SilenceCommand::Expire { id } => topic.expire(&id)?,
    }
    Ok(())
}
