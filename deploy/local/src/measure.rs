//! `cargo stack measure`: how fast session-entropy works off a backlog, beside a consumer that only polls and decodes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use records::{Decoder, DecoderConfig, Interaction, Registry, RegistryConfig};

use crate::broker::Broker;
use crate::generator::Shape;
use crate::recording::{Content, Feed, Recording};
use crate::replay::{MetricWorker, Plan, Protocol, Run, Setting, WRITER};
use crate::{Exit, Launch, Load, Process, Progress};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Generated interactions.
    pub records: u64,
    /// The generator's seed.
    pub seed: u64,
    /// Partitions of the source topic.
    pub partitions: i32,
    /// The worker.
    pub worker: MetricWorker,
    /// Settings of the workers.
    pub settings: Vec<Setting>,
    /// Event time of the first interaction (epoch ms).
    pub start: i64,
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

/// Measures the worker alone, then beside clickhouse-writer, each on a stack of its own and each time behind the consumer
/// that only polls and decodes the same records. All records are there before anybody reads.
///
/// # Errors
/// Something cannot be started, or does not finish.
pub fn run(measure: &Measure, progress: &dyn Progress) -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    for writer in [false, true] {
        rates.extend(once(measure, writer, progress)?);
    }
    Ok(rates)
}

fn once(measure: &Measure, writer: bool, progress: &dyn Progress) -> Result<Vec<Rate>> {
    let plan = Plan {
        workers: vec![measure.worker],
        instances: 1,
        partitions: measure.partitions,
        protocol: Protocol::default(),
        settings: measure.settings.iter().filter(|setting| writer || setting.worker != WRITER).cloned().collect(),
        contents: BTreeSet::from([Content::Interactions]),
        rate: None,
        faults: Vec::new(),
        load: Load::Sustained,
        writer,
    };
    let name = measure.worker.name;
    let shape = Shape::load(measure.seed, measure.start, measure.records);
    let recording = Recording::generated(shape, Some(measure.records));
    let mut run = Run::prepare(plan, progress)?;
    run.publish(Feed::in_file_order(vec![recording]))?;

    let (seconds, exit) = consumer(&run, progress)?;
    let mut rates = vec![Rate::new(
        "poll and decode",
        measure.records,
        measure.records as f64 / seconds,
        exit.cpu,
        exit.peak_rss_bytes,
    )];

    run.start_workers()?;
    run.process()?;
    run.stop_workers()?;
    let usage = run.usage(name);
    let what = if writer { format!("{name} beside {WRITER}") } else { name.to_owned() };
    let rate = run.records_per_second(name, measure.records);
    rates.push(Rate::new(&what, measure.records, rate, usage.cpu, usage.peak_rss_bytes));
    run.stop()?;
    Ok(rates)
}

/// Runs [`poll_and_decode`] in a process of its own; its seconds and what it used.
fn consumer(run: &Run<'_>, progress: &dyn Progress) -> Result<(f64, Exit)> {
    const STEP: &str = "poll and decode";
    progress.update(STEP, "running");
    let directory = run.stack().work_directory();
    let output = directory.join("poll-and-decode.out");
    let launch = Launch {
        name: STEP.to_owned(),
        program: std::env::current_exe().context("this program has no path")?,
        arguments: ["poll-and-decode", &run.stack().brokers(), &run.stack().registry_url()].map(Into::into).into(),
        log: directory.join("poll-and-decode.log"),
        output: Some(output.clone()),
        ..Launch::default()
    };
    let exit = Process::run(&launch, Duration::from_secs(600))?;
    let said = std::fs::read_to_string(&output)?;
    let seconds = said.trim().parse().with_context(|| format!("{STEP} said {said:?}, which are no seconds"))?;
    progress.done(STEP, &format!("{seconds:.1} s"));
    Ok((seconds, exit))
}

/// Reads all interactions with one consumer and one thread, decodes them and forgets them; the seconds from the first to
/// the last one.
///
/// # Errors
/// The topic cannot be read, or a record cannot be decoded.
pub fn poll_and_decode(brokers: &str, registry: &str) -> Result<f64> {
    let topic = Content::Interactions.topic();
    let ends = Broker::new(brokers)?.ends(topic)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "recwatch.measure")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for &partition in ends.keys() {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let registry = Registry::new(RegistryConfig::new(registry), || false)?;
    let mut decoder = Decoder::<Interaction<'static>>::new(DecoderConfig::default(), Box::new(registry));
    let mut left: i64 = ends.values().sum();
    let mut begun = None;
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        begun.get_or_insert_with(Instant::now);
        decoder.decode(message.key(), message.payload())?;
        left -= 1;
    }
    Ok(begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64()))
}
