//! What one transaction writes: records of route topics, dead letters, state and offsets.

use std::collections::BTreeMap;

use rdkafka::message::{Header, Message as _, OwnedHeaders, OwnedMessage};
use records::dead_letter;

use crate::config::Topics;
use crate::core::changes::{Changes, Key, Letter};
use crate::core::restore::offset_value;
use crate::writer::Output;

/// The worker's name in headers.
pub const WORKER: &str = "alert-router";
/// Header of route records and of given up notifications: names the notification, no other one has it.
pub const NOTIFICATION: &str = "recwatch.notification";
/// Header of given up notifications: the receiver.
pub const RECEIVER: &str = "recwatch.receiver";

/// Appends what the core has decided, and the next offsets by topic and partition.
pub fn of(topics: &Topics, changes: &Changes, offsets: BTreeMap<(String, i32), i64>, into: &mut Vec<Output>) {
    for record in &changes.topics {
        into.push(Output {
            topic: record.topic.clone(),
            key: Some(record.key.clone().into_bytes()),
            value: Some(record.value.clone()),
            headers: Some(header(NOTIFICATION, &record.notification)),
            is_letter: false,
        });
    }
    into.extend(changes.letters.iter().map(|letter| given_up(topics, letter)));
    let state = |key: Key, value: Option<Vec<u8>>| Output {
        topic: topics.state.clone(),
        key: Some(key.text().into_bytes()),
        value,
        ..Output::default()
    };
    into.extend(changes.state.iter().map(|(key, value)| state(key.clone(), value.clone())));
    for ((topic, partition), next) in offsets {
        into.push(state(Key::Offset(topic, partition), Some(offset_value(next))));
    }
}

/// The dead letter of a record that cannot be read.
#[must_use]
pub fn unreadable(topics: &Topics, message: &OwnedMessage, reason: &str, text: &str) -> Output {
    let error = dead_letter::Error {
        worker: WORKER,
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        stage: "decode",
        reason,
        message: text,
    };
    Output {
        topic: topics.dead_letters.clone(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: Some(with_error(message.headers().cloned().unwrap_or_default(), &error)),
        is_letter: true,
    }
}

/// The dead letter of a notification: it comes from no single record.
fn given_up(topics: &Topics, letter: &Letter) -> Output {
    let error = dead_letter::Error {
        worker: WORKER,
        topic: &topics.alerts,
        partition: -1,
        offset: -1,
        stage: "deliver",
        reason: letter.reason,
        message: &letter.message,
    };
    let headers = header(NOTIFICATION, &letter.idempotency_key);
    let headers = headers.insert(Header { key: RECEIVER, value: Some(&letter.receiver) });
    Output {
        topic: topics.dead_letters.clone(),
        key: Some(letter.key.clone().into_bytes()),
        value: Some(letter.body.to_vec()),
        headers: Some(with_error(headers, &error)),
        is_letter: true,
    }
}

fn header(key: &str, value: &str) -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key, value: Some(value) })
}

fn with_error(headers: OwnedHeaders, error: &dead_letter::Error<'_>) -> OwnedHeaders {
    error.headers().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value.as_ref()) }))
}
