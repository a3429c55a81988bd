//! A cut: what one transaction holds, kept until its commit has returned.

use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::topic_partition_list::Offset;

use crate::output::OutputBuffer;
use crate::task::TaskId;

/// One task's share of a cut: its outputs, and the offset that must commit with them.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) task: TaskId,
    /// Which of the task's assignments to this thread it belongs to.
    pub(crate) assignment: u64,
    pub(crate) input_topic: Arc<str>,
    /// The next offset to read.
    pub(crate) offset: i64,
    pub(crate) metadata: String,
    pub(crate) outputs: OutputBuffer,
}

/// The parts of one transaction.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    pub(crate) parts: Vec<Arc<Part>>,
}

impl Cut {
    /// The offsets that commit with the outputs: one for each task that has any.
    pub(crate) fn offsets(&self) -> Result<TopicPartitionList, rdkafka::error::KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut element = list.add_partition(&part.input_topic, part.task.partition);
            element.set_offset(Offset::Offset(part.offset))?;
            element.set_metadata(&part.metadata);
        }
        Ok(list)
    }

    /// Without the parts that `keep` refuses.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Part) -> bool) {
        self.parts.retain(|part| keep(part));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
