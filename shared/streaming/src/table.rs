//! A worker's table: an instance's copy, how far it is complete, and the records of the table topic.
//!
//! A fold that feeds a table writes its entries, and behind them its partition's **mark**, to the partition of the table
//! topic that has its own number: all entries up to the mark are there. Every instance reads the whole topic. Key `e`
//! and the fold's key, value the mark at which the entry was written (i64, little endian, `i64::MIN` for none) and the
//! fold's bytes, a tombstone for a removal; key `m`, value the mark.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{Message, TopicPartitionList};

use crate::kafka::reader;
use crate::operator::{NoTable, RestoreError, StateSize, Table};
use crate::output::{OutputBuffer, split_mark};
use crate::worker::Worker;

const ENTRY: u8 = b'e';
const MARK: &[u8] = b"m";
/// Records applied under one lock.
const BATCH: usize = 512;

/// A table that the folds of an instance share. A fold takes the lock once a slide, never for an event.
#[derive(Debug)]
pub struct SharedTable<T> {
    table: RwLock<T>,
    /// By partition of the table topic.
    marks: Mutex<Vec<Option<i64>>>,
    /// The smallest mark (epoch ms): up to there all entries are known; `i64::MIN` before every partition has one.
    complete: AtomicI64,
    loaded: AtomicBool,
}

impl<T: Table> SharedTable<T> {
    /// A table that is filled from its topic; `table` is empty.
    #[must_use]
    pub fn new(table: T) -> Arc<Self> {
        Arc::new(Self {
            table: RwLock::new(table),
            marks: Mutex::default(),
            complete: AtomicI64::new(i64::MIN),
            loaded: AtomicBool::new(false),
        })
    }
}

impl SharedTable<NoTable> {
    /// Nothing is looked up, so nothing is waited for.
    pub(crate) fn none() -> Arc<Self> {
        let none = Self::new(NoTable);
        none.complete.store(i64::MAX, Ordering::Release);
        none
    }
}

impl<T> SharedTable<T> {
    pub(crate) fn complete(&self) -> i64 {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record of the table topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableRecord<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// A table whatever it holds.
pub(crate) trait AnyTable: Send + Sync {
    /// Makes ready for a topic of that many partitions.
    fn begin(&self, partitions: usize);

    /// Takes the next records of the topic in, all under one lock.
    fn take(&self, records: &mut dyn Iterator<Item = TableRecord<'_>>) -> Result<(), RestoreError>;

    /// The whole topic has been read once.
    fn set_loaded(&self);

    fn is_loaded(&self) -> bool;

    fn complete(&self) -> i64;

    fn size(&self) -> StateSize;
}

impl<T: Table> AnyTable for SharedTable<T> {
    fn begin(&self, partitions: usize) {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = vec![None; partitions];
    }

    fn take(&self, records: &mut dyn Iterator<Item = TableRecord<'_>>) -> Result<(), RestoreError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            take_record(&mut *table, &mut marks, &record).map_err(|error| {
                RestoreError(format!("partition {}, offset {}: {}", record.partition, record.offset, error.0))
            })?;
        }
        // behind the entries that it covers
        let complete = marks.iter().copied().min().flatten().unwrap_or(i64::MIN);
        self.complete.store(complete, Ordering::Release);
        Ok(())
    }

    fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Relaxed);
    }

    fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    fn complete(&self) -> i64 {
        Self::complete(self)
    }

    fn size(&self) -> StateSize {
        self.read().size()
    }
}

fn take_record(
    table: &mut impl Table,
    marks: &mut [Option<i64>],
    &TableRecord { key, value, partition, .. }: &TableRecord<'_>,
) -> Result<(), RestoreError> {
    let foreign = || RestoreError("a record that no fold has written".to_owned());
    if key == MARK {
        let mark = value.and_then(|value| value.try_into().ok()).map(i64::from_le_bytes).ok_or_else(foreign)?;
        let slot = usize::try_from(partition).ok().and_then(|index| marks.get_mut(index)).ok_or_else(foreign)?;
        *slot = (*slot).max(Some(mark));
        return Ok(());
    }
    let key = key.strip_prefix(&[ENTRY]).ok_or_else(foreign)?;
    match value {
        None => table.remove(key),
        Some(value) => {
            let (mark, bytes) = split_mark(value).ok_or_else(foreign)?;
            table.put(key, bytes, mark)?;
        }
    }
    Ok(())
}

/// Moves the entries that a fold has written into `into`, for its partition of the table topic, and the mark behind them.
pub(crate) fn write_entries(
    entries: &mut OutputBuffer,
    mark: Option<i64>,
    (topic, partition): (u16, i32),
    into: &mut OutputBuffer,
) {
    let mut key = Vec::new();
    for entry in entries.iter() {
        key.clear();
        key.push(ENTRY);
        key.extend_from_slice(entry.key.unwrap_or_default());
        into.push_with_headers(topic, Some(partition), Some(&key), entry.value, &[]);
    }
    entries.clear();
    if let Some(mark) = mark {
        into.push(topic, Some(partition), MARK, |into| into.extend_from_slice(&mark.to_le_bytes()));
    }
}

