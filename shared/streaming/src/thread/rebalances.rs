//! Partitions come and go, and the answers of the assistant about them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, bail};
use crossbeam_channel::TryRecvError;
use kafka::{Partitions, Rebalance};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;

use super::flow::resume;
use super::{LEAVE_LIMIT, StreamThread};
use crate::cut::Cut;
use crate::kafka::{ASK, GroupMember, one};
use crate::partition_queue::PartitionQueue;
use crate::restore::{Reply, Request, RestoreFailure, Restored};
use crate::slot::{Phase, Slot};
use crate::task::TaskId;

/// Partitions that are to be given up.
pub(super) struct Revocation {
    partitions: Partitions,
    lost: bool,
    since: Instant,
}

impl StreamThread {
    pub(super) fn take_rebalances(&mut self) -> anyhow::Result<()> {
        while self.revocation.is_none()
            && let Some(event) = self.consumer.next_rebalance()
        {
            match event {
                Rebalance::Assign(partitions) => self.assign(&partitions)?,
                Rebalance::Revoke(partitions) => self.revoke(partitions)?,
            }
        }
        Ok(())
    }

    /// Partitions are taken at once, paused; their state is read elsewhere meanwhile.
    fn assign(&mut self, partitions: &Partitions) -> anyhow::Result<()> {
        let placed = partitions.list_at(Offset::Offset(0));
        // also an empty list wants its answer, or no revocation is announced any more
        self.consumer.incremental_assign(&placed).context("incremental_assign")?;
        if placed.count() > 0 {
            self.consumer.pause(&placed).context("pause")?;
        }
        let now = Instant::now();
        for (topic, partition) in partitions.iter() {
            let id = self
                .worker
                .task_id(topic, partition)
                .with_context(|| format!("{topic} was assigned, which is no input of the worker"))?;
            tracing::info!(task = %id, topic, "assigned");
            self.assignments += 1;
            let input_topic: Arc<str> = topic.into();
            let state_topic = self.worker.state_topic_index(id);
            let mut slot = Slot::new(id, input_topic, state_topic, self.assignments, now);
            slot.queue = Some(split(&self.consumer, &slot)?);
            self.request_restore(&slot)?;
            self.slots.push(slot);
        }
        self.tell_status();
        Ok(())
    }

    pub(super) fn request_restore(&self, slot: &Slot) -> anyhow::Result<()> {
        let (id, assignment, input_topic) = (slot.id, slot.assignment, slot.input_topic.clone());
        self.requests.send(Request::Restore { id, assignment, input_topic }).context("the assistant thread has ended")
    }

    /// Partitions that leave read nothing more; they are given up once what they produced is committed.
    fn revoke(&mut self, partitions: Partitions) -> anyhow::Result<()> {
        let lost = self.consumer.assignment_lost();
        tracing::info!(partitions = partitions.len(), lost, "revoked");
        for slot in &mut self.slots {
            if partitions.contains(&slot.input_topic, slot.id.partition) {
                slot.leave();
                slot.paused = true;
            }
        }
        let _ = self.consumer.pause(&partitions.list());
        self.revocation = Some(Revocation { partitions, lost, since: Instant::now() });
        self.finish_revocation(Instant::now())
    }

    pub(super) fn finish_revocation(&mut self, now: Instant) -> anyhow::Result<()> {
        let Some(revocation) = &self.revocation else { return Ok(()) };
        let leaving = |slot: &Slot| revocation.partitions.contains(&slot.input_topic, slot.id.partition);
        if !revocation.lost {
            let out_of_time = now.duration_since(revocation.since) >= LEAVE_LIMIT;
            let leaving: Vec<&Slot> = self.slots.iter().filter(|slot| leaving(slot)).collect();
            let held =
                |cut: &Cut| cut.parts.iter().any(|part| leaving.iter().any(|slot| slot.assignment == part.assignment));
            let in_flight = self.in_flight.as_ref().is_some_and(held);
            let retrying = self.retry.as_ref().is_some_and(|(cut, _)| held(cut));
            // what is in flight is always waited for: it could still commit when the successor has begun
            if in_flight || (!out_of_time && (retrying || leaving.iter().any(|slot| slot.has_uncut_work()))) {
                return Ok(());
            }
        }
        let telemetry = &self.worker.telemetry;
        self.slots.retain(|slot| {
            let leaves = leaving(slot);
            if leaves {
                telemetry.forget(&slot.labels, &slot.told);
            }
            !leaves
        });
        let partitions = revocation.partitions.list();
        self.revocation = None;
        self.consumer.incremental_unassign(&partitions).context("incremental_unassign")?;
        self.tell_status();
        Ok(())
    }

