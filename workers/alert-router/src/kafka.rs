//! Clients: the member that waits to be the active instance, readers of partitions, and the writer of transactions.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _, OwnedMessage};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use service::{GroupProtocol, Shutdown};

use crate::config::Runtime;
use crate::topics::ASK;

/// What the group has decided about the state's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This instance is the active one.
    Active,
    /// Another one is, or will be.
    StandBy,
}

/// Records what librdkafka calls back with; nothing here can wait or panic.
#[derive(Default)]
pub struct Recorder {
    rebalances: Mutex<VecDeque<(bool, TopicPartitionList)>>,
    closing: AtomicBool,
}

impl ClientContext for Recorder {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for Recorder {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            // Nobody acts on records any more; unanswered, the consumer would never close.
            let _ = if assigned { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            return;
        }
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back((assigned, list.clone()));
    }
}

fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(fac, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(fac, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(fac, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(fac, "{message}"),
    }
}

/// A member of the group whose one partition makes an instance the active one. It reads nothing.
pub struct Member {
    consumer: BaseConsumer<Recorder>,
}

impl Member {
    /// Joins the group.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn join(kafka: &ClientConfig, runtime: &Runtime, state_topic: &str) -> anyhow::Result<Self> {
        let mut config = kafka.clone();
        config
            .set("group.id", &runtime.group)
            .set("client.id", instance(runtime))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest");
        match runtime.protocol {
            GroupProtocol::Consumer => config.set("group.protocol", "consumer"),
            GroupProtocol::Classic => config
                .set("group.protocol", "classic")
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", runtime.session_timeout.as_millis().to_string())
                .set("group.instance.id", instance(runtime)),
        };
        let consumer: BaseConsumer<Recorder> =
            config.create_with_context(Recorder::default()).context("the Kafka consumer cannot be made")?;
        consumer.subscribe(&[state_topic]).with_context(|| format!("{state_topic} cannot be subscribed to"))?;
        Ok(Self { consumer })
    }

    /// What the group has decided since, the newest last; waits for at most `wait`. `give_up` is called before a partition is
    /// given back.
    ///
    /// # Errors
    /// Where librdkafka refuses an answer.
    pub fn decisions(&self, wait: Duration, mut give_up: impl FnMut()) -> anyhow::Result<Option<Decision>> {
        match self.consumer.poll(wait) {
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error).context("the group member"),
            Some(Err(error)) => tracing::debug!(%error, "the group member"),
            // taken before the pause below: others read it
            Some(Ok(_)) | None => {}
        }
        let mut newest = None;
        loop {
            let next = self.consumer.context().rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((assigned, list)) = next else { return Ok(newest) };
            let is_empty = list.count() == 0;
            if assigned {
                let mut at_end = TopicPartitionList::new();
                for element in list.elements() {
                    at_end.add_partition_offset(element.topic(), element.partition(), Offset::End)?;
                }
                self.consumer.incremental_assign(&at_end).context("the state's partition cannot be taken")?;
                if !is_empty {
                    self.consumer.pause(&at_end).context("the state's partition cannot be paused")?;
                    newest = Some(Decision::Active);
                }
            } else {
                if !is_empty {
                    give_up();
                    newest = Some(Decision::StandBy);
                }
                self.consumer.incremental_unassign(&list).context("the state's partition cannot be given up")?;
            }
        }
    }

    /// Leaves the group: another instance becomes the active one at once.
    pub fn leave(self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
    }
}

/// The instance's name, as the cluster sees it.
fn instance(runtime: &Runtime) -> String {
    let host = || std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned()).unwrap_or_default();
    let instance = if runtime.instance.is_empty() { host() } else { runtime.instance.clone() };
    format!("alert-router-{instance}")
}

/// The context of readers: the end of a partition is no error.
#[derive(Default)]
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "Kafka client");
        }
    }
}

impl ConsumerContext for Quiet {}

/// Reads partitions that it names itself, committed records only; it never joins a group.
pub type Reader = BaseConsumer<Quiet>;

/// A reader.
///
/// # Errors
/// Where the client cannot be made.
pub fn reader(kafka: &ClientConfig, group: &str, isolation: &str) -> Result<Reader, KafkaError> {
    let mut config = kafka.clone();
    let defaults = [
        // bounds what librdkafka holds ahead
        ("queued.max.messages.kbytes", "8192"),
        ("queued.min.messages", "10000"),
        // librdkafka's default of 1 s costs consumers slower than the fetcher a good part of their rate
        ("fetch.queue.backoff.ms", "5"),
        ("fetch.wait.max.ms", "50"),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation);
    config.create_with_context(Quiet)
}

/// How many partitions a topic has; 0 where there is no such topic.
///
/// # Errors
/// Where no broker answers.
pub fn partitions(reader: &Reader, topic: &str) -> Result<i32, KafkaError> {
    let metadata = reader.fetch_metadata(Some(topic), ASK)?;
    Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32))
}

/// Why a topic was not read to its end.
#[derive(Debug)]
pub enum ReadFailure {
    /// The end was asked for.
    Stopped,
    /// Try again.
    Later(String),
}

impl From<KafkaError> for ReadFailure {
    fn from(error: KafkaError) -> Self {
        Self::Later(error.to_string())
    }
}

/// How long a reader may hear nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Reads a partition from its beginning to its present end. Waits until transactions that are open there have ended.
///
/// # Errors
/// Where that does not work out, or `take` says so.
pub fn read_to_end(
    kafka: &ClientConfig,
    group: &str,
    (topic, partition): (&str, i32),
    shutdown: &Shutdown,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), ReadFailure>,
) -> Result<(), ReadFailure> {
    let (_, high) = reader(kafka, group, "read_uncommitted")?.fetch_watermarks(topic, partition, ASK)?;
    let consumer = reader(kafka, group, "read_committed")?;
    let deadline = Instant::now() + SILENCE;
    // asked by a read_committed handle, the upper end is the last stable offset
    while consumer.fetch_watermarks(topic, partition, ASK)?.1 < high {
        if shutdown.wait_timeout(Duration::from_millis(20)) {
            return Err(ReadFailure::Stopped);
        }
        if Instant::now() > deadline {
            return Err(ReadFailure::Later(format!("a transaction is open on {topic}-{partition}")));
        }
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                take(&message)?;
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
            Some(Err(error)) => tracing::debug!(%error, topic, "while reading to the end"),
            None => {}
        }
        if shutdown.requested() {
            return Err(ReadFailure::Stopped);
        }
        if heard.elapsed() > SILENCE {
            return Err(ReadFailure::Later(format!("{topic}-{partition} cannot be read")));
        }
    }
}

/// Reads these many partitions of a topic to their present ends. Returns their records by age: where their number has
/// changed, those of one key may lie in several.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_whole(
    kafka: &ClientConfig,
    group: &str,
    (topic, partitions): (&str, i32),
    shutdown: &Shutdown,
) -> Result<Vec<OwnedMessage>, ReadFailure> {
    let mut records = Vec::new();
    for partition in 0..partitions {
        let mut age = i64::MIN;
        read_to_end(kafka, group, (topic, partition), shutdown, |message| {
            // clocks of producers differ; within a partition the order of its records counts
            age = age.max(message.timestamp().to_millis().unwrap_or(age));
            records.push((age, message.detach()));
            Ok(())
        })?;
    }
    records.sort_by_key(|(age, _)| *age);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}
