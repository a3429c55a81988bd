//! Reading: a batch of each partition in turn.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::bail;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{StreamThread, TICK};
use crate::partition_queue::BATCH;
use crate::slot::{Phase, Slot};
use crate::task::Processed;

/// A partition whose next record cannot be decoded yet is tried again after this long.
const WAIT: Duration = Duration::from_millis(500);

/// Why a batch was not read to its end.
enum Stopped {
    /// The task has a window to close first, which takes long.
    Closes,
    /// Something outside does not answer.
    Waits {
        offset: i64,
        reason: String,
    },
    Failed(anyhow::Error),
}

impl Stopped {
    fn failed(error: anyhow::Error) -> ControlFlow<Self> {
        ControlFlow::Break(Self::Failed(error))
    }
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
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => bail!("consumer: {error}"),
                Err(KafkaError::MessageConsumption(code)) => consumption_error(code)?,
                Err(error) => tracing::warn!(%error, "consumer"),
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Processes a batch of a partition's records; how many were taken.
    fn read(&mut self, index: usize) -> anyhow::Result<usize> {
        let slot = &mut self.slots[index];
        if slot.waits_until.is_some_and(|moment| Instant::now() < moment) {
            return Ok(0);
        }
        slot.waits_until = None;
        let (Phase::Running(task), Some(queue), false) = (&mut slot.phase, &mut slot.queue, slot.paused) else {
            return Ok(0);
        };
        if task.is_closing() {
            return Ok(0);
        }
        let mut oldest = None;
        let (count, stopped) = queue.take(|fetched| {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(code) => return consumption_error(code).map_or_else(Stopped::failed, ControlFlow::Continue),
            };
            let record = fetched.record();
            // fetched before a seek took hold
            if record.offset < task.position() {
                return ControlFlow::Continue(());
            }
            match task.process(&record) {
                Ok(Processed::Done) => {
                    oldest.get_or_insert(record.timestamp);
                    ControlFlow::Continue(())
                }
                Ok(Processed::Closing) => ControlFlow::Break(Stopped::Closes),
                Ok(Processed::NotNow(reason)) => ControlFlow::Break(Stopped::Waits { offset: record.offset, reason }),
                Err(error) => Stopped::failed(error.into()),
            }
        });
        if slot.is_fold() {
            self.oldest_uncommitted = self.oldest_uncommitted.or(oldest);
        }
        match stopped {
            // what it has not taken stays in its queue
            None | Some(Stopped::Closes) => {}
            Some(Stopped::Failed(error)) => return Err(error),
            Some(Stopped::Waits { offset, reason }) => {
                tracing::warn!(task = %slot.id, offset, reason, "the partition waits");
                slot.waits_until = Some(Instant::now() + WAIT);
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
                task.advance();
            }
        }
    }
}

/// What an error among the messages means.
fn consumption_error(code: RDKafkaErrorCode) -> anyhow::Result<()> {
    if code == RDKafkaErrorCode::AutoOffsetReset {
        bail!("the log was deleted before it was read: an input topic's retention is too short");
    }
    tracing::warn!(%code, "consumer");
    Ok(())
}
