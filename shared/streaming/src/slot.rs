//! A stream thread's side of one task: its phase, its snapshots, its idleness, what is committed of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::TopicId;
use prometheus_client::metrics::gauge::Gauge;
use service::Wait;

use crate::counts::Counts;
use crate::cut::Part;
use crate::metadata::CommitMetadata;
use crate::output::OutputBuffer;
use crate::partition_queue::PartitionQueue;
use crate::restore::Restored;
use crate::state::{MANIFEST_KEY, Packed, TOPIC_ID_KEY, chunk_key, encode};
use crate::task::{Reached, Step, Task, TaskId};
use crate::telemetry::{FigureLabels, PartitionLabels};
use crate::warning_limit::WarningLimit;

/// Snapshot pieces that one transaction carries for one task, in bytes.
const PIECES_BYTES: usize = 4 * 1024 * 1024;

/// A confirmation of a partition's end is good for this long.
const FRESH: Duration = Duration::from_secs(1);

/// Longer than snapshots are apart.
const SOON: Duration = Duration::from_secs(24 * 3600);

/// A larger buffer is given back to the system after its cut.
const KEPT_BYTES: usize = 32 * 1024 * 1024;

/// What a slot's task is doing.
pub(crate) enum Phase {
    /// Its state is being read; its partition is paused.
    Restoring,
    /// It processes records.
    Running(Box<dyn Task>),
    /// It is being given up: what it has produced is committed, nothing new is read.
    Leaving(Box<dyn Task>),
}

/// Where the task's next snapshot is.
enum Snapshot {
    /// Not due, or nothing has changed.
    Waiting,
    /// Being compressed elsewhere.
    Packing,
    /// Its chunks go out with the following transactions.
    Writing { packed: Packed, next: usize },
}

/// What was in the last part cut.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: i64,
    reached: Reached,
    idle: bool,
}

/// A partition whose next record cannot be decoded yet.
pub(crate) struct Waiting {
    pub(crate) until: Instant,
    /// From one look to the next.
    pub(crate) pause: Duration,
    pub(crate) wait: Wait,
}

/// See the module.
pub(crate) struct Slot {
    pub(crate) id: TaskId,
    pub(crate) input_topic: Arc<str>,
    /// Counts the task's assignments to this thread: answers to an earlier one are dropped.
    pub(crate) assignment: u64,
    pub(crate) labels: PartitionLabels,
    pub(crate) phase: Phase,
    /// Where its records come from; `None` before its partition is assigned.
    pub(crate) queue: Option<PartitionQueue>,
    pub(crate) paused: bool,
    /// Something outside did not answer: the partition is tried again, and shows as waiting.
    pub(crate) waits: Option<Waiting>,
    /// The watermark at which flow control takes partitions to stand that have not spoken yet.
    pub(crate) first_watermark: Option<i64>,
    pub(crate) idleness: Idleness,
    /// Where it shows how far it is; set at every tick, so that what is not committed can be seen.
    pub(crate) position_gauge: Option<Gauge>,
    /// Counts as last added to the metrics.
    pub(crate) counted: Option<Counts>,
    /// Event times in the future that were warned of.
    pub(crate) future_warnings: WarningLimit,
    /// What its operator has told of itself.
    pub(crate) told: Vec<FigureLabels>,
    state_topic: u16,
    generation: u64,
    next_generation: u64,
    obsolete: Vec<String>,
    snapshot: Snapshot,
    last_snapshot: Instant,
    /// Where the task stood at its newest snapshot: offset, and what was closed.
    snapshot_at: (i64, Option<i64>),
    /// What was closed at the newest snapshot whose manifest was written.
    restores_from: Option<i64>,
    last_part: Option<Mark>,
    /// The memory of a committed cut, for the next one.
    spare: OutputBuffer,
}

/// Whether a source partition is idle (METRICS.md §1): read to its end, and its watermark has not risen for a while.
pub(crate) struct Idleness {
    last_rise: Instant,
    seen_watermark: Option<i64>,
    /// The position at which a question has confirmed the end, and when that was asked.
    confirmed: Option<(i64, Instant)>,
    pub(crate) asked: bool,
    pub(crate) last_asked: Instant,
}

