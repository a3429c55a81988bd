//! A group member as the runtime builds it: the rebalance callback only records, the loop acts.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka::{Partitions, Rebalance, RebalanceRecorder};
use rdkafka::Offset;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use testkit::ends_by_itself;

use crate::common::{DEADLINE, Protocol, at, brokers, client_config, wait_until};
use crate::reading::committed;

/// So long that a member of a busy machine is not missed where no member is killed.
pub(crate) const LONG_SESSION: Duration = Duration::from_secs(45);
/// The shortest that the broker allows.
pub(crate) const SHORT_SESSION: Duration = Duration::from_secs(6);

/// A consumer in a group, with the events that its callbacks recorded.
pub(crate) struct GroupMember {
    pub(crate) consumer: kafka::GroupMember,
}

impl GroupMember {
    /// Joins `group` for `topic`, to be missed late.
    pub(crate) fn join(protocol: Protocol, group: &str, topic: &str) -> GroupMember {
        GroupMember::join_with(protocol, group, topic, LONG_SESSION, &[])
    }

    /// Joins `group` for `topic`. It is missed after `session` of silence, as all members of the group are under the consumer
    /// protocol. `extra` are further librdkafka settings.
    pub(crate) fn join_with(
        protocol: Protocol,
        group: &str,
        topic: &str,
        session: Duration,
        extra: &[(&str, &str)],
    ) -> GroupMember {
        let mut config = client_config();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "50");
        match protocol {
            Protocol::Consumer => {
                testkit::set_group_session(&brokers(), group, session).expect("the group's session is set");
                config.set("group.protocol", "consumer")
            }
            Protocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", session.as_millis().to_string())
                .set("heartbeat.interval.ms", "500"),
        };
        for (key, value) in extra {
            config.set(*key, *value);
        }
        let consumer = kafka::GroupMember::join(&config, RebalanceRecorder::default(), &[topic]);
        GroupMember { consumer: consumer.expect("a member") }
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
            Err(error) if ends_by_itself(&error) => None,
            Err(error) => panic!("a poll failed: {error:?}"),
        }
    }

    /// Takes the recorded events, oldest first.
    pub(crate) fn take_events(&self) -> Vec<Rebalance> {
        std::iter::from_fn(|| self.consumer.next_rebalance()).collect()
    }

    /// Acts on what was recorded: takes new partitions at offset 0, paused, and gives up revoked ones.
    pub(crate) fn apply_events(&self) {
        for event in self.take_events() {
            match event {
                Rebalance::Assign(partitions) => self.assign_paused(&partitions),
                Rebalance::Revoke(partitions) => self.give_up(&partitions),
            }
        }
    }

    /// Takes partitions over at offset 0, paused.
    pub(crate) fn assign_paused(&self, partitions: &Partitions) {
        let from_start = partitions.list_at(Offset::Offset(0));
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
    pub(crate) fn give_up(&self, partitions: &Partitions) {
        self.consumer.incremental_unassign(&partitions.list()).expect("partitions given up");
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
    pub(crate) fn next_events(&self) -> Vec<Rebalance> {
        let mut events = Vec::new();
        wait_until("a rebalance is recorded", || {
            self.poll();
            events = self.take_events();
            !events.is_empty()
        });
        events
    }
}
