//! Partitions come and go, and the answers of the assistant about them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, bail};
use kafka::{Partitions, Rebalance, TopicChange};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;

use super::expelled::Expelled;
use super::flow::resume;
use super::{LEAVE_LIMIT, StreamThread, TICK};
use crate::cut::Cut;
use crate::kafka::{ASK, GroupMember, one};
use crate::partition_queue::PartitionQueue;
use crate::restore::{Reply, Restoration, RestoreFailure, Restored};
use crate::slot::{Phase, Slot};
use crate::task::TaskId;
use crate::topic_watch::Unconfirmed;

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
            self.is_member()?;
            match event {
                Rebalance::Assign(partitions) => self.assign(&partitions)?,
                Rebalance::Revoke(partitions) => self.revoke(partitions)?,
            }
        }
        Ok(())
    }

    /// Whether this is still the member that got the tasks. Not, while the group announces that all of them are lost; where it
    /// has expelled the member without that, the thread begins again, which is an error: see [`Expelled`].
    pub(super) fn is_member(&self) -> anyhow::Result<bool> {
        if self.slots.is_empty() || self.consumer.member_id() == self.member_id {
            return Ok(true);
        }
        // in this order: a loss that is announced is known as soon as the id is gone
        if self.consumer.assignment_lost() { Ok(false) } else { Err(Expelled::Forgotten.into()) }
    }

    /// Partitions are taken at once, paused; their state is read elsewhere meanwhile.
    fn assign(&mut self, partitions: &Partitions) -> anyhow::Result<()> {
        // before the answer: with it a member may join again
        if self.slots.is_empty() {
            self.member_id = self.consumer.member_id();
        }
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
            self.check_is_known(topic, partition)?;
            tracing::info!(task = %id, topic, "assigned");
            self.assignments += 1;
            let input_topic: Arc<str> = topic.into();
            let state_topic = self.worker.state_topic_index(id);
            let mut slot = Slot::new(id, input_topic, state_topic, self.assignments, now);
            slot.queue = Some(split(&self.consumer, &slot)?);
            self.request_restore(&slot);
            self.slots.push(slot);
        }
        self.tell_status();
        Ok(())
    }

    /// A partition that the topic did not have at the start ends the instance: windows would close without it.
    fn check_is_known(&self, topic: &str, partition: i32) -> anyhow::Result<()> {
        match self.worker.identities.get(topic).map(|identity| identity.partitions) {
            Some(was) if partition >= was => {
                // with the number that the brokers say, as soon as they say it
                self.look_for_change(|_| false)?;
                Err(TopicChange::Partitions { topic: topic.to_owned(), was, is: partition + 1 }.into())
            }
            _ => Ok(()),
        }
    }

    /// Asks whether a topic is another one than at the start, which is an error, until an answer is `enough` or some
    /// seconds are over.
    pub(super) fn look_for_change(&self, enough: impl Fn(&Result<(), Unconfirmed>) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + ASK;
        loop {
            let answer = self.worker.watch.confirm().wait(ASK);
            if let Err(Unconfirmed::Changed(change)) = answer {
                return Err(change.into());
            }
            if enough(&answer) || self.worker.stopping() || Instant::now() >= deadline {
                return Ok(());
            }
            std::thread::sleep(TICK);
        }
    }

    pub(super) fn request_restore(&self, slot: &Slot) {
        let waits = self.worker.health.waits();
        self.assistants.restore(Restoration::new(waits, slot.id, slot.assignment, slot.input_topic.clone()));
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
        let (telemetry, assistants) = (&self.worker.telemetry, &self.assistants);
        self.slots.retain(|slot| {
            let leaves = leaving(slot);
            if leaves {
                assistants.forget(slot.assignment);
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
        while let Some(reply) = self.assistants.reply() {
            match reply {
                Reply::Panicked => bail!("a thread that restores tasks or packs snapshots has panicked"),
                Reply::Restored { id, assignment, result } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    match result {
                        Ok(restored) => self.restored(index, *restored)?,
                        Err(RestoreFailure::Changed(change)) => return Err(change.into()),
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
                Reply::Checked { id, assignment, position, end, lag } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    let slot = &mut self.slots[index];
                    slot.confirm_end(position, end);
                    if let Some(lag) = lag {
                        self.worker.telemetry.lag.get_or_create(&slot.labels).set(lag);
                    }
                }
            }
        }
        Ok(())
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
        if let Some(lost) = restored.lost {
            self.worker.warn_lost(&slot.input_topic, slot.id.partition, lost);
        }
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
            self.assign_again(index, position)?;
        }
        let slot = &mut self.slots[index];
        if !self.over_budget {
            slot.paused = false;
            resume(&self.consumer, &list)?;
        }
        self.tell_status();
        Ok(())
    }

    /// Has the consumer begin with a partition at `position`; it is paused then.
    pub(super) fn assign_again(&mut self, index: usize, position: i64) -> anyhow::Result<()> {
        let slot = &mut self.slots[index];
        let list = one(&slot.input_topic, slot.id.partition);
        let mut placed = TopicPartitionList::new();
        placed.add_partition_offset(&slot.input_topic, slot.id.partition, Offset::Offset(position))?;
        slot.queue = None;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&placed)?;
        self.consumer.pause(&list)?;
        slot.queue = Some(split(&self.consumer, slot)?);
        Ok(())
    }
}

/// The queue of a slot's messages, right after its partition was assigned.
fn split(consumer: &Arc<GroupMember>, slot: &Slot) -> anyhow::Result<PartitionQueue> {
    let queue = PartitionQueue::split(consumer, &slot.input_topic, slot.id.partition);
    queue.with_context(|| format!("the messages of {} have no queue", slot.id))
}