impl Idleness {
    fn new(now: Instant) -> Self {
        Self { last_rise: now, seen_watermark: None, confirmed: None, asked: false, last_asked: now }
    }

    /// Takes note of the watermark that the partition's own records have made.
    pub(crate) fn observe(&mut self, watermark: Option<i64>, now: Instant) {
        if watermark > self.seen_watermark {
            self.seen_watermark = watermark;
            self.last_rise = now;
        }
    }

    /// A followed watermark is no sign of life.
    pub(crate) fn followed(&mut self, watermark: Option<i64>) {
        self.seen_watermark = self.seen_watermark.max(watermark);
    }

    pub(crate) fn silent(&self, timeout: Duration, now: Instant) -> bool {
        now.duration_since(self.last_rise) >= timeout
    }

    pub(crate) fn confirm(&mut self, position: i64, at_end: bool) {
        self.asked = false;
        self.confirmed = at_end.then_some((position, self.last_asked));
    }

    /// Whether the end was confirmed after the partition had been silent for long enough.
    pub(crate) fn is_idle(&self, position: i64, timeout: Duration, now: Instant) -> bool {
        let after_silence =
            |asked: &(i64, Instant)| asked.0 == position && asked.1.duration_since(self.last_rise) >= timeout;
        self.silent(timeout, now) && self.confirmed.as_ref().is_some_and(after_silence)
    }

    /// Whether it is idle, and was at its end a moment ago: records may have come while the thread was busy elsewhere,
    /// and are not to become late by that.
    pub(crate) fn may_follow(&self, position: i64, timeout: Duration, now: Instant) -> bool {
        self.is_idle(position, timeout, now)
            && self.confirmed.is_some_and(|(_, asked)| now.duration_since(asked) <= FRESH)
    }
}

/// What a part's metadata says beside the watermark.
#[derive(Clone)]
pub(crate) struct Semantics {
    pub(crate) hash: u64,
    pub(crate) partitions: i32,
    /// Id of the topic that the task reads.
    pub(crate) topic: Option<TopicId>,
}

impl Slot {
    pub(crate) fn new(id: TaskId, input_topic: Arc<str>, state_topic: u16, assignment: u64, now: Instant) -> Self {
        let labels = PartitionLabels { topic: input_topic.to_string(), partition: id.partition };
        Self {
            id,
            input_topic,
            assignment,
            labels,
            phase: Phase::Restoring,
            queue: None,
            paused: true,
            waits: None,
            first_watermark: None,
            idleness: Idleness::new(now),
            position_gauge: None,
            counted: None,
            future_warnings: WarningLimit::default(),
            told: Vec::new(),
            state_topic,
            generation: 0,
            next_generation: 1,
            obsolete: Vec::new(),
            snapshot: Snapshot::Waiting,
            last_snapshot: now,
            snapshot_at: (-1, None),
            restores_from: None,
            last_part: None,
            spare: OutputBuffer::default(),
        }
    }

    pub(crate) fn task(&self) -> Option<&dyn Task> {
        match &self.phase {
            Phase::Restoring => None,
            Phase::Running(task) | Phase::Leaving(task) => Some(task.as_ref()),
        }
    }

    pub(crate) fn task_mut(&mut self) -> Option<&mut Box<dyn Task>> {
        match &mut self.phase {
            Phase::Restoring => None,
            Phase::Running(task) | Phase::Leaving(task) => Some(task),
        }
    }

    /// The task is back: it runs from here.
    pub(crate) fn begin(&mut self, restored: Restored, stagger: Duration, now: Instant) {
        self.generation = restored.generation;
        self.next_generation = restored.next_generation;
        self.obsolete = restored.obsolete;
        self.restores_from = restored.restores_from;
        self.snapshot_at = (restored.task.position(), restored.restores_from);
        self.last_part = restored.first.is_none().then(|| Mark {
            offset: restored.task.position(),
            reached: restored.task.reached(),
            idle: false,
        });
        if let Some(packed) = restored.first {
            self.snapshot = Snapshot::Writing { packed, next: 0 };
        }
        // staggered: tasks restored together do not snapshot together
        self.last_snapshot = now.checked_sub(stagger).unwrap_or(now);
        self.idleness = Idleness::new(now);
        self.idleness.seen_watermark = restored.task.watermark();
        self.first_watermark = None;
        self.counted = restored.task.counts().cloned();
        if let (Some(counted), Some(lost)) = (&mut self.counted, restored.lost) {
            // the gap was found by this process: the metric is still to have it
            counted.lost = counted.lost.saturating_sub(lost.count());
        }
        let refused = self.counted.as_ref().map_or(0, |counts| counts.refused_times.future());
        self.future_warnings = WarningLimit::after(refused);
        self.phase = Phase::Running(restored.task);
    }

