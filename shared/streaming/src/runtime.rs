//! Starts a worker's threads and keeps them until it is stopped or one of them fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use kafka::{TopicChange, TopicIdentity};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, Message, TopicPartitionList};
use service::Health;

use crate::config::RuntimeConfig;
use crate::frame::write_command;
use crate::instance::{Instance, is_announcement};
use crate::kafka::reader;
use crate::progress::Board;
use crate::table::{AnyTable, read_table};
use crate::telemetry::Telemetry;
use crate::thread::{self, ThreadStatus};
use crate::topic_watch::{TopicWatch, Watched, Watcher};
use crate::topology::{TaskContext, Topology};
use crate::warning_limit::WarningLimit;
use crate::worker::{PipelineState, Worker};
use crate::{reset, topics, way_out};

/// A worker that is checked and ready to run.
pub struct Runtime {
    worker: Arc<Worker>,
    threads: usize,
    statuses: Vec<Arc<ThreadStatus>>,
    watcher: Watcher,
}

/// What a start may do beside starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StartOptions {
    /// Create the topics that are missing.
    pub create_topics: bool,
    /// Skip, and count, records that were deleted before they were read.
    pub skip_lost: bool,
}

/// What `/readyz` asks.
#[derive(Clone)]
pub struct Readiness {
    statuses: Vec<Arc<ThreadStatus>>,
    tables: Vec<Arc<dyn AnyTable>>,
    max_state_bytes: u64,
}

impl Readiness {
    /// Whether tables are loaded, partitions assigned and all of them restored.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), String> {
        let sum = |count: fn(&ThreadStatus) -> &AtomicUsize| -> usize {
            self.statuses.iter().map(|status| count(status).load(Ordering::Relaxed)).sum()
        };
        let (assigned, restoring) = (sum(|status| &status.assigned), sum(|status| &status.restoring));
        if let loading @ 1.. = self.tables.iter().filter(|table| !table.is_loaded()).count() {
            return Err(format!("{loading} of {} tables are being loaded", self.tables.len()));
        }
        if assigned == 0 {
            return Err("no partitions are assigned".to_owned());
        }
        if restoring > 0 {
            return Err(format!("{restoring} of {assigned} partitions are being restored"));
        }
        let total = |part: fn(&ThreadStatus) -> &AtomicU64| -> u64 {
            self.statuses.iter().map(|status| part(status).load(Ordering::Relaxed)).sum()
        };
        let (keys, bytes) = (total(|status| &status.keys), total(|status| &status.bytes));
        if bytes > self.max_state_bytes {
            let limit = self.max_state_bytes;
            return Err(format!("{keys} keys take {bytes} bytes, runtime.max_state is {limit}"));
        }
        Ok(())
    }
}

impl Runtime {
    /// Checks the worker's topics (and creates the missing ones where `options` say so) and prepares `threads` stream
    /// threads (0: one a core). Partitions that wait and threads report to `health`.
    ///
    /// # Errors
    /// Where Kafka cannot be reached, or topics are missing or unfit.
    pub fn new(
        topology: Topology,
        mut config: RuntimeConfig,
        kafka: ClientConfig,
        threads: usize,
        options: StartOptions,
        health: &Health,
    ) -> anyhow::Result<Self> {
        let found = topics::check(&topology, &config, &kafka, options.create_topics)?;
        if found.identities.values().any(|topic| topic.id.is_none()) {
            tracing::warn!(
                "the brokers give no topic ids: a topic that is created again is recognised by its offsets only"
            );
        }
        if config.instance.is_empty() {
            config.instance = hostname();
        }
        let worker_name: Arc<str> = topology.worker.as_str().into();
        let pipelines = topology
            .pipelines
            .iter()
            .zip(&found.pipelines)
            .enumerate()
            .map(|(index, (pipeline, sizes))| PipelineState {
                context: TaskContext {
                    worker: worker_name.clone(),
                    source_topic: pipeline.source_topic.as_str().into(),
                    source_partitions: sizes.source_partitions as usize,
                    merge_partitions: sizes.merge_partitions as usize,
                    late: topology.late_index(),
                    dead_letters: topology.dead_letter_index(),
                    internal: topology.internal_indices(index),
                    max_bytes: found.topic_limits[usize::from(topology.late_index())]
                        .min(found.topic_limits[usize::from(topology.dead_letter_index())]),
                },
                board: Board::new(sizes.source_partitions as usize),
            })
            .collect();
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let client = kafka.create().context("the Kafka client cannot be made")?;
        let (watch, watcher) = TopicWatch::new(watched(&topology, &found.identities), client);
        let worker = Worker {
            group: topology.deployment().group(),
            topics: topology.topics().into(),
            topic_limits: found.topic_limits.into(),
            semantics: topology.semantics_hash(),
            topology,
            config,
            kafka,
            pipelines,
            telemetry: Telemetry::default(),
            stop: Arc::new(AtomicBool::new(false)),
            health: health.clone(),
            identities: found.identities,
            watch,
            skip_lost: options.skip_lost,
        };
        let statuses = (0..threads).map(|_| Arc::new(ThreadStatus::default())).collect();
        Ok(Self { worker: Arc::new(worker), threads, statuses, watcher })
    }

