//! What all threads of an instance share: the topology, the topics' sizes, the announcements, the stop switch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kafka::{TopicId, TopicIdentity};
use rdkafka::ClientConfig;
use service::Health;

use crate::config::RuntimeConfig;
use crate::progress::Board;
use crate::resume::Lost;
use crate::table::AnyTable;
use crate::task::{Step, Task, TaskId};
use crate::telemetry::Telemetry;
use crate::topic_watch::TopicWatch;
use crate::topology::{TaskContext, Topology};

/// See the module.
pub(crate) struct Worker {
    pub(crate) topology: Topology,
    pub(crate) config: RuntimeConfig,
    pub(crate) kafka: ClientConfig,
    pub(crate) group: String,
    pub(crate) topics: Arc<[String]>,
    /// The largest batch that each of them takes, in bytes, as far as is known.
    pub(crate) topic_limits: Arc<[usize]>,
    pub(crate) semantics: u64,
    pub(crate) pipelines: Vec<PipelineState>,
    pub(crate) telemetry: Telemetry,
    pub(crate) stop: Arc<AtomicBool>,
    /// Where partitions that wait and threads report.
    pub(crate) health: Health,
    /// The topics as they were at the start.
    pub(crate) identities: BTreeMap<String, TopicIdentity>,
    pub(crate) watch: TopicWatch,
    /// Whether records that were deleted before they were read are skipped, and counted.
    pub(crate) skip_lost: bool,
}

/// A pipeline's sizes and announcements.
pub(crate) struct PipelineState {
    pub(crate) context: TaskContext,
    pub(crate) board: Board,
}

impl Worker {
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The name of a stream thread: its transactional id, its name in the group, its client's.
    pub(crate) fn thread_name(&self, index: usize) -> String {
        self.topology.deployment().transactional_id(&format!("{}-{index}", self.config.instance))
    }

    /// Says what is skipped.
    pub(crate) fn warn_lost(&self, topic: &str, partition: i32, lost: Lost) {
        tracing::warn!(
            topic,
            partition,
            from = lost.from,
            to = lost.to,
            records = lost.count(),
            "records that were deleted before they were read are skipped, as --skip-lost says: windows that were open then \
             are without them"
        );
    }

    /// What the folds and merges of all pipelines read.
    pub(crate) fn input_topics(&self) -> Vec<String> {
        let steps = [Step::Fold, Step::Merge];
        let inputs = |pipeline| steps.map(|step| self.topology.input_topic(pipeline, step));
        (0..self.pipelines.len()).flat_map(inputs).collect()
    }

    /// The task behind a partition of an input topic.
    pub(crate) fn task_id(&self, topic: &str, partition: i32) -> Option<TaskId> {
        for (pipeline, state) in self.pipelines.iter().enumerate() {
            if topic == &*state.context.source_topic {
                return Some(TaskId { pipeline, step: Step::Fold, partition });
            }
            if topic == self.topics[usize::from(state.context.internal.repartition)] {
                return Some(TaskId { pipeline, step: Step::Merge, partition });
            }
        }
        None
    }

    /// The tables, each with the pipeline that feeds it.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (usize, &Arc<dyn AnyTable>)> {
        let pipelines = self.topology.pipelines.iter().enumerate();
        pipelines
            .filter(|(_, pipeline)| pipeline.feeds)
            .filter_map(|(index, pipeline)| Some((index, pipeline.table.as_ref()?)))
    }

    /// The announcements of all folds that look something up.
    fn lookers(&self) -> impl Iterator<Item = (usize, &PipelineState)> {
        let pipelines = self.pipelines.iter().enumerate();
        pipelines.filter(|(index, _)| self.topology.pipelines[*index].table.is_some())
    }

    /// What the mark of an idle partition that feeds a table follows (epoch ms): the smallest watermark of those sources
    /// whose folds only look things up; `None` while one of their partitions has none.
    pub(crate) fn smallest_looking_up(&self) -> Option<i64> {
        let readers = self.lookers().filter(|(index, _)| !self.topology.pipelines[*index].feeds);
        let announced = readers.flat_map(|(_, state)| state.board.announced());
        announced.map(|announced| announced.and_then(|announced| announced.watermark)).min().flatten()
    }

    /// Nobody looks anything up as of a time below this one (epoch ms), not even in a replay.
    pub(crate) fn horizon(&self) -> Option<i64> {
        let announced = self.lookers().flat_map(|(_, state)| state.board.announced());
        announced.map(|announced| announced.and_then(|announced| announced.restores_from)).min().flatten()
    }

    pub(crate) fn new_task(&self, id: TaskId) -> Box<dyn Task> {
        self.topology.pipelines[id.pipeline].make(id, &self.pipelines[id.pipeline].context)
    }

    pub(crate) fn state_topic_index(&self, id: TaskId) -> u16 {
        let internal = self.pipelines[id.pipeline].context.internal;
        match id.step {
            Step::Fold => internal.fold_state,
            Step::Merge => internal.merge_state,
        }
    }

    pub(crate) fn state_topic(&self, id: TaskId) -> &str {
        &self.topics[usize::from(self.state_topic_index(id))]
    }

    /// The id of the topic that a task reads, as of the start.
    pub(crate) fn input_id(&self, id: TaskId) -> Option<&TopicId> {
        let context = &self.pipelines[id.pipeline].context;
        let topic = match id.step {
            Step::Fold => &*context.source_topic,
            Step::Merge => &self.topics[usize::from(context.internal.repartition)],
        };
        self.identities.get(topic)?.id.as_ref()
    }

    pub(crate) fn source_partitions(&self, id: TaskId) -> i32 {
        self.pipelines[id.pipeline].context.source_partitions as i32
    }
}
