//! A member of a group that acts on rebalances itself, when it is ready to, and that can be dropped at any moment.
#![expect(unsafe_code, reason = "rust-rdkafka 0.39 has no call for a member's id")]

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fmt::{self, Display, Formatter};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as native;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::contexts::log;

/// Partitions by topic and number. They are kept like this and not in librdkafka's lists: one that a call was made with holds
/// on to its partitions, and they to their client. Destroying the client waits for ever while such a list is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitions(Vec<(String, i32)>);

impl Partitions {
    fn of(list: &TopicPartitionList) -> Self {
        Self(list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect())
    }

    /// Topic and number of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32)> {
        self.0.iter().map(|(topic, partition)| (topic.as_str(), *partition))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.iter().any(|other| other == (topic, partition))
    }

    /// For a call to librdkafka.
    #[must_use]
    pub fn list(&self) -> TopicPartitionList {
        self.list_at(Offset::Invalid)
    }

    /// For a call to librdkafka, each partition with this offset.
    #[must_use]
    pub fn list_at(&self, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(self.len());
        for (topic, partition) in self.iter() {
            let mut added = list.add_partition(topic, partition);
            // refused are offsets below zero only
            let _ = added.set_offset(offset);
        }
        list
    }
}

impl Display for Partitions {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (index, (topic, partition)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{topic}-{partition}")?;
        }
        Ok(())
    }
}

/// What the group has decided about a member's partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions come.
    Assign(Partitions),
    /// These partitions leave.
    Revoke(Partitions),
}

/// Records rebalances for a loop to act upon.
///
/// Each wants one answer, which is a call of `incremental_assign` or `incremental_unassign`. Without it a client never closes,
/// and with a second one perhaps neither: a call that comes when the group is already left librdkafka (2.12.1) drops, and its
/// caller waits for ever.
#[derive(Debug, Default)]
pub struct RebalanceRecorder {
    events: Mutex<VecDeque<Rebalance>>,
    /// The newest one, while it has no answer.
    unanswered: Mutex<Option<Rebalance>>,
    closing: AtomicBool,
}

impl RebalanceRecorder {
    /// For contexts that hold a recorder: their [`ConsumerContext::rebalance`].
    pub fn record<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        error: RDKafkaRespErr,
        list: &TopicPartitionList,
    ) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        // nobody acts upon what a member hears that is being dropped, and without an answer it would never close
        if self.closing.load(Ordering::Relaxed) {
            if consumer.closed() {
                return;
            }
            let _ = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            return;
        }
        let partitions = Partitions::of(list);
        let event = if assigned { Rebalance::Assign(partitions) } else { Rebalance::Revoke(partitions) };
        *self.unanswered() = Some(event.clone());
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    fn unanswered(&self) -> MutexGuard<'_, Option<Rebalance>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<RebalanceRecorder> for RebalanceRecorder {
    fn as_ref(&self) -> &RebalanceRecorder {
        self
    }
}

impl ClientContext for RebalanceRecorder {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for RebalanceRecorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.record(consumer, error, list);
    }
}

/// How long a member that is dropped looks for announcements behind messages.
const DRAIN: Duration = Duration::from_millis(200);

/// How long leaving the group may take: brokers that do not answer are waited for no longer.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// A consumer in a group. Dropped, it gives up what it holds and leaves, whatever it had not acted upon: also where its owner
/// fails or panics. Its partitions go to others at once; those of a static member, or where no broker answers, only when the
/// session timeout is over.
pub struct GroupMember<C = RebalanceRecorder>(Option<BaseConsumer<C>>)
where
    C: ConsumerContext + AsRef<RebalanceRecorder> + 'static;

