//! The topics that the router needs: checked at start, created where allowed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kafka::{ASK_AT_START, LARGEST_RECORD, topic_settings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::Configuration;
use crate::core::LARGEST_ALERT;
use crate::payload::LARGEST_NOTIFICATION;
use crate::routing::{Routing, Style};

const WEEK_MILLIS: &str = "604800000";

/// The largest record of the state: an alert, and what stands around it.
const LARGEST_STATE: usize = LARGEST_ALERT + 100_000;

struct Needed {
    name: String,
    partitions: i32,
    /// Whether another number of partitions is a fault.
    exact: bool,
    cleanup: &'static str,
    /// Whether another cleanup policy is a fault.
    exact_cleanup: bool,
    /// A smaller limit to its records, in bytes, is a fault.
    takes_bytes: usize,
    settings: Vec<(&'static str, &'static str)>,
}

/// The brokers, as asked by a person or at the start.
pub struct Cluster<'a> {
    configuration: &'a Configuration,
    needed: Vec<Needed>,
    consumer: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl<'a> Cluster<'a> {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn new(configuration: &'a Configuration, routing: &Routing) -> anyhow::Result<Self> {
        let kafka: ClientConfig = configuration.kafka.client_config();
        Ok(Self {
            configuration,
            needed: needed(configuration, routing),
            consumer: kafka.create().context("the Kafka client cannot be made")?,
            admin: kafka.create().context("the Kafka admin client cannot be made")?,
            options: AdminOptions::new().operation_timeout(Some(ASK_AT_START)).request_timeout(Some(ASK_AT_START)),
        })
    }

    /// Checks that all topics exist and fit; creates those that are missing where `create` allows it.
    ///
    /// # Errors
    /// Where no broker answers, or with everything that is wrong.
    pub async fn check(&self, create: bool) -> anyhow::Result<()> {
        let mut existing = self.partitions()?;
        let missing: Vec<&Needed> = self.needed.iter().filter(|topic| !existing.contains_key(&topic.name)).collect();
        if !missing.is_empty() && !create {
            let names: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
            bail!(
                "alert-router: topics are missing: {}. Create them, or run: alert-router --config FILE --create-topics",
                names.join(", ")
            );
        }
        self.create(&missing).await?;
        let deadline = Instant::now() + ASK_AT_START;
        while self.needed.iter().any(|topic| !existing.contains_key(&topic.name)) {
            anyhow::ensure!(Instant::now() < deadline, "created topics do not appear within {ASK_AT_START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            existing = self.partitions()?;
        }
        let names = self.needed.iter().map(|topic| topic.name.as_str());
        let settings = topic_settings(&self.admin, names, &self.options).await?;
        let mut problems = Vec::new();
        for topic in &self.needed {
            let partitions = existing.get(&topic.name).copied().unwrap_or_default();
            if topic.exact && partitions != topic.partitions {
                problems.push(format!("{} has {partitions} partitions, {} is needed", topic.name, topic.partitions));
            }
            // without the right to see them, they are not known
            let Some(settings) = settings.get(&topic.name) else { continue };
            if let Some(policy) = settings.get("cleanup.policy")
                && topic.exact_cleanup
                && policy != topic.cleanup
            {
                problems.push(format!("{} has cleanup.policy = {policy}, {} is needed", topic.name, topic.cleanup));
            }
            if let Some(bytes) = settings.get("max.message.bytes")
                && bytes.parse::<usize>().is_ok_and(|bytes| bytes < topic.takes_bytes)
            {
                let Needed { name, takes_bytes, .. } = topic;
                problems.push(format!("{name} has max.message.bytes = {bytes}, {takes_bytes} are needed"));
            }
        }
        anyhow::ensure!(problems.is_empty(), "alert-router: {}", problems.join("; "));
        Ok(())
    }

    /// Deletes the state and makes it anew: the next start reads all alerts that the brokers still have.
    ///
    /// # Errors
    /// Where instances run, or no broker answers.
    pub async fn reset(&self) -> anyhow::Result<()> {
        let group = self.configuration.runtime.group.as_str();
        for result in self.admin.delete_groups(&[group], &self.options).await? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((group, RDKafkaErrorCode::NonEmptyGroup)) => {
                    bail!("group {group} has members: stop all instances of alert-router first");
                }
                Err((group, code)) => bail!("group {group} cannot be deleted: {code}"),
            }
        }
        let state = &self.configuration.topics.state;
        if self.partitions()?.contains_key(state) {
            for result in self.admin.delete_topics(&[state], &self.options).await? {
                if let Err((name, code)) = result {
                    bail!("topic {name} cannot be deleted: {code}");
                }
            }
            let deadline = Instant::now() + ASK_AT_START;
            while self.partitions()?.contains_key(state) {
                anyhow::ensure!(Instant::now() < deadline, "{state} is still there after {ASK_AT_START:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self.check(true).await
    }

    async fn create(&self, topics: &[&Needed]) -> anyhow::Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        let replication = self.configuration.runtime.replication_factor;
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(replication))
                    .set("cleanup.policy", topic.cleanup);
                for (key, value) in &topic.settings {
                    new = new.set(key, value);
                }
                new
            })
            .collect();
        for result in self.admin.create_topics(&new, &self.options).await? {
            match result {
                Ok(topic) => tracing::info!(topic, "created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => bail!("topic {topic} cannot be created: {code}"),
            }
        }
        Ok(())
    }

    fn partitions(&self) -> anyhow::Result<BTreeMap<String, i32>> {
        let metadata = self.consumer.fetch_metadata(None, ASK_AT_START).with_context(|| {
            format!("kafka.brokers = {:?}: no broker answers within {ASK_AT_START:?}", self.configuration.kafka.brokers)
        })?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect())
    }
}

