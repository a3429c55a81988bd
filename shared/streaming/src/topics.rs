//! The topics that a worker needs: checked at start, created where allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kafka::{TopicChange, TopicIdentity, describe_topics};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::config::RuntimeConfig;
use crate::kafka::{ASK, ASK_AT_START, topic_settings};
use crate::topology::{Cleanup, Topology};
use crate::way_out;

const WEEK: &str = "604800000";

/// The largest record of an internal topic that is cut into pieces, and what stands around it, in bytes.
const LARGEST_PIECE: usize = crate::state::CHUNK_BYTES + 4096;

/// A topic as the worker needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needed {
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
    /// The largest batch that each of the topology's topics takes, in bytes; the producer's own limit where that is smaller
    /// or the topic's is not known.
    pub(crate) topic_limits: Vec<usize>,
    /// All topics as they are.
    pub(crate) identities: BTreeMap<String, TopicIdentity>,
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

/// A client for what is asked and ordered at a start or by a person.
pub(crate) struct Broker {
    consumer: BaseConsumer,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    options: AdminOptions,
}

impl Broker {
    pub(crate) fn connect(kafka: &ClientConfig) -> anyhow::Result<Self> {
        Ok(Self {
            consumer: kafka.create().context("the Kafka client cannot be made")?,
            admin: kafka.create().context("the Kafka admin client cannot be made")?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            options: AdminOptions::new().operation_timeout(Some(ASK_AT_START)).request_timeout(Some(ASK_AT_START)),
        })
    }

    pub(crate) fn client(&self) -> &BaseConsumer {
        &self.consumer
    }

    /// Those of the topics that exist.
    pub(crate) fn existing<'a>(
        &self,
        kafka: &ClientConfig,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<BTreeMap<String, TopicIdentity>> {
        // each once: librdkafka refuses to ask twice
        let topics: BTreeSet<&str> = topics.into_iter().collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let brokers = kafka.get("bootstrap.servers").unwrap_or_default();
        let described = describe_topics(self.consumer.client(), &topics, ASK_AT_START)
            .with_context(|| format!("kafka.brokers = {brokers:?}: no broker answers within {ASK_AT_START:?}"))?;
        let (mut existing, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, described) in described {
            match described {
                Ok(identity) => drop(existing.insert(name, identity)),
                Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {}
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => problems.push(format!(
                    "topic {name}: this user may not see it (TopicAuthorizationFailed): grant Describe on it, and what \
                     else the README's table of rights names"
                )),
                Err(code) => problems.push(format!("topic {name} cannot be described: {code}")),
            }
        }
        if problems.is_empty() { Ok(existing) } else { bail!("{}", problems.join("; ")) }
    }

