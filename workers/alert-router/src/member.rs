//! The member that waits to be the active instance.

use std::time::Duration;

use anyhow::Context as _;
use kafka::{GroupMember, Rebalance, RebalanceRecorder, instance, manual_offsets, membership};
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use crate::config::Runtime;

/// What the group has decided about the state's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This instance is the active one.
    Active,
    /// Another one is, or will be.
    StandBy,
}

/// A member of the group whose one partition makes an instance the active one. It reads nothing. Dropped, it leaves the
/// group, and another instance becomes the active one, as [`GroupMember`] says when.
pub struct Member {
    consumer: GroupMember,
}

impl Member {
    /// Joins the group.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn join(kafka: &ClientConfig, runtime: &Runtime, state_topic: &str) -> anyhow::Result<Self> {
        let mut config = kafka.clone();
        let instance = instance("alert-router", &runtime.instance);
        manual_offsets(&mut config, &runtime.group);
        membership(&mut config, runtime.protocol, runtime.session_timeout, &instance);
        config.set("auto.offset.reset", "latest");
        let consumer = GroupMember::join(&config, RebalanceRecorder::default(), &[state_topic]);
        Ok(Self { consumer: consumer.with_context(|| format!("{state_topic} cannot be subscribed to"))? })
    }

    /// What the group has decided since, the newest last; waits for at most `wait`. `give_up` is called before a partition is
    /// given back.
    ///
    /// # Errors
    /// Where librdkafka refuses an answer.
    pub fn decisions(&self, wait: Duration, mut give_up: impl FnMut()) -> anyhow::Result<Option<Decision>> {
        match self.consumer.poll(wait) {
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error).context("the group member"),
            Some(Err(error)) => tracing::debug!(%error, "the group member"),
            // taken before the pause below: others read it
            Some(Ok(_)) | None => {}
        }
        let mut newest = None;
        while let Some(rebalance) = self.consumer.next_rebalance() {
            match rebalance {
                Rebalance::Assign(partitions) => {
                    let at_end = partitions.list_at(Offset::End);
                    self.consumer.incremental_assign(&at_end).context("the state's partition cannot be taken")?;
                    if !partitions.is_empty() {
                        self.consumer.pause(&at_end).context("the state's partition cannot be paused")?;
                        newest = Some(Decision::Active);
                    }
                }
                Rebalance::Revoke(partitions) => {
                    if !partitions.is_empty() {
                        give_up();
                        newest = Some(Decision::StandBy);
                    }
                    let list = partitions.list();
                    self.consumer.incremental_unassign(&list).context("the state's partition cannot be given up")?;
                }
            }
        }
        Ok(newest)
    }
}
