//! What a worker is made of: its pipelines, and the names of all topics that it touches.

use std::sync::Arc;
use std::time::Duration;

use crate::deployment::{Deployment, INTERNAL_TOPICS};
use crate::fold_task::{FoldTask, FoldTime, FoldTopics};
use crate::merge_task::{MergeTask, MergeTopics};
use crate::operator::{Fold, Merge, NoTable};
use crate::refusal::Refusals;
use crate::table::{AnyTable, SharedTable};
use crate::task::{Step, Task, TaskId};
use crate::window::Windows;

/// How an output topic is cleaned up, where the worker creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// By age.
    Delete,
    /// The newest record of a key stays, and age deletes too.
    CompactAndDelete,
}

/// A topic that others read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTopic {
    /// Its name.
    pub name: String,
    /// Its cleanup policy.
    pub cleanup: Cleanup,
}

/// A worker: its name, its topics and its pipelines.
pub struct Topology {
    /// The worker's name.
    pub worker: String,
    /// The consumer group of this deployment, as in `runtime.group`: empty for `recwatch.<worker>`.
    pub group: String,
    /// The output topics; operators name them by their index here.
    pub outputs: Vec<OutputTopic>,
    /// Where late records go.
    pub late_topic: String,
    /// Where bad input goes.
    pub dead_letter_topic: String,
    /// Everything in the configuration that changes results, in a fixed order: state made under another one is refused.
    pub semantics: String,
    /// One for each source topic.
    pub pipelines: Vec<Pipeline>,
}

/// Event time of one source topic.
#[derive(Debug, Clone, Copy)]
pub struct EventTime {
    /// The windows.
    pub windows: Windows,
    /// Out-of-orderness bound B in ms.
    pub out_of_orderness: i64,
    /// How far an event time may lie ahead of its record's Kafka timestamp, in ms.
    pub max_future_skew: i64,
    /// Wall-clock time after which a partition that is read to its end and whose watermark did not rise is idle.
    pub idle_timeout: Duration,
}

type MakeTask = Box<dyn Fn(TaskId, &TaskContext) -> Box<dyn Task> + Send + Sync>;

/// One source topic's way through fold and merge.
pub struct Pipeline {
    /// The source topic.
    pub source_topic: String,
    /// Its event time.
    pub time: EventTime,
    /// What its fold looks up.
    pub(crate) table: Option<Arc<dyn AnyTable>>,
    /// Whether its fold writes that table.
    pub(crate) feeds: bool,
    make: MakeTask,
}

/// What the runtime knows when it makes a task.
pub(crate) struct TaskContext {
    pub(crate) worker: Arc<str>,
    pub(crate) source_topic: Arc<str>,
    pub(crate) source_partitions: usize,
    pub(crate) merge_partitions: usize,
    pub(crate) late: u16,
    pub(crate) dead_letters: u16,
    pub(crate) internal: InternalTopics,
    pub(crate) max_bytes: usize,
}

impl Pipeline {
    /// A pipeline whose operators `fold` and `merge` make, afresh for each task.
    pub fn new<F: Fold<Table = NoTable>, M: Merge>(
        source_topic: impl Into<String>,
        time: EventTime,
        fold: impl Fn() -> (F::Source, F) + Send + Sync + 'static,
        merge: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        Self { table: None, ..Self::looking_up(&SharedTable::none(), source_topic, time, fold, merge) }
    }

    /// A pipeline whose fold looks things up in `table`: its slides close when the table is complete up to their end.
    pub fn looking_up<F: Fold, M: Merge>(
        table: &Arc<SharedTable<F::Table>>,
        source_topic: impl Into<String>,
        time: EventTime,
        fold: impl Fn() -> (F::Source, F) + Send + Sync + 'static,
        merge: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let shared: Arc<dyn AnyTable> = table.clone();
        let table = table.clone();
        let make = move |id: TaskId, context: &TaskContext| -> Box<dyn Task> {
            let internal = context.internal;
            match id.step {
                Step::Fold => {
                    let topics = FoldTopics {
                        repartition: internal.repartition,
                        watermarks: internal.watermarks,
                        state: internal.fold_state,
                        table: internal.table,
                    };
                    let refusals = Refusals {
                        worker: context.worker.clone(),
                        source_topic: context.source_topic.clone(),
                        partition: id.partition,
                        late: context.late,
                        dead_letters: context.dead_letters,
                        max_bytes: context.max_bytes,
                    };
                    let time = FoldTime {
                        windows: time.windows,
                        bound: time.out_of_orderness,
                        max_future_skew: time.max_future_skew,
                    };
                    Box::new(FoldTask::new(id, topics, refusals, fold(), table.clone(), time, context.merge_partitions))
                }
                Step::Merge => {
                    let topics = MergeTopics { watermarks: internal.watermarks, state: internal.merge_state };
                    Box::new(MergeTask::new(id, topics, merge(), context.source_partitions))
                }
            }
        };
        Self { source_topic: source_topic.into(), time, table: Some(shared), feeds: false, make: Box::new(make) }
    }

