//! The merge's task: adds the summaries of all source partitions and closes a window when all have announced a
//! watermark at or past its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::frame::{Frame, Frames, write_summary};
use crate::operator::{Merge, Record, RestoreError, StateSize};
use crate::output::{MergeOutput, OutputBuffer};
use crate::progress::MergeProgress;
use crate::state::{Decision, encode};
use crate::task::{HeaderWriter, Processed, Task, TaskError, TaskId, split_header, write_with_length};

type Groups<S> = BTreeMap<Box<[u8]>, S>;

/// See the module.
pub(crate) struct MergeTask<M: Merge> {
    id: TaskId,
    watermarks_topic: u16,
    merge: M,
    position: i64,
    progress: Progress,
    windows: BTreeMap<i64, Groups<M::Summary>>,
    out: MergeOutput,
    bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    /// What each source partition has announced.
    announced: Vec<Option<i64>>,
    closed: Option<i64>,
    rows: u64,
}

impl<M: Merge> MergeTask<M> {
    pub(crate) fn new(id: TaskId, watermarks_topic: u16, merge: M, source_partitions: usize) -> Self {
        Self {
            id,
            watermarks_topic,
            merge,
            position: 0,
            progress: Progress { announced: vec![None; source_partitions], closed: None, rows: 0 },
            windows: BTreeMap::new(),
            out: MergeOutput::default(),
            bytes: 0,
        }
    }

    fn take_in(&mut self, frames: &[u8]) -> Result<(), String> {
        let mut announced = false;
        for frame in Frames::new(frames) {
            match frame.map_err(|error| error.to_string())? {
                Frame::Summary { end, group, summary } => self.add(end, group, summary)?,
                Frame::Watermark { partition, watermark } => {
                    let slot = usize::try_from(partition).ok().and_then(|index| self.progress.announced.get_mut(index));
                    let slot =
                        slot.ok_or_else(|| format!("a watermark of source partition {partition}, which is none"))?;
                    *slot = (*slot).max(Some(watermark));
                    announced = true;
                }
            }
        }
        if announced {
            self.close();
        }
        Ok(())
    }

    fn add(&mut self, end: i64, group: &[u8], summary: &[u8]) -> Result<(), String> {
        if self.progress.closed.is_some_and(|closed| end <= closed) {
            return Err(format!("a summary of the window that ends at {end}, which is closed"));
        }
        let decoded = self.merge.decode(summary).map_err(|error| error.to_string())?;
        let groups = self.windows.entry(end).or_default();
        match groups.get_mut(group) {
            Some(existing) => self.merge.merge(existing, decoded),
            None => {
                self.bytes += (group.len() + size_of::<M::Summary>() + summary.len()) as u64;
                groups.insert(group.into(), decoded);
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(watermark) = self.progress.announced.iter().copied().min().flatten() else { return };
        if self.progress.closed.is_some_and(|closed| watermark <= closed) {
            return;
        }
        let before = self.out.records.len();
        while let Some(entry) = self.windows.first_entry().filter(|entry| *entry.key() <= watermark) {
            let (end, groups) = entry.remove_entry();
            self.merge.close(end, groups, &mut self.out);
        }
        if self.windows.is_empty() {
            self.bytes = 0;
        }
        self.progress.rows += (self.out.records.len() - before) as u64;
        self.progress.closed = Some(watermark);
    }
}

impl<M: Merge> Task for MergeTask<M> {
    fn id(&self) -> TaskId {
        self.id
    }

    fn process(&mut self, record: &Record<'_>, _: HeaderWriter<'_>) -> Result<Processed, TaskError> {
        let frames = record.value.unwrap_or_default();
        self.take_in(frames).map_err(|problem| TaskError { task: self.id, offset: record.offset, problem })?;
        self.position = record.offset + 1;
        Ok(Processed::Done)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn start_at(&mut self, offset: i64) {
        self.position = offset;
    }

    fn watermark(&self) -> Option<i64> {
        self.progress.closed
    }

    fn follow(&mut self, _: i64) -> bool {
        false
    }

    fn pending_bytes(&self) -> usize {
        self.out.records.bytes()
    }

    fn row_waits(&self) -> bool {
        !self.out.records.is_empty()
    }

    fn drain(&mut self, into: &mut OutputBuffer) {
        into.take_from(&mut self.out.records);
    }

    fn announce(&self, _: bool, into: &mut OutputBuffer) {
        let progress = MergeProgress { closed: self.progress.closed, offset: self.position, rows: self.progress.rows };
        into.push_json(self.watermarks_topic, &self.id.to_string(), &progress);
    }

    fn superseded_decisions(&mut self, _: i64) -> Vec<i64> {
        Vec::new()
    }

    fn counts(&self) -> Option<&Counts> {
        None
    }

    fn size(&self) -> StateSize {
        let keys = self.windows.values().map(|groups| groups.len() as u64).sum();
        StateSize { keys, bytes: self.bytes }
    }

    fn open_windows(&self) -> usize {
        self.windows.len()
    }

    fn overflowed(&self) -> u64 {
        self.merge.overflowed()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        write_with_length(into, |into| into.extend(encode(&self.progress)));
        write_with_length(into, |into| {
            for (end, groups) in &self.windows {
                for (group, summary) in groups {
                    write_summary(into, *end, group, |into| self.merge.encode(summary, into));
                }
            }
        });
        self.merge.snapshot(into);
    }

    fn restore(&mut self, state: &[u8], _: BTreeMap<i64, Decision>) -> Result<(), RestoreError> {
        let (header, rest) = split_header(state)?;
        let (frames, operator) = split_header(rest)?;
        let progress: Progress = postcard::from_bytes(header).map_err(|error| RestoreError(error.to_string()))?;
        self.windows.clear();
        self.bytes = 0;
        self.progress.closed = None;
        self.take_in(frames).map_err(RestoreError)?;
        self.progress = progress;
        self.merge.restore(operator)
    }

    fn discard_outputs(&mut self) {
        self.out.records.clear();
    }

    fn end_replay(&mut self, _: Option<i64>) {
        self.discard_outputs();
    }
}
