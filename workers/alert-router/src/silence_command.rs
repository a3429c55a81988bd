//! `alert-router silence add|list|expire`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use kafka::{ASK, ReadFailure, partitions, read_whole, reader};
use rdkafka::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use records::{DecodeError, Decoder, DecoderConfig, Encoder, Registry, Silence as Record};
use service::{HumanDuration, Shutdown};

use crate::active::now;
use crate::config::Configuration;
use crate::silence::{Silence, read};
use crate::timestamp::rfc3339;

/// A silence as it stands in the topic.
type Found = BTreeMap<String, Record<'static>>;

/// What is to be silenced.
#[derive(Debug, Clone)]
pub struct Wish {
    /// All of them must hold.
    pub matchers: Vec<String>,
    /// From when on, epoch ms; now if `None`.
    pub starts_at: Option<i64>,
    /// How long.
    pub lasts: HumanDuration,
    /// Who asks.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// The silences' topic.
pub struct SilenceTopic<'a> {
    configuration: &'a Configuration,
    registry: Registry,
    shutdown: Shutdown,
}

impl<'a> SilenceTopic<'a> {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Where the registry's configuration cannot work.
    pub fn new(configuration: &'a Configuration, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let stopping = shutdown.clone();
        let registry = Registry::new((&configuration.registry).into(), move || stopping.requested())?.blocking(None);
        Ok(Self { configuration, registry, shutdown: shutdown.clone() })
    }

    /// Adds a silence and returns its id.
    ///
    /// # Errors
    /// Where a matcher cannot be read, or the topic does not take it.
    pub fn add(&self, wish: Wish) -> anyhow::Result<String> {
        let starts_at = wish.starts_at.unwrap_or_else(now);
        let record = Record {
            id: format!("{:016x}", rand::random::<u64>()).into(),
            matchers: wish.matchers.into_iter().map(Into::into).collect(),
            starts_at,
            ends_at: starts_at.saturating_add(wish.lasts.as_millis()),
            created_by: wish.created_by.into(),
            comment: wish.comment.into(),
        };
        Silence::of(&record).map_err(anyhow::Error::msg)?;
        anyhow::ensure!(record.ends_at > now(), "the silence would be over already");
        self.write(&record)?;
        Ok(record.id.to_string())
    }

    /// Ends a silence now.
    ///
    /// # Errors
    /// Where there is no such silence, or the topic does not take it.
    pub fn expire(&self, id: &str) -> anyhow::Result<()> {
        let Some(mut record) = self.all()?.remove(id) else {
            bail!("there is no silence {id:?} in {}", self.configuration.topics.silences);
        };
        anyhow::ensure!(record.ends_at > now(), "the silence {id} ended at {}", rfc3339(record.ends_at));
        record.ends_at = now();
        record.starts_at = record.starts_at.min(record.ends_at);
        self.write(&record)
    }

    /// All silences, one a line; those that are over only where `over` says so.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn list(&self, over: bool) -> anyhow::Result<String> {
        let now = now();
        let mut text = String::new();
        for (id, record) in self.all()? {
            let state = match () {
                () if record.ends_at <= now => "expired",
                () if record.starts_at > now => "pending",
                () => "active",
            };
            if state != "expired" || over {
                let matchers: Vec<&str> = record.matchers.iter().map(|matcher| matcher.as_str()).collect();
                text.push_str(&format!(
                    "{id}  {state:7}  {} to {}  {}  by {}: {}\n",
                    rfc3339(record.starts_at),
                    rfc3339(record.ends_at),
                    matchers.join(" "),
                    if record.created_by.is_empty() { "nobody" } else { &record.created_by },
                    record.comment,
                ));
            }
        }
        Ok(text)
    }

    /// All silences that can be read, by id.
    ///
    /// # Errors
    /// Where the topic cannot be read, or the registry does not answer.
    pub fn all(&self) -> anyhow::Result<Found> {
        let (topic, group) = (&self.configuration.topics.silences, &self.configuration.runtime.group);
        let kafka = self.configuration.kafka.client_config();
        let unreadable = || format!("{topic} cannot be read");
        let partitions = reader(&kafka, group, "read_committed").and_then(|reader| partitions(&reader, topic));
        let partitions = partitions.with_context(unreadable)?;
        anyhow::ensure!(partitions > 0, "there is no topic {topic}: alert-router --create-topics makes it");
        let records = match read_whole(&kafka, group, (topic, partitions), &self.shutdown) {
            Ok(records) => records,
            Err(ReadFailure::Stopped) => bail!("the end was asked for"),
            Err(ReadFailure::Later(error)) => bail!("{}: {error}", unreadable()),
        };
        let mut decoder = Decoder::<Record<'static>>::new(DecoderConfig::default(), Box::new(self.registry.clone()));
        let mut found = Found::new();
        for message in &records {
            let key = message.key().unwrap_or_default();
            let id = String::from_utf8_lossy(key).into_owned();
            match message.payload().map(|value| read(&mut decoder, key, value)) {
                None => drop(found.remove(&id)),
                Some(Ok((record, _))) => drop(found.insert(id, owned(&record))),
                Some(Err(DecodeError::Rejected(error))) => {
                    tracing::warn!(id, %error, "a silence cannot be read");
                    // the newest record of an id counts
                    found.remove(&id);
                }
                Some(Err(error @ DecodeError::NoAnswer(_))) => return Err(error).with_context(unreadable),
            }
        }
        Ok(found)
    }

    fn write(&self, record: &Record<'_>) -> anyhow::Result<()> {
        let topic = &self.configuration.topics.silences;
        let schema = self.registry.register_for::<Record<'static>>(topic)?;
        let mut value = Vec::new();
        Encoder::<Record<'static>>::new(schema).encode(record, &mut value)?;
        let mut config = self.configuration.kafka.client_config();
        config.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        let producer: FutureProducer = config.create().context("the producer cannot be made")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sent = producer.send(FutureRecord::to(topic).key(record.id.as_str()).payload(&value), ASK);
        runtime
            .block_on(sent)
            .map_err(|(error, _)| error)
            .with_context(|| format!("{topic} does not take the silence"))?;
        Ok(())
    }
}

fn owned(record: &Record<'_>) -> Record<'static> {
    Record {
        id: record.id.clone().into_owned(),
        matchers: record.matchers.iter().map(|matcher| matcher.clone().into_owned()).collect(),
        starts_at: record.starts_at,
        ends_at: record.ends_at,
        created_by: record.created_by.clone().into_owned(),
        comment: record.comment.clone().into_owned(),
    }
}