    /// The same pipeline, whose fold writes the table that it looks up. A table has one such pipeline.
    #[must_use]
    pub fn feeding(self) -> Self {
        Self { feeds: true, ..self }
    }

    pub(crate) fn make(&self, id: TaskId, context: &TaskContext) -> Box<dyn Task> {
        (self.make)(id, context)
    }
}

/// Indices of a pipeline's internal topics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InternalTopics {
    pub(crate) repartition: u16,
    pub(crate) watermarks: u16,
    pub(crate) fold_state: u16,
    pub(crate) merge_state: u16,
    pub(crate) table: Option<u16>,
}

impl Topology {
    /// The names of this deployment of the worker.
    #[must_use]
    pub fn deployment(&self) -> Deployment {
        Deployment::new(&self.worker, &self.group)
    }

    /// An internal topic of a pipeline: `repartition`, `watermarks`, `fold-state`, `merge-state`, or `table` where it
    /// feeds one.
    #[must_use]
    pub fn internal_topic(&self, pipeline: usize, what: &str) -> String {
        self.deployment().internal_topic(&self.pipelines[pipeline].source_topic, what)
    }

    /// All topics that the worker writes to, in the order of their indices.
    pub(crate) fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.outputs.iter().map(|output| output.name.clone()).collect();
        topics.push(self.late_topic.clone());
        topics.push(self.dead_letter_topic.clone());
        topics.extend(self.internal_topics());
        topics
    }

    /// The internal topics of all pipelines, in the order of their indices.
    pub(crate) fn internal_topics(&self) -> Vec<String> {
        let (mut topics, mut tables) = (Vec::new(), Vec::new());
        for pipeline in 0..self.pipelines.len() {
            let mut of_pipeline = self.internal_topics_of(pipeline);
            tables.extend(of_pipeline.split_off(4));
            topics.extend(of_pipeline);
        }
        topics.extend(tables);
        topics
    }

    /// The internal topics of one pipeline.
    pub(crate) fn internal_topics_of(&self, pipeline: usize) -> Vec<String> {
        let count = if self.pipelines[pipeline].feeds { 5 } else { 4 };
        INTERNAL_TOPICS[..count].iter().map(|what| self.internal_topic(pipeline, what)).collect()
    }

    pub(crate) fn late_index(&self) -> u16 {
        self.outputs.len() as u16
    }

    pub(crate) fn dead_letter_index(&self) -> u16 {
        self.late_index() + 1
    }

    pub(crate) fn internal_indices(&self, pipeline: usize) -> InternalTopics {
        let internal = self.dead_letter_index() + 1;
        let first = internal + 4 * pipeline as u16;
        let tables_before = self.pipelines[..pipeline].iter().filter(|pipeline| pipeline.feeds).count();
        let table = internal + (4 * self.pipelines.len() + tables_before) as u16;
        InternalTopics {
            repartition: first,
            watermarks: first + 1,
            fold_state: first + 2,
            merge_state: first + 3,
            table: self.pipelines[pipeline].feeds.then_some(table),
        }
    }

    /// The topic whose partitions are a step's tasks.
    pub(crate) fn input_topic(&self, pipeline: usize, step: Step) -> String {
        match step {
            Step::Fold => self.pipelines[pipeline].source_topic.clone(),
            Step::Merge => self.internal_topic(pipeline, "repartition"),
        }
    }

    /// Hash of the semantic configuration, event time included.
    pub(crate) fn semantics_hash(&self) -> u64 {
        let mut text = self.semantics.clone();
        for pipeline in &self.pipelines {
            let time = &pipeline.time;
            text.push_str(&format!(
                "\n{} {} {} {} {}",
                pipeline.source_topic,
                time.windows.size(),
                time.windows.slide(),
                time.out_of_orderness,
                time.max_future_skew
            ));
        }
        xxhash_rust::xxh64::xxh64(text.as_bytes(), 0)
    }
}