    /// Gives the worker's committed state up; no instance may be running.
    ///
    /// # Errors
    /// Where instances run, or Kafka refuses.
    pub fn reset(topology: &Topology, config: &RuntimeConfig, kafka: &ClientConfig) -> anyhow::Result<()> {
        reset::reset(topology, config, kafka)
    }

    /// Sends a command to all merges of a pipeline of a worker, whether or not instances run: it takes its place in the
    /// repartition topic behind what is there.
    ///
    /// # Errors
    /// Where the topic is missing, or Kafka does not take the record.
    pub fn command(topology: &Topology, pipeline: usize, kafka: &ClientConfig, command: &[u8]) -> anyhow::Result<()> {
        let mut frames = Vec::new();
        write_command(&mut frames, command);
        topics::send_to_all(kafka, &topology.internal_topic(pipeline, "repartition"), &frames)
    }

    /// The worker's metrics, to be registered.
    #[must_use]
    pub fn telemetry(&self) -> Telemetry {
        self.worker.telemetry.clone()
    }

    /// For `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness {
            statuses: self.statuses.clone(),
            tables: self.worker.tables().map(|(_, table)| table.clone()).collect(),
            max_state_bytes: self.worker.config.max_state.as_bytes(),
        }
    }

    /// The switch that stops the worker: it commits what it has and leaves the group.
    #[must_use]
    pub fn stop_switch(&self) -> Arc<AtomicBool> {
        self.worker.stop.clone()
    }

    /// Runs until the switch is set or a thread fails.
    ///
    /// # Errors
    /// The first thread's failure; the others were stopped then.
    pub fn run(self) -> anyhow::Result<()> {
        let instance = Arc::new(Instance::enter(&self.worker).with_context(|| self.worker.topology.worker.clone())?);
        let done = Arc::new(AtomicBool::new(false));
        let (watching, watcher, ended) = (self.worker.clone(), self.watcher, done.clone());
        let watch = std::thread::Builder::new().name("topics".to_owned()).spawn(move || {
            let _stops = StopsWorker(&watching);
            watcher.run(|| ended.load(Ordering::Relaxed))
        })?;
        let (board_worker, heard) = (self.worker.clone(), instance.clone());
        let board = std::thread::Builder::new().name("watermarks".to_owned()).spawn(move || {
            let _stops = StopsWorker(&board_worker);
            read_boards(&board_worker, &heard)
        })?;
        let (announcing, ended) = (self.worker.clone(), done.clone());
        let announcer = std::thread::Builder::new().name("instance".to_owned()).spawn(move || {
            if let Err(error) = instance.announce(&announcing, &ended) {
                tracing::warn!(%error, "this process is not announced");
            }
        })?;
        let mut threads = Vec::new();
        for (index, status) in self.statuses.iter().enumerate().take(self.threads) {
            let (worker, status) = (self.worker.clone(), status.clone());
            let name = format!("stream-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                let _stops = StopsWorker(&worker);
                thread::run(&worker, index, &status)
            })?);
        }
        for (pipeline, table) in self.worker.tables() {
            let (worker, table) = (self.worker.clone(), table.clone());
            threads.push(std::thread::Builder::new().name(format!("table-{pipeline}")).spawn(move || {
                let _stops = StopsWorker(&worker);
                read_table(&worker, pipeline, table.as_ref())
            })?);
        }
        let mut first = Ok(());
        for thread in threads {
            let result = thread.join().unwrap_or_else(|_| Err(anyhow!("a stream or table thread panicked")));
            first = first.and(result);
        }
        self.worker.stop.store(true, Ordering::Relaxed);
        done.store(true, Ordering::Relaxed);
        let _ = announcer.join();
        let first = first.and(board.join().unwrap_or_else(|_| Err(anyhow!("the watermarks thread panicked"))));
        // what other threads have ended with follows from it
        let change = match watch.join() {
            Ok(Some(change)) => Some(change),
            Ok(None) => first.as_ref().err().and_then(|error| error.downcast_ref::<TopicChange>()).cloned(),
            Err(_) => return first.and(Err(anyhow!("the thread that watches topics panicked"))),
        };
        match change {
            Some(change) => bail!("{}: {}", self.worker.topology.worker, way_out::of(&self.worker.topology, &change)),
            None => first,
        }
    }
}

