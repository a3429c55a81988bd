//! Alerts as a metric worker tells them, sent by hand.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use records::{Alert, AlertAttribution, AlertLabel, AlertSamples, AlertState, Encoder};

use crate::publish::Deliveries;
use crate::replay::ALERTS_TOPIC;

const DOMAIN: &str = "domain";

/// A firing alert of `rule` for a group that no other number has.
pub(super) fn firing(rule: &'static str, number: u64, time: i64) -> Alert<'static> {
    let domain = format!("domain-{number}");
    let label = |name: &'static str, value: String| AlertLabel { name: name.into(), value: value.into() };
    let carried = |dimensions: &'static str, values: &'static str| AlertAttribution {
        dimensions: dimensions.into(),
        values: values.into(),
        share: 0.75,
        entropy: 0.5,
    };
    Alert {
        alert_id: format!("{rule}-{number:026}").into(),
        sequence: 1,
        fingerprint: format!("{rule}-{number:010}").into(),
        state: AlertState::Firing,
        reason: "fired".into(),
        worker: "session-entropy".into(),
        rule: rule.into(),
        kind: "threshold".into(),
        severity: "warning".into(),
        metric: "mean_freshness".into(),
        value: Some(0.6875),
        threshold: Some(0.5),
        baseline: Some(0.625),
        window_start: time - 300_000,
        window_end: time,
        started_at: time,
        summary: format!("mean_freshness is 0.688, above 0.5, for 3 windows in domain={domain}, ab_group=b").into(),
        group: vec![label(DOMAIN, domain), label("ab_group", "b".to_owned())],
        samples: vec![AlertSamples { name: "sessions".into(), count: 412 }],
        attribution: vec![
            carried("user_segment", "returning"),
            carried("user_segment+rec_strategy", "returning+popular"),
        ],
        traceparent: None,
        revision: 1,
    }
}

/// Sends alerts at once, keyed by their fingerprints.
pub(super) struct Sender {
    producer: ThreadedProducer<Deliveries>,
    encoder: Encoder<Alert<'static>>,
    value: Vec<u8>,
}

impl Sender {
    /// # Errors
    /// The client cannot be made; the broker is not asked yet.
    pub(super) fn new(brokers: &str, schema: i32) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "0")
            .create_with_context(Deliveries::default())
            .context("the producer cannot be made")?;
        Ok(Self { producer, encoder: Encoder::new(schema), value: Vec::new() })
    }

    /// Hands an alert to the producer.
    ///
    /// # Errors
    /// It cannot be sent, or one before it could not.
    pub(super) fn send(&mut self, alert: &Alert<'static>) -> Result<()> {
        self.value.clear();
        self.encoder.encode(alert, &mut self.value)?;
        let mut record = BaseRecord::to(ALERTS_TOPIC).key(alert.fingerprint.as_bytes()).payload(self.value.as_slice());
        while let Err((error, refused)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error).context("an alert cannot be sent");
            }
            std::thread::sleep(Duration::from_millis(2));
            record = refused;
        }
        self.producer.context().check()
    }

    /// Waits until all are delivered.
    ///
    /// # Errors
    /// One is not, or it takes longer than a minute.
    pub(super) fn flush(&self) -> Result<()> {
        self.producer.flush(Duration::from_secs(60)).context("not all alerts were delivered within a minute")?;
        self.producer.context().check()
    }
}
