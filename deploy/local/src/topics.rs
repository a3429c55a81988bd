//! Creating topics, and how long a group waits for its members.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;

use crate::http::outside_async;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Names and values of what is set for a topic itself.
pub(crate) type TopicSettings = BTreeMap<String, String>;

/// Creates a topic and returns once every partition has its leader: before that, producers and consumers see errors.
///
/// # Errors
/// The broker refuses it, also when it exists, or does not answer.
pub fn create_topic(brokers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    outside_async(|| {
        let admin = admin(brokers)?;
        let topic =
            settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| {
                topic.set(key, value)
            });
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let results = runtime
            .block_on(admin.create_topics([&topic], &options()))
            .with_context(|| format!("topic {name} cannot be created at {brokers}"))?;
        for result in results {
            if let Err((topic, code)) = result {
                bail!("topic {topic} cannot be created at {brokers}: {code}");
            }
        }
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let metadata = admin.inner().fetch_metadata(Some(name), TIMEOUT)?;
            let led = metadata.topics().iter().flat_map(|topic| topic.partitions()).filter(|p| p.leader() >= 0).count();
            if i32::try_from(led) == Ok(partitions) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("topic {name} has leaders for {led} of {partitions} partitions {TIMEOUT:?} after its creation");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

/// Sets after which silence a group of the consumer protocol misses a member; the group need not exist yet. Under the classic
/// protocol members say that themselves.
///
/// # Errors
/// The broker refuses it, or does not answer.
pub fn set_group_session(brokers: &str, group: &str, session: Duration) -> Result<()> {
    outside_async(|| {
        let session = session.as_millis().to_string();
        let setting =
            AlterConfig::new(ResourceSpecifier::Group(group)).set("consumer.session.timeout.ms", session.as_str());
        let admin = admin(brokers)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let results = runtime.block_on(admin.alter_configs([&setting], &options()));
        for result in results.with_context(|| format!("the session of group {group} cannot be set at {brokers}"))? {
            if let Err((_, code)) = result {
                bail!("the session of group {group} cannot be set at {brokers}: {code}");
            }
        }
        Ok(())
    })
}

/// Changes settings of a topic and leaves its others as they are; returns all that were set before.
///
/// # Errors
/// The broker refuses it, or does not answer.
pub(crate) fn change_topic(brokers: &str, topic: &str, changes: &[(&str, &str)]) -> Result<TopicSettings> {
    outside_async(|| {
        let admin = admin(brokers)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let described = runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
        let mut before = TopicSettings::new();
        for resource in described.with_context(|| format!("the settings of topic {topic} were asked for"))? {
            let resource =
                resource.map_err(|code| anyhow::anyhow!("the settings of topic {topic} were asked for: {code}"))?;
            let own = resource.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
            before.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        let mut after = before.clone();
        after.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        set_topic(&admin, &runtime, topic, &after)?;
        Ok(before)
    })
}

/// Gives a topic these settings; others are as they are by default.
///
/// # Errors
/// The broker refuses it, or does not answer.
pub(crate) fn restore_topic(brokers: &str, topic: &str, settings: &TopicSettings) -> Result<()> {
    outside_async(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        set_topic(&admin(brokers)?, &runtime, topic, settings)
    })
}

fn set_topic(
    admin: &AdminClient<DefaultClientContext>,
    runtime: &tokio::runtime::Runtime,
    topic: &str,
    settings: &TopicSettings,
) -> Result<()> {
    let change = settings
        .iter()
        .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |change, (name, value)| change.set(name, value));
    let results = runtime.block_on(admin.alter_configs([&change], &options()));
    for result in results.with_context(|| format!("the settings of topic {topic} cannot be changed"))? {
        if let Err((_, code)) = result {
            bail!("the settings of topic {topic} cannot be changed: {code}");
        }
    }
    Ok(())
}

fn admin(brokers: &str) -> Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().context("no Kafka client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT))
}
