//! What is looked at with every tick: idleness, tables, flow control.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;

use super::{StreamThread, epoch_millis};
use crate::kafka::{ASK, GroupMember};
use crate::restore::{Assistants, EndCheck};
use crate::slot::{Phase, Slot};
use crate::watermark::{Announced, follow_target, slowest};

const METRICS_EVERY: Duration = Duration::from_millis(250);
const END_CHECK_EVERY: Duration = Duration::from_millis(500);
const LAG_EVERY: Duration = Duration::from_secs(5);
const PRUNE_EVERY: Duration = Duration::from_secs(1);

impl StreamThread {
    pub(super) fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        self.watch_idleness(now);
        self.serve_tables(now);
        self.control_flow()?;
        for slot in &self.slots {
            if let (Some(task), Some(position)) = (slot.task(), &slot.position_gauge) {
                position.set(task.position());
            }
        }
        if now.duration_since(self.last_metrics) >= METRICS_EVERY {
            self.last_metrics = now;
            self.measure();
        }
        if now.duration_since(self.last_lag) >= LAG_EVERY {
            self.last_lag = now;
            for slot in &mut self.slots {
                if let Some(position) = slot.task().map(|task| task.position()) {
                    ask_for_end(&self.assistants, slot, position, now);
                }
            }
        }
        Ok(())
    }

    fn watch_idleness(&mut self, now: Instant) {
        let wall_clock = epoch_millis();
        // one that waits has a record
        for slot in self.slots.iter_mut().filter(|slot| slot.is_fold() && slot.waits.is_none()) {
            let Phase::Running(task) = &slot.phase else { continue };
            let (position, watermark) = (task.position(), task.watermark());
            let pipeline = &self.worker.pipelines[slot.id.pipeline];
            let time = &self.worker.topology.pipelines[slot.id.pipeline].time;
            slot.idleness.observe(watermark, now);
            slot.first_watermark = slot.first_watermark.or(watermark);
            if !slot.idleness.silent(time.idle_timeout, now) {
                continue;
            }
            if now.duration_since(slot.idleness.last_asked) >= END_CHECK_EVERY.min(time.idle_timeout) {
                ask_for_end(&self.assistants, slot, position, now);
            }
            if !slot.idleness.may_follow(position, time.idle_timeout, now) {
                continue;
            }
            let announced = pipeline.board.announced();
            let own = slot.id.partition as usize;
            let target = follow_target(&announced, own, &time.windows, time.out_of_orderness, wall_clock);
            if let (Some(target), Phase::Running(task)) = (target, &mut slot.phase)
                && task.follow(target)
            {
                slot.idleness.followed(task.watermark());
            }
        }
    }

    /// Lets folds with a table close what the table allows by now; where a partition that feeds one is idle, its mark
    /// follows those who look things up, so that they need not wait for entries that do not come.
    fn serve_tables(&mut self, now: Instant) {
        if self.worker.tables().next().is_none() {
            return;
        }
        let mut horizon = None;
        if now.duration_since(self.last_prune) >= PRUNE_EVERY {
            self.last_prune = now;
            horizon = self.worker.horizon();
        }
        for index in 0..self.slots.len() {
            let feeds = self.worker.topology.pipelines[self.slots[index].id.pipeline].feeds;
            let idle = feeds && self.is_idle(&self.slots[index], now);
            let Phase::Running(task) = &mut self.slots[index].phase else { continue };
            if idle && let Some(mark) = self.worker.smallest_looking_up() {
                task.follow_mark(mark);
            }
            task.advance();
            if feeds && let Some(horizon) = horizon {
                task.prune(horizon);
            }
        }
    }

    pub(super) fn is_idle(&self, slot: &Slot, now: Instant) -> bool {
        let timeout = self.worker.topology.pipelines[slot.id.pipeline].time.idle_timeout;
        slot.is_fold()
            && slot.waits.is_none()
            && slot.task().is_some_and(|task| slot.idleness.is_idle(task.position(), timeout, now))
    }

    /// Pauses what is too far ahead, and everything while too much output waits for its commit.
    fn control_flow(&mut self) -> anyhow::Result<()> {
        let budget = self.worker.config.max_pending.as_usize();
        let pending: usize = self.slots.iter().filter_map(|slot| slot.task()).map(|task| task.pending_bytes()).sum();
        self.worker.telemetry.pending_bytes.set(pending as i64);
        self.over_budget = pending > budget;
        self.lead_pauses = false;
        let max_lead = self.worker.config.max_lead.as_millis();
        let mut pause = TopicPartitionList::new();
        let mut resumed = TopicPartitionList::new();
        for index in 0..self.slots.len() {
            let ahead = self.lead(index).is_some_and(|lead| lead > max_lead);
            let slot = &mut self.slots[index];
            if !matches!(slot.phase, Phase::Running(_)) {
                continue;
            }
            self.lead_pauses |= ahead;
            let wanted = ahead || self.over_budget;
            if wanted != slot.paused {
                slot.paused = wanted;
                let position = slot.task().map(|task| task.position()).unwrap_or_default();
                if wanted {
                    pause.add_partition(&slot.input_topic, slot.id.partition);
                } else {
                    if let Some(queue) = &mut slot.queue {
                        queue.clear();
                    }
                    resumed.add_partition_offset(&slot.input_topic, slot.id.partition, Offset::Offset(position))?;
                }
            }
        }
        if pause.count() > 0 {
            self.worker.telemetry.pauses.inc_by(pause.count() as u64);
            self.consumer.pause(&pause)?;
        }
        for element in resumed.elements() {
            // librdkafka drops what it had fetched before the pause
            self.consumer.seek(element.topic(), element.partition(), element.offset(), ASK)?;
        }
        if resumed.count() > 0 {
            resume(&self.consumer, &resumed)?;
        }
        Ok(())
    }

    /// How far (event time, ms) a fold is ahead of the slowest partition of its topic. Partitions of this thread count
    /// with what they have reached, others with what they have announced.
    fn lead(&self, index: usize) -> Option<i64> {
        let slot = &self.slots[index];
        let (true, Some(task)) = (slot.is_fold(), slot.task()) else { return None };
        let watermark = task.watermark()?;
        let mut announced = self.worker.pipelines[slot.id.pipeline].board.announced();
        for other in self.slots.iter().filter(|other| other.is_fold() && other.id.pipeline == slot.id.pipeline) {
            if let (Some(entry), Some(task)) = (announced.get_mut(other.id.partition as usize), other.task())
                && let Some(watermark) = task.watermark()
            {
                *entry = Some(Announced { watermark: Some(watermark), ..entry.unwrap_or_default() });
            }
        }
        let start = slot.first_watermark.unwrap_or(watermark);
        let slowest = slowest(&announced, slot.id.partition as usize, start);
        // a table that nothing is known of yet holds nobody back before the first watermark
        let table = task.table_complete().map_or(i64::MAX, |complete| complete.max(start));
        Some(watermark.saturating_sub(slowest.min(table)))
    }
}

const WAKE: Duration = Duration::from_millis(50);

/// Resumes partitions and wakes librdkafka's fetcher, which would otherwise sleep for up to a second.
pub(super) fn resume(consumer: &GroupMember, partitions: &TopicPartitionList) -> anyhow::Result<()> {
    consumer.resume(partitions)?;
    for element in partitions.elements() {
        // the question wakes it, whether or not there is an answer; a leader that is away must not hold up the thread
        if let Err(error) = consumer.fetch_watermarks(element.topic(), element.partition(), WAKE) {
            tracing::debug!(%error, topic = element.topic(), "the fetcher wakes by itself");
        }
    }
    Ok(())
}

fn ask_for_end(assistants: &Assistants, slot: &mut Slot, position: i64, now: Instant) {
    if slot.idleness.asked {
        return;
    }
    slot.idleness.asked = true;
    slot.idleness.last_asked = now;
    assistants.check_end(slot.assignment, EndCheck { id: slot.id, input_topic: slot.input_topic.clone(), position });
}
