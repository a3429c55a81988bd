//! The log does not have a partition's next record: what was deleted is named, and skipped where that is allowed.

use anyhow::bail;
use rdkafka::consumer::Consumer;

use super::StreamThread;
use super::flow::resume;
use crate::kafka::{ASK, one};
use crate::resume::{Found, Lost, Resume};
use crate::slot::Phase;

impl StreamThread {
    /// The same of whichever partitions it is true of.
    pub(super) fn look_for_lost(&mut self) -> anyhow::Result<()> {
        (0..self.slots.len()).try_for_each(|index| self.outside_of_log(index))
    }

    /// The broker has said that a partition's position lies outside of its log. It stands where it stood at its last
    /// record, so its state is exact, and a snapshot of it needs nothing of what is gone.
    pub(super) fn outside_of_log(&mut self, index: usize) -> anyhow::Result<()> {
        let slot = &self.slots[index];
        let (Phase::Running(task), topic, partition) = (&slot.phase, &slot.input_topic, slot.id.partition) else {
            return Ok(());
        };
        let position = task.position();
        // a topic that was created again looks like that too; in between no broker knows it, and there is no answer
        self.look_for_change(|answer| answer.is_ok())?;
        let (low, high) = self.consumer.fetch_watermarks(topic, partition, ASK)?;
        let found = Found {
            group: &self.worker.group,
            topic,
            partition,
            state_topic: self.worker.state_topic(slot.id),
            low,
            high,
            committed: Some(position),
            snapshot: Some(position),
            is_source: slot.is_fold(),
            skip_lost: self.worker.skip_lost,
        };
        let to = match found.resume() {
            Ok(Resume::Skip(lost)) => {
                self.skip(index, lost);
                lost.to
            }
            Ok(Resume::New { .. } | Resume::Replay { .. }) => position,
            Err(problem) => bail!(
                "{0}: {problem}. To give the state up and start from the log's beginning, stop all instances and run: {0} \
                 --config FILE --reset-state",
                self.worker.topology.worker
            ),
        };
        // librdkafka does not seek where its fetcher has given up
        self.assign_again(index, to)?;
        let slot = &self.slots[index];
        if !slot.paused {
            resume(&self.consumer, &one(&slot.input_topic, slot.id.partition))?;
        }
        Ok(())
    }

    fn skip(&mut self, index: usize, lost: Lost) {
        let slot = &mut self.slots[index];
        let Some(task) = slot.task_mut() else { return };
        task.skip(lost);
        slot.snapshot_soon();
        let (topic, partition) = (slot.input_topic.clone(), slot.id.partition);
        self.worker.warn_lost(&topic, partition, lost);
    }
}
