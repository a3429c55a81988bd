//! The consumer of the row topics. Rebalance callbacks only record; the loop acts on what they recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kafka::{
    ASK, ASK_AT_START, FETCH_AGAIN, GroupMember, Partitions, Rebalance, RebalanceRecorder, TopicChange, TopicId,
    copied_headers, describe_topics, instance, manual_offsets, membership, recreated, unless_set,
};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use records::truncation::UNREADABLE_HEADERS;

use crate::batch::Original;
use crate::commits::{Commits, Offsets};
use crate::config::Runtime;

/// Limit for a single question of the loop, which takes no turn meanwhile: it is asked again later.
const LOOP_ASK: Duration = Duration::from_secs(4);

/// Where a new partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The first offset to read.
    pub position: i64,
    /// The committed offset, where there is one.
    pub committed: Option<i64>,
}

/// Records what librdkafka calls back with; nothing here can wait or panic.
#[derive(Default)]
pub struct Recorder {
    rebalances: RebalanceRecorder,
    /// Last stable offsets by topic and partition, as of the newest statistics.
    ends: Mutex<BTreeMap<(String, i32), End>>,
}

/// The end of a partition, as the newest statistics have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// Its last stable offset.
    stable: i64,
    /// Whether all before it was fetched and handed over: behind the last record lie markers and aborted records only.
    is_reached: bool,
}

impl ClientContext for Recorder {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.rebalances.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.rebalances.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, topic) in statistics.topics {
            for (partition, state) in topic.partitions {
                if state.ls_offset >= 0 {
                    let is_reached = state.next_offset >= state.ls_offset && state.fetchq_cnt == 0;
                    ends.insert((name.clone(), partition), End { stable: state.ls_offset, is_reached });
                }
            }
        }
    }
}

impl AsRef<RebalanceRecorder> for Recorder {
    fn as_ref(&self) -> &RebalanceRecorder {
        &self.rebalances
    }
}

impl ConsumerContext for Recorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.rebalances.record(consumer, error, list);
    }
}

/// A member of the group; dropped, it leaves it, as [`GroupMember`] says.
pub struct Source {
    // before the consumer: what leaves the group is the last one that is dropped of it
    commits: Commits,
    consumer: Arc<GroupMember<Recorder>>,
    ids: Arc<TopicIds>,
}

/// Ids of the topics as of the start, where brokers give them.
type TopicIds = BTreeMap<String, Option<TopicId>>;

/// Why offsets were not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitFailure {
    /// A topic is another one than at the start: its offsets mean nothing any more.
    #[error("{0}. Nothing of the new topic was skipped: started again, clickhouse-writer reads it from its beginning")]
    Changed(TopicChange),
    /// The group did not take them; they may be committed again.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// The thread that commits has ended: nothing will be committed any more.
    #[error("the commit thread has ended unexpectedly")]
    NoThread,
}

