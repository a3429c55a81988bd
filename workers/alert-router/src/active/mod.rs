//! The active instance: reads, lets the core decide, commits, and only then sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::{ASK, ReadFailure, Reader, partitions, read_to_end, read_whole, reader};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use records::{Alert, DecodeError, Decoder, DecoderConfig, Registry, Silence as SilenceRecord};
use service::Shutdown;

use crate::config::Configuration;
use crate::core::Core;
use crate::core::changes::{Changes, Send as Notification};
use crate::core::restore::{Restore, RestoreError, Restored};
use crate::deliver::{Answer, Courier};
use crate::metrics::Metrics;
use crate::outputs;
use crate::routing::{Routing, Style};
use crate::silence;
use crate::writer::{Lost, Output, Writer};

/// Records taken in one turn, which is one transaction.
const RECORDS_PER_TURN: usize = 2000;
/// How long a turn takes records.
const TAKE: Duration = Duration::from_millis(100);
/// The longest wait for a record: the delay of answers that come meanwhile.
const WAIT: Duration = Duration::from_millis(20);
/// Between two questions to a registry that did not answer.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at what is held.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks for new partitions.
const PARTITIONS_LOOK: Duration = Duration::from_secs(60);
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

/// The active instance.
pub struct Active {
    parts: Arc<Parts>,
    core: Core,
    writer: Writer,
    reader: Reader,
    alerts: Decoder<Alert<'static>>,
    silences: Decoder<SilenceRecord<'static>>,
    /// A record whose schema the registry has not told yet, and when it is asked again.
    stalled: Option<(OwnedMessage, Instant)>,
    /// How many there are of alerts and of silences, as far as they are read.
    partitions: i32,
    silence_partitions: i32,
    names: Vec<String>,
    /// Next offsets of what was read since the last transaction.
    offsets: BTreeMap<(String, i32), i64>,
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
        let writer = Writer::new(kafka, &configuration.runtime, shutdown)
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
        let restored = restore.finish(parts.routing.clone(), Box::new(registry.clone()), now());
        let Restored { core, offsets, forgotten } = restored.map_err(|error| match error {
            RestoreError::NoAnswer(message) => TakeOverFailure::Later(message),
            RestoreError::Unreadable(message) => TakeOverFailure::Never(message),
        })?;
        for (receiver, alerts) in forgotten {
            tracing::warn!(receiver, alerts, "a receiver that was told of alerts is gone: it is not told their ends");
        }
        let (answer, answers) = channel();
        let mut active = Self {
            core,
            writer,
            reader: reader(kafka, group, "read_committed")?,
            alerts: Decoder::new(DecoderConfig::default(), Box::new(registry.clone())),
            silences: Decoder::new(DecoderConfig::default(), Box::new(registry.clone())),
            stalled: None,
            partitions: 0,
            silence_partitions: 0,
            names: parts.routing.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
            offsets: BTreeMap::new(),
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
        active.assign(&offsets)?;
        Ok(active)
    }

    /// All silences are known before the first alert is. They are read from their beginning each time; `offsets` say
    /// which were read before.
    fn read_silences(&mut self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), TakeOverFailure> {
        let parts = self.parts.clone();
        let (topic, group) = (&parts.configuration.topics.silences, &parts.configuration.runtime.group);
        self.silence_partitions = partitions(&self.reader, topic)?;
        let mut read_before = BTreeMap::new();
        for partition in 0..self.silence_partitions {
            let (_, high) = self.reader.fetch_watermarks(topic, partition, ASK)?;
            // an offset that lies ahead is another topic's
            let offset = offsets.get(&(topic.clone(), partition)).copied().filter(|offset| *offset <= high);
            read_before.insert(partition, offset.unwrap_or(0));
        }
        let mut next: BTreeMap<i32, Offset> = BTreeMap::new();
        for message in read_whole(&parts.kafka, group, (topic, self.silence_partitions), &parts.shutdown)? {
            let (partition, offset) = (message.partition(), message.offset());
            let is_new = read_before.get(&partition).is_none_or(|read| offset >= *read);
            self.silence(&message, is_new).map_err(TakeOverFailure::Later)?;
            next.insert(partition, Offset::Offset(offset + 1));
        }
        let mut list = TopicPartitionList::new();
        for partition in 0..self.silence_partitions {
            let offset = next.get(&partition).copied().unwrap_or(Offset::Beginning);
            list.add_partition_offset(topic, partition, offset)?;
        }
        self.reader.incremental_assign(&list)?;
        Ok(())
    }

