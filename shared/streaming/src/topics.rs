//! The topics that a worker needs: checked at start, created where allowed, deleted and made anew by a reset.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::RuntimeConfig;
use crate::kafka::{ASK_AT_START, topic_settings};
use crate::topology::{Cleanup, Topology};

const WEEK: &str = "604800000";

/// A topic as the worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needed {
    name: String,
    partitions: i32,
    /// Whether another number of partitions is a fault.
    exact: bool,
    settings: Vec<(&'static str, String)>,
}

/// Sizes of the topics of one pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PipelineSizes {
    pub(crate) source_partitions: i32,
    pub(crate) merge_partitions: i32,
}

/// What the check has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pipelines: Vec<PipelineSizes>,
    /// The largest record that late and dead-letter topic take, in bytes.
    pub(crate) max_handed_on_bytes: usize,
}

fn needed(topology: &Topology, config: &RuntimeConfig, sizes: &[PipelineSizes]) -> Vec<Needed> {
    let widest = sizes.iter().map(|sizes| sizes.source_partitions).max().unwrap_or(1);
    let text = |value: &str| value.to_owned();
    let compacted = || {
        vec![
            ("cleanup.policy", text("compact")),
            ("segment.bytes", (64 * 1024 * 1024).to_string()),
            ("min.cleanable.dirty.ratio", text("0.1")),
        ]
    };
    let mut topics = Vec::new();
    for output in &topology.outputs {
        let cleanup = match output.cleanup {
            Cleanup::Delete => "delete",
            Cleanup::CompactAndDelete => "compact,delete",
        };
        let mut settings = vec![("cleanup.policy", text(cleanup)), ("retention.ms", text(WEEK))];
        if output.cleanup == Cleanup::CompactAndDelete {
            // what reads it may be away for as long as that
            settings.push(("min.compaction.lag.ms", text(WEEK)));
        }
        topics.push(Needed { name: output.name.clone(), partitions: widest, exact: false, settings });
    }
    for name in [&topology.late_topic, &topology.dead_letter_topic] {
        let settings = vec![("cleanup.policy", text("delete")), ("retention.ms", text(WEEK))];
        topics.push(Needed { name: name.clone(), partitions: widest, exact: false, settings });
    }
    for (pipeline, sizes) in sizes.iter().enumerate() {
        let mut internal = |what: &str, partitions: i32, settings| {
            let name = topology.internal_topic(pipeline, what);
            topics.push(Needed { name, partitions, exact: true, settings });
        };
        let settings = vec![("cleanup.policy", text("delete")), ("retention.ms", text(WEEK))];
        internal("repartition", sizes.merge_partitions, settings);
        internal("watermarks", 1, compacted());
        internal("fold-state", sizes.source_partitions, compacted());
        internal("merge-state", sizes.merge_partitions, compacted());
        if topology.pipelines[pipeline].feeds {
            internal("table", sizes.source_partitions, compacted());
        }
    }
    // as large as what is handed on may rows and alerts be: the dimensions of their group come from records whole
    let largest = config.max_message_bytes().to_string();
    for topic in &mut topics {
        topic.settings.push(("max.message.bytes", largest.clone()));
    }
    topics
}

struct Broker {
    consumer: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    options: AdminOptions,
}

impl Broker {
    fn connect(kafka: &ClientConfig) -> anyhow::Result<Self> {
        Ok(Self {
            consumer: kafka.create().context("the Kafka client cannot be made")?,
            admin: kafka.create().context("the Kafka admin client cannot be made")?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            options: AdminOptions::new().operation_timeout(Some(ASK_AT_START)).request_timeout(Some(ASK_AT_START)),
        })
    }

    /// Partition counts of the cluster's topics.
    fn partitions(&self, kafka: &ClientConfig) -> anyhow::Result<HashMap<String, i32>> {
        let brokers = kafka.get("bootstrap.servers").unwrap_or_default();
        let metadata = self
            .consumer
            .fetch_metadata(None, ASK_AT_START)
            .with_context(|| format!("kafka.brokers = {brokers:?}: no broker answers within {ASK_AT_START:?}"))?;
        Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect())
    }

    fn create(&self, topics: &[Needed], replication: i32) -> anyhow::Result<()> {
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(replication));
                for (key, value) in &topic.settings {
                    new = new.set(key, value);
                }
                new
            })
            .collect();
        for result in self.runtime.block_on(self.admin.create_topics(&new, &self.options))? {
            match result {
                Ok(name) => tracing::info!(topic = name, "created"),
                Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => tracing::info!(topic = name, "exists"),
                Err((name, code)) => bail!("topic {name} cannot be created: {code}"),
            }
        }
        Ok(())
    }
}

