//! The merge's task: adds the summaries of all source partitions and closes a window when all have announced a
//! watermark at or past its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::frame::{Frame, Frames, write_groups, write_summary};
use crate::operator::{Figure, Merge, Record, RestoreError, StateSize};
use crate::output::{MergeOutput, OutputBuffer};
use crate::progress::MergeProgress;
use crate::resume::Lost;
use crate::state::{Loaded, encode, history_key};
use crate::task::{Processed, Reached, Task, TaskError, TaskId, split_header, write_with_length};
use crate::window::is_computable;

/// What has come of a window.
struct Open<S> {
    groups: BTreeMap<Box<[u8]>, S>,
    /// Whether a fold has told that there are groups, here or in other merge partitions.
    has_groups: bool,
    /// What the groups take, estimated.
    bytes: u64,
}

impl<S> Default for Open<S> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), has_groups: false, bytes: 0 }
    }
}

/// See the module.
pub(crate) struct MergeTask<M: Merge> {
    id: TaskId,
    topics: MergeTopics,
    merge: M,
    position: i64,
    progress: Progress,
    windows: BTreeMap<i64, Open<M::Summary>>,
    out: MergeOutput,
    /// Keys of history that the operator has forgotten, with the offset behind which it had: a snapshot at or behind that
    /// needs it no more.
    forgotten: Vec<(i64, String)>,
}

/// Indices of the topics that a merge writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MergeTopics {
    pub(crate) watermarks: u16,
    pub(crate) state: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    /// What each source partition has announced.
    announced: Vec<Option<i64>>,
    closed: Option<i64>,
    rows: u64,
}

/// The window that ends at `end`, which must not be closed.
fn open<S>(windows: &mut BTreeMap<i64, Open<S>>, closed: Option<i64>, end: i64) -> Result<&mut Open<S>, String> {
    if !is_computable(end) {
        return Err(format!("something of a window that ends at {end}, which no event is in"));
    }
    if closed.is_some_and(|closed| end <= closed) {
        return Err(format!("something of the window that ends at {end}, which is closed"));
    }
    Ok(windows.entry(end).or_default())
}

impl<M: Merge> MergeTask<M> {
    pub(crate) fn new(id: TaskId, topics: MergeTopics, merge: M, source_partitions: usize) -> Self {
        Self {
            id,
            topics,
            merge,
            position: 0,
            progress: Progress { announced: vec![None; source_partitions], closed: None, rows: 0 },
            windows: BTreeMap::new(),
            out: MergeOutput::default(),
            forgotten: Vec::new(),
        }
    }

    fn take_in(&mut self, frames: &[u8]) -> Result<(), String> {
        let mut announced = false;
        for frame in Frames::new(frames) {
            match frame.map_err(|error| error.to_string())? {
                Frame::Summary { end, group, summary } => self.add(end, group, summary)?,
                Frame::Watermark { watermark, .. } if !is_computable(watermark) => {
                    return Err(format!("a watermark of {watermark}, which no event has"));
                }
                Frame::Watermark { partition, watermark } => {
                    let slot = usize::try_from(partition).ok().and_then(|index| self.progress.announced.get_mut(index));
                    let slot =
                        slot.ok_or_else(|| format!("a watermark of source partition {partition}, which is none"))?;
                    *slot = (*slot).max(Some(watermark));
                    announced = true;
                }
                Frame::Groups { end } => open(&mut self.windows, self.progress.closed, end)?.has_groups = true,
                Frame::Command(command) => self.merge.command(command, &mut self.out),
            }
        }
        if announced {
            self.close();
        }
        Ok(())
    }

    /// Takes note of what the operator needs no more, and of what it remembers anew: that is not to be removed.
    fn note_forgotten(&mut self) {
        for key in self.out.remembered.drain(..) {
            self.forgotten.retain(|(_, forgotten)| *forgotten != key);
        }
        for key in self.out.forgotten.drain(..) {
            self.forgotten.push((self.position, key));
        }
    }

