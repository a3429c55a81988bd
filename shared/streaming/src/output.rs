//! Where operators write: flat buffers without an allocation a record, kept until their transaction is committed.

use std::ops::Range;

use records::truncation::Sizes;

use crate::frame::{Frame, Frames, write_groups, write_summary};

/// Records for output topics, in one arena.
#[derive(Debug, Default, Clone)]
pub struct OutputBuffer {
    bytes: Vec<u8>,
    records: Vec<Entry>,
    /// Of records that are handed on, with their places among all; few are.
    handed_on: Vec<(usize, Origin)>,
}

/// What is known of a record that is handed on instead of applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its offset in its source partition.
    pub(crate) offset: i64,
    /// How many bytes of the encoded headers are its own; those behind them say why it is handed on.
    pub(crate) own_headers: usize,
    /// What it had before it was cut.
    pub(crate) sizes: Sizes,
}

#[derive(Debug, Clone)]
struct Entry {
    topic: u16,
    partition: Option<i32>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// One buffered record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRecord<'a> {
    /// Index of the output topic, as the worker's topology lists them.
    pub topic: u16,
    /// The partition, where the writer chose one; else Kafka's partitioner decides by the key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Encoded headers (see [`Headers`](crate::headers)); empty for none.
    pub headers: &'a [u8],
    /// Where it comes from, if it is handed on instead of applied.
    pub handed_on: Option<Origin>,
}

impl OutputBuffer {
    /// Appends a record whose value `write` appends to the buffer it is given.
    pub fn push(&mut self, topic: u16, partition: Option<i32>, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let key = Some(self.append(key));
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        self.records.push(Entry { topic, partition, key, value: Some(start..end), headers: end..end });
    }

    /// Appends a record with headers; `value` `None` is a tombstone.
    pub fn push_with_headers(
        &mut self,
        topic: u16,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) {
        let key = key.map(|key| self.append(key));
        let value = value.map(|value| self.append(value));
        let headers = self.append(headers);
        self.records.push(Entry { topic, partition, key, value, headers });
    }

    /// Appends a record that is handed on.
    pub(crate) fn push_handed_on(
        &mut self,
        topic: u16,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
        origin: Origin,
    ) {
        self.handed_on.push((self.records.len(), origin));
        self.push_with_headers(topic, None, key, value, headers);
    }

    /// Appends a record whose value is JSON.
    pub(crate) fn push_json<T: serde::Serialize>(&mut self, topic: u16, key: &str, value: &T) {
        // plain data into memory: there is nothing that can fail
        let value = serde_json::to_vec(value).unwrap_or_default();
        self.push(topic, None, key.as_bytes(), |into| into.extend_from_slice(&value));
    }

    /// Appends a tombstone.
    pub(crate) fn push_tombstone(&mut self, topic: u16, partition: Option<i32>, key: &str) {
        self.push_with_headers(topic, partition, Some(key.as_bytes()), None, &[]);
    }

    /// Moves all records of `other` behind the ones here.
    pub(crate) fn take_from(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        let before = self.records.len();
        self.handed_on.extend(other.handed_on.iter().map(|(at, origin)| (before + at, *origin)));
        let base = self.bytes.len();
        let shift = |range: &Range<usize>| range.start + base..range.end + base;
        self.bytes.extend_from_slice(&other.bytes);
        self.records.extend(other.records.iter().map(|entry| Entry {
            topic: entry.topic,
            partition: entry.partition,
            key: entry.key.as_ref().map(shift),
            value: entry.value.as_ref().map(shift),
            headers: shift(&entry.headers),
        }));
        other.clear();
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// The records in the order of their appending.
    pub fn iter(&self) -> impl Iterator<Item = OutputRecord<'_>> {
        let mut handed_on = self.handed_on.iter().peekable();
        self.records.iter().enumerate().map(move |(at, entry)| OutputRecord {
            handed_on: handed_on.next_if(|(place, _)| *place == at).map(|(_, origin)| *origin),
            topic: entry.topic,
            partition: entry.partition,
            key: entry.key.clone().map(|key| &self.bytes[key]),
            value: entry.value.clone().map(|value| &self.bytes[value]),
            headers: &self.bytes[entry.headers.clone()],
        })
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.records.len() * size_of::<Entry>()
    }

    /// Bytes that it has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Entry>()
    }

    /// Forgets all records, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.handed_on.clear();
    }
}

/// What a fold's slide emits: summaries for the merge step and records for output topics.
#[derive(Debug)]
pub struct FoldOutput {
    /// Records for output topics.
    pub records: OutputBuffer,
    /// Summary frames by merge partition, see [`crate::frame`].
    pub(crate) frames: Vec<Vec<u8>>,
    /// Table entries and their removals; the topic is the runtime's to fill in.
    pub(crate) entries: OutputBuffer,
    /// The mark of this partition, which entries are written with.
    pub(crate) mark: Option<i64>,
}

impl FoldOutput {
    /// An output for `merge_partitions` (at least 1) partitions of the repartition topic.
    #[must_use]
    pub fn new(merge_partitions: usize) -> Self {
        Self {
            records: OutputBuffer::default(),
            frames: vec![Vec::new(); merge_partitions.max(1)],
            entries: OutputBuffer::default(),
            mark: None,
        }
    }

    /// Writes a table entry, or replaces the one with this key; `write` appends its bytes, as the table's
    /// [`put`](crate::operator::Table::put) reads them.
    pub fn put(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let mark = self.mark;
        self.entries.push(0, None, key, |into| {
            write_mark(into, mark);
            write(into);
        });
    }

