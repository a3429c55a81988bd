//! The consumer that only polls and decodes: what a worker's rate is held against.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use records::{Decoder, DecoderConfig, EmbeddingUpdated, Input, Interaction, Registry, RegistryConfig};

use crate::broker::Broker;
use crate::generator::DIMENSIONS;
use crate::recording::Content;
use crate::replay::Run;
use crate::{Exit, Launch, Process};

/// What it is called.
pub(super) const NAME: &str = "poll and decode";

/// Runs [`poll_and_decode`] in a process of its own; its seconds and what it used.
pub(super) fn run(run: &Run<'_>, content: Content) -> Result<(f64, Exit)> {
    let directory = run.stack().work_directory();
    let output = directory.join("poll-and-decode.out");
    let (brokers, registry) = (run.stack().brokers(), run.stack().registry_url());
    let launch = Launch {
        name: NAME.to_owned(),
        program: std::env::current_exe().context("this program has no path")?,
        arguments: ["poll-and-decode", &brokers, &registry, content.name()].map(Into::into).into(),
        log: directory.join("poll-and-decode.log"),
        output: Some(output.clone()),
        ..Launch::default()
    };
    let exit = Process::run(&launch, Duration::from_secs(600))?;
    let said = std::fs::read_to_string(&output)?;
    let seconds = said.trim().parse().with_context(|| format!("{NAME} said {said:?}, which are no seconds"))?;
    Ok((seconds, exit))
}

/// Reads all records of a content with one consumer and one thread, decodes them and forgets them; the seconds from the
/// first to the last one.
///
/// # Errors
/// The topic cannot be read, or a record cannot be decoded.
pub fn poll_and_decode(brokers: &str, registry: &str, content: Content) -> Result<f64> {
    let registry = Registry::new(RegistryConfig::new(registry), || false)?;
    match content {
        Content::Interactions => read::<Interaction<'static>>(brokers, registry, content.topic()),
        Content::ItemEmbeddings | Content::UserEmbeddings => {
            read::<EmbeddingUpdated<'static>>(brokers, registry, content.topic())
        }
    }
}

fn read<T: Input>(brokers: &str, registry: Registry, topic: &str) -> Result<f64> {
    let ends = Broker::new(brokers)?.ends(topic)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "recwatch.measure")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for &partition in ends.keys() {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let config = DecoderConfig { vector_length: Some(DIMENSIONS), ..DecoderConfig::default() };
    let mut decoder = Decoder::<T>::new(config, Box::new(registry));
    let mut left: i64 = ends.values().sum();
    let mut begun = None;
    while left > 0 {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        begun.get_or_insert_with(Instant::now);
        decoder.decode(message.key(), message.payload())?;
        left -= 1;
    }
    Ok(begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64()))
}
