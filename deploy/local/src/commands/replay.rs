//! `cargo stack replay`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::fault::Fault;
use stack::generator::Shape;
use stack::recording::{Content, Feed, Recording};
use stack::replay::{METRIC_WORKERS, MetricWorker, Plan, Protocol, Run, Setting, find_worker};
use stack::{Load, Progress, terminal};

/// Send recordings through the workers, on a stack of their own, and export every table's final rows.
///
/// Publishes the recordings in file order, vectors before clicks (or, with --rate, all of them merged by event time), waits
/// until every record is processed and every window closed that can be, and writes DIR/<table>.ndjson and DIR/summary.json.
/// A line that its schema does not allow is published as it is, so that bad records reach the workers too. Exit code 0 only if
/// every process ended well, the counts add up, no row is lost or there twice, and each alert is told of once (with the routes
/// that alert-router has by default).
///
/// A partition that has been read to its end follows the others only after the worker's idle_timeout (30s):
/// --set session-entropy.idle_timeout=5s makes replays shorter.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo stack replay --interactions clicks.ndjson.gz --instances 2 \\\n    --set session-entropy.window=10m --fault kill:session-entropy:12000 --export rows"
)]
pub(crate) struct Replay {
    /// Interactions (NDJSON, plain or gz), in the order in which they arrived.
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present_any = ["generate", "item_embeddings", "user_embeddings"])]
    interactions: Vec<PathBuf>,
    /// Vectors of items.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    item_embeddings: Vec<PathBuf>,
    /// Vectors of users.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    user_embeddings: Vec<PathBuf>,
    /// Generated interactions behind those of the recordings.
    #[arg(long, value_name = "N")]
    generate: Option<u64>,
    /// The seed of generated interactions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The metric workers to run; all by default. clickhouse-writer and alert-router always run.
    #[arg(long, value_name = "WORKER", value_delimiter = ',', value_parser = find_worker)]
    workers: Vec<MetricWorker>,
    /// A setting of a worker, as the worker's own --set takes it (may be repeated).
    #[arg(long = "set", value_name = "WORKER.KEY=VALUE")]
    settings: Vec<Setting>,
    /// Partitions of each source topic.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: i32,
    /// Processes of each metric worker.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    instances: u32,
    /// Kafka's group protocol that the workers use.
    #[arg(long, value_enum, default_value_t = Protocol::default())]
    protocol: Protocol,
    /// Publish this many lines a second, merged by event time; as fast as possible without.
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Kill a process (SIGKILL) once AFTER_RECORDS lines are published and it has read some that it has not committed; it
    /// starts again at once (may be repeated). WORKER is a worker, or one of its instances such as session-entropy-2.
    #[arg(long = "fault", value_name = "kill:WORKER:AFTER_RECORDS")]
    faults: Vec<Fault>,
    /// Folder for the rows and the summary; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    export: PathBuf,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "it has to be a number of lines a second, above 0".to_owned())
}

impl Replay {
    pub(crate) fn run(self) -> Result<()> {
        let export = self.export.clone();
        std::fs::create_dir_all(&export).with_context(|| format!("the folder {} cannot be made", export.display()))?;
        let recordings = self.recordings()?;
        let merged = self.rate.is_some();
        let plan = self.plan(&recordings);
        let feed = if merged { Feed::by_event_time(recordings)? } else { Feed::in_file_order(recordings) };
        let progress: Box<dyn Progress> = terminal::progress();
        let mut run = Run::start(plan, progress.as_ref())?;
        if let Err(error) = through(&mut run, feed, &export) {
            let logs = export.join("logs");
            run.keep_logs(&logs)?;
            return Err(error.context(format!("the replay failed; what the processes said is in {}", logs.display())));
        }
        let problems = run.summary().problems.join("\n");
        run.stop()?;
        if !problems.is_empty() {
            bail!("{problems}");
        }
        Ok(())
    }

    fn recordings(&self) -> Result<Vec<Recording>> {
        let files = [
            (Content::Interactions, &self.interactions),
            (Content::ItemEmbeddings, &self.item_embeddings),
            (Content::UserEmbeddings, &self.user_embeddings),
        ];
        let files = files.into_iter().flat_map(|(content, files)| files.iter().map(move |file| (content, file)));
        let mut recordings =
            files.map(|(content, file)| Recording::open(file, content)).collect::<Result<Vec<Recording>>>()?;
        if let Some(records) = self.generate {
            let shape = Shape::load(self.seed, super::generate::START, records);
            recordings.push(Recording::generated(shape, Some(records)));
        }
        Ok(recordings)
    }

    fn plan(self, recordings: &[Recording]) -> Plan {
        const MANY: u64 = 500_000;
        Plan {
            workers: if self.workers.is_empty() { METRIC_WORKERS.to_vec() } else { self.workers },
            instances: self.instances,
            partitions: self.partitions,
            protocol: self.protocol,
            settings: self.settings,
            contents: recordings.iter().map(Recording::content).collect(),
            rate: self.rate,
            faults: self.faults,
            load: if self.generate.unwrap_or(0) > MANY { Load::Sustained } else { Load::Short },
            writer: true,
            router: true,
        }
    }
}

/// From the first line to the exported rows.
fn through(run: &mut Run<'_>, feed: Feed, export: &Path) -> Result<()> {
    run.publish(feed)?;
    run.complete()?;
    run.stop_workers()?;
    run.account()?;
    run.export(export)
}