    /// Whether a group has committed an offset of a topic.
    fn has_read(&self, kafka: &ClientConfig, group: &str, topic: &str, partitions: i32) -> anyhow::Result<bool> {
        let mut config = kafka.clone();
        let consumer: BaseConsumer =
            config.set("group.id", group).create().context("the Kafka client cannot be made")?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let deadline = Instant::now() + ASK_AT_START;
        let committed = loop {
            match consumer.committed_offsets(list.clone(), ASK_AT_START) {
                Ok(committed) => break committed,
                Err(error) if no_coordinator_yet(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("the offsets of the group {group} cannot be asked for"));
                }
            }
        };
        Ok(committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))))
    }

    pub(crate) fn create(&self, topics: &[Needed], replication: i32) -> anyhow::Result<()> {
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

    /// Deletes topics, and waits until they are not there any more.
    pub(crate) fn delete(&self, kafka: &ClientConfig, topics: &[&str]) -> anyhow::Result<()> {
        if topics.is_empty() {
            return Ok(());
        }
        for result in self.runtime.block_on(self.admin.delete_topics(topics, &self.options))? {
            if let Err((name, code)) = result {
                bail!("topic {name} cannot be deleted: {code}");
            }
        }
        let deadline = Instant::now() + ASK_AT_START;
        while !self.existing(kafka, topics.iter().copied())?.is_empty() {
            anyhow::ensure!(Instant::now() < deadline, "deleted topics are still there after {ASK_AT_START:?}");
            std::thread::sleep(Duration::from_millis(50));
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
    checked(topology, config, kafka, create).with_context(|| topology.worker.clone())
}

fn checked(topology: &Topology, config: &RuntimeConfig, kafka: &ClientConfig, create: bool) -> anyhow::Result<Found> {
    let broker = Broker::connect(kafka)?;
    let internal = topology.internal_topics();
    let sources = topology.pipelines.iter().map(|pipeline| pipeline.source_topic.as_str());
    let mut existing = broker.existing(kafka, sources.chain(internal.iter().map(String::as_str)))?;
    let sizes = pipeline_sizes(topology, config, &existing)?;
    let needed = needed(topology, config, &sizes);
    let names = || needed.iter().map(|topic| topic.name.as_str());
    existing.extend(broker.existing(kafka, names())?);
    let missing: Vec<Needed> = needed.iter().filter(|topic| !existing.contains_key(&topic.name)).cloned().collect();
    if let Some(change) = lost_state(topology, &broker, kafka, &existing)? {
        bail!(way_out::of(topology, &change));
    }
    if !missing.is_empty() && create {
        broker.create(&missing, config.replication_factor)?;
        let deadline = Instant::now() + ASK_AT_START;
        while missing.iter().any(|topic| !existing.contains_key(&topic.name)) {
            if Instant::now() > deadline {
                bail!("created topics do not appear in the cluster's metadata within {ASK_AT_START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
            existing.extend(broker.existing(kafka, names())?);
        }
    } else if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
        bail!(
            "topics are missing: {}. Create them, or run: {} --config FILE --create-topics",
            missing.join(", "),
            topology.worker
        );
    }
    let sources = topology.pipelines.iter().map(|pipeline| pipeline.source_topic.as_str());
    // without the right to describe, settings are not known: the defaults are assumed
    let settings =
        broker.runtime.block_on(topic_settings(&broker.admin, names().chain(sources.clone()), &broker.options))?;
    let mut problems: Vec<String> = needed
        .iter()
        .filter(|topic| topic.exact)
        .flat_map(|topic| {
            let partitions = existing.get(&topic.name).map_or(0, |topic| topic.partitions);
            topic.problems(&topology.worker, partitions, settings.get(&topic.name))
        })
        .collect();
    for topic in [&topology.late_topic, &topology.dead_letter_topic] {
        let policy = settings.get(topic).and_then(|settings| settings.get("cleanup.policy"));
        if let Some(policy) = policy.filter(|policy| policy.contains("compact")) {
            problems.push(format!(
                "{topic} has cleanup.policy = {policy}: it would lose records that have the same key, and refuse those \
                 without; delete is needed"
            ));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    for topic in sources {
        let stamped_by = settings.get(topic).and_then(|settings| settings.get("message.timestamp.type"));
        if stamped_by.is_some_and(|clock| clock == "CreateTime") {
            tracing::info!(
                topic,
                "message.timestamp.type = CreateTime: producers stamp their records, so an event in the future is found by \
                 this host's clock alone where a producer's clock is fast; LogAppendTime would have the broker's clock too"
            );
        }
    }
    let largest = config.max_message_bytes();
    let limit = |topic: &String| limit_of(settings.get(topic)?);
    let topic_limits = topology.topics().iter().map(|topic| limit(topic).unwrap_or(largest).min(largest)).collect();
    Ok(Found { pipelines: sizes, topic_limits, identities: existing })
}

/// Whether the group's coordinator is just coming, or moves.
fn no_coordinator_yet(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let passes = [Code::NotCoordinator, Code::CoordinatorNotAvailable, Code::CoordinatorLoadInProgress];
    error.rdkafka_error_code().is_some_and(|code| passes.contains(&code))
}

/// An internal topic that is missing though the group has read a source: a part of the state is gone, and an empty topic in
/// its place would be taken for it.
fn lost_state(
    topology: &Topology,
    broker: &Broker,
    kafka: &ClientConfig,
    existing: &BTreeMap<String, TopicIdentity>,
) -> anyhow::Result<Option<TopicChange>> {
    for (pipeline, source) in topology.pipelines.iter().enumerate() {
        let internal = topology.internal_topics_of(pipeline);
        let Some(missing) = internal.into_iter().find(|topic| !existing.contains_key(topic)) else { continue };
        let partitions = existing.get(&source.source_topic).map_or(0, |topic| topic.partitions);
        if partitions > 0 && broker.has_read(kafka, &topology.deployment().group(), &source.source_topic, partitions)? {
            return Ok(Some(TopicChange::Deleted { topic: missing }));
        }
    }
    Ok(None)
}

fn limit_of(settings: &BTreeMap<String, String>) -> Option<usize> {
    settings.get("max.message.bytes")?.parse().ok()
}

/// The largest batch that a topic takes now, in bytes; `None` where that cannot be seen.
pub(crate) fn max_message_bytes(kafka: &ClientConfig, topic: &str) -> Option<usize> {
    let broker = Broker::connect(kafka).ok()?;
    let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
    let settings = broker.runtime.block_on(topic_settings(&broker.admin, [topic], &options));
    limit_of(settings.ok()?.get(topic)?)
}

fn pipeline_sizes(
    topology: &Topology,
    config: &RuntimeConfig,
    existing: &BTreeMap<String, TopicIdentity>,
) -> anyhow::Result<Vec<PipelineSizes>> {
    let (mut sizes, mut problems) = (Vec::new(), Vec::new());
    let partitions = |topic: &str| existing.get(topic).map(|topic| topic.partitions);
    for (index, pipeline) in topology.pipelines.iter().enumerate() {
        let source = &pipeline.source_topic;
        let Some(source_partitions) = partitions(source) else {
            problems.push(way_out::of(topology, &TopicChange::Deleted { topic: source.clone() }));
            continue;
        };
        // what its state was made with
        if let Some(was) = partitions(&topology.internal_topic(index, "fold-state"))
            && was != source_partitions
        {
            let change = TopicChange::Partitions { topic: source.clone(), was, is: source_partitions };
            problems.push(way_out::of(topology, &change));
        }
        let repartition = partitions(&topology.internal_topic(index, "repartition"));
        let merge_partitions = repartition.unwrap_or(config.merge_partitions);
        sizes.push(PipelineSizes { source_partitions, merge_partitions });
    }
    if problems.is_empty() { Ok(sizes) } else { bail!("{}", problems.join("; ")) }
}

impl Needed {
    /// What is wrong with an internal topic.
    fn problems(&self, worker: &str, partitions: i32, settings: Option<&BTreeMap<String, String>>) -> Vec<String> {
        let mut problems = Vec::new();
        if partitions != self.partitions {
            problems.push(format!(
                "{} has {partitions} partitions, {} are needed: it was altered. To give the state up, stop all instances \
                 and run: {worker} --config FILE --reset-state",
                self.name, self.partitions
            ));
        }
        let wanted = self.settings.iter().find(|(key, _)| *key == "cleanup.policy").map(|(_, value)| value.as_str());
        let actual = settings.and_then(|settings| settings.get("cleanup.policy")).map(String::as_str);
        if let (Some(wanted), Some(actual)) = (wanted, actual)
            && wanted != actual
        {
            let harm = if wanted == "compact" { "state is deleted by age" } else { "records replace each other" };
            problems.push(format!(
                "{0} has cleanup.policy = {actual}, {wanted} is needed: else {harm}. Run: kafka-configs --alter --topic {0} \
                 --add-config cleanup.policy={wanted}",
                self.name
            ));
        }
        if let Some(bytes) = settings.and_then(limit_of)
            && bytes < LARGEST_PIECE
        {
            problems.push(format!("{} has max.message.bytes = {bytes}, {LARGEST_PIECE} are needed", self.name));
        }
        problems
    }
}

/// Writes a record to each partition of a topic, and waits until all are there.
pub(crate) fn send_to_all(kafka: &ClientConfig, topic: &str, value: &[u8]) -> anyhow::Result<()> {
    let broker = Broker::connect(kafka)?;
    let existing = broker.existing(kafka, [topic])?;
    let partitions = existing.get(topic).with_context(|| format!("there is no topic {topic}"))?.partitions;
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
