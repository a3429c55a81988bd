//! A group member as the runtime builds it: the rebalance callback only records, the loop acts.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::common::{DEADLINE, Protocol, at, client_config, wait_until};
use crate::reading::committed;

/// What a rebalance callback recorded.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// These partitions are given to the member.
    Assign(TopicPartitionList),
    /// These partitions are taken from the member.
    Revoke(TopicPartitionList),
}

/// Records rebalances. Once `closing` is set it gives partitions up at once, so that dropping a consumer cannot hang.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    closing: AtomicBool,
}

impl ClientContext for Recorder {}

impl ConsumerContext for Recorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let event = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assign(list.clone()),
            _ => Event::Revoke(list.clone()),
        };
        if self.closing.load(Ordering::SeqCst) {
            // Nobody is left to act later. An error leaves nothing to do either: the consumer is going away.
            let _ = match event {
                Event::Assign(_) => consumer.incremental_assign(list),
                Event::Revoke(_) => consumer.incremental_unassign(list),
            };
        }
        self.events.lock().expect("no panic holds the lock").push(event);
    }
}

/// A consumer in a group, with the events that its callbacks recorded.
pub(crate) struct GroupMember {
    pub(crate) consumer: BaseConsumer<Recorder>,
}

impl GroupMember {
    /// Joins `group` for `topic`. `extra` are further librdkafka settings.
    pub(crate) fn join(protocol: Protocol, group: &str, topic: &str, extra: &[(&str, &str)]) -> GroupMember {
        let mut config = client_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "50");
        match protocol {
            Protocol::Consumer => config.set("group.protocol", "consumer"),
            Protocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", "6000")
                .set("heartbeat.interval.ms", "500"),
        };
        for (key, value) in extra {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer<Recorder> = config.create_with_context(Recorder::default()).expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribed");
        GroupMember { consumer }
    }

    /// Polls once, for at most 20 ms; a message comes back as partition, offset and payload.
    pub(crate) fn poll(&self) -> Option<(i32, i64, String)> {
        match self.consumer.poll(Duration::from_millis(20))? {
            Ok(message) => {
                let payload = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                Some((message.partition(), message.offset(), payload))
            }
            // Told once to a member that stopped polling for too long; the revocation follows.
            Err(KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded)) => None,
            Err(error) => panic!("a poll failed: {error:?}"),
        }
    }

    /// Takes the recorded events, oldest first.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.consumer.context().events.lock().expect("no panic holds the lock"))
    }

    /// Acts on what was recorded: takes new partitions at offset 0, paused, and gives up revoked ones.
    pub(crate) fn apply_events(&self) {
        for event in self.take_events() {
            match event {
                Event::Assign(list) => self.assign_paused(&list),
                Event::Revoke(list) => self.give_up(&list),
            }
        }
    }

    /// Takes partitions over at offset 0, paused.
    pub(crate) fn assign_paused(&self, list: &TopicPartitionList) {
        let mut from_start = list.clone();
        from_start.set_all_offsets(Offset::Offset(0)).expect("a valid offset");
        self.consumer.incremental_assign(&from_start).expect("partitions taken");
        self.consumer.pause(&from_start).expect("partitions paused");
    }

    /// The partitions that the member has taken and not given up.
    pub(crate) fn owned(&self) -> BTreeSet<i32> {
        let list = self.consumer.assignment().expect("an assignment");
        list.elements().iter().map(|element| element.partition()).collect()
    }

    /// Polls and acts until the member owns `count` partitions; returns how long that took.
    pub(crate) fn own(&self, count: usize) -> Duration {
        wait_until(&format!("the member owns {count} partitions"), || {
            self.poll();
            self.apply_events();
            self.owned().len() == count
        })
    }

    /// Gives partitions up.
    pub(crate) fn give_up(&self, list: &TopicPartitionList) {
        self.consumer.incremental_unassign(list).expect("partitions given up");
    }

    /// Seeks a paused partition to `offset` and lets it flow.
    pub(crate) fn resume_at(&self, topic: &str, partition: i32, offset: i64) {
        let list = at(topic, partition, offset);
        self.consumer.seek(topic, partition, Offset::Offset(offset), DEADLINE).expect("a seek");
        self.consumer.resume(&list).expect("partitions resumed");
        // librdkafka's broker thread sleeps up to a second when it fetches nothing, and `resume` does not wake it; a request does.
        self.consumer.fetch_watermarks(topic, partition, DEADLINE).expect("watermarks");
    }

    /// What the group has committed for a partition: next offset, if any, and metadata.
    pub(crate) fn committed(&self, topic: &str, partition: i32) -> (Option<i64>, String) {
        committed(&self.consumer, topic, partition, DEADLINE).expect("committed offsets")
    }

    /// The metadata that fences this member's transactions.
    pub(crate) fn metadata(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a consumer with a group")
    }

    /// Polls and acts once.
    pub(crate) fn tick(&self) {
        self.poll();
        self.apply_events();
    }

    /// Polls, without acting, until something was recorded, and takes it.
    pub(crate) fn next_events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        wait_until("a rebalance is recorded", || {
            self.poll();
            events = self.take_events();
            !events.is_empty()
        });
        events
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        // rust-rdkafka's own drop polls until everything is given up; a callback that only records would make it wait for ever.
        self.consumer.context().closing.store(true, Ordering::SeqCst);
        // A revocation of a lost assignment that was recorded and not acted on is not announced again.
        if let Ok(owned) = self.consumer.assignment() {
            let _ = self.consumer.incremental_unassign(&owned);
        }
    }
}
