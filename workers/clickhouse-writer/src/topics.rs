//! The topics that the writer needs: checked at start, created where allowed; its offsets, forgotten by a reset.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kafka::{ASK_AT_START, LARGEST_RECORD, delete_offsets, describe_topics, topic_settings};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::config::Configuration;

/// Longer than the longest outage of ClickHouse: nothing is compacted or deleted before.
const WEEK_MILLIS: &str = "604800000";

/// A topic's name and the settings that it is created with.
type Needed = (String, Vec<(&'static str, &'static str)>);

/// The brokers, as asked by a person or at the start.
pub struct Cluster<'a> {
    configuration: &'a Configuration,
    kafka: ClientConfig,
    admin: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl<'a> Cluster<'a> {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn new(configuration: &'a Configuration) -> anyhow::Result<Self> {
        let kafka = configuration.kafka.client_config();
        let admin = kafka.create().context("the Kafka admin client cannot be made")?;
        let options = AdminOptions::new().operation_timeout(Some(ASK_AT_START)).request_timeout(Some(ASK_AT_START));
        Ok(Self { configuration, kafka, admin, options })
    }

    /// Checks that all topics exist; creates those that are missing where `create` allows it.
    ///
    /// # Errors
    /// Where no broker answers, or with every topic that is missing.
    pub async fn check(&self, create: bool) -> anyhow::Result<()> {
        let needed = self.needed();
        let missing = self.missing(&needed)?;
        if !missing.is_empty() && !create {
            bail!(
                "clickhouse-writer: topics are missing: {}. Create them, or run: clickhouse-writer --config FILE --create-topics",
                missing.into_iter().collect::<Vec<_>>().join(", ")
            );
        }
        if !missing.is_empty() {
            self.create(&needed, missing).await?;
        }
        let names = needed.iter().map(|(name, _)| name.as_str());
        let problems: Vec<String> = topic_settings(&self.admin, names, &self.options)
            .await?
            .iter()
            .filter_map(|(topic, settings)| unfit(topic, settings, topic == self.configuration.dead_letters()))
            .collect();
        anyhow::ensure!(problems.is_empty(), "clickhouse-writer: {}", problems.join("; "));
        Ok(())
    }

    async fn create(&self, needed: &[Needed], mut missing: BTreeSet<String>) -> anyhow::Result<()> {
        let topics: Vec<NewTopic<'_>> = needed
            .iter()
            .filter(|(name, _)| missing.contains(name))
            .map(|(name, settings)| self.new_topic(name, settings))
            .collect();
        for result in self.admin.create_topics(&topics, &self.options).await? {
            match result {
                Ok(topic) => tracing::info!(topic, "created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => bail!("topic {topic} cannot be created: {code}"),
            }
        }
        let deadline = Instant::now() + ASK_AT_START;
        while !missing.is_empty() {
            if Instant::now() > deadline {
                bail!("created topics do not appear in the cluster's metadata within {ASK_AT_START:?}: {missing:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            missing = self.missing(needed)?;
        }
        Ok(())
    }

    /// Forgets the group's offsets of this writer's topics, so that the next start reads them from their beginning.
    ///
    /// # Errors
    /// Where members of the group read them, or no broker answers.
    pub fn reset(&self) -> anyhow::Result<()> {
        let group = self.configuration.runtime.group.as_str();
        let tables = self.configuration.tables();
        let topics: Vec<&str> = tables.iter().map(|(_, topic)| topic.as_str()).collect();
        let client = self.admin.inner();
        let mut offsets = TopicPartitionList::new();
        for (topic, identity) in describe_topics(client, &topics, ASK_AT_START).context("the row topics")? {
            if let Ok(identity) = identity {
                offsets.add_partition_range(&topic, 0, identity.partitions - 1);
            }
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        match delete_offsets(client, group, &offsets, ASK_AT_START) {
            Ok(()) => tracing::info!(group, "the committed offsets are forgotten"),
            Err(KafkaError::AdminOp(RDKafkaErrorCode::GroupSubscribedToTopic | RDKafkaErrorCode::NonEmptyGroup)) => {
                bail!(
                    "group {group} has members that read these topics: stop all instances of clickhouse-writer first"
                );
            }
            Err(error) => return Err(error).with_context(|| format!("offsets of group {group} cannot be deleted")),
        }
        Ok(())
    }

    fn needed(&self) -> Vec<Needed> {
        let mut needed: Vec<_> = self
            .configuration
            .tables()
            .into_iter()
            .map(|(table, topic)| {
                let mut settings = vec![
                    ("cleanup.policy", table.cleanup_policy),
                    ("retention.ms", WEEK_MILLIS),
                    ("max.message.bytes", LARGEST_RECORD),
                ];
                if table.cleanup_policy.contains("compact") {
                    settings.push(("min.compaction.lag.ms", WEEK_MILLIS));
                }
                (topic, settings)
            })
            .collect();
        let settings =
            vec![("cleanup.policy", "delete"), ("retention.ms", WEEK_MILLIS), ("max.message.bytes", LARGEST_RECORD)];
        needed.push((self.configuration.dead_letters().to_owned(), settings));
        needed
    }

    fn new_topic<'b>(&self, name: &'b str, settings: &[(&'static str, &'static str)]) -> NewTopic<'b> {
        let runtime = &self.configuration.runtime;
        let mut topic = NewTopic::new(name, runtime.partitions, TopicReplication::Fixed(runtime.replication_factor));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        topic
    }

    fn missing(&self, needed: &[Needed]) -> anyhow::Result<BTreeSet<String>> {
        let client: BaseConsumer = self.kafka.create().context("the Kafka client cannot be made")?;
        let metadata = client.fetch_metadata(None, ASK_AT_START).with_context(|| {
            format!("kafka.brokers = {:?}: no broker answers within {ASK_AT_START:?}", self.configuration.kafka.brokers)
        })?;
        let existing: BTreeSet<&str> = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name).collect();
        Ok(needed.iter().map(|(name, _)| name).filter(|name| !existing.contains(name.as_str())).cloned().collect())
    }
}

/// What is wrong with the settings of an existing topic.
fn unfit(topic: &str, settings: &BTreeMap<String, String>, is_dead_letters: bool) -> Option<String> {
    let of = |name: &str| settings.get(name).map_or("", String::as_str);
    if !of("cleanup.policy").contains("compact") {
        return None;
    }
    if is_dead_letters {
        return Some(format!(
            "{topic} has cleanup.policy = {}: letters of one key would replace each other, delete is needed",
            of("cleanup.policy")
        ));
    }
    (of("min.compaction.lag.ms") == "0").then(|| {
        format!(
            "{topic} is compacted and has min.compaction.lag.ms = 0: rows would be compacted away before they are \
             written, a lag longer than the longest outage of ClickHouse is needed ({WEEK_MILLIS} is a week)"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::unfit;

    fn settings(policy: &str, lag: &str) -> BTreeMap<String, String> {
        [("cleanup.policy", policy), ("min.compaction.lag.ms", lag)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn a_topic_that_forgets_rows_before_they_are_written_is_refused() {
        assert_eq!(unfit("t", &settings("delete", "0"), false), None);
        assert_eq!(unfit("t", &settings("compact,delete", "604800000"), false), None);
        assert_eq!(unfit("t", &BTreeMap::new(), false), None, "without the right to see its settings");
        assert!(unfit("t", &settings("compact", "0"), false).unwrap().contains("min.compaction.lag.ms"));
        assert!(unfit("t", &settings("compact", "604800000"), true).unwrap().contains("delete is needed"));
    }
}