/// Checks all topics, and creates those that are missing where `create` allows it.
pub(crate) fn check(
    topology: &Topology,
    config: &RuntimeConfig,
    kafka: &ClientConfig,
    create: bool,
) -> anyhow::Result<Found> {
    let broker = Broker::connect(kafka)?;
    let mut existing = broker.partitions(kafka)?;
    let mut problems = Vec::new();
    let mut sizes = Vec::new();
    for (index, pipeline) in topology.pipelines.iter().enumerate() {
        let Some(source_partitions) = existing.get(&pipeline.source_topic).copied() else {
            problems.push(format!("source topic {} does not exist", pipeline.source_topic));
            continue;
        };
        let repartition = existing.get(&topology.internal_topic(index, "repartition")).copied();
        let merge_partitions = repartition.unwrap_or(config.merge_partitions);
        sizes.push(PipelineSizes { source_partitions, merge_partitions });
    }
    if !problems.is_empty() {
        bail!("{}: {}", topology.worker, problems.join("; "));
    }
    let needed = needed(topology, config, &sizes);
    let missing: Vec<Needed> = needed.iter().filter(|topic| !existing.contains_key(&topic.name)).cloned().collect();
    if !missing.is_empty() && create {
        broker.create(&missing, config.replication_factor)?;
        let deadline = Instant::now() + ASK_AT_START;
        while missing.iter().any(|topic| !existing.contains_key(&topic.name)) {
            if Instant::now() > deadline {
                bail!("created topics do not appear in the cluster's metadata within {ASK_AT_START:?}");
            }
            existing = broker.partitions(kafka)?;
        }
    } else if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
        bail!(
            "{}: topics are missing: {}. Create them, or run: {} --config FILE --create-topics",
            topology.worker,
            names.join(", "),
            topology.worker
        );
    }
    let names = needed.iter().map(|topic| topic.name.as_str());
    // without the right to describe, settings are not known: the defaults are assumed
    let settings = broker.runtime.block_on(topic_settings(&broker.admin, names, &broker.options))?;
    for topic in needed.iter().filter(|topic| topic.exact) {
        let partitions = existing.get(&topic.name).copied().unwrap_or_default();
        if partitions != topic.partitions {
            problems.push(format!(
                "{} has {partitions} partitions, {} are needed (did the source's number change? then stop all instances \
                 and run: {} --config FILE --reset-state)",
                topic.name, topic.partitions, topology.worker
            ));
        }
        let wanted = topic.settings.iter().find(|(key, _)| *key == "cleanup.policy").map(|(_, value)| value.as_str());
        let actual = settings.get(&topic.name).and_then(|settings| settings.get("cleanup.policy")).map(String::as_str);
        if let (Some(wanted), Some(actual)) = (wanted, actual)
            && wanted != actual
        {
            problems.push(format!("{} has cleanup.policy = {actual}, {wanted} is needed", topic.name));
        }
    }
    if !problems.is_empty() {
        bail!("{}: {}", topology.worker, problems.join("; "));
    }
    let limit = |topic: &str| settings.get(topic)?.get("max.message.bytes")?.parse::<usize>().ok();
    let limits = [&topology.late_topic, &topology.dead_letter_topic].map(|topic| limit(topic));
    let smallest = limits.into_iter().flatten().min().unwrap_or(usize::MAX).min(config.max_message_bytes());
    // room for the batch around the record and for what the headers add
    Ok(Found { pipelines: sizes, max_handed_on_bytes: smallest.saturating_sub(4096) })
}

/// Writes a record to each partition of a topic, and waits until all are there.
pub(crate) fn send_to_all(kafka: &ClientConfig, topic: &str, value: &[u8]) -> anyhow::Result<()> {
    let broker = Broker::connect(kafka)?;
    let partitions =
        broker.partitions(kafka)?.get(topic).copied().with_context(|| format!("there is no topic {topic}"))?;
    let mut config = kafka.clone();
    config.set("enable.idempotence", "true");
    let producer: FutureProducer = config.create().context("the producer cannot be made")?;
    broker.runtime.block_on(async {
        for partition in 0..partitions {
            let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(value);
            let sent = producer.send(record, ASK_AT_START).await;
            sent.map_err(|(error, _)| error)
                .with_context(|| format!("{topic}/{partition} does not take the command"))?;
        }
        Ok(())
    })
}

/// Gives a worker's state up: deletes its group and its internal topics, and makes the topics anew. The next start reads
/// the sources from their beginning.
pub(crate) fn reset(topology: &Topology, config: &RuntimeConfig, kafka: &ClientConfig) -> anyhow::Result<()> {
    let broker = Broker::connect(kafka)?;
    let group = topology.group();
    for result in broker.runtime.block_on(broker.admin.delete_groups(&[&group], &broker.options))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
            Err((_, RDKafkaErrorCode::NonEmptyGroup)) => {
                bail!("group {group} has members: stop all instances of {} first", topology.worker)
            }
            Err((_, code)) => bail!("group {group} cannot be deleted: {code}"),
        }
    }
    let existing = broker.partitions(kafka)?;
    let internal: Vec<String> =
        topology.internal_topics().into_iter().filter(|topic| existing.contains_key(topic)).collect();
    let names: Vec<&str> = internal.iter().map(String::as_str).collect();
    if !names.is_empty() {
        for result in broker.runtime.block_on(broker.admin.delete_topics(&names, &broker.options))? {
            if let Err((name, code)) = result {
                bail!("topic {name} cannot be deleted: {code}");
            }
        }
        let deadline = Instant::now() + ASK_AT_START;
        loop {
            let left = broker.partitions(kafka)?;
            if !internal.iter().any(|topic| left.contains_key(topic)) {
                break;
            }
            if Instant::now() > deadline {
                bail!("deleted topics are still there after {ASK_AT_START:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    check(topology, config, kafka, true).map(|_| ())
}