    pub(super) fn tell_status(&self) {
        let restoring = self.slots.iter().filter(|slot| matches!(slot.phase, Phase::Restoring)).count();
        self.status.assigned.store(self.slots.len(), Ordering::Relaxed);
        self.status.restoring.store(restoring, Ordering::Relaxed);
    }

    fn slot_of(&mut self, id: TaskId, assignment: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id && slot.assignment == assignment)
    }

    pub(super) fn take_replies(&mut self) -> anyhow::Result<()> {
        loop {
            let reply = match self.replies.try_recv() {
                Ok(reply) => reply,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => bail!("the assistant thread has panicked"),
            };
            match reply {
                Reply::Restored { id, assignment, result } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    match result {
                        Ok(restored) => self.restored(index, *restored)?,
                        Err(RestoreFailure::Stopped) => {}
                        Err(failure) => return Err(failure.into()),
                    }
                }
                Reply::Packed { id, assignment, result } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    match result {
                        Ok(packed) => self.slots[index].packed(packed),
                        Err(error) => {
                            tracing::warn!(task = %id, %error, "the snapshot could not be packed");
                            self.slots[index].packing_failed();
                        }
                    }
                }
                Reply::Checked { id, assignment, position, at_end, lag } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    let slot = &mut self.slots[index];
                    slot.idleness.confirm(position, at_end);
                    if let Some(lag) = lag {
                        self.worker.telemetry.lag.get_or_create(&slot.labels).set(lag);
                    }
                }
            }
        }
    }

    fn restored(&mut self, index: usize, restored: Restored) -> anyhow::Result<()> {
        let slot = &mut self.slots[index];
        if !matches!(slot.phase, Phase::Restoring) {
            return Ok(());
        }
        let position = restored.task.position();
        self.worker.telemetry.restore_seconds.observe(restored.duration.as_secs_f64());
        tracing::info!(task = %slot.id, topic = %slot.input_topic, position, generation = restored.generation,
            seconds = restored.duration.as_secs_f64(), "restored");
        let stagger = self.snapshot_interval.mul_f64(f64::from(slot.id.partition.rem_euclid(16)) / 32.0);
        slot.begin(restored, stagger, Instant::now());
        slot.position_gauge = Some(self.worker.telemetry.position.get_or_create_owned(&slot.labels));
        let leaves = |revocation: &Revocation| revocation.partitions.contains(&slot.input_topic, slot.id.partition);
        if self.revocation.as_ref().is_some_and(leaves) {
            slot.leave();
            return Ok(());
        }
        if let Some(queue) = &mut slot.queue {
            queue.clear();
        }
        let list = one(&slot.input_topic, slot.id.partition);
        if let Err(error) = self.consumer.seek(&slot.input_topic, slot.id.partition, Offset::Offset(position), ASK) {
            // librdkafka refuses to seek where its fetcher has not started yet
            tracing::info!(task = %slot.id, %error, "assigned anew instead of a seek");
            let mut placed = TopicPartitionList::new();
            placed.add_partition_offset(&slot.input_topic, slot.id.partition, Offset::Offset(position))?;
            self.consumer.incremental_unassign(&list)?;
            self.consumer.incremental_assign(&placed)?;
            self.consumer.pause(&list)?;
            slot.queue = Some(split(&self.consumer, slot)?);
        }
        if !self.over_budget {
            slot.paused = false;
            resume(&self.consumer, &list)?;
        }
        self.tell_status();
        Ok(())
    }
}

/// The queue of a slot's messages, right after its partition was assigned.
fn split(consumer: &Arc<GroupMember>, slot: &Slot) -> anyhow::Result<PartitionQueue> {
    let queue = PartitionQueue::split(consumer, &slot.input_topic, slot.id.partition);
    queue.with_context(|| format!("the messages of {} have no queue", slot.id))
}
