//! `cargo stack measure`.

use anyhow::{Result, bail};
use clap::Args;
use stack::Load;
use stack::measure::storm::{self, Storm, StormRow};
use stack::measure::{self, Rate, Report, Restart, Told};
use stack::recording::Content;
use stack::replay::{MetricWorker, ROUTER, Setting, find_worker};
use stack::terminal::{self, thousands};

/// Fewer records than this are for trying the measurement out.
const MANY: u64 = 500_000;
const MANY_ALERTS: u64 = 50_000;

/// Measure how fast a worker works off a backlog, beside a consumer that only polls and decodes the same records.
///
/// Publishes generated records, reads them with the plain consumer, then with one process of the worker; once without
/// clickhouse-writer and once with it. Only ratios carry over to other machines.
///
/// session-entropy is rated by interactions. domain-drift by vectors of 64 dimensions, of 300,000 users in eight domains.
/// cosine-decay by interactions on items that have a vector of 64 dimensions each: those are published and processed before,
/// in a line of their own ("items"), and its partitions count as idle after a second (--set cosine-decay.idle_timeout=...
/// is heard), since the clicks would wait for more items otherwise. Before the others it processes 40,000 clicks and is
/// restarted: "restart" is the time from the start of the process until /readyz answers that it is ready.
///
/// alert-router is sent a storm: --records different alerts, evenly, 100,000 a minute, all for one route. Each second one
/// more alert is for another route: its delays are from sending it until a consumer of committed records has it from there.
#[derive(Debug, Args)]
pub(crate) struct Measure {
    /// Generated records, in about two hours of event time: 5,000,000 if left out. For alert-router alerts: 100,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Items, for cosine-decay; rounded up to a multiple of the four departments.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// The generator's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Partitions of each source topic.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    partitions: i32,
    /// The worker: session-entropy, cosine-decay, domain-drift or alert-router.
    #[arg(long, default_value = "session-entropy", value_parser = find_measured)]
    worker: Measured,
    /// Instead: how soon alerts are told while so many records a second come at the pace of their event time. Windows of a minute
    /// end every second, and every group tells an alert at every end; there is no clickhouse-writer.
    #[arg(long, value_name = "RECORDS/S", conflicts_with = "records", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    live: Option<u64>,
    /// How long, with --live.
    #[arg(long, value_name = "S", default_value_t = 60, requires = "live", value_parser = clap::value_parser!(u64).range(1..=7_000))]
    seconds: u64,
    /// A setting of a worker (may be repeated).
    #[arg(long = "set", value_name = "WORKER.KEY=VALUE")]
    settings: Vec<Setting>,
}

/// What the plain consumer of a measurement runs as, so that its processor time and memory are its own.
#[derive(Debug, Args)]
pub(crate) struct PollAndDecode {
    brokers: String,
    registry: String,
    #[arg(value_parser = find_content)]
    content: Content,
}

/// What can be measured.
#[derive(Debug, Clone, Copy)]
enum Measured {
    Metric(MetricWorker),
    Router,
}

fn find_measured(name: &str) -> Result<Measured, String> {
    if name == ROUTER { Ok(Measured::Router) } else { find_worker(name).map(Measured::Metric) }
}

fn find_content(name: &str) -> Result<Content, String> {
    Content::ALL.into_iter().find(|content| content.name() == name).ok_or_else(|| "it is no content".to_owned())
}

impl Measure {
    pub(crate) fn run(self) -> Result<()> {
        match self.worker {
            Measured::Metric(worker) => self.rates(worker),
            Measured::Router if self.live.is_some() => bail!("--live is about metric workers, not {ROUTER}"),
            Measured::Router => self.storm(),
        }
    }

    fn rates(self, worker: MetricWorker) -> Result<()> {
        let progress = terminal::progress();
        let records = self.records.unwrap_or(5_000_000);
        let measure = measure::Measure {
            // a load is spread over two hours
            records: self.live.map_or(records, |rate| rate * 7_200),
            items: self.items.div_ceil(stack::generator::DEPARTMENTS),
            seed: self.seed,
            partitions: self.partitions,
            worker,
            settings: self.settings,
            start: super::generate::START,
            load: if records < MANY { Load::Short } else { Load::Sustained },
        };
        if let Some(rate) = self.live {
            show(&measure::live(&measure, rate, self.seconds, progress.as_ref())?);
            return Ok(());
        }
        let Report { rates, restart } = measure::run(&measure, progress.as_ref())?;
        println!("{:44}{:>14}{:>20}{:>14}", "", "records/s", "CPU s per million", "peak MB");
        for Rate { what, records_per_second, cpu_seconds_per_million, peak_rss_bytes } in rates {
            println!(
                "{what:44}{:>14}{cpu_seconds_per_million:>20.2}{:>14}",
                thousands(records_per_second as u64),
                peak_rss_bytes / 1_000_000
            );
        }
        if let Some(Restart { ready_after, items }) = restart {
            println!("restart: ready after {:.1} s with {} items", ready_after.as_secs_f64(), thousands(items));
        }
        Ok(())
    }

    fn storm(self) -> Result<()> {
        let progress = terminal::progress();
        let alerts = self.records.unwrap_or(100_000);
        let load = if alerts < MANY_ALERTS { Load::Short } else { Load::Sustained };
        let storm = Storm { alerts, partitions: self.partitions, settings: self.settings, load };
        let rows = storm::run(&storm, progress.as_ref())?;
        println!("{:36}{:>10}{:>15}{:>9}{:>9}", "", "alerts/s", "storm records", "CPU s", "peak MB");
        for StormRow { what, alerts_per_second, storm_records, cpu, peak_rss_bytes, .. } in &rows {
            println!(
                "{what:36}{:>10}{:>15}{:>9.1}{:>9}",
                thousands(*alerts_per_second as u64),
                thousands(*storm_records),
                cpu.as_secs_f64(),
                peak_rss_bytes / 1_000_000
            );
        }
        println!("{:36}{:>10}{:>15}{:>9}{:>9}", "delay of an unrelated route (ms)", "records", "p50", "p99", "max");
        for StormRow { what, delays, .. } in &rows {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| delays.quantile(share).as_millis());
            println!("{what:36}{:>10}{p50:>15}{p99:>9}{max:>9}", delays.count());
        }
        Ok(())
    }
}

fn show(told: &Told) {
    println!(
        "{} records/s, {:.0} % of a core, {} MB; {} alerts",
        thousands(told.records_per_second as u64),
        100.0 * told.cpu_share,
        told.peak_rss_bytes / 1_000_000,
        thousands(told.seen_after.count())
    );
    println!("{:44}{:>10}{:>10}{:>10}", "seconds", "p50", "p99", "all");
    let line = |what: &str, seconds: &dyn Fn(f64) -> Option<f64>| {
        let [median, most, all] =
            [0.5, 0.99, 1.0].map(|share| seconds(share).map_or("-".to_owned(), |it| format!("{it:.3}")));
        println!("{what:44}{median:>10}{most:>10}{all:>10}");
    };
    line("window closed to commit, at most", &|share| told.rows_within(share));
    line("alert's timestamp to consumer", &|share| Some(told.seen_after.quantile(share).as_secs_f64()));
}

impl PollAndDecode {
    pub(crate) fn run(self) -> Result<()> {
        println!("{}", measure::poll_and_decode(&self.brokers, &self.registry, self.content)?);
        Ok(())
    }
}