impl Source {
    /// Joins the group for `topics`.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn join(kafka: &ClientConfig, runtime: &Runtime, topics: &[&str]) -> anyhow::Result<Self> {
        let mut config = kafka.clone();
        let defaults = [
            // bounds what librdkafka holds ahead of the batches
            ("queued.max.messages.kbytes", "16384"),
            ("queued.min.messages", "20000"),
            FETCH_AGAIN,
            ("statistics.interval.ms", "1000"),
        ];
        unless_set(&mut config, &defaults);
        manual_offsets(&mut config, &runtime.group);
        let instance = instance("clickhouse-writer", &runtime.instance);
        membership(&mut config, runtime.protocol, runtime.session_timeout, &instance);
        config.set("auto.offset.reset", "error").set("isolation.level", "read_committed");
        let consumer = GroupMember::join(&config, Recorder::default(), topics);
        let consumer = Arc::new(consumer.context("the row topics cannot be subscribed to")?);
        let described =
            describe_topics(consumer.client(), topics, ASK_AT_START).context("the ids of the row topics")?;
        let ids = described.into_iter().filter_map(|(topic, identity)| Some((topic, identity.ok()?.id)));
        let ids = Arc::new(ids.collect::<TopicIds>());
        let commits = {
            let (consumer, ids) = (consumer.clone(), ids.clone());
            Commits::start(move |offsets| commit(&consumer, &ids, offsets))?
        };
        Ok(Self { commits, consumer, ids })
    }

    /// The next message, waiting for at most `wait`; serves callbacks.
    #[must_use]
    pub fn poll(&self, wait: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.consumer.poll(wait)
    }

    /// The oldest rebalance that was not acted upon.
    #[must_use]
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        self.consumer.next_rebalance()
    }

    /// Where what waits behind `position` ends, as of the newest statistics: at `position` itself where nothing waits.
    #[must_use]
    pub fn end(&self, topic: &str, partition: i32, position: i64) -> Option<i64> {
        let ends = self.consumer.context().ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.get(&(topic.to_owned(), partition))?;
        Some(if end.is_reached { position } else { end.stable })
    }

    /// Fails where one of the topics was deleted and created again since the start.
    ///
    /// # Errors
    /// As said, or where no broker answers.
    pub fn check_topics(&self) -> Result<(), CommitFailure> {
        check_topics(&self.consumer, &self.ids, LOOP_ASK)
    }

    /// Where new partitions are to be read from: at the committed offset, else at the log's start.
    ///
    /// # Errors
    /// The outer one where the brokers do not answer (ask again); the inner one where a committed offset lies outside
    /// of the log, so that rows were deleted unread or the topic is another one.
    #[allow(clippy::type_complexity)]
    pub fn starts(&self, partitions: &Partitions) -> Result<anyhow::Result<Vec<(String, i32, Start)>>, KafkaError> {
        let committed = self.consumer.committed_offsets(partitions.list(), LOOP_ASK)?;
        let mut starts = Vec::new();
        for element in committed.elements() {
            element.error()?;
            let (topic, partition) = (element.topic(), element.partition());
            let (low, high) = self.consumer.fetch_watermarks(topic, partition, LOOP_ASK)?;
            let was = TopicId::parse(element.metadata());
            let committed = match element.offset() {
                Offset::Offset(offset) => {
                    match recreated(topic, was.as_ref(), self.ids.get(topic).and_then(Option::as_ref)) {
                        None => Some(offset),
                        Some(change) => {
                            tracing::warn!(partition, offset, "{change}: it is read from its beginning");
                            None
                        }
                    }
                }
                _ => None,
            };
            match start(topic, partition, committed, low, high) {
                Ok(start) => starts.push((topic.to_owned(), partition, start)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(starts))
    }

    /// Asks the brokers anew where partitions are: what was learnt of those that were just restarting is else held for true
    /// for minutes.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn look_again(&self) -> Result<(), KafkaError> {
        self.consumer.fetch_metadata(None, LOOP_ASK).map(|_| ())
    }

    /// Takes partitions.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn assign(&self, starts: &[(String, i32, Start)]) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for (topic, partition, start) in starts {
            list.add_partition_offset(topic, *partition, Offset::Offset(start.position))?;
        }
        self.consumer.incremental_assign(&list).context("new partitions cannot be taken")
    }

    /// Gives partitions up.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn unassign(&self, partitions: &Partitions) -> anyhow::Result<()> {
        self.consumer.incremental_unassign(&partitions.list()).context("partitions cannot be given up")
    }

    /// Whether the group has already given the partitions to others.
    #[must_use]
    pub fn assignment_lost(&self) -> bool {
        self.consumer.assignment_lost()
    }

    /// Begins to commit offsets, the next ones to read, each with its topic's id, in a thread of its own. The topics are looked
    /// at before, also where there are no offsets: librdkafka goes on at the old offset in a topic that was created again, and
    /// says nothing. One commit at a time; [`commit_ended`](Self::commit_ended) says how it has ended.
    pub fn begin_commit(&self, offsets: Vec<(String, i32, i64)>) {
        self.commits.begin(offsets);
    }

    /// How the commit has ended, once; waits for that for at most `wait`. An error: a topic is another one, or the group has
    /// not taken the offsets.
    #[must_use]
    pub fn commit_ended(&self, wait: Duration) -> Option<Result<(), CommitFailure>> {
        self.commits.ended(wait)
    }

    /// Pauses or resumes partitions of a topic.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn pause(&self, topic: &str, partitions: impl Iterator<Item = i32>, paused: bool) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        if list.count() == 0 {
            return Ok(());
        }
        let result = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        result.with_context(|| format!("partitions of {topic} cannot be paused or resumed"))
    }
}

