//! The fold's task: judges each record, feeds the operator, closes slides as the watermark passes them.

mod closing;
mod judging;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use records::Rejection;
use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::decisions::{DecisionReplay, PendingDecisions, decisions_key};
use crate::frame::{split_frames, write_watermark};
use crate::operator::{Figure, Fold, Record, RestoreError, Source, SourceError, StateSize};
use crate::output::{FoldOutput, OutputBuffer};
use crate::progress::FoldProgress;
use crate::refusal::Refusals;
use crate::resume::Lost;
use crate::state::{Loaded, encode};
use crate::table::{SharedTable, write_entries};
use crate::task::{Processed, Reached, RefusedFuture, Task, TaskError, TaskId, split_header, write_with_length};
use crate::watermark::Watermark;
use crate::window::Windows;

/// Indices of the topics that a fold writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldTopics {
    pub(crate) repartition: u16,
    pub(crate) watermarks: u16,
    pub(crate) state: u16,
    /// The table that it feeds.
    pub(crate) table: Option<u16>,
}

/// What a fold task is told about its event time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoldTime {
    pub(crate) windows: Windows,
    /// Out-of-orderness bound B in ms.
    pub(crate) bound: i64,
    /// How far an event time may lie ahead of the earlier of its record's Kafka timestamp and the reader's clock, in ms.
    pub(crate) max_future_skew: i64,
}

/// See the module.
pub(crate) struct FoldTask<F: Fold> {
    id: TaskId,
    topics: FoldTopics,
    refusals: Refusals,
    source: F::Source,
    fold: F,
    table: Arc<SharedTable<F::Table>>,
    time: FoldTime,
    position: i64,
    progress: Progress,
    /// The watermark at which the next slide closes: one comparison an event.
    next_boundary: i64,
    /// What is being closed, where that takes more than one piece. Until it is done the task stands where it stood before:
    /// it may be cut there, and what the windows emit waits apart.
    closing: Option<InWork>,
    closing_out: FoldOutput,
    announced: Option<i64>,
    /// The mark last written to the table topic.
    written_mark: Option<i64>,
    out: FoldOutput,
    /// Decided since the last cut.
    decisions: PendingDecisions,
    /// What a replay obeys; `None` while records come live.
    replay: Option<DecisionReplay>,
    /// Decision records that no snapshot has superseded: (first offset, last offset).
    decision_records: Vec<(i64, i64)>,
    refused_future: Option<RefusedFuture>,
    /// What a replay may close: not more than was closed before, or its outputs would be dropped without ever having
    /// been committed.
    closable: i64,
}

/// Windows that are being closed.
#[derive(Debug, Clone, Copy)]
struct InWork {
    /// The windows up to there are to be closed.
    target: i64,
    /// The windows up to there are.
    after: i64,
    /// End of the one that is begun.
    end: Option<i64>,
}

/// The part of the state that is the runtime's.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    watermark: Watermark,
    closed: Option<i64>,
    /// What the mark has followed while the partition was idle.
    followed_mark: Option<i64>,
    counts: Counts,
}

impl<F: Fold> FoldTask<F> {
    pub(crate) fn new(
        id: TaskId,
        topics: FoldTopics,
        refusals: Refusals,
        (source, fold): (F::Source, F),
        table: Arc<SharedTable<F::Table>>,
        time: FoldTime,
        merge_partitions: usize,
    ) -> Self {
        Self {
            id,
            topics,
            refusals,
            source,
            fold,
            table,
            time,
            position: 0,
            progress: Progress {
                watermark: Watermark::new(time.bound),
                closed: None,
                followed_mark: None,
                counts: Counts::default(),
            },
            next_boundary: i64::MIN,
            closing: None,
            closing_out: FoldOutput::new(merge_partitions),
            announced: None,
            written_mark: None,
            out: FoldOutput::new(merge_partitions),
            decisions: PendingDecisions::default(),
            replay: None,
            decision_records: Vec::new(),
            refused_future: None,
            closable: i64::MAX,
        }
    }

    /// All entries up to it are written; `None` where the task feeds no table.
    fn mark(&self) -> Option<i64> {
        self.topics.table?;
        self.progress.watermark.value().max(self.progress.followed_mark)
    }
}