fn needed(configuration: &Configuration, routing: &Routing) -> Vec<Needed> {
    let partitions = configuration.runtime.partitions;
    let topics = &configuration.topics;
    let plain = |name: &str, settings| Needed {
        name: name.to_owned(),
        partitions,
        exact: false,
        cleanup: "delete",
        exact_cleanup: true,
        takes_bytes: 0,
        settings,
    };
    let week = || vec![("retention.ms", WEEK_MILLIS)];
    let letters = vec![("retention.ms", WEEK_MILLIS), ("max.message.bytes", LARGEST_RECORD)];
    let compacted = |name: &str, exact, settings| Needed {
        name: name.to_owned(),
        partitions: 1,
        exact,
        cleanup: "compact",
        exact_cleanup: true,
        takes_bytes: 0,
        settings,
    };
    // as the workers make it; all that matters here is that records stay until they are read
    let alerts = Needed {
        name: topics.alerts.clone(),
        partitions,
        exact: false,
        cleanup: "compact,delete",
        exact_cleanup: false,
        takes_bytes: 0,
        settings: vec![
            ("retention.ms", WEEK_MILLIS),
            ("min.compaction.lag.ms", WEEK_MILLIS),
            ("max.message.bytes", LARGEST_RECORD),
        ],
    };
    let state = vec![
        ("segment.bytes", "67108864"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("max.message.bytes", LARGEST_RECORD),
    ];
    let mut needed = vec![
        alerts,
        plain(&topics.dead_letters, letters),
        compacted(&topics.silences, false, Vec::new()),
        Needed { takes_bytes: LARGEST_STATE, ..compacted(&topics.state, true, state) },
    ];
    for receiver in &routing.receivers {
        if let Style::Topic(topic) = &receiver.style
            && needed.iter().all(|needed| needed.name != *topic)
        {
            needed.push(Needed { takes_bytes: LARGEST_NOTIFICATION, ..plain(topic, week()) });
        }
    }
    needed
}