fn commit(consumer: &GroupMember<Recorder>, ids: &TopicIds, offsets: &Offsets) -> Result<(), CommitFailure> {
    check_topics(consumer, ids, ASK)?;
    if offsets.is_empty() {
        return Ok(());
    }
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (topic, partition, next) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*next))?;
        if let Some(Some(id)) = ids.get(topic) {
            element.set_metadata(id.to_string());
        }
    }
    Ok(consumer.commit(&list, CommitMode::Sync)?)
}

fn check_topics(consumer: &GroupMember<Recorder>, ids: &TopicIds, limit: Duration) -> Result<(), CommitFailure> {
    let topics: Vec<&str> = ids.keys().map(String::as_str).collect();
    let described = describe_topics(consumer.client(), &topics, limit)?;
    for (topic, was) in ids {
        let is = described.get(topic).and_then(|identity| identity.as_ref().ok()?.id.as_ref());
        if let Some(change) = recreated(topic, was.as_ref(), is) {
            return Err(CommitFailure::Changed(change));
        }
    }
    Ok(())
}

fn start(topic: &str, partition: i32, committed: Option<i64>, low: i64, high: i64) -> anyhow::Result<Start> {
    let way_out = "to go on from the start of the log (rows written twice are one row), stop all instances and run: \
                   clickhouse-writer --config FILE --reset-state";
    match committed {
        None => Ok(Start { position: low, committed: None }),
        Some(offset) if offset < low => bail!(
            "{topic}-{partition}: offset {offset} is committed, but the log begins at {low}: {} offsets were deleted \
             before their rows were written; {way_out}",
            low - offset
        ),
        Some(offset) if offset > high => bail!(
            "{topic}-{partition}: offset {offset} is committed, but the log ends at {high}: was the topic deleted and \
             created? {way_out}"
        ),
        Some(offset) => Ok(Start { position: offset, committed: Some(offset) }),
    }
}

/// A message's parts, copied.
#[must_use]
pub fn original(message: &BorrowedMessage<'_>) -> Original {
    Original {
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        headers: copied_headers(message, UNREADABLE_HEADERS),
        timestamp: message.timestamp().to_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Start, start};

    #[test]
    fn reading_starts_at_the_committed_offset_else_at_the_start_of_the_log() {
        assert_eq!(start("t", 0, None, 5, 9).unwrap(), Start { position: 5, committed: None });
        assert_eq!(start("t", 0, Some(5), 5, 9).unwrap(), Start { position: 5, committed: Some(5) });
        assert_eq!(start("t", 0, Some(9), 5, 9).unwrap(), Start { position: 9, committed: Some(9) });
    }

    #[test]
    fn a_committed_offset_outside_of_the_log_is_told_with_the_way_out() {
        let below = start("t", 3, Some(2), 5, 9).unwrap_err().to_string();
        assert!(
            below.contains("t-3") && below.contains("3 offsets were deleted") && below.contains("--reset-state"),
            "{below}"
        );
        let above = start("t", 3, Some(10), 5, 9).unwrap_err().to_string();
        assert!(above.contains("ends at 9") && above.contains("--reset-state"), "{above}");
    }
}
