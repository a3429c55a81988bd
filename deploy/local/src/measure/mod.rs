//! `cargo stack measure`: how fast a worker works off a backlog, beside a consumer that only polls and decodes; and what a
//! storm of alerts costs alert-router.

mod consumer;
mod delays;
mod live;
pub mod storm;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::generator::{Catalogue, Shape};
use crate::recording::{Content, Feed, Recording};
use crate::replay::{MetricWorker, Plan, Protocol, Run, Setting, WRITER};
use crate::{Load, Progress};

pub use consumer::poll_and_decode;
pub use delays::Delays;
pub use live::{Bucket, Told, live};

/// Clicks that a worker has processed before it is restarted: about a minute of five millions in two hours.
const SOME: u64 = 40_000;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Generated records of the source that the worker is rated by.
    pub records: u64,
    /// Items of each department, where the worker looks items up.
    pub items: u32,
    /// The generator's seed.
    pub seed: u64,
    /// Partitions of each source topic.
    pub partitions: i32,
    /// The worker.
    pub worker: MetricWorker,
    /// Settings of the workers.
    pub settings: Vec<Setting>,
    /// Event time of the first record (epoch ms).
    pub start: i64,
    /// What the stack is tuned for.
    pub load: Load,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The rates, in the order in which they were taken.
    pub rates: Vec<Rate>,
    /// A restart with items and some clicks processed, of a worker that looks items up.
    pub restart: Option<Restart>,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// What was measured.
    pub what: String,
    /// Records a second.
    pub records_per_second: f64,
    /// Processor time for a million records (s).
    pub cpu_seconds_per_million: f64,
    /// The most memory held.
    pub peak_rss_bytes: u64,
}

/// How long a worker takes to be back.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// From the start of its process until it says that it is ready.
    pub ready_after: Duration,
    /// Items whose vectors it reads before.
    pub items: u64,
}

impl Rate {
    fn new(what: &str, records: u64, records_per_second: f64, cpu: Duration, peak_rss_bytes: u64) -> Self {
        Self {
            what: what.to_owned(),
            records_per_second,
            cpu_seconds_per_million: cpu.as_secs_f64() / records as f64 * 1e6,
            peak_rss_bytes,
        }
    }
}

impl Measure {
    /// The source that the worker is rated by: of several the one that grows with the traffic.
    fn rated(&self) -> Content {
        let sources = self.worker.sources;
        if sources.contains(&Content::Interactions) { Content::Interactions } else { sources[0] }
    }

    /// Whether the worker looks items up: their vectors are published and processed before it is rated.
    fn looks_items_up(&self) -> bool {
        self.worker.sources.contains(&Content::ItemEmbeddings)
    }

    fn shape(&self) -> Shape {
        let load = Shape::load(self.seed, self.start, self.records);
        if self.looks_items_up() { Shape { items: self.items, ..load } } else { load }
    }

    fn recording(&self) -> Recording {
        match self.rated() {
            Content::UserEmbeddings => Recording::generated_user_load(&self.shape(), self.records),
            Content::Interactions | Content::ItemEmbeddings => Recording::generated(self.shape(), Some(self.records)),
        }
    }

    fn plan(&self, writer: bool) -> Plan {
        let settings = self.settings.iter().filter(|setting| writer || setting.worker != WRITER).cloned();
        // Nobody publishes items beside the clicks, which are not to wait for that long.
        let idle = self.looks_items_up().then(|| Setting::new(self.worker.name, "idle_timeout", "1s"));
        Plan {
            workers: vec![self.worker],
            instances: 1,
            partitions: self.partitions,
            protocol: Protocol::default(),
            settings: idle.into_iter().chain(settings).collect(),
            contents: self.worker.sources.iter().copied().collect(),
            rate: None,
            faults: Vec::new(),
            load: self.load,
            writer,
            router: false,
        }
    }
}

/// Measures the worker alone, then beside clickhouse-writer, each on a stack of its own and each time behind the consumer
/// that only polls and decodes the same records. All records are there before anybody reads, and the items before them.
///
/// # Errors
/// Something cannot be started, does not finish, or refuses a record.
pub fn run(measure: &Measure, progress: &dyn Progress) -> Result<Report> {
    let mut report = Report::default();
    for writer in [false, true] {
        once(measure, writer, progress, &mut report)?;
    }
    Ok(report)
}

