//! Transactions: what the core has decided, committed as a whole.

use std::time::Duration;

use kafka::{
    LARGEST_RECORD, Refused, TopicLimits, Transactions, is_refused_for_good, is_too_large, read_headers, unless_set,
};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use records::truncation::{self, HandedOn, Sizes, batch_bytes, fit};
use service::Shutdown;

use crate::config::{Configuration, Runtime};
use crate::outputs;

/// After the end was asked for, brokers that do not answer are waited for no longer than that.
const LAST_COMMIT: Duration = Duration::from_secs(8);

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// The state: without it nothing is committed.
    #[default]
    State,
    /// A receiver: where its topic does not take it, the dead letters do.
    Route,
    /// The dead letters: cut where it is too large, of a record at this partition and offset.
    Letter(i32, i64),
}

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Where to.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// The headers that it came with.
    pub own: Option<OwnedHeaders>,
    /// The headers that are added.
    pub added: Vec<(&'static str, Vec<u8>)>,
    /// What it is for.
    pub purpose: Purpose,
}

/// A record that its topic does not take, nor its beginning: it is in no transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// The topic.
    pub topic: String,
    /// What it takes, and what the topic does; bytes.
    pub bytes: usize,
    /// What the topic takes.
    pub limit: usize,
    /// Partition and offset that it came from; -1 of notifications.
    pub place: (i32, i64),
}

/// Why nothing was committed, or perhaps was: only the state can tell.
#[derive(Debug)]
pub struct Lost {
    /// What went wrong.
    pub error: String,
    /// Whether another instance has taken over.
    pub fenced: bool,
    /// Whether it stays so until a person changes something.
    pub stays: bool,
}

/// A transactional producer. All instances have the same transactional id, so the newest one shuts its predecessor out.
pub struct Writer {
    transactions: Transactions,
    config: ClientConfig,
    dead_letters: String,
    /// The topics that are written to, as they came.
    topics: Vec<String>,
    limits: TopicLimits,
    shutdown: Shutdown,
}

enum Fault {
    TooLarge { error: String, topic: String },
    Lost(Lost),
}

fn largest_record() -> usize {
    LARGEST_RECORD.parse().unwrap_or(usize::MAX)
}