    fn add(&mut self, end: i64, group: &[u8], summary: &[u8]) -> Result<(), String> {
        let decoded = self.merge.decode(summary).map_err(|error| error.to_string())?;
        let Open { groups, bytes, .. } = open(&mut self.windows, self.progress.closed, end)?;
        match groups.get_mut(group) {
            Some(existing) => self.merge.merge(existing, decoded),
            None => {
                *bytes += (group.len() + size_of::<M::Summary>() + summary.len()) as u64;
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
        let before = (self.out.records.len() as u64, self.out.asides);
        while let Some(entry) = self.windows.first_entry().filter(|entry| *entry.key() <= watermark) {
            let (end, Open { groups, has_groups, .. }) = entry.remove_entry();
            if !groups.is_empty() {
                self.merge.close(end, groups, &mut self.out);
            }
            if has_groups {
                self.merge.had_groups(end, &mut self.out);
            }
        }
        self.progress.rows += (self.out.records.len() as u64 - before.0) - (self.out.asides - before.1);
        self.progress.closed = Some(watermark);
    }
}

impl<M: Merge> Task for MergeTask<M> {
    fn process(&mut self, record: &Record<'_>, _: i64) -> Result<Processed, TaskError> {
        let frames = record.value.unwrap_or_default();
        self.take_in(frames).map_err(|problem| TaskError { task: self.id, offset: record.offset, problem })?;
        self.position = record.offset + 1;
        self.note_forgotten();
        Ok(Processed::Done)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn start_at(&mut self, offset: i64) {
        self.position = offset;
    }

    fn skip(&mut self, lost: Lost) {
        self.position = lost.to;
    }

    fn reached(&self) -> Reached {
        Reached { watermark: self.progress.closed, closed: self.progress.closed, mark: None }
    }

    fn follow(&mut self, _: i64) -> bool {
        false
    }

    fn pending_bytes(&self) -> usize {
        self.out.records.bytes() + self.out.history.bytes()
    }

    fn row_waits(&self) -> bool {
        !self.out.records.is_empty()
    }

    fn drain(&mut self, into: &mut OutputBuffer) {
        into.take_from(&mut self.out.records);
        for record in self.out.history.iter() {
            let key = String::from_utf8_lossy(record.key.unwrap_or_default());
            let (partition, key) = (Some(self.id.partition), history_key(&key));
            into.push_with_headers(self.topics.state, partition, Some(key.as_bytes()), record.value, &[]);
        }
        self.out.history.clear();
    }

    fn announce(&self, _: bool, _: Option<i64>, into: &mut OutputBuffer) {
        let progress = MergeProgress { closed: self.progress.closed, offset: self.position, rows: self.progress.rows };
        into.push_json(self.topics.watermarks, &self.id.to_string(), &progress);
    }

    fn superseded(&mut self, before: i64) -> Vec<String> {
        let superseded: Vec<(i64, String)>;
        (superseded, self.forgotten) = self.forgotten.drain(..).partition(|(position, _)| *position <= before);
        superseded.into_iter().map(|(_, key)| history_key(&key)).collect()
    }

    fn counts(&self) -> Option<&Counts> {
        None
    }

    fn size(&self) -> StateSize {
        let mut size = self.merge.size();
        for open in self.windows.values() {
            size.keys += open.groups.len() as u64;
            size.bytes += open.bytes;
        }
        size
    }

    fn open_windows(&self) -> usize {
        self.windows.len()
    }

    fn overflowed(&self) -> u64 {
        self.merge.overflowed()
    }

    fn figures(&self) -> Vec<Figure<'_>> {
        self.merge.figures()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        write_with_length(into, |into| into.extend(encode(&self.progress)));
        write_with_length(into, |into| {
            for (end, open) in &self.windows {
                for (group, summary) in &open.groups {
                    write_summary(into, *end, group, |into| self.merge.encode(summary, into));
                }
                if open.has_groups {
                    write_groups(into, *end);
                }
            }
        });
        self.merge.snapshot(into);
    }

    fn restore(&mut self, loaded: Loaded, _: Reached) -> Result<(), RestoreError> {
        for (key, bytes) in &loaded.history {
            self.merge.recall(key, bytes)?;
        }
        let (header, rest) = split_header(&loaded.state)?;
        let (frames, operator) = split_header(rest)?;
        let progress: Progress = postcard::from_bytes(header).map_err(|error| RestoreError(error.to_string()))?;
        let (there, expected) = (progress.announced.len(), self.progress.announced.len());
        if there != expected {
            return Err(RestoreError(format!("it knows {there} source partitions, there are {expected}")));
        }
        self.windows.clear();
        self.progress.closed = None;
        self.take_in(frames).map_err(RestoreError)?;
        self.progress = progress;
        self.merge.restore(operator)
    }

    fn discard_outputs(&mut self) {
        self.out.records.clear();
        self.out.history.clear();
    }

    fn end_replay(&mut self, _: Reached) {
        self.discard_outputs();
    }

    fn go_live(&mut self) {
        self.merge.begin(&mut self.out);
        self.note_forgotten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{write_command, write_watermark};
    use crate::headers;
    use crate::output::OutputBuffer;
    use crate::state::StateLog;
    use crate::task::Step;

    const TOPICS: MergeTopics = MergeTopics { watermarks: 1, state: 2 };
    const KEPT: usize = 2;

    /// Counts; a row names the windows that it remembers. A command is remembered too.
    #[derive(Default)]
    struct Remembering(BTreeMap<String, Vec<u8>>);

    impl Merge for Remembering {
        type Summary = u8;

        fn decode(&self, bytes: &[u8]) -> Result<u8, RestoreError> {
            bytes.first().copied().ok_or_else(|| RestoreError("empty".to_owned()))
        }

        fn encode(&self, summary: &u8, into: &mut Vec<u8>) {
            into.push(*summary);
        }

        fn merge(&self, into: &mut u8, other: u8) {
            *into += other;
        }

        fn close(&mut self, end: i64, groups: BTreeMap<Box<[u8]>, u8>, out: &mut MergeOutput) {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            out.records.push(0, None, known.join(" ").as_bytes(), |_| {});
            out.push_aside(0, b"an aside", |_| {});
            let (key, sum) = (format!("{end:03}"), groups.values().sum());
            out.remember(&key, |into| into.push(sum));
            self.0.insert(key, vec![sum]);
            if self.0.len() > KEPT
                && let Some((oldest, _)) = self.0.pop_first()
            {
                out.forget(&oldest);
            }
        }

        fn had_groups(&mut self, end: i64, out: &mut MergeOutput) {
            out.push_aside(0, format!("groups up to {end}").as_bytes(), |_| {});
        }

        fn begin(&mut self, out: &mut MergeOutput) {
            out.records.push(0, None, format!("live after {}", self.0.len()).as_bytes(), |_| {});
        }

        fn size(&self) -> StateSize {
            StateSize { keys: self.0.len() as u64, bytes: self.0.values().map(|bytes| bytes.len() as u64).sum() }
        }

        fn command(&mut self, bytes: &[u8], out: &mut MergeOutput) {
            if bytes == b"unpin" {
                return out.forget("zz");
            }
            out.remember("zz", |into| into.extend_from_slice(bytes));
            self.0.insert("zz".to_owned(), bytes.to_vec());
        }

        fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
            self.0.insert(key.to_owned(), bytes.to_vec());
            Ok(())
        }
    }

    fn task() -> MergeTask<Remembering> {
        MergeTask::new(TaskId { pipeline: 0, step: Step::Merge, partition: 3 }, TOPICS, Remembering::default(), 1)
    }

    fn window(task: &mut MergeTask<Remembering>, end: i64) {
        let mut frames = Vec::new();
        write_summary(&mut frames, end, b"g", |into| into.push(1));
        write_watermark(&mut frames, 0, end);
        send(task, &frames);
    }

    fn send(task: &mut MergeTask<Remembering>, frames: &[u8]) {
        let record =
            Record { key: None, value: Some(frames), timestamp: None, offset: task.position(), headers: headers::NONE };
        assert_eq!(task.process(&record, 0).unwrap(), Processed::Done);
    }

    /// What a cut writes: history keys into the log; answers the rows and the number of history records.
    fn cut(task: &mut MergeTask<Remembering>, log: &mut StateLog) -> (Vec<String>, usize) {
        let mut buffer = OutputBuffer::default();
        task.drain(&mut buffer);
        let (mut rows, mut history) = (Vec::new(), 0);
        for record in buffer.iter() {
            let key = record.key.unwrap();
            if record.topic == TOPICS.state {
                assert_eq!(record.partition, Some(3));
                log.record(key, record.value, 0);
                history += 1;
            } else if key != b"an aside" {
                rows.push(String::from_utf8(key.to_vec()).unwrap());
            }
        }
        (rows, history)
    }

    /// What is read back from a log behind which this snapshot is written.
    fn loaded(mut log: StateLog, state: &[u8], position: i64) -> Loaded {
        let snapshot = crate::state::pack(state, 1, position).unwrap();
        log.record(b"chunk/1/0", Some(&snapshot.chunks[0]), 0);
        log.record(b"manifest", Some(&encode(&snapshot.manifest)), 0);
        log.load().unwrap().unwrap()
    }

    #[test]
    fn open_windows_and_what_the_operator_keeps_are_the_state() {
        let mut task = task();
        for end in [10, 20] {
            window(&mut task, end);
        }
        assert_eq!(task.size(), StateSize { keys: 2, bytes: 2 });
        let mut frames = Vec::new();
        write_summary(&mut frames, 30, b"g", |into| into.push(1));
        send(&mut task, &frames);
        assert_eq!(task.size(), StateSize { keys: 3, bytes: 2 + 3 });
    }

    #[test]
    fn windows_with_groups_elsewhere_are_told_in_their_turn_also_after_a_restart() {
        let mut task = task();
        let mut frames = Vec::new();
        write_groups(&mut frames, 20);
        write_summary(&mut frames, 10, b"g", |into| into.push(1));
        write_groups(&mut frames, 10);
        send(&mut task, &frames);
        let mut state = Vec::new();
        task.snapshot(&mut state);
        let mut restored = self::task();
        restored.restore(loaded(StateLog::default(), &state, task.position()), task.reached()).unwrap();
        for mut task in [task, restored] {
            let mut frames = Vec::new();
            write_groups(&mut frames, 10);
            write_watermark(&mut frames, 0, 25);
            send(&mut task, &frames);
            let (rows, _) = cut(&mut task, &mut StateLog::default());
            assert_eq!(rows, ["", "groups up to 10", "groups up to 20"]);
            assert_eq!(task.progress.rows, 1);
        }
    }

    #[test]
    fn history_is_written_once_removed_behind_a_snapshot_and_comes_back() {
        let (mut task, mut log) = (task(), StateLog::default());
        for end in [10, 20] {
            window(&mut task, end);
        }
        assert_eq!(cut(&mut task, &mut log), (vec![String::new(), "010".to_owned()], 2));
        assert_eq!(task.progress.rows, 2, "what is pushed aside is no row");
        let (mut state, snapshot_at) = (Vec::new(), task.position());
        task.snapshot(&mut state);
        assert_eq!(task.superseded(snapshot_at), Vec::<String>::new());
        window(&mut task, 30);
        let mut frames = Vec::new();
        write_command(&mut frames, b"pin");
        send(&mut task, &frames);
        assert_eq!(cut(&mut task, &mut log), (vec!["010 020".to_owned()], 2));
        assert_eq!(task.superseded(snapshot_at), Vec::<String>::new(), "a replay from that snapshot needs 010");
        let reached = task.reached();

        let mut restored = self::task();
        restored.restore(loaded(log.clone(), &state, snapshot_at), reached).unwrap();
        restored.start_at(snapshot_at);
        window(&mut restored, 30);
        send(&mut restored, &frames);
        restored.end_replay(reached);
        assert_eq!(cut(&mut restored, &mut log), (vec![], 0), "all of that was committed before");
        assert_eq!(restored.merge.0, task.merge.0);
        restored.go_live();
        assert_eq!(cut(&mut restored, &mut log), (vec!["live after 3".to_owned()], 0), "that is news");
        for task in [&mut task, &mut restored] {
            window(task, 40);
            assert_eq!(cut(task, &mut log.clone()), (vec!["020 030 zz".to_owned()], 1));
            let mut superseded = task.superseded(task.position());
            superseded.sort();
            assert_eq!(superseded, ["history/010", "history/020"].map(str::to_owned).to_vec());
        }
    }

    #[test]
    fn the_last_word_about_a_key_counts_also_where_others_wait_for_the_same_cut() {
        let command = |task: &mut MergeTask<Remembering>, word: &[u8]| {
            let mut frames = Vec::new();
            write_command(&mut frames, word);
            send(task, &frames);
        };
        let mut task = task();
        command(&mut task, b"pin");
        command(&mut task, b"unpin");
        assert_eq!(cut(&mut task, &mut StateLog::default()), (vec![], 1));
        assert_eq!(task.superseded(task.position()), ["history/zz"]);
        command(&mut task, b"unpin");
        command(&mut task, b"pin");
        // as a replay does: the record was committed before
        task.discard_outputs();
        assert_eq!(task.superseded(task.position()), Vec::<String>::new());
    }
}
