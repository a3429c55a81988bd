//! Creating topics.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::http::outside_async;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates a topic and returns once every partition has its leader: before that, producers and consumers see errors.
///
/// # Errors
/// The broker refuses it, also when it exists, or does not answer.
pub fn create_topic(brokers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    outside_async(|| {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).create().context("no Kafka client")?;
        let topic =
            settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (key, value)| {
                topic.set(key, value)
            });
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let results = runtime
            .block_on(admin.create_topics([&topic], &options))
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
