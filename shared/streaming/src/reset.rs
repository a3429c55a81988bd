//! Gives a worker's state up: what belongs to this deployment, and nothing else of its group.

use anyhow::{Context as _, bail};
use kafka::delete_offsets;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::config::RuntimeConfig;
use crate::kafka::ASK_AT_START;
use crate::task::Step;
use crate::topics::{Broker, check};
use crate::topology::Topology;

/// Deletes the offsets of the worker's input topics and its internal topics, and creates the topics again. The next start
/// reads the sources from their beginning.
pub(crate) fn reset(topology: &Topology, config: &RuntimeConfig, kafka: &ClientConfig) -> anyhow::Result<()> {
    let broker = Broker::connect(kafka)?;
    let pipelines = 0..topology.pipelines.len();
    let inputs: Vec<String> = pipelines
        .flat_map(|pipeline| [Step::Fold, Step::Merge].map(|step| topology.input_topic(pipeline, step)))
        .collect();
    let existing = broker.existing(kafka, inputs.iter().map(String::as_str))?;
    let mut offsets = TopicPartitionList::new();
    for (topic, identity) in &existing {
        offsets.add_partition_range(topic, 0, identity.partitions - 1);
    }
    let group = topology.deployment().group();
    if offsets.count() > 0 {
        match delete_offsets(broker.client().client(), &group, &offsets, ASK_AT_START) {
            Ok(()) => {}
            Err(KafkaError::AdminOp(RDKafkaErrorCode::GroupSubscribedToTopic | RDKafkaErrorCode::NonEmptyGroup)) => {
                bail!(
                    "group {group} has members that read {}: stop all instances of {} first",
                    inputs.join(", "),
                    topology.worker
                )
            }
            Err(KafkaError::AdminOp(RDKafkaErrorCode::GroupAuthorizationFailed)) => {
                bail!(
                    "group {group}: this user may not delete its offsets (GroupAuthorizationFailed): grant Delete on it"
                )
            }
            Err(error) => return Err(error).with_context(|| format!("offsets of group {group} cannot be deleted")),
        }
    }
    service::crash_point("streaming::group_deleted");
    let internal = topology.internal_topics();
    let existing = broker.existing(kafka, internal.iter().map(String::as_str))?;
    let names: Vec<&str> = existing.keys().map(String::as_str).collect();
    broker.delete(kafka, &names)?;
    service::crash_point("streaming::state_deleted");
    check(topology, config, kafka, true).map(|_| ())
}