    /// Stops reading; what was produced so far is still to be committed.
    pub(crate) fn leave(&mut self) {
        self.waits = None;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Restoring) {
            Phase::Running(task) | Phase::Leaving(task) => Phase::Leaving(task),
            Phase::Restoring => Phase::Restoring,
        };
    }

    /// Whether the task has something that no cut holds yet.
    pub(crate) fn has_news(&self, idle: bool) -> bool {
        self.task().is_some_and(|task| task.pending_bytes() > 0 || self.last_part != Some(mark(task, idle)))
    }

    /// Whether the task has read or produced something that no cut holds yet.
    pub(crate) fn has_uncut_work(&self) -> bool {
        self.has_news(self.last_part.is_some_and(|mark| mark.idle))
    }

    /// Whether a snapshot is under way.
    pub(crate) fn writes_snapshot(&self) -> bool {
        !matches!(self.snapshot, Snapshot::Waiting)
    }

    /// A state to be packed, where a snapshot is due: (state, generation, offset). Not while an output waits.
    pub(crate) fn snapshot_due(&mut self, interval: Duration, now: Instant) -> Option<(Vec<u8>, u64, i64)> {
        let (Phase::Running(task) | Phase::Leaving(task)) = &self.phase else { return None };
        let due = matches!(self.snapshot, Snapshot::Waiting) && now.duration_since(self.last_snapshot) >= interval;
        let stands_at = (task.position(), task.reached().closed);
        if !due || task.is_closing() || stands_at == self.snapshot_at {
            return None;
        }
        let mut state = Vec::new();
        task.snapshot(&mut state);
        let generation = self.next_generation;
        self.next_generation += 1;
        self.last_snapshot = now;
        self.snapshot_at = stands_at;
        self.snapshot = Snapshot::Packing;
        Some((state, generation, task.position()))
    }

    /// The partition was asked about at `position`: `end` is its high watermark where no record lies between the two. The
    /// task goes on there, so that what retention deletes of markers is nothing that it still has to read.
    pub(crate) fn confirm_end(&mut self, position: i64, end: Option<i64>) {
        let mut confirmed = position;
        if let (Some(end), Phase::Running(task)) = (end, &mut self.phase)
            && task.position() == position
            && end > position
        {
            task.start_at(end);
            confirmed = end;
        }
        self.idleness.confirm(confirmed, end.is_some());
    }

    /// The next cut asks for a snapshot.
    pub(crate) fn snapshot_soon(&mut self) {
        self.snapshot_at = (-1, None);
        self.last_snapshot = self.last_snapshot.checked_sub(SOON).unwrap_or(self.last_snapshot);
    }

    /// The packed snapshot: its chunks go out from the next cut on.
    pub(crate) fn packed(&mut self, packed: Packed) {
        self.snapshot = Snapshot::Writing { packed, next: 0 };
    }

    /// Packing failed; the next interval tries again.
    pub(crate) fn packing_failed(&mut self) {
        self.snapshot = Snapshot::Waiting;
    }

    /// Takes a committed part's memory back: growing a new buffer for each cut costs page faults and copies.
    pub(crate) fn reuse(&mut self, mut outputs: OutputBuffer) {
        if outputs.capacity() <= KEPT_BYTES {
            outputs.clear();
            self.spare = outputs;
        }
    }

    /// The task's share of a cut: outputs, announcement, snapshot pieces, offset; `None` where nothing has happened.
    pub(crate) fn cut(&mut self, idle: bool, semantics: Semantics) -> Option<Part> {
        let writes_snapshot = matches!(self.snapshot, Snapshot::Writing { .. });
        if !writes_snapshot && !self.has_news(idle) {
            return None;
        }
        let mut outputs = std::mem::take(&mut self.spare);
        let news = self.task().map(|task| mark(task, idle));
        let changed = news != self.last_part;
        self.task_mut()?.drain(&mut outputs);
        let generation = self.generation;
        self.write_pieces(semantics.topic.as_ref(), &mut outputs);
        let task = self.task()?;
        if changed || generation != self.generation {
            task.announce(idle, self.restores_from, &mut outputs);
        }
        let (offset, reached) = (task.position(), task.reached());
        self.last_part = news;
        let metadata = CommitMetadata {
            reached,
            generation: self.generation,
            semantics: semantics.hash,
            partitions: semantics.partitions,
            topic: semantics.topic,
        };
        Some(Part {
            task: self.id,
            assignment: self.assignment,
            input_topic: self.input_topic.clone(),
            offset,
            metadata: metadata.to_string(),
            outputs,
        })
    }

    /// Appends the next chunks of a snapshot; behind the last one the manifest, which makes it valid, and tombstones for
    /// all that it replaces.
    fn write_pieces(&mut self, input: Option<&TopicId>, outputs: &mut OutputBuffer) {
        let Snapshot::Writing { packed, next } = &mut self.snapshot else { return };
        let (topic, partition) = (self.state_topic, Some(self.id.partition));
        let generation = packed.manifest.generation;
        let mut written = 0;
        while let Some(chunk) = packed.chunks.get(*next).filter(|_| written < PIECES_BYTES) {
            let key = chunk_key(generation, *next as u32);
            outputs.push(topic, partition, key.as_bytes(), |into| into.extend_from_slice(chunk));
            written += chunk.len();
            *next += 1;
            service::crash_point("streaming::snapshot_chunk");
        }
        if *next < packed.chunks.len() {
            return;
        }
        let manifest = packed.manifest.clone();
        let chunks = (0..packed.chunks.len()).map(|index| chunk_key(generation, index as u32)).collect();
        self.snapshot = Snapshot::Waiting;
        outputs.push(topic, partition, MANIFEST_KEY.as_bytes(), |into| into.extend(encode(&manifest)));
        if let Some(id) = input {
            outputs.push(topic, partition, TOPIC_ID_KEY.as_bytes(), |into| into.extend(id.to_string().into_bytes()));
        }
        let superseded = match &mut self.phase {
            Phase::Running(task) | Phase::Leaving(task) => task.superseded(manifest.offset),
            Phase::Restoring => Vec::new(),
        };
        let older = std::mem::replace(&mut self.obsolete, chunks);
        for key in older.into_iter().chain(superseded) {
            outputs.push_tombstone(topic, partition, &key);
        }
        self.generation = generation;
        self.restores_from = self.snapshot_at.1;
    }

    pub(crate) fn is_fold(&self) -> bool {
        self.id.step == Step::Fold
    }
}

fn mark(task: &dyn Task, idle: bool) -> Mark {
    Mark { offset: task.position(), reached: task.reached(), idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_idle_when_its_end_is_confirmed_after_the_silence_and_follows_while_that_is_fresh() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let timeout = Duration::from_secs(3);
        let mut idleness = Idleness::new(start);
        let ask = |idleness: &mut Idleness, seconds, at_end| {
            idleness.last_asked = at(seconds);
            idleness.confirm(7, at_end);
        };
        ask(&mut idleness, 1, true);
        assert!(!idleness.is_idle(7, timeout, at(9)), "the end was confirmed before the silence had lasted");
        ask(&mut idleness, 9, true);
        assert!(idleness.is_idle(7, timeout, at(9)) && idleness.may_follow(7, timeout, at(10)));
        assert!(!idleness.is_idle(8, timeout, at(10)), "it was read on");
        assert!(!idleness.may_follow(7, timeout, at(20)), "who knows what has come since");
        ask(&mut idleness, 20, false);
        assert!(!idleness.is_idle(7, timeout, at(20)));
        ask(&mut idleness, 21, true);
        idleness.observe(Some(100), at(22));
        assert!(!idleness.is_idle(7, timeout, at(23)), "it has spoken");
    }
}
