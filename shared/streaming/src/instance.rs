//! One process under each instance's name. Each announces itself on the first watermarks topic while it lives, and one that
//! starts under a name that is still announced ends before it has disturbed the other.
//!
//! Neither transactions nor groups can tell: the younger process shuts the elder out by asking for its transactional id, and
//! a static member takes its predecessor's place; a member that has crashed stays for the whole session timeout.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{Message as _, TopicPartitionList};
use serde::{Deserialize, Serialize};

use crate::kafka::{ASK_AT_START, reader};
use crate::worker::Worker;

/// Between two announcements.
const EVERY: Duration = Duration::from_secs(1);
/// A process that has announced nothing for this long is dead, or stands still.
const SILENCE: Duration = Duration::from_secs(4);
/// The last announcement, that it has ended, may take this long.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the keys of announcements begin.
const PREFIX: &str = "instance/";

/// Whether a record of the watermarks topic is of a process and not of a task.
pub(crate) fn is_announcement(key: &[u8]) -> bool {
    key.starts_with(PREFIX.as_bytes())
}

/// What a process announces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Announcement {
    /// When it started, epoch ms.
    started: i64,
    /// Its host and process id.
    process: String,
}

/// This process, as others see it.
#[derive(Debug)]
pub(crate) struct Instance {
    own: Announcement,
    key: String,
    /// Announcements from this offset on were made while this process lived.
    since: i64,
}

impl Instance {
    /// Waits until no other process is announced under the instance's name.
    ///
    /// # Errors
    /// Where another one is alive.
    pub(crate) fn enter(worker: &Worker) -> anyhow::Result<Self> {
        let name = &worker.config.instance;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let process = format!("{}/{}", crate::runtime::hostname(), std::process::id());
        let mut instance = Self { own: Announcement { started, process }, key: format!("{PREFIX}{name}"), since: 0 };
        // of a dead process's open transaction nobody waits for the end
        let client = worker.topology.deployment().transactional_id(&format!("{name}-instance"));
        let consumer = reader(&worker.kafka, &worker.group, &client, "read_uncommitted")?;
        let mut list = TopicPartitionList::new();
        let topic = worker.topology.internal_topic(0, "watermarks");
        list.add_partition_offset(&topic, 0, Offset::Beginning)?;
        consumer.assign(&list).with_context(|| format!("{topic} cannot be read"))?;
        let (mut before, mut heard, mut waits) = (None, Instant::now(), false);
        while !worker.stopping() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    instance.since = message.offset() + 1;
                    if message.key() != Some(instance.key.as_bytes()) {
                        continue;
                    }
                    let found = message.payload().and_then(|value| serde_json::from_slice::<Announcement>(value).ok());
                    if waits && let Some(Announcement { process, .. }) = &found {
                        bail!("{}", taken(name, process));
                    }
                    (before, heard) = (found, Instant::now());
                }
                Some(Err(KafkaError::PartitionEOF(_))) if before.is_none() => return Ok(instance),
                Some(Err(KafkaError::PartitionEOF(_))) if !waits => {
                    tracing::info!(
                        instance = name,
                        "a process under this instance's name was announced and not that it ended: if it lives it will \
                         be heard of within {SILENCE:?}"
                    );
                    (waits, heard) = (true, Instant::now());
                }
                Some(Err(error)) => tracing::debug!(%error, topic, "announcements"),
                None => {}
            }
            if waits && (before.is_none() || heard.elapsed() >= SILENCE) {
                return Ok(instance);
            }
            if !waits && heard.elapsed() > ASK_AT_START {
                bail!("{topic} cannot be read within {ASK_AT_START:?}");
            }
        }
        Ok(instance)
    }

    /// Announces this process until `done`, and then that it has ended.
    pub(crate) fn announce(&self, worker: &Worker, done: &AtomicBool) -> anyhow::Result<()> {
        let mut config = worker.kafka.clone();
        let client = worker.topology.deployment().transactional_id(&format!("{}-instance", worker.config.instance));
        config.set("client.id", client).set("message.timeout.ms", "3000").set("allow.auto.create.topics", "false");
        let producer: BaseProducer = config.create().context("the announcing producer cannot be made")?;
        let topic = worker.topology.internal_topic(0, "watermarks");
        let value = serde_json::to_vec(&self.own)?;
        let send = |value: Option<&[u8]>| {
            let mut record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&topic).partition(0).key(&self.key);
            record.payload = value;
            if let Err((error, _)) = producer.send(record) {
                tracing::debug!(%error, "this process is not announced for now");
            }
        };
        let mut due = Instant::now();
        while !done.load(Ordering::Relaxed) {
            if Instant::now() >= due {
                send(Some(&value));
                due = Instant::now() + EVERY;
            }
            producer.poll(Duration::from_millis(50));
        }
        send(None);
        if let Err(error) = producer.flush(FAREWELL) {
            tracing::debug!(%error, "that this process ends is not announced: its successor waits a little");
        }
        Ok(())
    }

    /// Takes in a record of the first watermarks topic.
    ///
    /// # Errors
    /// Where it is the announcement of an elder process under the same name.
    pub(crate) fn hear(&self, name: &str, offset: i64, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<()> {
        if offset < self.since || key != self.key.as_bytes() {
            return Ok(());
        }
        let other = value.and_then(|value| serde_json::from_slice::<Announcement>(value).ok());
        match other {
            Some(other) if other < self.own => bail!("{}", taken(name, &other.process)),
            _ => Ok(()),
        }
    }
}

fn taken(name: &str, process: &str) -> String {
    format!(
        "another process ({process}) runs under runtime.instance = {name:?}: it goes on, and this one ends. Give each \
         instance its own runtime.instance"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(started: i64, process: &str) -> Announcement {
        Announcement { started, process: process.to_owned() }
    }

    #[test]
    fn the_younger_of_two_processes_under_one_name_ends_and_what_lies_before_its_start_does_not_count() {
        let instance = Instance { own: announced(50, "b/1"), key: "instance/a".to_owned(), since: 7 };
        let hear = |offset, key: &str, other: Option<&Announcement>| {
            let value = other.map(|other| serde_json::to_vec(other).unwrap());
            instance.hear("a", offset, key.as_bytes(), value.as_deref())
        };
        let elder = announced(40, "c/9");
        assert!(hear(6, "instance/a", Some(&elder)).is_ok(), "of before");
        assert!(hear(7, "instance/b", Some(&elder)).is_ok(), "of another name");
        assert!(hear(7, "instance/a", Some(&announced(60, "a/1"))).is_ok(), "a younger one ends itself");
        assert!(hear(7, "instance/a", Some(&instance.own)).is_ok(), "its own");
        assert!(hear(7, "instance/a", None).is_ok());
        let error = hear(7, "instance/a", Some(&elder)).unwrap_err().to_string();
        assert!(error.contains("c/9") && error.contains("runtime.instance"), "{error}");
        assert!(hear(7, "instance/a", Some(&announced(50, "a/1"))).is_err(), "one of two that started together");
    }
}
