//! The alerts of a worker whose state is given up: with it goes what would have ended them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kafka::{ASK, Reader, ReaderContext, Transactions, manual_offsets};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use records::{Alert, AlertState, Decoder, DecoderConfig, Encoder, Registry, Text};

/// What is said of alerts that end because the state was reset.
const REASON: &str = "state_reset";

/// The alerts of a worker that fire, as told last.
pub(crate) struct LeftAlerts<'a> {
    kafka: &'a ClientConfig,
    registry: &'a Registry,
    topic: &'a str,
    worker: &'a str,
    /// By fingerprint.
    firing: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> LeftAlerts<'a> {
    /// Reads the topic of alerts to its end; none where there is no such topic.
    ///
    /// # Errors
    /// Where the topic cannot be read, or the registry does not tell its schemas.
    pub(crate) fn read(
        kafka: &'a ClientConfig,
        registry: &'a Registry,
        topic: &'a str,
        worker: &'a str,
    ) -> anyhow::Result<Self> {
        let mut left = Self { kafka, registry, topic, worker, firing: BTreeMap::new() };
        left.read_topic().with_context(|| format!("the alerts that fire cannot be read from {topic}"))?;
        Ok(left)
    }

    fn read_topic(&mut self) -> anyhow::Result<()> {
        let mut config = self.kafka.clone();
        manual_offsets(&mut config, &format!("recwatch.{}", self.worker));
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        let reader: Reader = config.create_with_context(ReaderContext)?;
        let metadata = reader.fetch_metadata(Some(self.topic), ASK)?;
        let partitions: BTreeSet<i32> =
            metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(self.topic, *partition, Offset::Beginning)?;
        }
        reader.assign(&list)?;
        let mut decoder = self.decoder();
        let (mut unread, mut heard) = (partitions, Instant::now());
        while !unread.is_empty() {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => self.note(&mut decoder, message.key(), message.payload())?,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
                Some(Err(error)) => tracing::warn!(%error, topic = self.topic, "while reading alerts"),
                None if heard.elapsed() > ASK => bail!("partitions {unread:?} cannot be read"),
                None => continue,
            }
            heard = Instant::now();
        }
        Ok(())
    }

    fn decoder(&self) -> Decoder<Alert<'static>> {
        Decoder::new(DecoderConfig::default(), Box::new(self.registry.clone()))
    }

    /// Takes a record in; one that cannot be read is nothing that was told.
    fn note(
        &mut self,
        decoder: &mut Decoder<Alert<'static>>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        let (Some(key), Some(value)) = (key, value) else { return Ok(()) };
        match decoder.decode(Some(key), Some(value)) {
            Ok(alert) if alert.worker == self.worker => {
                if alert.state == AlertState::Firing {
                    self.firing.insert(key.to_vec(), value.to_vec());
                } else {
                    self.firing.remove(key);
                }
                Ok(())
            }
            Err(records::DecodeError::NoAnswer(error)) => Err(error.into()),
            Ok(_) | Err(records::DecodeError::Rejected(_)) => Ok(()),
        }
    }

    /// Tells that they are over, all of them or none; how many.
    ///
    /// # Errors
    /// Where Kafka does not take that, or the registry does not know the schema of alerts.
    pub(crate) fn end(self) -> anyhow::Result<usize> {
        if self.firing.is_empty() {
            return Ok(0);
        }
        let ended = self.tell().with_context(|| {
            format!(
                "{} alerts of {} still fire on {}: run --reset-state again",
                self.firing.len(),
                self.worker,
                self.topic
            )
        });
        ended.map(|()| self.firing.len())
    }

    fn tell(&self) -> anyhow::Result<()> {
        let schema = self.registry.register_for::<Alert<'static>>(self.topic)?;
        let (mut decoder, mut encoder) = (self.decoder(), Encoder::<Alert<'static>>::new(schema));
        let mut config = self.kafka.clone();
        let id = format!("{}-reset", self.worker);
        // Kafka's own partitioner, as the worker has it: an alert stays in its partition
        config.set("client.id", &id).set("transactional.id", &id).set("partitioner", "murmur2_random");
        let transactions = Transactions::take_over(&config, || false)?;
        transactions.begin()?;
        let mut bytes = Vec::new();
        for (key, value) in &self.firing {
            let alert = decoder.decode(Some(key), Some(value))?;
            let summary = format!("the state of {} was reset; the last word was: {}", self.worker, alert.summary);
            bytes.clear();
            encoder.encode(&ended(alert, &summary), &mut bytes)?;
            transactions.send(BaseRecord::to(self.topic).key(key.as_slice()).payload(bytes.as_slice()))?;
        }
        transactions.deliver();
        if let Some((error, topic)) = transactions.refusal() {
            transactions.abort()?;
            bail!("{topic} does not take a record: {error}");
        }
        Ok(transactions.commit()?)
    }
}

/// The last record of an alert's life.
fn ended<'a>(alert: Alert<'a>, summary: &'a str) -> Alert<'a> {
    Alert {
        sequence: alert.sequence + 1,
        state: AlertState::Resolved,
        reason: Text::from(REASON),
        value: None,
        threshold: None,
        baseline: None,
        samples: Vec::new(),
        summary: Text::from(summary),
        traceparent: None,
        ..alert
    }
}
