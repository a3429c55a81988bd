//! What the active instance reads: silences, all of them before the first alert, and alerts from where it stood.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kafka::{ASK, Reader, copied, one, partitions, read_whole};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use records::truncation::UNREADABLE_HEADERS;
use records::{DecodeError, Reason, Rejection};
use service::WaitReason;

use super::{Active, Stalled, TakeOverFailure, now};
use crate::labels::Labels;
use crate::writer::Lost;
use crate::{outputs, silence};

/// Records taken in one turn, which is one transaction.
const RECORDS_PER_TURN: usize = 2000;
/// How long a turn takes records.
const TAKE: Duration = Duration::from_millis(100);
/// The longest wait for a record: the delay of answers that come meanwhile.
const WAIT: Duration = Duration::from_millis(20);
/// Between two looks for a schema that the registry was asked for.
const REGISTRY_PAUSE: Duration = Duration::from_millis(100);

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
        self.retry_stalled(begun)?;
        let mut wait = self
            .core
            .next_due()
            .map_or(WAIT, |due| WAIT.min(Duration::from_millis(u64::try_from(due - now()).unwrap_or(0))));
        for _ in 0..RECORDS_PER_TURN {
            match self.reader.poll(wait) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    self.take(copied(&message, UNREADABLE_HEADERS))?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                // deleted before they were read: another take-over begins where the log does, and says so
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Err(Lost { error: error.to_string(), fenced: false, stays: false });
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

    /// Takes the records again that wait for their schemas, those of each partition in their order.
    fn retry_stalled(&mut self, now: Instant) -> Result<(), Lost> {
        let due = self.stalled.iter().filter(|(_, stalled)| now >= stalled.ask_at).map(|(place, _)| place.clone());
        for place in due.collect::<Vec<_>>() {
            let Some(mut stalled) = self.stalled.remove(&place) else { continue };
            let mut waits_on = false;
            while let Some(message) = stalled.messages.front() {
                if let Err(error) = self.read(message) {
                    stalled.wait.update(WaitReason::Schema, &waits_for(message, &error));
                    waits_on = true;
                    break;
                }
                stalled.messages.pop_front();
            }
            if waits_on {
                stalled.ask_at = now + REGISTRY_PAUSE;
                self.stalled.insert(place, stalled);
            } else {
                self.reader.resume(&one(&place.0, place.1)).map_err(cannot_go_on)?;
            }
        }
        Ok(())
    }

    /// Takes a record, or stalls its partition until the registry has its schema.
    fn take(&mut self, message: OwnedMessage) -> Result<(), Lost> {
        if !self.stalled.is_empty()
            && let Some(stalled) = self.stalled.get_mut(&(message.topic().to_owned(), message.partition()))
        {
            stalled.messages.push_back(message);
            return Ok(());
        }
        match self.read(&message) {
            Ok(()) => Ok(()),
            Err(error) => self.stall(message, &error),
        }
    }

    /// Takes a record in. The error says why its schema is not known.
    fn read(&mut self, message: &OwnedMessage) -> Result<(), String> {
        if message.topic() == self.parts.configuration.topics.silences {
            self.silence(message, true)?;
            self.parts.metrics.read(message.topic(), 1);
            return Ok(());
        }
        let value = message.payload().unwrap_or_default();
        match self.alerts.decode(message.key(), message.payload()) {
            Ok(alert) => match Labels::of(&alert).check() {
                Ok(()) => {
                    let _ = self.core.alert(&alert, value, now());
                }
                Err(error) => self.refuse(message, Reason::BadValue.name(), &error),
            },
            Err(DecodeError::Rejected(rejection)) => {
                self.refuse(message, rejection.reason.name(), &rejection.message);
            }
            Err(DecodeError::NoAnswer(error)) => return Err(error.to_string()),
        }
        self.parts.metrics.read(message.topic(), 1);
        self.taken(message);
        Ok(())
    }

    /// Its offset belongs into the transaction that notes what followed from it.
    fn taken(&mut self, message: &OwnedMessage) {
        self.offsets.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
    }

    /// The record keeps its place, and its partition is not read on meanwhile; others are.
    fn stall(&mut self, message: OwnedMessage, error: &str) -> Result<(), Lost> {
        let since = Instant::now();
        let (topic, partition) = (message.topic().to_owned(), message.partition());
        self.reader.pause(&one(&topic, partition)).map_err(cannot_go_on)?;
        let wait = self.parts.waits.begin(&topic, partition, WaitReason::Schema, &waits_for(&message, error));
        let stalled = Stalled { messages: VecDeque::from([message]), since, ask_at: since + REGISTRY_PAUSE, wait };
        self.stalled.insert((topic, partition), stalled);
        Ok(())
    }

    /// Notes a silence; one that cannot be read goes to the dead letters where it is new. The error is the registry's.
    fn silence(&mut self, message: &OwnedMessage, is_new: bool) -> Result<(), String> {
        let key = message.key().unwrap_or_default();
        let id = String::from_utf8_lossy(key).into_owned();
        let read = message.payload().map(|value| silence::read(&mut self.silences, key, value)).transpose();
        let noted = match read {
            Err(DecodeError::NoAnswer(error)) => return Err(error.to_string()),
            Err(DecodeError::Rejected(rejection)) => Err(rejection),
            Ok(read) => {
                let silence = read.map(|(_, silence)| silence);
                self.core.silence(&id, silence).map_err(|error| Rejection::new(Reason::BadValue, error))
            }
        };
        if let Err(rejection) = noted {
            // the newest record of an id counts: what it said before holds no more
            let _ = self.core.silence(&id, None);
            let (partition, offset) = (message.partition(), message.offset());
            tracing::error!(partition, offset, %rejection, "a silence cannot be read: it silences nothing");
            if is_new {
                self.refuse(message, rejection.reason.name(), &rejection.message);
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

/// For what the partition of a record waits.
fn waits_for(message: &OwnedMessage, error: &str) -> String {
    format!("offset {}: {error}", message.offset())
}

fn cannot_go_on(error: KafkaError) -> Lost {
    Lost { error: error.to_string(), fenced: false, stays: false }
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
