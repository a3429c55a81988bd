//! What is asked of the brokers for a restore or an end check. Each question has a limit, after which others have their turn.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{Message, TopicPartitionList};
use service::Heartbeat;

use super::RestoreFailure;
use crate::kafka::{Reader, one, reader};
use crate::topic_watch::Unconfirmed;
use crate::worker::Worker;

/// Where partitions may be stopped being read, as often as that.
const STOP_CHECK: u32 = 256;

/// How a read has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// At the partition's end, or where it was asked to.
    Done,
    /// Others have their turn.
    Interrupted,
}

/// Two clients that are no members of a group.
pub(crate) struct Readers<'a> {
    /// `read_committed`.
    committed: Reader,
    /// Sees records of open transactions.
    uncommitted: Reader,
    /// The limit of a question, and of a silence while reading.
    patience: Duration,
    heartbeat: &'a Heartbeat,
}

impl<'a> Readers<'a> {
    pub(crate) fn new(
        worker: &Worker,
        client: &str,
        patience: Duration,
        heartbeat: &'a Heartbeat,
    ) -> Result<Self, KafkaError> {
        let reader = |isolation| reader(&worker.kafka, &worker.group, client, isolation);
        Ok(Self { committed: reader("read_committed")?, uncommitted: reader("read_uncommitted")?, patience, heartbeat })
    }

    /// The stable committed offset with its metadata: one that no open transaction is about to change.
    pub(crate) fn committed_offset(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<(i64, String)>, RestoreFailure> {
        self.heartbeat.turn(Instant::now(), "asking for a committed offset");
        let answer: TopicPartitionList = self.committed.committed_offsets(one(topic, partition), self.patience)?;
        let element = answer
            .find_partition(topic, partition)
            .ok_or_else(|| RestoreFailure::Unsettled(format!("no answer about {topic}/{partition}")))?;
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        })
    }

    /// Where a partition begins, and where it ends, open transactions included.
    pub(crate) fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.heartbeat.turn(Instant::now(), "asking for a partition's bounds");
        self.uncommitted.fetch_watermarks(topic, partition, self.patience)
    }

    /// Up to where no transaction is open.
    pub(crate) fn stable_end(&self, topic: &str, partition: i32) -> Result<i64, KafkaError> {
        self.heartbeat.turn(Instant::now(), "asking for a partition's last stable offset");
        // asked by a read_committed handle, the upper end is the last stable offset
        Ok(self.committed.fetch_watermarks(topic, partition, self.patience)?.1)
    }

    /// Reads committed records from `from` to the partition's end, until `take` answers true, or until `is_over` says so,
    /// which is asked now and then.
    pub(crate) fn read(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        is_over: &dyn Fn() -> bool,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool, KafkaError>,
    ) -> Result<Read, RestoreFailure> {
        self.heartbeat.turn(Instant::now(), "reading a partition");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from)?;
        self.committed.assign(&list)?;
        let mut silence = Instant::now();
        let mut count = 0_u32;
        let result = loop {
            match self.committed.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    silence = Instant::now();
                    if message.partition() != partition || message.topic() != topic {
                        continue;
                    }
                    match take(&message) {
                        Ok(false) => {}
                        Ok(true) => break Ok(Read::Done),
                        Err(error) => break Err(error.into()),
                    }
                    count += 1;
                    if count.is_multiple_of(STOP_CHECK) {
                        self.heartbeat.turn(silence, "reading a partition");
                        if is_over() {
                            break Ok(Read::Interrupted);
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => break Ok(Read::Done),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => break Err(error.into()),
                Some(Err(error)) => tracing::debug!(%error, topic, partition, "while restoring"),
                // before the first record it waits in any case: who is interrupted before that never gets anywhere
                None if count > 0 && is_over() => break Ok(Read::Interrupted),
                None if silence.elapsed() > self.patience => {
                    let patience = self.patience;
                    break Err(RestoreFailure::Unsettled(format!(
                        "{topic}/{partition} gives no records for {patience:?}"
                    )));
                }
                None => {}
            }
        };
        self.committed.unassign()?;
        result
    }

    /// Asks whether the topics are still those of the start.
    pub(crate) fn confirm(&self, worker: &Worker) -> Result<(), Unconfirmed> {
        self.heartbeat.turn(Instant::now(), "asking for topic ids");
        worker.watch.confirm().wait(self.patience)
    }

    /// The partition's high watermark, where nothing but aborted records and transaction markers lies between `position`
    /// and that, and no transaction is open there: the partition is read to its end.
    pub(crate) fn end_behind(&self, topic: &str, partition: i32, position: i64) -> Result<Option<i64>, RestoreFailure> {
        let (_, high) = self.bounds(topic, partition)?;
        if position >= high {
            return Ok(Some(high));
        }
        if self.stable_end(topic, partition)? < high {
            return Ok(None);
        }
        let mut empty = true;
        self.read(topic, partition, Offset::Offset(position), &|| false, |_| {
            empty = false;
            Ok(true)
        })?;
        Ok(empty.then_some(high))
    }

    /// How many records wait behind `position`, at most: transaction markers between them count too.
    pub(crate) fn lag(&self, topic: &str, partition: i32, position: i64) -> Result<i64, KafkaError> {
        Ok((self.bounds(topic, partition)?.1 - position).max(0))
    }
}
