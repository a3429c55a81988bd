//! The fold's task: judges each record, feeds the operator, closes slides as the watermark passes them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use records::{Reason, Rejection};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::frame::{split_frames, write_watermark};
use crate::operator::{Closing, Figure, Fold, Record, RestoreError, Source, SourceError, StateSize, Timed};
use crate::output::{FoldOutput, OutputBuffer};
use crate::progress::FoldProgress;
use crate::refusal::Refusals;
use crate::state::{Decision, Loaded, decision_key, encode};
use crate::table::{SharedTable, write_entries};
use crate::task::{Processed, Reached, Task, TaskError, TaskId, split_header, write_with_length};
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
    /// How far an event time may lie ahead of its record's Kafka timestamp, in ms.
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
    decisions_to_obey: BTreeMap<i64, Decision>,
    replaying: bool,
    /// What a replay may close: not more than was closed before, or its outputs would be dropped without ever having
    /// been committed.
    closable: i64,
    decisions_written: Vec<i64>,
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
            decisions_to_obey: BTreeMap::new(),
            replaying: false,
            closable: i64::MAX,
            decisions_written: Vec::new(),
        }
    }

    /// All entries up to it are written; `None` where the task feeds no table.
    fn mark(&self) -> Option<i64> {
        self.topics.table?;
        self.progress.watermark.value().max(self.progress.followed_mark)
    }

    /// What is decided about this record beyond the record itself: obeyed in a replay, made and written otherwise.
    fn decide(&mut self, offset: i64) -> Decision {
        if self.replaying {
            let decision = self.decisions_to_obey.remove(&offset).unwrap_or_default();
            if let Some(followed) = decision.followed {
                self.follow(followed);
            }
            self.progress.watermark.speaks();
            return decision;
        }
        if !self.progress.watermark.followed() {
            return Decision::default();
        }
        self.progress.watermark.speaks();
        Decision { followed: self.progress.watermark.value(), refused: None }
    }

    fn write_decision(&mut self, offset: i64, decision: &Decision) {
        if self.replaying || *decision == Decision::default() {
            return;
        }
        let key = decision_key(offset);
        let state = self.topics.state;
        self.out.records.push(state, Some(self.id.partition), key.as_bytes(), |into| into.extend(encode(decision)));
        self.decisions_written.push(offset);
    }

    /// What a replay is told about this record instead of asking.
    fn remembered_refusal(&self, offset: i64) -> Option<Rejection> {
        let (reason, message) = self.decisions_to_obey.get(&offset)?.refused.clone()?;
        Some(Rejection { reason: Reason::from_name(&reason)?, message, outside: true })
    }

    fn judge(&mut self, record: &Record<'_>, verdict: Result<<F::Source as Source>::Event<'_>, Rejection>) {
        let event = match verdict {
            Ok(event) => event,
            Err(rejection) => return self.refuse(record, &rejection),
        };
        let event_time = event.event_time();
        if event_time > record.timestamp.saturating_add(self.time.max_future_skew) {
            let message = format!(
                "event_time {event_time} lies more than {} ms ahead of the record's timestamp {}",
                self.time.max_future_skew, record.timestamp
            );
            return self.refuse(record, &Rejection::new(Reason::FutureTimestamp, message));
        }
        if self.progress.watermark.is_late(event_time) {
            self.progress.counts.late += 1;
            let watermark = self.progress.watermark.value().unwrap_or_default();
            let message = format!("event_time {event_time} is at or below the partition's watermark {watermark}");
            return self.refusals.late(record, &message, &mut self.out.records);
        }
        self.out.mark = self.mark();
        self.fold.apply(&event, &mut self.out);
        self.progress.counts.applied += 1;
        if self.progress.watermark.accept(event_time) {
            self.close();
        }
    }

    fn refuse(&mut self, record: &Record<'_>, rejection: &Rejection) {
        self.progress.counts.refuse(rejection.reason);
        self.refusals.dead_letter(record, rejection, &mut self.out.records);
    }

    /// Closes the slides that the watermark has reached, or a piece of that.
    fn close(&mut self) {
        self.close_piece();
        // of a replay's pieces nobody has a turn between
        while self.replaying && self.closing.is_some() {
            self.close_piece();
        }
    }

    fn close_piece(&mut self) {
        let Some(mut work) = self.closing.take().or_else(|| self.to_close()) else { return };
        let table = self.table.read();
        loop {
            if let Some(end) = work.end {
                if self.fold.go_on_closing(end, &table, &mut self.closing_out) == Closing::Unfinished {
                    self.closing = Some(work);
                    return;
                }
                work.after = end;
            }
            work.end = self.fold.next_end(work.after).filter(|end| *end <= work.target);
            let Some(end) = work.end else { break };
            self.fold.close(end, &table, &mut self.closing_out);
        }
        self.progress.counts.rows += self.closing_out.records.len() as u64;
        self.out.take_from(&mut self.closing_out);
        self.progress.closed = Some(work.target);
        self.next_boundary = work.target.saturating_add(self.time.windows.slide());
    }

    fn to_close(&self) -> Option<InWork> {
        let watermark = self.progress.watermark.value()?;
        let complete = watermark.min(self.table.complete()).min(self.closable);
        if complete < self.next_boundary || complete == i64::MIN {
            return None;
        }
        let after = self.progress.closed.unwrap_or(i64::MIN);
        Some(InWork { target: self.time.windows.floor(complete), after, end: None })
    }
}

impl<F: Fold> Task for FoldTask<F> {
    fn id(&self) -> TaskId {
        self.id
    }

    fn process(&mut self, record: &Record<'_>) -> Result<Processed, TaskError> {
        if self.closing.is_some() {
            return Ok(Processed::Closing);
        }
        let verdict = match self.remembered_refusal(record.offset) {
            Some(rejection) => Err(rejection),
            None => match self.source.decode(record) {
                Ok(event) => Ok(event),
                Err(SourceError::Rejected(rejection)) => Err(rejection),
                Err(SourceError::NotNow(message)) => return Ok(Processed::NotNow(message)),
            },
        };
        let mut decision = self.decide(record.offset);
        if let Err(rejection) = &verdict
            && rejection.outside
        {
            decision.refused = Some((rejection.reason.name().to_owned(), rejection.message.clone()));
        }
        self.progress.counts.read += 1;
        self.judge(record, verdict);
        self.write_decision(record.offset, &decision);
        self.position = record.offset + 1;
        Ok(Processed::Done)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn start_at(&mut self, offset: i64) {
        self.position = offset;
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
        self.out.bytes()
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
        let superseded: Vec<i64>;
        (superseded, self.decisions_written) = self.decisions_written.iter().partition(|offset| **offset < before);
        superseded.into_iter().map(decision_key).collect()
    }

    fn counts(&self) -> Option<&Counts> {
        Some(&self.progress.counts)
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
        self.decisions_written = loaded.decisions.keys().copied().collect();
        self.decisions_to_obey = loaded.decisions;
        self.replaying = true;
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
        self.replaying = false;
        self.decisions_to_obey.clear();
        self.discard_outputs();
        self.closable = i64::MAX;
    }
}
