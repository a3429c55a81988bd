//! `cargo stack measure`.

use anyhow::Result;
use clap::Args;
use stack::measure::{self, Rate};
use stack::replay::{MetricWorker, Setting, find_worker};
use stack::terminal::{self, thousands};

/// Measure how fast a worker works off a backlog, beside a consumer that only polls and decodes the same records.
///
/// Publishes generated interactions, reads them with the plain consumer, then with one process of the worker; once without
/// clickhouse-writer and once with it. Only ratios carry over to other machines.
#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// Generated interactions, in about two hours of event time.
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    records: u64,
    /// The generator's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Partitions of the source topic.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: i32,
    /// The worker.
    #[arg(long, default_value = "session-entropy", value_parser = find_worker)]
    worker: MetricWorker,
    /// A setting of a worker (may be repeated).
    #[arg(long = "set", value_name = "WORKER.KEY=VALUE")]
    settings: Vec<Setting>,
}

/// What the plain consumer of a measurement runs as, so that its processor time and memory are its own.
#[derive(Debug, Args)]
pub(crate) struct PollAndDecode {
    brokers: String,
    registry: String,
}

impl Measure {
    pub(crate) fn run(self) -> Result<()> {
        let progress = terminal::progress();
        let measure = measure::Measure {
            records: self.records,
            seed: self.seed,
            partitions: self.partitions,
            worker: self.worker,
            settings: self.settings,
            start: super::generate::START,
        };
        let rates = measure::run(&measure, progress.as_ref())?;
        println!("{:44}{:>14}{:>20}{:>14}", "", "records/s", "CPU s per million", "peak MB");
        for Rate { what, records_per_second, cpu_seconds_per_million, peak_rss_bytes } in rates {
            println!(
                "{what:44}{:>14}{cpu_seconds_per_million:>20.2}{:>14}",
                thousands(records_per_second as u64),
                peak_rss_bytes / 1_000_000
            );
        }
        Ok(())
    }
}

impl PollAndDecode {
    pub(crate) fn run(self) -> Result<()> {
        println!("{}", measure::poll_and_decode(&self.brokers, &self.registry)?);
        Ok(())
    }
}
