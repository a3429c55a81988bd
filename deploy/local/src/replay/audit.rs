//! Reading the workers' output topics as any consumer would, with `read_committed`: is each row there, and once?

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use records::{
    Alert, CosineDecay, DecayRate, Decoder, DecoderConfig, DomainDrift, Registry, RetrainRequest, SessionEntropy,
    SessionFreshness,
};
use xxhash_rust::xxh3::Xxh3;

use super::metric_workers::{RowKind, RowTopic};
use crate::broker::{Broker, Follower};

/// How long committed records may stay unseen: the broker marks the partitions of a transaction one by one.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// One row topic, read along.
pub(super) struct RowAudit {
    topic: RowTopic,
    follower: Follower,
    keys: Keys,
    /// Rows read.
    pub rows: u64,
    /// Rows whose key had been read before.
    pub doubled: u64,
    /// The offset of the last row of each partition that has one.
    pub last: BTreeMap<i32, i64>,
}

/// Reads what identifies a row, and remembers it by hash: 128 bits do not collide by chance.
struct Keys {
    freshness: Decoder<SessionFreshness<'static>>,
    entropy: Decoder<SessionEntropy<'static>>,
    cosine: Decoder<CosineDecay<'static>>,
    rate: Decoder<DecayRate<'static>>,
    retrain: Decoder<RetrainRequest<'static>>,
    drift: Decoder<DomainDrift<'static>>,
    alert: Decoder<Alert<'static>>,
    seen: HashSet<u128>,
}

fn decoder<T: records::Input>(registry: &Registry) -> Decoder<T> {
    Decoder::new(DecoderConfig::default(), Box::new(registry.clone()))
}

impl RowAudit {
    /// An audit at the beginning of a topic.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(super) fn new(brokers: &str, broker: &Broker, registry: &Registry, topic: RowTopic) -> Result<Self> {
        let partitions = broker.partitions(topic.name)?.unwrap_or(0);
        let keys = Keys {
            freshness: decoder(registry),
            entropy: decoder(registry),
            cosine: decoder(registry),
            rate: decoder(registry),
            retrain: decoder(registry),
            drift: decoder(registry),
            alert: decoder(registry),
            seen: HashSet::new(),
        };
        let follower = Follower::new(brokers, topic.name, partitions)?;
        Ok(Self { topic, follower, keys, rows: 0, doubled: 0, last: BTreeMap::new() })
    }

    /// The topic.
    #[must_use]
    pub(super) fn topic(&self) -> RowTopic {
        self.topic
    }

    /// Different keys.
    #[must_use]
    pub(super) fn distinct(&self) -> u64 {
        self.keys.seen.len() as u64
    }

    /// Reads on, until there is nothing more within `patience`.
    ///
    /// # Errors
    /// The topic cannot be read, or holds something that is no row.
    pub(super) fn read_more(&mut self, patience: Duration) -> Result<()> {
        self.read(|follower, take| follower.read_more(patience, take))
    }

    /// Reads on to the topic's present end.
    ///
    /// # Errors
    /// The topic cannot be read, or holds something that is no row.
    pub(super) fn read_to_end(&mut self) -> Result<()> {
        self.read(|follower, take| follower.read_to_end(take))
    }

    fn read(
        &mut self,
        read: impl FnOnce(&Follower, &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let Self { topic, follower, keys, rows, doubled, last } = self;
        read(follower, &mut |message| {
            *rows += 1;
            *doubled += u64::from(!keys.insert(topic.kind, message)?);
            last.insert(message.partition(), message.offset());
            Ok(())
        })
    }
}

