//! Cuts: what is handed over to be committed, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::consumer::Consumer;

use super::{StreamThread, TICK, epoch_millis};
use crate::committer::{Job, Outcome};
use crate::cut::Cut;
use crate::kafka::one;
use crate::restore::Request;
use crate::slot::{Phase, Semantics, Slot};

/// The broker refuses larger values than it says; handed-on records are then cut to this.
const TRUNCATE_TO: usize = 512 * 1024;
const FENCED_LIMIT: usize = 3;

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
            let semantics =
                Semantics { hash: self.worker.semantics, partitions: self.worker.source_partitions(slot.id) };
            cut.parts.extend(slot.cut(idle, semantics).map(Arc::new));
            // who only moves elsewhere does not wait for it
            let stays = matches!(slot.phase, Phase::Running(_)) || self.worker.stopping();
            let started = Instant::now();
            if stays && let Some((state, generation, offset)) = slot.snapshot_due(self.snapshot_interval, now) {
                self.worker.telemetry.snapshot_seconds.observe(started.elapsed().as_secs_f64());
                let (id, assignment) = (slot.id, slot.assignment);
                self.requests.send(Request::Pack { id, assignment, state, generation, offset })?;
            }
        }
        if cut.is_empty() {
            return Ok(());
        }
        self.in_flight_oldest = self.oldest_uncommitted.take();
        self.in_flight_row = self.oldest_row.take();
        self.submit(cut);
        Ok(())
    }

    fn submit(&mut self, cut: Cut) {
        match self.consumer.group_metadata() {
            Some(group) => {
                self.committer.submit(Job { cut: cut.clone(), group, truncate: self.truncate });
                self.in_flight = Some(cut);
            }
            None => self.retry = Some((cut, Instant::now() + TICK)),
        }
    }

    /// Sends an aborted cut again: the same bytes and offsets of the tasks that are still here, with fresh metadata.
    fn make_again(&mut self) -> anyhow::Result<()> {
        let Some((mut cut, _)) = self.retry.take() else { return Ok(()) };
        let slots = &self.slots;
        cut.retain(|part| slots.iter().any(|slot| slot.assignment == part.assignment));
        if !cut.is_empty() {
            self.submit(cut);
        }
        Ok(())
    }

    pub(super) fn take_outcome(&mut self) -> anyhow::Result<()> {
        let Some(outcome) = self.committer.outcome() else { return Ok(()) };
        self.settle(outcome)
    }

    pub(super) fn settle(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let cut = self.in_flight.take().unwrap_or_default();
        let telemetry = &self.worker.telemetry;
        match outcome {
            Outcome::Committed { duration } => {
                self.aborts_in_a_row = 0;
                self.truncate = None;
                telemetry.commit_seconds.observe(duration.as_secs_f64());
                if let Some(oldest) = self.in_flight_oldest.take() {
                    telemetry.end_to_end_seconds.observe((epoch_millis() - oldest).max(0) as f64 / 1e3);
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
            Outcome::Aborted { error, too_large } => {
                telemetry.commit_aborts.inc();
                self.aborts_in_a_row += 1;
                tracing::info!(%error, attempt = self.aborts_in_a_row, "transaction aborted, it is made again");
                if too_large && self.truncate.replace(TRUNCATE_TO).is_some() {
                    bail!("a record is too large for its topic even when cut: {error}");
                }
                let pause = Duration::from_millis(10 << self.aborts_in_a_row.min(6));
                self.retry = Some((cut, Instant::now() + pause));
            }
            Outcome::Renewed { error, fenced } => {
                tracing::warn!(%error, "the producer was replaced; tasks are read back from what is committed");
                let now = Instant::now();
                if fenced {
                    self.fenced.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
                    self.fenced.push(now);
                    if self.fenced.len() >= FENCED_LIMIT {
                        bail!(
                            "another process uses the transactional id {}: give each instance its own runtime.instance",
                            self.name
                        );
                    }
                }
                self.reload()?;
            }
            Outcome::Failed { error } => bail!("transactions cannot be made: {error}"),
        }
        Ok(())
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
            self.request_restore(&slot)?;
            self.slots[index] = slot;
        }
        self.tell_status();
        Ok(())
    }
}