impl<F: Fold> Task for FoldTask<F> {
    fn process(&mut self, record: &Record<'_>, now: i64) -> Result<Processed, TaskError> {
        if self.closing.is_some() {
            return Ok(Processed::Closing);
        }
        let (remembered, now) = match &mut self.replay {
            Some(replay) => (replay.refusal(record.offset), replay.clock(record.offset)),
            None => (None, now),
        };
        let verdict = match remembered {
            Some(reason) => Err(Rejection::new(reason, "it was refused before")),
            None => match self.source.decode(record) {
                Ok(event) => Ok(event),
                Err(SourceError::Rejected(rejection)) => Err(rejection),
                Err(SourceError::NotNow(message)) => return Ok(Processed::NotNow(message)),
            },
        };
        self.wake(record.offset);
        self.progress.counts.read += 1;
        self.judge(record, verdict, now);
        self.position = record.offset + 1;
        Ok(Processed::Done)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn start_at(&mut self, offset: i64) {
        self.position = offset;
    }

    fn skip(&mut self, lost: Lost) {
        self.progress.counts.lost += lost.count();
        self.position = lost.to;
    }

    fn reached(&self) -> Reached {
        Reached { watermark: self.progress.watermark.value(), closed: self.progress.closed, mark: self.mark() }
    }

    fn follow(&mut self, watermark: i64) -> bool {
        let rose = self.progress.watermark.follow(watermark);
        if rose {
            self.close();
        }
        rose
    }

    fn follow_mark(&mut self, mark: i64) {
        self.progress.followed_mark = self.progress.followed_mark.max(Some(mark));
    }

    fn table_complete(&self) -> Option<i64> {
        // a table that waits for nobody is none
        Some(self.table.complete()).filter(|complete| *complete < i64::MAX)
    }

    fn advance(&mut self) {
        self.close();
    }

    fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    fn prune(&mut self, horizon: i64) {
        if self.closing.is_some() {
            return;
        }
        self.out.mark = self.mark();
        self.fold.prune(horizon, &mut self.out);
    }

    fn pending_bytes(&self) -> usize {
        self.out.bytes() + self.decisions.bytes()
    }

    fn row_waits(&self) -> bool {
        self.progress.closed > self.announced
    }

    fn drain(&mut self, into: &mut OutputBuffer) {
        let announce = self.progress.closed.filter(|closed| Some(*closed) > self.announced);
        for (merge_partition, frames) in self.out.frames.iter_mut().enumerate() {
            if let Some(closed) = announce {
                write_watermark(frames, self.id.partition, closed);
            }
            for run in split_frames(frames, crate::state::CHUNK_BYTES) {
                let key = self.id.partition.to_be_bytes();
                into.push(self.topics.repartition, Some(merge_partition as i32), &key, |value| {
                    value.extend_from_slice(run);
                });
            }
            frames.clear();
        }
        self.announced = self.progress.closed;
        into.take_from(&mut self.out.records);
        if let Some((first, decisions)) = self.decisions.take() {
            let (partition, key) = (Some(self.id.partition), decisions_key(first));
            into.push(self.topics.state, partition, key.as_bytes(), |into| into.extend(encode(&decisions)));
            self.decision_records.push((first, decisions.last));
        }
        if let Some(topic) = self.topics.table {
            let mark = self.mark().filter(|mark| Some(*mark) > self.written_mark);
            write_entries(&mut self.out.entries, mark, (topic, self.id.partition), into);
            self.written_mark = self.written_mark.max(mark);
        }
    }

    fn announce(&self, idle: bool, restores_from: Option<i64>, into: &mut OutputBuffer) {
        let progress = FoldProgress {
            watermark: self.progress.watermark.value(),
            idle,
            offset: self.position,
            counts: self.progress.counts.clone(),
            restores_from,
        };
        into.push_json(self.topics.watermarks, &self.id.to_string(), &progress);
    }

    fn superseded(&mut self, before: i64) -> Vec<String> {
        let superseded: Vec<(i64, i64)>;
        (superseded, self.decision_records) = self.decision_records.iter().partition(|(_, last)| *last < before);
        superseded.into_iter().map(|(first, _)| decisions_key(first)).collect()
    }

    fn counts(&self) -> Option<&Counts> {
        Some(&self.progress.counts)
    }

    fn refused_future(&self) -> Option<RefusedFuture> {
        self.refused_future
    }

    fn size(&self) -> StateSize {
        self.fold.size()
    }

    fn open_windows(&self) -> usize {
        0
    }

    fn overflowed(&self) -> u64 {
        0
    }

    fn figures(&self) -> Vec<Figure<'_>> {
        self.fold.figures()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        write_with_length(into, |into| into.extend(encode(&self.progress)));
        self.fold.snapshot(into);
    }

    fn restore(&mut self, loaded: Loaded, committed: Reached) -> Result<(), RestoreError> {
        let (header, rest) = split_header(&loaded.state)?;
        self.progress = postcard::from_bytes(header).map_err(|error| RestoreError(error.to_string()))?;
        self.fold.restore(rest)?;
        self.next_boundary =
            self.progress.closed.map_or(i64::MIN, |closed| closed.saturating_add(self.time.windows.slide()));
        self.decision_records = loaded.decision_records;
        self.replay = Some(loaded.decisions);
        self.closable = committed.closed.unwrap_or(i64::MIN);
        Ok(())
    }

    fn discard_outputs(&mut self) {
        self.out.clear();
        self.announced = self.progress.closed;
        self.written_mark = self.mark();
    }

    fn end_replay(&mut self, committed: Reached) {
        if let Some(watermark) = committed.watermark {
            self.follow(watermark);
        }
        if let Some(mark) = committed.mark {
            self.follow_mark(mark);
        }
        self.close();
        self.replay = None;
        self.discard_outputs();
        self.closable = i64::MAX;
    }
}
