//! The active instance: reads, lets the core decide, commits, and only then sends.

mod reading;
mod topic_ids;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::{ReadFailure, Reader, read_to_end, reader};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedMessage};
use records::{Alert, Decoder, DecoderConfig, Registry, Silence as SilenceRecord};
use service::{Shutdown, Wait, Waits};

use crate::config::Configuration;
use crate::core::changes::{Changes, Send as Notification};
use crate::core::restore::{Restore, RestoreError, Restored};
use crate::core::{Core, decoder};
use crate::deliver::{Answer, Courier};
use crate::metrics::Metrics;
use crate::outputs;
use crate::routing::{Routing, Style};
use crate::writer::{Lost, Output, Writer};
use topic_ids::TopicIds;

/// How long a take-over waits for schemas before it is tried again.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at what is held.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks for new partitions, and at whether the topics are still those of the take-over.
const PARTITIONS_LOOK: Duration = Duration::from_secs(15);
/// How long the end waits for answers that are under way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What every active instance of this process is made of.
pub struct Parts {
    /// The configuration.
    pub configuration: Configuration,
    /// Compiled from it.
    pub routing: Routing,
    /// How each receiver is told; `None` for topics.
    pub couriers: Vec<Option<Courier>>,
    /// The Kafka client's settings.
    pub kafka: ClientConfig,
    /// The schema registry.
    pub registry: Registry,
    /// Where notifications are sent.
    pub runtime: tokio::runtime::Handle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the end is asked for.
    pub shutdown: Shutdown,
    /// Where partitions that wait are shown.
    pub waits: Waits,
}

/// Why an instance could not become the active one.
#[derive(Debug)]
pub enum TakeOverFailure {
    /// The end was asked for.
    Stopped,
    /// Try again.
    Later(String),
    /// A person has to help.
    Never(String),
}

impl From<KafkaError> for TakeOverFailure {
    fn from(error: KafkaError) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<ReadFailure> for TakeOverFailure {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Stopped => Self::Stopped,
            ReadFailure::Later(message) => Self::Later(message),
        }
    }
}

struct Answered {
    receiver: usize,
    group: u32,
    number: u64,
    answer: Answer,
}

/// A partition whose next record waits for its schema.
struct Stalled {
    /// The record, and what came behind it in its partition.
    messages: VecDeque<OwnedMessage>,
    since: Instant,
    ask_at: Instant,
    wait: Wait,
}

/// The active instance.
pub struct Active {
    parts: Arc<Parts>,
    core: Core,
    writer: Writer,
    reader: Reader,
    alerts: Decoder<Alert<'static>>,
    silences: Decoder<SilenceRecord<'static>>,
    /// What waits for the registry, by topic and partition.
    stalled: BTreeMap<(String, i32), Stalled>,
    /// How many there are of alerts and of silences, as far as they are read.
    partitions: i32,
    silence_partitions: i32,
    names: Vec<String>,
    /// Next offsets of what was read since the last transaction.
    offsets: BTreeMap<(String, i32), i64>,
    /// Ids of the topics of alerts and silences, as of the take-over.
    ids: TopicIds,
    /// Dead letters of the next transaction, and their reasons.
    letters: Vec<Output>,
    reasons: Vec<&'static str>,
    answers: Receiver<Answered>,
    answer: Sender<Answered>,
    under_way: usize,
    look_at: Instant,
    partitions_look_at: Instant,
}

impl Active {
    /// Shuts the predecessor out, reads what it has left, and goes on there.
    ///
    /// # Errors
    /// Says whether trying again can help.
    pub fn take_over(parts: &Arc<Parts>) -> Result<Self, TakeOverFailure> {
        let Parts { configuration, kafka, shutdown, registry, .. } = &**parts;
        let (topics, group) = (&configuration.topics, &configuration.runtime.group);
        let writer = Writer::new(kafka, configuration, &written(configuration, &parts.routing), shutdown)
            .map_err(|lost| TakeOverFailure::Later(lost.error))?
            .ok_or(TakeOverFailure::Stopped)?;
        let mut restore = Restore::default();
        let mut unreadable = None;
        read_to_end(kafka, group, (&topics.state, 0), shutdown, |message| {
            if let Err(error) = restore.take(message.key().unwrap_or_default(), message.payload()) {
                unreadable.get_or_insert(error);
            }
            Ok(())
        })?;
        if let Some(error) = unreadable {
            return Err(TakeOverFailure::Never(error));
        }
        // Nothing else is done before it is active.
        let blocking = registry.blocking(Some(REGISTRY_PATIENCE));
        let restored = restore.finish(parts.routing.clone(), Box::new(blocking.clone()), now());
        let Restored { core, offsets, forgotten } = restored.map_err(|error| match error {
            RestoreError::NoAnswer(message) => TakeOverFailure::Later(message),
            RestoreError::Unreadable(message) => TakeOverFailure::Never(message),
        })?;
        for (receiver, alerts) in forgotten {
            tracing::warn!(
                receiver,
                alerts,
                "a receiver that was told of alerts is gone, or of another type: it is not told their ends"
            );
        }
        let reader = reader(kafka, group, "read_committed")?;
        let ids = TopicIds::of(&reader, [&topics.alerts, &topics.silences])?;
        let offsets = ids.still_valid(offsets);
        let (answer, answers) = channel();
        let mut active = Self {
            core,
            writer,
            reader,
            alerts: decoder(Box::new(registry.clone())),
            silences: Decoder::new(DecoderConfig::default(), Box::new(blocking)),
            stalled: BTreeMap::new(),
            partitions: 0,
            silence_partitions: 0,
            names: parts.routing.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
            offsets: BTreeMap::new(),
            ids,
            letters: Vec::new(),
            reasons: Vec::new(),
            answers,
            answer,
            under_way: 0,
            look_at: Instant::now(),
            partitions_look_at: Instant::now() + PARTITIONS_LOOK,
            parts: parts.clone(),
        };
        active.read_silences(&offsets)?;
        active.silences = Decoder::new(DecoderConfig::default(), Box::new(registry.clone()));
        active.read_alerts(&offsets)?;
        Ok(active)
    }