    fn assign(&mut self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), KafkaError> {
        let topic = &self.parts.configuration.topics.alerts;
        let found = partitions(&self.reader, topic)?;
        let mut list = TopicPartitionList::new();
        for partition in self.partitions..found {
            let (low, high) = self.reader.fetch_watermarks(topic, partition, ASK)?;
            let start = match offsets.get(&(topic.clone(), partition)).copied() {
                Some(offset) if offset < low => {
                    tracing::error!(topic, partition, offset, low, "alerts were deleted before they were read");
                    low
                }
                Some(offset) if offset > high => {
                    tracing::error!(
                        topic,
                        partition,
                        offset,
                        high,
                        "the topic is another one: it is read from its start"
                    );
                    low
                }
                Some(offset) => offset,
                None => low,
            };
            list.add_partition_offset(topic, partition, Offset::Offset(start))?;
        }
        if list.count() > 0 {
            self.reader.incremental_assign(&list)?;
        }
        self.partitions = found.max(self.partitions);
        Ok(())
    }

    /// Takes up partitions that were added.
    fn look_for_partitions(&mut self) -> Result<(), KafkaError> {
        self.assign(&BTreeMap::new())?;
        let topic = &self.parts.configuration.topics.silences;
        let found = partitions(&self.reader, topic)?;
        let mut list = TopicPartitionList::new();
        for partition in self.silence_partitions..found {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        if list.count() > 0 {
            self.reader.incremental_assign(&list)?;
        }
        self.silence_partitions = found.max(self.silence_partitions);
        Ok(())
    }

    /// One round: answers, records, what is due, one transaction, what is to be sent.
    ///
    /// # Errors
    /// Where it is not known what was committed: another take-over finds out.
    pub fn turn(&mut self) -> Result<(), Lost> {
        self.take_answers();
        self.take_records()?;
        self.core.advance(now());
        self.commit()?;
        let at = Instant::now();
        if at >= self.look_at {
            self.look_at = at + LOOK;
            self.parts.metrics.holds(&self.core.stats(), self.core.active_silences(now()), &self.names);
        }
        if at >= self.partitions_look_at {
            self.partitions_look_at = at + PARTITIONS_LOOK;
            if let Err(error) = self.look_for_partitions() {
                tracing::warn!(%error, "whether there are new partitions is not known");
            }
        }
        Ok(())
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

    fn take_records(&mut self) -> Result<(), Lost> {
        let begun = Instant::now();
        if let Some((_, ask_at)) = &self.stalled {
            if begun < *ask_at {
                std::thread::sleep(WAIT);
                return Ok(());
            }
            if let Some((message, _)) = self.stalled.take()
                && !self.take(message)
            {
                return Ok(());
            }
        }
        let mut wait = self
            .core
            .next_due()
            .map_or(WAIT, |due| WAIT.min(Duration::from_millis(u64::try_from(due - now()).unwrap_or(0))));
        for _ in 0..RECORDS_PER_TURN {
            match self.reader.poll(wait) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    let message = message.detach();
                    if !self.take(message) {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                // deleted before they were read: another take-over begins where the log does, and says so
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(Lost { error: error.to_string(), fenced: false });
                }
                Some(Err(error)) => tracing::warn!(%error, "alerts cannot be read for now"),
            }
            if begun.elapsed() > TAKE {
                return Ok(());
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Whether the record is taken; if not, it is stalled: the registry has to tell its schema first.
    fn take(&mut self, message: OwnedMessage) -> bool {
        if message.topic() == self.parts.configuration.topics.silences {
            if let Err(error) = self.silence(&message, true) {
                return self.stall(message, &error);
            }
            self.parts.metrics.read(message.topic(), 1);
            return true;
        }
        let value = message.payload().unwrap_or_default();
        match self.alerts.decode(message.key(), message.payload()) {
            Ok(alert) => {
                let _ = self.core.alert(&alert, value, now());
            }
            Err(DecodeError::Rejected(rejection)) => {
                self.refuse(&message, rejection.reason.name(), &rejection.message);
            }
            Err(DecodeError::NoAnswer(error)) => return self.stall(message, &error.to_string()),
        }
        self.parts.metrics.read(message.topic(), 1);
        self.taken(&message);
        true
    }

    /// Its offset belongs into the transaction that notes what followed from it.
    fn taken(&mut self, message: &OwnedMessage) {
        self.offsets.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
    }

    fn stall(&mut self, message: OwnedMessage, error: &str) -> bool {
        tracing::warn!(error, "a record waits until the registry tells its schema");
        self.stalled = Some((message, Instant::now() + REGISTRY_PAUSE));
        false
    }

    /// Notes a silence; one that cannot be read goes to the dead letters where it is new. The error is the registry's.
    fn silence(&mut self, message: &OwnedMessage, is_new: bool) -> Result<(), String> {
        let key = message.key().unwrap_or_default();
        let id = String::from_utf8_lossy(key).into_owned();
        match message.payload().map(|value| silence::read(&mut self.silences, key, value)) {
            None => self.core.silence(&id, None),
            Some(Ok((_, silence))) => self.core.silence(&id, Some(silence)),
            Some(Err(DecodeError::NoAnswer(error))) => return Err(error.to_string()),
            Some(Err(DecodeError::Rejected(rejection))) => {
                // the newest record of an id counts: what it said before holds no more
                self.core.silence(&id, None);
                let (partition, offset) = (message.partition(), message.offset());
                tracing::error!(id, partition, offset, %rejection, "a silence cannot be read: it silences nothing");
                if is_new {
                    self.refuse(message, rejection.reason.name(), &rejection.message);
                }
            }
        }
        if is_new {
            self.taken(message);
        }
        Ok(())
    }

    fn refuse(&mut self, message: &OwnedMessage, reason: &'static str, text: &str) {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::debug!(topic, partition, offset, reason, text, "a record goes to the dead letters");
        self.reasons.push(reason);
        self.letters.push(outputs::unreadable(&self.parts.configuration.topics, message, reason, text));
    }

    fn commit(&mut self) -> Result<(), Lost> {
        let changes = self.core.take_changes();
        if changes.is_empty() && self.offsets.is_empty() && self.letters.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let outputs = self.outputs(&changes);
        if !outputs.is_empty() {
            self.writer.commit(&outputs)?;
            self.parts.metrics.committed(begun.elapsed());
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
        let offsets = std::mem::take(&mut self.offsets);
        outputs::of(&self.parts.configuration.topics, changes, offsets, &mut outputs);
        outputs
    }

    fn send(&mut self, notification: Notification) {
        let Notification { receiver, group, number, idempotency_key, body } = notification;
        let Some(courier) = self.parts.couriers[receiver].clone() else { return };
        let answer = self.answer.clone();
        self.under_way += 1;
        self.parts.runtime.spawn(async move {
            let outcome = courier.deliver(&idempotency_key, body).await;
            // nobody listens where this instance is not the active one any more
            let _ = answer.send(Answered { receiver, group, number, answer: outcome });
        });
    }
}

/// The clock, epoch ms.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
