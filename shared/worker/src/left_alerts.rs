//! The alerts of a worker whose state is given up: with it goes what would have ended them.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use kafka::{LARGEST_RECORD, ReadFailure, Refused, Transactions, partitions, read_to_end, reader};
use rdkafka::producer::BaseRecord;
use rdkafka::{ClientConfig, Message as _};
use records::{Alert, AlertState, Decoder, DecoderConfig, Encoder, Registry, Text};
use service::Shutdown;
use streaming::Deployment;

/// What is said of alerts that end because the state was reset.
const REASON: &str = "state_reset";

/// The alerts of a deployment that fire, as reported last. Those of another deployment of the worker have other
/// fingerprints.
pub(crate) struct LeftAlerts<'a> {
    kafka: &'a ClientConfig,
    registry: &'a Registry,
    topic: &'a str,
    deployment: &'a Deployment,
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
        deployment: &'a Deployment,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let mut left = Self { kafka, registry, topic, deployment, firing: BTreeMap::new() };
        left.read_topic(shutdown).with_context(|| format!("the alerts that fire cannot be read from {topic}"))?;
        Ok(left)
    }

    fn read_topic(&mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let group = self.deployment.group();
        let partitions = partitions(&reader(self.kafka, &group, "read_committed")?, self.topic)?;
        let mut decoder = self.decoder();
        for partition in 0..partitions {
            read_to_end(self.kafka, &group, (self.topic, partition), shutdown, |message| {
                self.note(&mut decoder, message.key(), message.payload())
            })?;
        }
        Ok(())
    }

    fn decoder(&self) -> Decoder<Alert<'static>> {
        Decoder::new(DecoderConfig::of_workers(), Box::new(self.registry.clone()))
    }

    /// Takes a record in; one that cannot be read is nothing that was told.
    fn note(
        &mut self,
        decoder: &mut Decoder<Alert<'static>>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), ReadFailure> {
        let (Some(key), Some(value)) = (key, value) else { return Ok(()) };
        match decoder.decode(Some(key), Some(value)) {
            Ok(alert) if self.is_own(&alert) => {
                if alert.state == AlertState::Firing {
                    self.firing.insert(key.to_vec(), value.to_vec());
                } else {
                    self.firing.remove(key);
                }
                Ok(())
            }
            Err(records::DecodeError::NoAnswer(error)) => Err(ReadFailure::Later(error.to_string())),
            Ok(_) | Err(records::DecodeError::Rejected(_)) => Ok(()),
        }
    }

    fn is_own(&self, alert: &Alert<'_>) -> bool {
        let group = alert.group.iter().map(|label| (&*label.name, &*label.value));
        let own = alerting::fingerprint(self.deployment.worker(), self.deployment.own_group(), &alert.rule, group);
        alert.worker == self.deployment.worker() && alert.fingerprint == own.as_str()
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
                self.deployment.worker(),
                self.topic
            )
        });
        ended.map(|()| self.firing.len())
    }

    fn tell(&self) -> anyhow::Result<()> {
        let schema = self.registry.register_for::<Alert<'static>>(self.topic)?;
        let (mut decoder, mut encoder) = (self.decoder(), Encoder::<Alert<'static>>::new(schema));
        let mut config = self.kafka.clone();
        let id = self.deployment.transactional_id("reset");
        // Kafka's own partitioner, as the worker has it: an alert stays in its partition
        config.set("client.id", &id).set("transactional.id", &id).set("partitioner", "murmur2_random");
        config.set("message.max.bytes", LARGEST_RECORD);
        let transactions = Transactions::take_over(&config, || false)?;
        transactions.begin()?;
        let mut bytes = Vec::new();
        for (key, value) in &self.firing {
            let alert = decoder.decode(Some(key), Some(value))?;
            let worker = self.deployment.worker();
            let summary = format!("the state of {worker} was reset; the last word was: {}", alert.summary);
            bytes.clear();
            encoder.encode(&ended(alert, &summary), &mut bytes)?;
            transactions.send(BaseRecord::to(self.topic).key(key.as_slice()).payload(bytes.as_slice()))?;
        }
        transactions.deliver();
        if let Some(Refused { error, topic, .. }) = transactions.refusal() {
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
