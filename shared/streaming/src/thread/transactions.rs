//! Cuts: what is handed over to be committed, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::consumer::Consumer;

use super::expelled::another_process;
use super::{StreamThread, TICK, epoch_millis};
use crate::committer::{Job, Outcome, TooLarge};
use crate::cut::Cut;
use crate::kafka::one;
use crate::restore::ToPack;
use crate::slot::{Phase, Semantics, Slot};
use crate::telemetry::TopicLabels;

/// Where brokers refuse records for a reason that stays, the thread ends after this long.
const REFUSED_LIMIT: Duration = Duration::from_secs(60);
/// Records of a transaction that are named where they are lost; the others are counted.
const NAMED: usize = 5;

impl StreamThread {
    /// Notes that the rows which wait now, and did not at the last cut, were made after `before`.
    pub(super) fn note_rows(&mut self, before: Instant) {
        let is_told = |slot: &Slot| !slot.is_fold() && slot.task().is_some_and(|task| task.row_waits());
        if self.oldest_row.is_none() && self.slots.iter().any(is_told) {
            self.oldest_row = Some(before);
        }
    }

    pub(super) fn maybe_cut(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.in_flight.is_some() {
            return Ok(());
        }
        if let Some((_, moment)) = &self.retry {
            return if now >= *moment { self.make_again() } else { Ok(()) };
        }
        let config = &self.worker.config;
        let interval = if self.drained { config.commit_interval } else { config.backlog_commit_interval }.as_duration();
        let tasks = || self.slots.iter().filter_map(|slot| slot.task());
        let due = now.duration_since(self.last_cut) >= interval
            || self.revocation.is_some()
            || self.lead_pauses
            || (self.drained && tasks().any(|task| task.row_waits()))
            || tasks().map(|task| task.pending_bytes()).sum::<usize>() > config.max_pending.as_usize() / 4;
        if due { self.cut(now) } else { Ok(()) }
    }

    /// Takes all that the tasks have produced, with their offsets and the group's metadata, and hands it over.
    pub(super) fn cut(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.in_flight.is_some() || self.retry.is_some() {
            return Ok(());
        }
        self.last_cut = now;
        let mut cut = Cut::default();
        for index in 0..self.slots.len() {
            let idle = self.is_idle(&self.slots[index], now);
            let slot = &mut self.slots[index];
            let semantics = Semantics {
                hash: self.worker.semantics,
                partitions: self.worker.source_partitions(slot.id),
                topic: self.worker.input_id(slot.id).cloned(),
            };
            cut.parts.extend(slot.cut(idle, semantics).map(Arc::new));
            // who only moves elsewhere does not wait for it
            let stays = matches!(slot.phase, Phase::Running(_)) || self.worker.stopping();
            let started = Instant::now();
            if stays && let Some((state, generation, offset)) = slot.snapshot_due(self.snapshot_interval, now) {
                self.worker.telemetry.snapshot_seconds.observe(started.elapsed().as_secs_f64());
                let (id, assignment) = (slot.id, slot.assignment);
                self.assistants.pack(ToPack { id, assignment, state, generation, offset });
            }
        }
        if cut.is_empty() {
            return Ok(());
        }
        self.in_flight_oldest = self.oldest_uncommitted.take();
        self.in_flight_row = self.oldest_row.take();
        self.submit(cut)
    }

    /// Hands a cut to the commit thread, while the member that it was made as is in the group.
    fn submit(&mut self, cut: Cut) -> anyhow::Result<()> {
        let group = self.consumer.group_metadata();
        // asked for afterwards: an id does not come back, so the metadata is of that member too
        let is_member = self.is_member()?;
        match group.filter(|_| is_member) {
            Some(group) => {
                self.committer.submit(Job { cut: cut.clone(), group });
                self.in_flight = Some(cut);
                self.in_flight_since = Instant::now();
            }
            None => self.retry = Some((cut, Instant::now() + TICK)),
        }
        Ok(())
    }

    /// Sends an aborted cut again: the same bytes and offsets of the tasks that are still here, with fresh metadata.
    fn make_again(&mut self) -> anyhow::Result<()> {
        let Some((mut cut, _)) = self.retry.take() else { return Ok(()) };
        let slots = &self.slots;
        cut.retain(|part| slots.iter().any(|slot| slot.assignment == part.assignment));
        if cut.is_empty() { Ok(()) } else { self.submit(cut) }
    }