impl Keys {
    /// Whether the row's key is new.
    fn insert(&mut self, kind: RowKind, message: &BorrowedMessage<'_>) -> Result<bool> {
        let at = || format!("{}-{} offset {} is no row", message.topic(), message.partition(), message.offset());
        let mut hash = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        match kind {
            RowKind::SessionFreshness => {
                let row = self.freshness.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.window_end.to_le_bytes());
                part(row.session_id.as_bytes());
            }
            RowKind::SessionEntropy => {
                let row = self.entropy.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.window_end.to_le_bytes());
                for dimension in
                    [&row.domain, &row.surface, &row.user_segment, &row.rec_strategy, &row.ab_group, &row.item_type]
                {
                    part(dimension.as_bytes());
                }
            }
            RowKind::CosineDecay => {
                let row = self.cosine.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.window_end.to_le_bytes());
                for dimension in
                    [&row.domain, &row.surface, &row.user_segment, &row.rec_strategy, &row.ab_group, &row.item_type]
                {
                    part(dimension.as_bytes());
                }
            }
            RowKind::DecayRate => {
                let row = self.rate.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.window_end.to_le_bytes());
                part(row.domain.as_bytes());
            }
            RowKind::RetrainRequest => {
                let row = self.retrain.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.event_time.to_le_bytes());
                part(row.item_id.as_bytes());
            }
            RowKind::DomainDrift => {
                let row = self.drift.decode(message.key(), message.payload()).with_context(at)?;
                part(&row.window_end.to_le_bytes());
                for name in [&row.kind, &row.sources, &row.target] {
                    part(name.as_bytes());
                }
            }
            RowKind::Alert => {
                let row = self.alert.decode(message.key(), message.payload()).with_context(at)?;
                part(row.alert_id.as_bytes());
                part(&row.sequence.to_le_bytes());
            }
        }
        Ok(self.seen.insert(hash.digest128()))
    }
}

/// Reads row topics until they hold `expected` rows together, or for a while stay below.
///
/// # Errors
/// A topic cannot be read, or holds something that is no row.
pub(super) fn read_rows(audits: &mut [RowAudit], expected: u64) -> Result<()> {
    let mut rows = 0;
    let mut grown = Instant::now();
    loop {
        for audit in audits.iter_mut() {
            audit.read_more(Duration::from_millis(200))?;
        }
        let read = audits.iter().map(|audit| audit.rows).sum();
        if read > rows {
            (rows, grown) = (read, Instant::now());
        } else if rows >= expected || grown.elapsed() > PATIENCE {
            return Ok(());
        }
    }
}

/// A record that was handed on instead of applied: by whom, from where and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandedOn {
    /// The worker that refused it; `nobody` where the record does not say.
    pub worker: String,
    /// The topic that it came from.
    pub topic: String,
    /// The reason's name.
    pub reason: String,
}

/// Counts the records of a topic for what was not applied; reads until `expected` are there, or for a while stay below.
///
/// # Errors
/// The topic cannot be read.
pub(super) fn count_handed_on(
    brokers: &str,
    broker: &Broker,
    topic: &str,
    expected: u64,
) -> Result<BTreeMap<HandedOn, u64>> {
    let mut counts: BTreeMap<HandedOn, u64> = BTreeMap::new();
    let Some(partitions) = broker.partitions(topic)? else { return Ok(counts) };
    let follower = Follower::new(brokers, topic, partitions)?;
    let mut sum = 0;
    let mut grown = Instant::now();
    loop {
        follower.read_more(Duration::from_millis(500), |message| {
            *counts.entry(handed_on(message)).or_default() += 1;
            Ok(())
        })?;
        let read = counts.values().sum::<u64>();
        if read > sum {
            (sum, grown) = (read, Instant::now());
        } else if read >= expected || grown.elapsed() > PATIENCE {
            return Ok(counts);
        }
    }
}

fn handed_on(message: &BorrowedMessage<'_>) -> HandedOn {
    let header = |name: &str| {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        // Our headers stand behind those that the record came with.
        headers
            .filter(|header| header.key == name)
            .last()
            .and_then(|header| header.value)
            .map_or_else(|| "nobody".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
    };
    HandedOn {
        worker: header(records::dead_letter::CONNECTOR),
        topic: header(records::dead_letter::TOPIC),
        reason: header(records::dead_letter::EXCEPTION_CLASS),
    }
}
