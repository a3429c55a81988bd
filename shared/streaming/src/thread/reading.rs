//! Reading: a batch of each partition in turn.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::WaitReason;

use super::expelled::Expelled;
use super::{StreamThread, TICK};
use crate::partition_queue::BATCH;
use crate::slot::{Phase, Slot, Waiting};
use crate::task::{Processed, TaskError};

/// A partition whose next record cannot be decoded yet is tried again after this long, and then after ever longer pauses:
/// most answers come at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a batch was not read to its end.
enum Stopped {
    /// The task has a window to close first, which takes long.
    Closes,
    /// Something outside does not answer.
    Waits {
        offset: i64,
        reason: String,
    },
    /// The log does not have the next record.
    OutsideOfLog,
    Failed(anyhow::Error),
}

impl StreamThread {
    /// Reads a batch of each partition; waits a moment where nothing is there. The consumer's own queue has everything else.
    pub(super) fn poll(&mut self, read: bool) -> anyhow::Result<()> {
        let mut taken = 0;
        self.drained = true;
        for index in 0..if read { self.slots.len() } else { 0 } {
            let count = self.read(index)?;
            taken += count;
            self.drained &= count < BATCH;
        }
        let is_closing = self.slots.iter().filter_map(Slot::task).any(|task| task.is_closing());
        let mut timeout = if taken == 0 && !is_closing { TICK } else { Duration::ZERO };
        while let Some(polled) = self.consumer.poll(timeout) {
            match polled {
                // fetched before its partition had a queue of its own: its restore ends with a seek
                Ok(_) => {}
                Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId)) => {
                    return Err(Expelled::Fenced.into());
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => bail!("consumer: {error}"),
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)) => self.look_for_lost()?,
                Err(KafkaError::MessageConsumption(code)) => self.consumption_error(code)?,
                Err(error) => tracing::warn!(%error, "consumer"),
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Processes a batch of a partition's records; how many were taken.
    fn read(&mut self, index: usize) -> anyhow::Result<usize> {
        let slot = &mut self.slots[index];
        if slot.waits.as_ref().is_some_and(|waiting| Instant::now() < waiting.until) {
            return Ok(0);
        }
        let (Phase::Running(task), Some(queue), false) = (&mut slot.phase, &mut slot.queue, slot.paused) else {
            return Ok(0);
        };
        if task.is_closing() {
            return Ok(0);
        }
        self.heartbeat.at("reading records", &slot.input_topic, slot.id.partition, task.position());
        let Some(now) = queue.fill() else {
            slot.waits = None;
            return Ok(0);
        };
        let mut oldest = None;
        let (count, stopped) = queue.take(|fetched| {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(RDKafkaErrorCode::AutoOffsetReset) => return ControlFlow::Break(Stopped::OutsideOfLog),
                Err(code) => {
                    tracing::warn!(%code, topic = &*slot.input_topic, partition = slot.id.partition, "consumer");
                    return ControlFlow::Continue(());
                }
            };
            let record = fetched.record();
            // fetched before a seek took hold
            if record.offset < task.position() {
                return ControlFlow::Continue(());
            }
            match task.process(&record, now) {
                Ok(Processed::Done) => {
                    oldest = oldest.or(record.timestamp);
                    ControlFlow::Continue(())
                }
                Ok(Processed::Closing) => ControlFlow::Break(Stopped::Closes),
                Ok(Processed::NotNow(reason)) => ControlFlow::Break(Stopped::Waits { offset: record.offset, reason }),
                Err(error) => {
                    let error = broken(&self.worker.topology.worker, &slot.input_topic, &error);
                    ControlFlow::Break(Stopped::Failed(error))
                }
            }
        });
        if slot.is_fold() {
            self.oldest_uncommitted = self.oldest_uncommitted.or(oldest);
        }
        match stopped {
            // what it has not taken stays in its queue
            None | Some(Stopped::Closes) => slot.waits = None,
            Some(Stopped::OutsideOfLog) => self.outside_of_log(index)?,
            Some(Stopped::Failed(error)) => return Err(error),
            Some(Stopped::Waits { offset, reason }) => {
                // one that came further waits anew
                let waited = slot.waits.take().filter(|_| count == 0);
                let text = format!("offset {offset}: {reason}");
                let (topic, partition) = (&slot.input_topic, slot.id.partition);
                let (pause, wait) = match waited {
                    Some(Waiting { pause, wait, .. }) => {
                        wait.update(WaitReason::Schema, &text);
                        ((pause * 2).min(LONGEST_PAUSE), wait)
                    }
                    None => {
                        (FIRST_PAUSE, self.worker.health.waits().begin(topic, partition, WaitReason::Schema, &text))
                    }
                };
                slot.waits = Some(Waiting { until: Instant::now() + pause, pause, wait });
            }
        }
        Ok(count)
    }

    /// Closes one piece more of the windows that take long.
    pub(super) fn go_on_closing(&mut self) {
        for slot in &mut self.slots {
            if let Phase::Running(task) = &mut slot.phase
                && task.is_closing()
            {
                self.heartbeat.at("closing windows", &slot.input_topic, slot.id.partition, task.position());
                task.advance();
            }
        }
    }

    /// What an error among the messages means.
    fn consumption_error(&self, code: RDKafkaErrorCode) -> anyhow::Result<()> {
        let group = &self.worker.group;
        match code {
            RDKafkaErrorCode::GroupAuthorizationFailed => {
                bail!(
                    "group {group}: this user may not join it (GroupAuthorizationFailed): grant Read and Describe on it"
                )
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => bail!(
                "this user may not read one of {} (TopicAuthorizationFailed): grant Read and Describe on each",
                self.worker.input_topics().join(", ")
            ),
            code => tracing::warn!(%code, "consumer"),
        }
        Ok(())
    }
}

/// A merge has met a record that no fold of this worker has written. It cannot leave it out: what may have been there in its
/// place is missing in rows.
fn broken(worker: &str, topic: &str, error: &TaskError) -> anyhow::Error {
    let (partition, offset, problem) = (error.task.partition, error.offset, &error.problem);
    anyhow!(
        "the record of {topic}, partition {partition}, offset {offset} cannot be merged: {problem}. No fold of this worker has \
         written it: find out who else writes there; then stop all instances and run: {worker} --config FILE --reset-state"
    )
}