    /// One round: answers, records, what is due, one transaction, what is to be sent.
    ///
    /// # Errors
    /// Where it is not known what was committed: another take-over finds out.
    pub fn turn(&mut self) -> Result<(), Lost> {
        self.core.set_clock(now());
        self.take_answers();
        self.take_records()?;
        self.core.advance(now());
        self.commit()?;
        let at = Instant::now();
        if at >= self.look_at {
            self.look_at = at + LOOK;
            self.parts.metrics.holds(&self.core.stats(), self.core.active_silences(now()), &self.names);
            self.parts.metrics.stalled(self.stalled_since().map_or(Duration::ZERO, |since| since.elapsed()));
        }
        if at >= self.partitions_look_at {
            self.partitions_look_at = at + PARTITIONS_LOOK;
            self.ids.check(&self.reader)?;
            if let Err(error) = self.look_for_partitions() {
                tracing::warn!(%error, "whether there are new partitions is not known");
            }
        }
        Ok(())
    }

    /// Since when the oldest record waits for the schema registry, where one does.
    #[must_use]
    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalled.values().map(|stalled| stalled.since).min()
    }

    /// Waits a little for answers that are under way, and notes them. What is left is sent again by who takes over.
    pub fn finish(mut self) {
        let deadline = Instant::now() + LAST_ANSWERS;
        while self.under_way > 0
            && let Ok(answered) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.note(answered);
        }
        if let Err(lost) = self.commit() {
            tracing::warn!(lost.error, "the last answers are not noted: their notifications are sent again");
        }
    }

    fn take_answers(&mut self) {
        while let Ok(answered) = self.answers.try_recv() {
            self.note(answered);
        }
    }

    fn note(&mut self, answered: Answered) {
        self.under_way -= 1;
        let Answered { receiver, group, number, answer } = answered;
        self.parts.metrics.answered(&self.names[receiver], &answer);
        self.core.outcome(group, number, answer.outcome, now(), rand::random());
    }

    fn commit(&mut self) -> Result<(), Lost> {
        let changes = self.core.take_changes();
        if changes.is_empty() && self.offsets.is_empty() && self.letters.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let outputs = self.outputs(&changes);
        if !outputs.is_empty() {
            // what was read since the take-over came from the topics of then, or nothing is committed of it
            self.ids.check(&self.reader)?;
            let too_large = self.writer.commit(&outputs)?;
            self.parts.metrics.committed(begun.elapsed());
            for record in too_large {
                self.parts.metrics.too_large(&record);
            }
        }
        for reason in self.reasons.drain(..) {
            self.parts.metrics.dead_letter(reason);
        }
        for letter in &changes.letters {
            self.parts.metrics.given_up(letter);
        }
        for (receiver, name) in self.parts.routing.receivers.iter().zip(&self.names) {
            if let Style::Topic(topic) = &receiver.style {
                let records = changes.topics.iter().filter(|record| record.topic == *topic).count();
                self.parts.metrics.written(name, records as u64);
            }
        }
        for notification in changes.sends {
            self.send(notification);
        }
        Ok(())
    }

    fn outputs(&mut self, changes: &Changes) -> Vec<Output> {
        let mut outputs = std::mem::take(&mut self.letters);
        let offsets = self.ids.with(std::mem::take(&mut self.offsets));
        outputs::of(&self.parts.configuration.topics, changes, offsets, &mut outputs);
        outputs
    }

    fn send(&mut self, notification: Notification) {
        let Notification { receiver, group, number, idempotency_key, body } = notification;
        let Some(courier) = self.parts.couriers[receiver].clone() else { return };
        let answer = self.answer.clone();
        self.under_way += 1;
        let begun = Instant::now();
        let attempt = self.parts.runtime.spawn(async move { courier.deliver(&idempotency_key, body).await });
        self.parts.runtime.spawn(async move {
            let outcome = attempt.await.unwrap_or_else(|panicked| Answer::broken_off(&panicked, begun.elapsed()));
            // nobody listens where this instance is not the active one any more
            let _ = answer.send(Answered { receiver, group, number, answer: outcome });
        });
    }
}

/// The topics that are written to.
fn written(configuration: &Configuration, routing: &Routing) -> Vec<String> {
    let topics = &configuration.topics;
    let routes = routing.receivers.iter().filter_map(|receiver| match &receiver.style {
        Style::Topic(topic) => Some(topic.clone()),
        _ => None,
    });
    [topics.state.clone(), topics.dead_letters.clone()].into_iter().chain(routes).collect()
}

/// The clock, epoch ms.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