    pub(super) fn take_outcome(&mut self) -> anyhow::Result<()> {
        let Some(outcome) = self.committer.outcome() else { return Ok(()) };
        self.settle(outcome)
    }

    pub(super) fn settle(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let cut = self.in_flight.take().unwrap_or_default();
        let telemetry = &self.worker.telemetry;
        match outcome {
            Outcome::Committed { duration, too_large } => {
                self.aborts_in_a_row = 0;
                self.refused_since = None;
                self.note_too_large(&too_large);
                telemetry.commit_seconds.observe(duration.as_secs_f64());
                if let Some(oldest) = self.in_flight_oldest.take() {
                    telemetry.end_to_end_seconds.observe(epoch_millis().saturating_sub(oldest).max(0) as f64 / 1e3);
                }
                if let Some(made) = self.in_flight_row.take() {
                    telemetry.row_commit_seconds.observe(made.elapsed().as_secs_f64());
                }
                for part in cut.parts {
                    if let Some(slot) = self.slots.iter_mut().find(|slot| slot.assignment == part.assignment) {
                        telemetry.committed.get_or_create(&slot.labels).set(part.offset);
                        if let Some(part) = Arc::into_inner(part) {
                            slot.reuse(part.outputs);
                        }
                    }
                }
            }
            Outcome::Aborted { error, stays } => {
                telemetry.commit_aborts.inc();
                self.aborts_in_a_row += 1;
                tracing::info!(%error, attempt = self.aborts_in_a_row, "transaction aborted, it is made again");
                let now = Instant::now();
                self.refused_since = stays.then(|| self.refused_since.unwrap_or(now));
                if self.refused_since.is_some_and(|since| now.duration_since(since) >= REFUSED_LIMIT) {
                    bail!(
                        "records cannot be written, for {REFUSED_LIMIT:?} now: {error}: change the topic or this worker's rights to it"
                    );
                }
                let pause = Duration::from_millis(10 << self.aborts_in_a_row.min(6));
                self.retry = Some((cut, Instant::now() + pause));
            }
            Outcome::Renewed { error, fenced } => {
                tracing::warn!(%error, "the producer was replaced; tasks are read back from what is committed");
                if fenced && self.fenced.is_too_often(Instant::now()) {
                    bail!("{error}: {}", another_process(&self.name));
                }
                self.reload()?;
            }
            Outcome::Changed(change) => return Err(change.into()),
            Outcome::Failed { error } => bail!("transactions cannot be made: {error}"),
        }
        Ok(())
    }

    /// Counts and names what is in no topic.
    fn note_too_large(&self, records: &[TooLarge]) {
        for (at, record) in records.iter().enumerate() {
            let topic = self.worker.topics[usize::from(record.topic)].as_str();
            self.worker.telemetry.too_large.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc();
            if at < NAMED {
                let TooLarge { bytes, limit, source_topic, source_partition, source_offset, .. } = record;
                tracing::error!(
                    topic,
                    bytes,
                    limit,
                    %source_topic,
                    source_partition,
                    source_offset,
                    "a record is too large for its topic and is left out: raise the topic's max.message.bytes"
                );
            }
        }
        if records.len() > NAMED {
            tracing::error!(records = records.len() - NAMED, "more records are too large for their topics");
        }
    }

    /// Drops all tasks' state and reads it back.
    fn reload(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.retry = None;
        self.oldest_uncommitted = None;
        self.oldest_row = None;
        self.in_flight_row = None;
        for index in 0..self.slots.len() {
            let old = &self.slots[index];
            if matches!(old.phase, Phase::Leaving(_)) {
                // it leaves without its last outputs: the successor makes them
                self.slots[index].phase = Phase::Restoring;
                continue;
            }
            self.consumer.pause(&one(&old.input_topic, old.id.partition))?;
            self.assignments += 1;
            let state_topic = self.worker.state_topic_index(old.id);
            let mut slot = Slot::new(old.id, old.input_topic.clone(), state_topic, self.assignments, now);
            slot.told.clone_from(&old.told);
            slot.queue = self.slots[index].queue.take();
            self.assistants.forget(self.slots[index].assignment);
            self.request_restore(&slot);
            self.slots[index] = slot;
        }
        self.tell_status();
        Ok(())
    }
}
