//! What the active instance reads: silences, all of them before the first alert, and alerts from where it stood.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::{ASK, Reader, partitions, read_whole};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use records::DecodeError;

use super::{Active, Stalled, TakeOverFailure, now};
use crate::writer::Lost;
use crate::{outputs, silence};

/// Records taken in one turn, which is one transaction.
const RECORDS_PER_TURN: usize = 2000;
/// How long a turn takes records.
const TAKE: Duration = Duration::from_millis(100);
/// The longest wait for a record: the delay of answers that come meanwhile.
const WAIT: Duration = Duration::from_millis(20);
/// Between two questions to a registry that did not answer.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);

impl Active {
    /// All silences are known before the first alert is. They are read from their beginning each time; `offsets` say
    /// which were read before.
    pub(super) fn read_silences(&mut self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), TakeOverFailure> {
        let parts = self.parts.clone();
        let (topic, group) = (&parts.configuration.topics.silences, &parts.configuration.runtime.group);
        let found = partitions(&self.reader, topic)?;
        let mut read_before = BTreeMap::new();
        for partition in 0..found {
            let (_, high) = self.reader.fetch_watermarks(topic, partition, ASK)?;
            // an offset that lies ahead is another topic's
            let offset = offsets.get(&(topic.clone(), partition)).copied().filter(|offset| *offset <= high);
            read_before.insert(partition, offset.unwrap_or(0));
        }
        let mut next: BTreeMap<i32, Offset> = BTreeMap::new();
        for message in read_whole(&parts.kafka, group, (topic, found), &parts.shutdown)? {
            let (partition, offset) = (message.partition(), message.offset());
            let is_new = read_before.get(&partition).is_none_or(|read| offset >= *read);
            self.silence(&message, is_new).map_err(TakeOverFailure::Later)?;
            next.insert(partition, Offset::Offset(offset + 1));
        }
        let start = |partition| Ok(next.get(&partition).copied().unwrap_or(Offset::Beginning));
        take_up(&self.reader, topic, &mut self.silence_partitions, start)?;
        Ok(())
    }

    /// Takes up the partitions of alerts that are not read yet, each where `offsets` say.
    pub(super) fn read_alerts(&mut self, offsets: &BTreeMap<(String, i32), i64>) -> Result<(), KafkaError> {
        let (reader, topic) = (&self.reader, self.parts.configuration.topics.alerts.as_str());
        take_up(reader, topic, &mut self.partitions, |partition| {
            let (low, high) = reader.fetch_watermarks(topic, partition, ASK)?;
            let noted = offsets.get(&(topic.to_owned(), partition)).copied();
            let start = match noted {
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
            Ok(Offset::Offset(start))
        })
    }

    /// Takes up partitions that were added.
    pub(super) fn look_for_partitions(&mut self) -> Result<(), KafkaError> {
        self.read_alerts(&BTreeMap::new())?;
        let topic = &self.parts.configuration.topics.silences;
        take_up(&self.reader, topic, &mut self.silence_partitions, |_| Ok(Offset::Beginning))
    }

    pub(super) fn take_records(&mut self) -> Result<(), Lost> {
        let begun = Instant::now();
        if let Some(stalled) = self.stalled.take() {
            if begun < stalled.ask_at {
                self.stalled = Some(stalled);
                std::thread::sleep(WAIT);
                return Ok(());
            }
            if !self.take(stalled.message) {
                if let Some(again) = &mut self.stalled {
                    again.since = stalled.since;
                }
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
        let since = Instant::now();
        self.stalled = Some(Stalled { message, since, ask_at: since + REGISTRY_PAUSE });
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
        self.parts.metrics.unreadable(message, reason, text);
        self.reasons.push(reason);
        self.letters.push(outputs::unreadable(&self.parts.configuration.topics, message, reason, text));
    }
}

/// Reads the partitions of a topic behind the `known` ones, too, each from where `start` says.
fn take_up(
    reader: &Reader,
    topic: &str,
    known: &mut i32,
    mut start: impl FnMut(i32) -> Result<Offset, KafkaError>,
) -> Result<(), KafkaError> {
    let found = partitions(reader, topic)?;
    let mut list = TopicPartitionList::new();
    for partition in *known..found {
        list.add_partition_offset(topic, partition, start(partition)?)?;
    }
    if list.count() > 0 {
        reader.incremental_assign(&list)?;
    }
    *known = found.max(*known);
    Ok(())
}