    /// The mark of this partition (epoch ms): what lies at or below it may have been looked up already. Entries written from
    /// now on count for later times only.
    #[must_use]
    pub fn mark(&self) -> Option<i64> {
        self.mark
    }

    /// The same output with another mark: for tests of operators.
    #[must_use]
    pub fn with_mark(self, mark: Option<i64>) -> Self {
        Self { mark, ..self }
    }

    /// Removes a table entry.
    pub fn remove(&mut self, key: &[u8]) {
        self.entries.push_with_headers(0, None, Some(key), None, &[]);
    }

    /// The table entries written so far as (key, bytes), `None` for a removal: for tests of operators.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|entry| {
            let bytes = entry.value.and_then(split_mark).map(|(_, bytes)| bytes);
            (entry.key.unwrap_or_default(), bytes)
        })
    }

    /// One group's summary of the window that ends at `end`; `write` appends its bytes, as the merge's `decode` reads
    /// them. Groups of one `merge_key` meet in one merge partition.
    pub fn summary(&mut self, end: i64, merge_key: &[u8], group: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let partition = if self.frames.len() == 1 {
            0
        } else {
            (xxhash_rust::xxh64::xxh64(merge_key, 0) % self.frames.len() as u64) as usize
        };
        write_summary(&mut self.frames[partition], end, group, write);
    }

    /// Tells all merge partitions that the window that ends at `end` has groups, so that those with none of them can count
    /// it: see [`had_groups`](crate::operator::Merge::had_groups).
    pub fn tell_of_groups(&mut self, end: i64) {
        // one alone has them all
        if self.frames.len() > 1 {
            self.frames.iter_mut().for_each(|frames| write_groups(frames, end));
        }
    }

    /// Moves all of `other` behind what is here.
    pub(crate) fn take_from(&mut self, other: &mut Self) {
        self.records.take_from(&mut other.records);
        self.entries.take_from(&mut other.entries);
        for (frames, others) in self.frames.iter_mut().zip(&mut other.frames) {
            if frames.is_empty() {
                std::mem::swap(frames, others);
            }
            frames.append(others);
        }
    }

    /// Bytes that wait in records and summaries.
    pub(crate) fn bytes(&self) -> usize {
        self.records.bytes() + self.entries.bytes() + self.frames.iter().map(Vec::len).sum::<usize>()
    }

    /// Forgets everything, keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.entries.clear();
        self.frames.iter_mut().for_each(Vec::clear);
    }

    /// The windows of which was told that they have groups, as (merge partition, window end): for tests of operators.
    pub fn told_of_groups(&self) -> impl Iterator<Item = (usize, i64)> {
        self.read_frames().filter_map(|(partition, frame)| match frame {
            Frame::Groups { end } => Some((partition, end)),
            _ => None,
        })
    }

    /// The summaries emitted so far as (merge partition, window end, group, bytes): for tests of operators.
    pub fn summaries(&self) -> impl Iterator<Item = (usize, i64, &[u8], &[u8])> {
        self.read_frames().filter_map(|(partition, frame)| match frame {
            Frame::Summary { end, group, summary } => Some((partition, end, group, summary)),
            _ => None,
        })
    }

    fn read_frames(&self) -> impl Iterator<Item = (usize, Frame<'_>)> {
        let partitions = self.frames.iter().enumerate();
        partitions.flat_map(|(partition, frames)| Frames::new(frames).flatten().map(move |frame| (partition, frame)))
    }
}

/// A table entry's bytes begin with the mark at which it was written; `i64::MIN` for none.
fn write_mark(into: &mut Vec<u8>, mark: Option<i64>) {
    into.extend_from_slice(&mark.unwrap_or(i64::MIN).to_le_bytes());
}

/// The mark of a table entry, and its own bytes; `None` where it is too short to be one.
pub(crate) fn split_mark(entry: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let (mark, bytes) = entry.split_first_chunk::<8>()?;
    let mark = i64::from_le_bytes(*mark);
    Some(((mark != i64::MIN).then_some(mark), bytes))
}

/// What a closed window emits: rows for output topics.
#[derive(Debug, Default)]
pub struct MergeOutput {
    /// Records for output topics.
    pub records: OutputBuffer,
    /// History records by the operator's own keys; topic and partition are the runtime's to fill in.
    pub(crate) history: OutputBuffer,
    /// Keys remembered since the runtime last asked, and not forgotten since.
    pub(crate) remembered: Vec<String>,
    /// Keys forgotten since the runtime last asked, and not remembered since.
    pub(crate) forgotten: Vec<String>,
    /// How many of the records are no rows.
    pub(crate) asides: u64,
}

impl MergeOutput {
    /// Appends a record that is no row, such as an alert: it is not counted as one.
    pub fn push_aside(&mut self, topic: u16, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.asides += 1;
        self.records.push(topic, None, key, write);
    }

    /// Writes a part of the operator's state that will not change any more, once: it need not be in snapshots, and comes
    /// back by [`recall`](crate::operator::Merge::recall). At most 900 KiB.
    pub fn remember(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.history.push(0, None, key.as_bytes(), write);
        self.forgotten.retain(|forgotten| forgotten != key);
        self.remembered.push(key.to_owned());
    }

    /// What was remembered under `key` is not needed any more.
    pub fn forget(&mut self, key: &str) {
        self.remembered.retain(|remembered| remembered != key);
        self.forgotten.push(key.to_owned());
    }

    /// What was remembered so far as (key, bytes): for tests of operators.
    pub fn remembered(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.history.iter().map(|record| (record.key.unwrap_or_default(), record.value.unwrap_or_default()))
    }

    /// What was forgotten so far: for tests of operators.
    #[must_use]
    pub fn forgotten(&self) -> &[String] {
        &self.forgotten
    }
}