/// All topics of a worker, with what each has to stay.
fn watched(topology: &Topology, identities: &BTreeMap<String, TopicIdentity>) -> BTreeMap<String, Watched> {
    let internal = topology.internal_topics();
    let is_read = |name: &str| {
        internal.iter().any(|topic| topic == name)
            || topology.pipelines.iter().any(|pipeline| pipeline.source_topic == name)
    };
    let watched = |(name, identity): (&String, &TopicIdentity)| {
        let watched = if is_read(name) { Watched::Same(identity.clone()) } else { Watched::Exists };
        (name.clone(), watched)
    };
    identities.iter().map(watched).collect()
}

/// Stops the worker when its thread ends, however it does: with a thread less it would only seem to work.
struct StopsWorker<'a>(&'a Worker);

impl Drop for StopsWorker<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads all pipelines' watermarks topics onto their boards until the worker stops.
fn read_boards(worker: &Worker, instance: &Instance) -> anyhow::Result<()> {
    let client = worker.topology.deployment().transactional_id(&format!("{}-watermarks", worker.config.instance));
    let consumer = reader(&worker.kafka, &worker.group, &client, "read_committed")?;
    let mut list = TopicPartitionList::new();
    for pipeline in 0..worker.pipelines.len() {
        list.add_partition_offset(&worker.topology.internal_topic(pipeline, "watermarks"), 0, Offset::Beginning)?;
    }
    consumer.assign(&list).context("the watermarks topics cannot be read")?;
    let heartbeat = worker.health.heartbeats().of_thread("watermarks");
    let (mut foreign, mut warnings) = (0, WarningLimit::default());
    while !worker.stopping() {
        heartbeat.turn(Instant::now(), "reading the watermarks topics");
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                for (pipeline, state) in worker.pipelines.iter().enumerate() {
                    if message.topic() == worker.topology.internal_topic(pipeline, "watermarks") {
                        let (key, value) = (message.key().unwrap_or_default(), message.payload());
                        if is_announcement(key) {
                            if pipeline == 0 {
                                instance.hear(&worker.config.instance, message.offset(), key, value)?;
                            }
                            continue;
                        }
                        let read = state.board.record(key, value);
                        let Err(problem) = read else { continue };
                        foreign += 1;
                        worker.telemetry.foreign_records.inc();
                        if let Some(records) = warnings.due(foreign, Instant::now()) {
                            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                            tracing::warn!(
                                topic,
                                partition,
                                offset,
                                records,
                                problem,
                                "left out: no task of this worker has written it; nobody else may write there"
                            );
                        }
                    }
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "watermarks topic"),
        }
    }
    Ok(())
}

pub(crate) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { std::env::var("HOSTNAME").unwrap_or_default() } else { name };
    let clean: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    if clean.is_empty() { "instance".to_owned() } else { clean }
}