/// Reads a pipeline's table topic into the instance's copy until the worker stops.
pub(crate) fn read_table(worker: &Worker, pipeline: usize, table: &dyn AnyTable) -> anyhow::Result<()> {
    let topic = worker.topology.internal_topic(pipeline, "table");
    let client = format!("{}-{}-table", worker.topology.worker, worker.config.instance);
    let consumer = reader(&worker.kafka, &format!("{}.{client}", worker.group), &client, "read_committed")?;
    let partitions = worker.pipelines[pipeline].context.source_partitions;
    table.begin(partitions);
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(&topic, partition as i32, Offset::Beginning)?;
    }
    consumer.assign(&list).context("the table topic cannot be read")?;
    let mut ended: Vec<i32> = Vec::new();
    let heartbeat = worker.health.heartbeats().of_thread(format!("table-{pipeline}"));
    while !worker.stopping() {
        heartbeat.turn(Instant::now(), "reading a table topic");
        let mut messages = Vec::new();
        let mut timeout = Duration::from_millis(20);
        while messages.len() < BATCH {
            match consumer.poll(timeout) {
                Some(Ok(message)) => messages.push(message),
                Some(Err(KafkaError::PartitionEOF(partition))) => ended.push(partition),
                Some(Err(error)) => tracing::debug!(%error, topic, "table topic"),
                None => break,
            }
            timeout = Duration::ZERO;
        }
        let records = messages.iter().map(|message| TableRecord {
            key: message.key().unwrap_or_default(),
            value: message.payload(),
            partition: message.partition(),
            offset: message.offset(),
        });
        // an entry that was overwritten is lost: what is looked up could not be exact
        table.take(&mut { records }).map_err(|error| {
            let worker = &worker.topology.worker;
            anyhow!(
                "the table topic {topic} cannot be read: {}. Find out who else writes there; then stop all instances and \
                 run: {worker} --config FILE --reset-state",
                error.0
            )
        })?;
        if !table.is_loaded() && (0..partitions as i32).all(|partition| ended.contains(&partition)) {
            table.set_loaded();
        }
        if table.is_loaded() {
            ended.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::output::FoldOutput;

    #[derive(Default)]
    struct Entries(BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>);

    impl Table for Entries {
        fn put(&mut self, key: &[u8], value: &[u8], mark: Option<i64>) -> Result<(), RestoreError> {
            self.0.insert(key.to_vec(), (value.to_vec(), mark));
            Ok(())
        }

        fn remove(&mut self, key: &[u8]) {
            self.0.remove(key);
        }

        fn size(&self) -> StateSize {
            StateSize { keys: self.0.len() as u64, bytes: 0 }
        }
    }

    fn transfer(out: &mut FoldOutput, mark: Option<i64>, partition: i32, table: &SharedTable<Entries>) {
        let mut records = OutputBuffer::default();
        write_entries(&mut out.entries, mark, (7, partition), &mut records);
        let records = records.iter().map(|record| {
            assert_eq!((record.topic, record.partition), (7, Some(partition)));
            TableRecord { key: record.key.unwrap(), value: record.value, partition, offset: 0 }
        });
        table.take(&mut { records }).unwrap();
    }

    #[test]
    fn entries_arrive_as_written_and_the_slowest_partition_says_how_complete_the_table_is() {
        let table = SharedTable::new(Entries::default());
        table.begin(2);
        let mut out = FoldOutput::new(1);
        out.put(b"a", |into| into.extend_from_slice(b"one"));
        out.mark = Some(40);
        out.put(b"m", |into| into.extend_from_slice(b"two"));
        transfer(&mut out, Some(50), 0, &table);
        assert_eq!(table.complete(), i64::MIN, "partition 1 has said nothing");
        transfer(&mut out, Some(30), 1, &table);
        assert_eq!(table.complete(), 30);
        transfer(&mut out, Some(60), 1, &table);
        assert_eq!(table.complete(), 50);
        let expected = [(b"a".to_vec(), (b"one".to_vec(), None)), (b"m".to_vec(), (b"two".to_vec(), Some(40)))];
        assert_eq!(table.read().0, BTreeMap::from(expected));
        out.remove(b"a");
        transfer(&mut out, None, 0, &table);
        assert_eq!(table.read().0.keys().collect::<Vec<_>>(), [b"m"]);
    }

    #[test]
    fn foreign_records_are_refused() {
        let table = SharedTable::new(Entries::default());
        table.begin(1);
        for (key, value) in [(&b"x"[..], None), (b"m", None), (b"m", Some(&b"short"[..])), (b"e1", Some(b"short"))] {
            let record = TableRecord { key, value, partition: 0, offset: 17 };
            let error = table.take(&mut std::iter::once(record)).unwrap_err();
            assert!(error.to_string().contains("partition 0, offset 17"), "{key:?}: {error}");
        }
    }
}