fn once(measure: &Measure, writer: bool, progress: &dyn Progress, report: &mut Report) -> Result<()> {
    let what = if writer { format!("{} beside {WRITER}", measure.worker.name) } else { measure.worker.name.to_owned() };
    let mut run = Run::prepare(measure.plan(writer), progress)?;
    let mut feed = Feed::in_file_order(vec![measure.recording()]);
    let mut processed = 0;
    if measure.looks_items_up() {
        report.rates.push(items(measure, &mut run, &what)?);
        if !writer {
            processed = SOME.min(measure.records / 2);
            run.publish_some(&mut feed, processed)?;
            report.restart = Some(restart(measure, &mut run)?);
        }
    }

    run.publish(feed)?;
    progress.update(consumer::NAME, "running");
    let (seconds, exit) = consumer::run(&run, measure.rated())?;
    progress.done(consumer::NAME, &format!("{seconds:.1} s"));
    let (records, rate) = (measure.records, measure.records as f64 / seconds);
    report.rates.push(Rate::new(consumer::NAME, records, rate, exit.cpu, exit.peak_rss_bytes));

    if measure.looks_items_up() {
        run.restart_workers(&[])?;
    } else {
        run.start_workers()?;
    }
    work_off(&mut run, measure.worker, measure.rated(), records)?;
    report.rates.push(rate_of(&run, measure, measure.rated(), (processed, records), &what));
    run.stop()
}

/// Lets the worker process the items, and nothing else.
fn items(measure: &Measure, run: &mut Run<'_>, what: &str) -> Result<Rate> {
    let items = Catalogue::new(&measure.shape()).items();
    run.publish(Feed::in_file_order(vec![Recording::generated_catalogue(&measure.shape())]))?;
    run.start_workers()?;
    work_off(run, measure.worker, Content::ItemEmbeddings, items)?;
    Ok(rate_of(run, measure, Content::ItemEmbeddings, (0, items), &format!("{what}: items")))
}

/// Lets the worker process the clicks that there are, stops it and starts it again. Its snapshots are young, as they are
/// where records come at the pace of their event time: a whole backlog behind the newest one would be read again.
fn restart(measure: &Measure, run: &mut Run<'_>) -> Result<Restart> {
    run.restart_workers(&[Setting::new(measure.worker.name, "runtime.snapshot_interval", "1s")])?;
    run.process()?;
    run.stop_workers()?;
    let ready_after = run.restart_workers(&[])?;
    run.stop_workers()?;
    Ok(Restart { ready_after, items: Catalogue::new(&measure.shape()).items() })
}

/// Waits until the worker that runs has processed all `records` that there are, and stops it.
fn work_off(run: &mut Run<'_>, worker: MetricWorker, source: Content, records: u64) -> Result<()> {
    run.process()?;
    run.stop_workers()?;
    if !run.summary().problems.is_empty() {
        bail!("{}", run.summary().problems.join("\n"));
    }
    let applied = run.counts(worker.name, source).applied;
    if applied != records {
        bail!("{} has applied {applied} of {records} records of {}: no rate of them", worker.name, source.topic());
    }
    Ok(())
}

/// Of the records behind the first `from`, which an earlier life has processed, up to `to`.
fn rate_of(run: &Run<'_>, measure: &Measure, source: Content, (from, to): (u64, u64), what: &str) -> Rate {
    let usage = run.last_usage(measure.worker.name);
    let rate = run.records_per_second(measure.worker.name, source, to);
    Rate::new(what, to - from, rate, usage.cpu, usage.peak_rss_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{METRIC_WORKERS, find_worker};

    fn measure(worker: &str) -> Measure {
        Measure {
            records: 10,
            items: 3,
            seed: 1,
            partitions: 4,
            worker: find_worker(worker).unwrap(),
            settings: vec![Setting::new(worker, "idle_timeout", "7s"), Setting::new(WRITER, "batch.rows", "1")],
            start: 0,
            load: Load::Short,
        }
    }

    #[test]
    fn workers_are_rated_by_clicks_where_they_read_them() {
        let rated = METRIC_WORKERS.map(|worker| {
            let measure = measure(worker.name);
            assert_eq!(measure.recording().content(), measure.rated());
            measure.rated()
        });
        assert_eq!(rated, [Content::Interactions, Content::Interactions, Content::UserEmbeddings]);
    }

    #[test]
    fn settings_win_over_those_of_the_measurement_and_the_writers_are_for_the_writer() {
        let settings = |writer| {
            let settings = measure("cosine-decay").plan(writer).settings;
            settings.iter().map(|of| format!("{}.{}={}", of.worker, of.key, of.value)).collect::<Vec<String>>()
        };
        let alone = ["cosine-decay.idle_timeout=1s", "cosine-decay.idle_timeout=7s"];
        assert_eq!(settings(false), alone);
        assert_eq!(settings(true)[2..], ["clickhouse-writer.batch.rows=1"]);
        assert!(measure("domain-drift").plan(true).problems().is_empty());
    }
}
