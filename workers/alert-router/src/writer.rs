//! Transactions: what the core has decided, committed as a whole.

use kafka::{LARGEST_RECORD, Transactions, is_too_large, unless_set};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use service::Shutdown;

use crate::config::Runtime;

/// What is left of a dead letter that its topic does not take whole.
const TRUNCATED_BYTES: usize = 512 * 1024;
/// Header with the size of a value that was cut, named as the other workers name it.
const TRUNCATED: &str = "recwatch.truncated.from.bytes";

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Where to.
    pub topic: String,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
    /// Whether it may be cut where it is too large.
    pub is_letter: bool,
}

/// Why nothing was committed, or perhaps was: only the state can tell.
#[derive(Debug)]
pub struct Lost {
    /// What went wrong.
    pub error: String,
    /// Whether another instance has taken over.
    pub fenced: bool,
}

/// A transactional producer. All instances have the same transactional id, so the newest one shuts its predecessor out.
pub struct Writer {
    transactions: Transactions,
}

enum Fault {
    TooLarge(String),
    Lost(Lost),
}

impl Writer {
    /// Ends what a predecessor left open, and shuts it out. `None` where the end was asked for first.
    ///
    /// # Errors
    /// Where the brokers do not allow it.
    pub fn new(kafka: &ClientConfig, runtime: &Runtime, shutdown: &Shutdown) -> Result<Option<Self>, Lost> {
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
        match Transactions::take_over(&config, || shutdown.requested()) {
            Ok(transactions) => Ok(Some(Self { transactions })),
            Err(error) if shutdown.requested() => {
                tracing::debug!(%error, "transactions cannot be initialised");
                Ok(None)
            }
            Err(error) => Err(Lost { error: format!("transactions cannot be initialised: {error}"), fenced: false }),
        }
    }

    /// Writes all of them, or none.
    ///
    /// # Errors
    /// Where it is not known, or not so: the state has to be read again, by a new writer.
    pub fn commit(&self, outputs: &[Output]) -> Result<(), Lost> {
        match self.attempt(outputs, false) {
            Ok(()) => Ok(()),
            Err(Fault::Lost(lost)) => Err(lost),
            Err(Fault::TooLarge(error)) => {
                self.abort()?;
                tracing::warn!(error, "dead letters are cut");
                self.attempt(outputs, true).map_err(|fault| match fault {
                    Fault::Lost(lost) => lost,
                    Fault::TooLarge(error) => Lost { error, fenced: false },
                })
            }
        }
    }

    fn attempt(&self, outputs: &[Output], cut: bool) -> Result<(), Fault> {
        self.transactions.begin().map_err(|error| self.fault(&error))?;
        for output in outputs {
            self.send(output, cut)?;
        }
        self.transactions.deliver();
        if let Some((error, topic)) = self.transactions.refusal() {
            return Err(self.refused(&error, &topic));
        }
        self.transactions.commit().map_err(|error| self.fault(&error))
    }

    fn send(&self, output: &Output, cut: bool) -> Result<(), Fault> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&output.topic);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        record.headers = output.headers.clone();
        if cut
            && output.is_letter
            && let Some(value) = output.value.as_deref().filter(|value| value.len() > TRUNCATED_BYTES)
        {
            record.payload = Some(&value[..TRUNCATED_BYTES]);
            let length = value.len().to_string();
            let headers = record.headers.take().unwrap_or_default();
            record.headers = Some(headers.insert(Header { key: TRUNCATED, value: Some(&length) }));
        }
        self.transactions.send(record).map_err(|error| self.refused(&error, &output.topic))
    }

    fn abort(&self) -> Result<(), Lost> {
        let lost = |error: KafkaError| Lost {
            error: format!("aborting: {error}"),
            fenced: self.transactions.is_fenced(&error),
        };
        self.transactions.abort().map_err(lost)
    }

    fn refused(&self, error: &KafkaError, topic: &str) -> Fault {
        let text = format!("topic {topic}: {error}");
        if is_too_large(error) {
            return Fault::TooLarge(text);
        }
        Fault::Lost(Lost { error: text, fenced: self.transactions.is_fenced(error) })
    }

    fn fault(&self, error: &KafkaError) -> Fault {
        match self.transactions.refusal() {
            Some((refusal, topic)) => self.refused(&refusal, &topic),
            None => Fault::Lost(Lost { error: error.to_string(), fenced: self.transactions.is_fenced(error) }),
        }
    }
}