impl Writer {
    /// Ends what a predecessor left open, and shuts it out. `None` where the end was asked for first.
    ///
    /// # Errors
    /// Where the brokers do not allow it.
    pub fn new(
        kafka: &ClientConfig,
        configuration: &Configuration,
        topics: &[String],
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, Lost> {
        let config = config(kafka, &configuration.runtime);
        let dead_letters = configuration.topics.dead_letters.clone();
        let ending = shutdown.clone();
        match Transactions::take_over(&config, move || ending.is_overdue(LAST_COMMIT)) {
            Ok(transactions) => {
                let limits = TopicLimits::new(&vec![largest_record(); topics.len()]);
                let (shutdown, topics) = (shutdown.clone(), topics.to_vec());
                Ok(Some(Self { transactions, config, dead_letters, topics, limits, shutdown }))
            }
            Err(error) if shutdown.requested() => {
                tracing::debug!(%error, "transactions cannot be initialised");
                Ok(None)
            }
            Err(error) => Err(Lost {
                stays: is_refused_for_good(&error),
                error: format!("transactions cannot be initialised: {error}"),
                fenced: false,
            }),
        }
    }

    /// Writes all of them, or none, but for those that are too large.
    ///
    /// # Errors
    /// Where it is not known, or not so: the state has to be read again, by a new writer.
    pub fn commit(&mut self, outputs: &[Output]) -> Result<Vec<TooLarge>, Lost> {
        loop {
            let mut too_large = Vec::new();
            match self.attempt(outputs, &mut too_large) {
                Ok(()) => return Ok(too_large),
                Err(Fault::Lost(lost)) => return Err(lost),
                Err(Fault::TooLarge { error, topic }) => {
                    self.abort()?;
                    self.learn(&topic, outputs, error)?;
                }
            }
        }
    }

    /// A topic takes less than was known.
    fn learn(&mut self, topic: &str, outputs: &[Output], error: String) -> Result<(), Lost> {
        let index = self.topics.iter().position(|known| known == topic);
        let Some(index) = index.filter(|index| self.limits.of(*index) > 0) else {
            return Err(Lost { error, fenced: false, stays: true });
        };
        let sent = outputs.iter().filter(|output| output.topic == topic || topic == self.dead_letters);
        let largest = sent.map(size).max().unwrap_or_default().min(self.limits.of(index));
        let batch = self.limits.batch();
        self.limits.refused(index, largest, None);
        let limit = self.limits.of(index);
        tracing::warn!(error, topic, limit, batch = self.limits.batch(), "the topic takes less than was known");
        if self.limits.batch() != batch {
            self.config.set("batch.size", self.limits.batch().to_string());
            let ending = self.shutdown.clone();
            let taken_over = Transactions::take_over(&self.config, move || ending.is_overdue(LAST_COMMIT));
            self.transactions = taken_over.map_err(|error| Lost {
                stays: is_refused_for_good(&error),
                error: error.to_string(),
                fenced: false,
            })?;
        }
        Ok(())
    }

    fn attempt(&self, outputs: &[Output], too_large: &mut Vec<TooLarge>) -> Result<(), Fault> {
        self.transactions.begin().map_err(|error| self.fault(&error))?;
        for output in outputs {
            self.send(output, too_large)?;
        }
        self.transactions.deliver();
        if let Some(refused) = self.transactions.refusal() {
            return Err(self.refused(&refused.error, &refused.topic));
        }
        service::crash_point("alert_router::produced");
        self.transactions.commit().map_err(|error| self.fault(&error))?;
        service::crash_point("alert_router::committed");
        Ok(())
    }

    fn send(&self, output: &Output, too_large: &mut Vec<TooLarge>) -> Result<(), Fault> {
        let index = self.topics.iter().position(|topic| *topic == output.topic);
        let limit = index.map_or_else(largest_record, |index| self.limits.of(index));
        let bytes = size(output);
        let place = match output.purpose {
            _ if bytes <= limit => (0, 0),
            Purpose::State => {
                let topic = &output.topic;
                let error =
                    format!("{topic} takes records of {limit} bytes, {bytes} are needed: raise its max.message.bytes");
                return Err(Fault::Lost(Lost { error, fenced: false, stays: true }));
            }
            Purpose::Route => return self.send(&outputs::too_large(&self.dead_letters, output, limit), too_large),
            Purpose::Letter(partition, offset) => (partition, offset),
        };
        let (own, key, value) = (own_headers(output), output.key.as_deref(), output.value.as_deref());
        let own: Vec<truncation::Header<'_>> = own.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
        let added: Vec<truncation::Header<'_>> =
            output.added.iter().map(|(name, value)| (*name, Some(value.as_slice()))).collect();
        let original = Sizes::of(key, value, own.iter().copied());
        let Some(fitted) = fit(&HandedOn { key, value, own: &own, added: &added, original }, limit) else {
            too_large.push(TooLarge { topic: output.topic.clone(), bytes, limit, place });
            return Ok(());
        };
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&output.topic);
        (record.key, record.payload) = (fitted.key, fitted.value);
        if !fitted.headers.is_empty() {
            let headers = fitted.headers.iter();
            record.headers = Some(headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_deref() })
            }));
        }
        self.transactions.send(record).map_err(|error| self.refused(&error, &output.topic))
    }

    fn abort(&self) -> Result<(), Lost> {
        let lost = |error: KafkaError| Lost {
            error: format!("aborting: {error}"),
            fenced: self.transactions.is_fenced(&error),
            stays: false,
        };
        self.transactions.abort().map_err(lost)
    }

    fn refused(&self, error: &KafkaError, topic: &str) -> Fault {
        let text = format!("topic {topic}: {error}");
        if is_too_large(error) {
            return Fault::TooLarge { error: text, topic: topic.to_owned() };
        }
        let fenced = self.transactions.is_fenced(error);
        Fault::Lost(Lost { error: text, fenced, stays: is_refused_for_good(error) })
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        match self.transactions.refusal() {
            Some(Refused { error, topic, .. }) => self.refused(&error, &topic),
            None => {
                let fenced = self.transactions.is_fenced(error);
                Fault::Lost(Lost { error: error.to_string(), fenced, stays: is_refused_for_good(error) })
            }
        }
    }
}

fn config(kafka: &ClientConfig, runtime: &Runtime) -> ClientConfig {
    let mut config = kafka.clone();
    config
        .set("transactional.id", &runtime.group)
        .set("transaction.timeout.ms", runtime.transaction_timeout.as_millis().to_string())
        .set("message.max.bytes", LARGEST_RECORD)
        .set("delivery.report.only.error", "true")
        // Kafka's own partitioner: a key's records lie where other producers would put them
        .set("partitioner", "murmur2_random");
    let defaults = [("compression.type", "lz4"), ("linger.ms", "1"), ("queue.buffering.max.kbytes", "32768")];
    unless_set(&mut config, &defaults);
    config
}

fn own_headers(output: &Output) -> Vec<(std::borrow::Cow<'_, str>, Option<&[u8]>)> {
    output.own.as_ref().map(|own| read_headers(own.as_borrowed())).unwrap_or_default()
}

fn size(output: &Output) -> usize {
    let own = own_headers(output);
    let own = own.iter().map(|(name, value)| (name.as_ref(), *value));
    let added = output.added.iter().map(|(name, value)| (*name, Some(value.as_slice())));
    batch_bytes(output.key.as_deref(), output.value.as_deref(), own.chain(added))
}