impl<C: ConsumerContext + AsRef<RebalanceRecorder> + 'static> GroupMember<C> {
    /// Joins the group for `topics`. What it decides is recorded in polls.
    ///
    /// # Errors
    /// Where the settings or the topics are none.
    pub fn join(config: &ClientConfig, context: C, topics: &[&str]) -> Result<Self, KafkaError> {
        let member = Self(Some(config.create_with_context(context)?));
        member.subscribe(topics)?;
        Ok(member)
    }

    /// The oldest rebalance that was not acted upon.
    #[must_use]
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        self.recorder().events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Takes partitions, which answers an assignment; an empty one wants its answer too.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn incremental_assign(&self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        self.recorder().unanswered().take_if(|rebalance| matches!(rebalance, Rebalance::Assign(_)));
        (**self).incremental_assign(partitions)
    }

    /// Gives partitions up, which answers a revocation.
    ///
    /// # Errors
    /// As librdkafka says.
    pub fn incremental_unassign(&self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        self.recorder().unanswered().take_if(|rebalance| matches!(rebalance, Rebalance::Revoke(_)));
        (**self).incremental_unassign(partitions)
    }

    /// The id under which the group knows this member now; empty while it knows none.
    ///
    /// An id that changes while partitions are held means that they were lost. A member that is expelled during a rebalance
    /// (its session times out, or the group does not know it any more) keeps in librdkafka 2.12.1 what that rebalance leaves
    /// it: `rd_kafka_cgrp_revoke_all_rejoin_maybe` skips the loss, and `assignment_lost` stays false. Under the consumer
    /// protocol an id lasts as long as its client, and a loss is always announced.
    #[must_use]
    pub fn member_id(&self) -> String {
        // SAFETY: the client lives. The metadata is destroyed once, and the id, which lives as long, is copied before.
        unsafe {
            let metadata = native::rd_kafka_consumer_group_metadata(self.client().native_ptr());
            if metadata.is_null() {
                return String::new();
            }
            let id = native::rd_kafka_consumer_group_metadata_member_id(metadata);
            let id = if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() };
            native::rd_kafka_consumer_group_metadata_destroy(metadata);
            id
        }
    }

    fn recorder(&self) -> &RebalanceRecorder {
        C::as_ref((**self).context())
    }
}

impl<C: ConsumerContext + AsRef<RebalanceRecorder> + 'static> Deref for GroupMember<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        match &self.0 {
            Some(consumer) => consumer,
            None => unreachable!("it is taken when this is dropped"),
        }
    }
}

impl<C: ConsumerContext + AsRef<RebalanceRecorder> + 'static> Drop for GroupMember<C> {
    fn drop(&mut self) {
        // what was announced is answered while the group is not left: leaving announces that what is held is to be given up,
        // whatever still waits in the queue, and of two answers then the second may be one too many
        let deadline = Instant::now() + DRAIN;
        loop {
            let is_message = self.poll(Duration::ZERO).is_some();
            let unanswered = self.recorder().unanswered().take();
            let _ = match unanswered {
                None if is_message && Instant::now() < deadline => continue,
                None => break,
                Some(Rebalance::Assign(_)) => (**self).incremental_assign(&TopicPartitionList::new()),
                Some(Rebalance::Revoke(partitions)) => (**self).incremental_unassign(&partitions.list()),
            };
        }
        self.recorder().closing.store(true, Ordering::Relaxed);
        let Some(consumer) = self.0.take() else { return };
        let (left, has_left) = channel();
        let leave = move || {
            drop(consumer);
            let _ = left.send(());
        };
        // where no thread can be started, the consumer is dropped here
        let leaves = std::thread::Builder::new().name("leave-group".to_owned()).spawn(leave).is_ok();
        if leaves && has_left.recv_timeout(LEAVE_LIMIT).is_err() {
            tracing::warn!(
                "the brokers do not answer: the group notices by its session timeout that this member has left"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{Offset, TopicPartitionList};

    use super::Partitions;

    #[test]
    fn partitions_are_those_of_the_list() {
        let mut list = TopicPartitionList::new();
        list.add_partition("b", 1);
        list.add_partition_offset("a", 0, Offset::Offset(7)).unwrap();
        let partitions = Partitions::of(&list);
        assert_eq!(partitions.to_string(), "b-1, a-0");
        assert!(partitions.contains("a", 0) && !partitions.contains("a", 1) && !partitions.contains("b", 0));
        let at_end = partitions.list_at(Offset::End);
        assert_eq!(Partitions::of(&at_end), partitions);
        assert!(at_end.elements().iter().all(|element| element.offset() == Offset::End));
    }
}
