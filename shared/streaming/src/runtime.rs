//! Starts a worker's threads and keeps them until it is stopped or one of them fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, Message, TopicPartitionList};

use crate::config::RuntimeConfig;
use crate::frame::write_command;
use crate::kafka::reader;
use crate::progress::Board;
use crate::table::{AnyTable, read_table};
use crate::telemetry::Telemetry;
use crate::thread::{StreamThread, ThreadStatus};
use crate::topics;
use crate::topology::{TaskContext, Topology};
use crate::worker::{PipelineState, Worker};

/// A worker that is checked and ready to run.
pub struct Runtime {
    worker: Arc<Worker>,
    threads: usize,
    statuses: Vec<Arc<ThreadStatus>>,
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
    /// Checks the worker's topics (and creates the missing ones where `create_topics` says so) and prepares `threads`
    /// stream threads (0: one a core).
    ///
    /// # Errors
    /// Where Kafka cannot be reached, or topics are missing or unfit.
    pub fn new(
        topology: Topology,
        mut config: RuntimeConfig,
        kafka: ClientConfig,
        threads: usize,
        create_topics: bool,
    ) -> anyhow::Result<Self> {
        let found = topics::check(&topology, &config, &kafka, create_topics)?;
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
                    max_bytes: found.max_handed_on_bytes,
                },
                board: Board::new(sizes.source_partitions as usize),
            })
            .collect();
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let worker = Worker {
            group: topology.group(),
            topics: topology.topics().into(),
            semantics: topology.semantics_hash(),
            topology,
            config,
            kafka,
            pipelines,
            telemetry: Telemetry::default(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let statuses = (0..threads).map(|_| Arc::new(ThreadStatus::default())).collect();
        Ok(Self { worker: Arc::new(worker), threads, statuses })
    }

    /// Gives the worker's committed state up; no instance may be running.
    ///
    /// # Errors
    /// Where instances run, or Kafka refuses.
    pub fn reset(topology: &Topology, config: &RuntimeConfig, kafka: &ClientConfig) -> anyhow::Result<()> {
        topics::reset(topology, config, kafka)
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
        let board_worker = self.worker.clone();
        let board = std::thread::Builder::new().name("watermarks".to_owned()).spawn(move || {
            let _stops = StopsWorker(&board_worker);
            read_boards(&board_worker)
        })?;
        let mut threads = Vec::new();
        for (index, status) in self.statuses.iter().enumerate().take(self.threads) {
            let (worker, status) = (self.worker.clone(), status.clone());
            let name = format!("stream-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                let _stops = StopsWorker(&worker);
                StreamThread::new(worker.clone(), index, status).and_then(StreamThread::run)
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
        first.and(board.join().unwrap_or_else(|_| Err(anyhow!("the watermarks thread panicked"))))
    }
}

/// Stops the worker when its thread ends, however it does: with a thread less it would only seem to work.
struct StopsWorker<'a>(&'a Worker);

impl Drop for StopsWorker<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads all pipelines' watermarks topics onto their boards until the worker stops.
fn read_boards(worker: &Worker) -> anyhow::Result<()> {
    let client = format!("{}-{}-watermarks", worker.topology.worker, worker.config.instance);
    let consumer = reader(&worker.kafka, &worker.group, &client, "read_committed")?;
    let mut list = TopicPartitionList::new();
    for pipeline in 0..worker.pipelines.len() {
        list.add_partition_offset(&worker.topology.internal_topic(pipeline, "watermarks"), 0, Offset::Beginning)?;
    }
    consumer.assign(&list).context("the watermarks topics cannot be read")?;
    while !worker.stopping() {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                for (pipeline, state) in worker.pipelines.iter().enumerate() {
                    if message.topic() == worker.topology.internal_topic(pipeline, "watermarks") {
                        state.board.record(message.key().unwrap_or_default(), message.payload());
                    }
                }
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "watermarks topic"),
        }
    }
    Ok(())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { std::env::var("HOSTNAME").unwrap_or_default() } else { name };
    let clean: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    if clean.is_empty() { "instance".to_owned() } else { clean }
}
