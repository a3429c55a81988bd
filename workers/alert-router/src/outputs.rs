//! What one transaction writes: records of route topics, dead letters, state and offsets.

use std::collections::BTreeMap;

use rdkafka::message::{Message as _, OwnedMessage};
use records::dead_letter;

use crate::config::Topics;
use crate::core::changes::{Changes, Key, Letter};
use crate::core::restore::NextOffset;
use crate::writer::{Output, Purpose};

/// The worker's name in headers.
pub const WORKER: &str = "alert-router";
/// Header of route records and of given up notifications: names the notification, no other one has it.
pub const NOTIFICATION: &str = "recwatch.notification";
/// Header of given up notifications: the receiver.
pub const RECEIVER: &str = "recwatch.receiver";

/// Appends what the core has decided, and the next offsets by topic and partition.
pub fn of(topics: &Topics, changes: &Changes, offsets: BTreeMap<(String, i32), NextOffset>, into: &mut Vec<Output>) {
    for record in &changes.topics {
        into.push(Output {
            topic: record.topic.clone(),
            key: Some(record.key.clone().into_bytes()),
            value: Some(record.value.clone()),
            added: vec![(NOTIFICATION, record.notification.clone().into_bytes())],
            purpose: Purpose::Route,
            ..Output::default()
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
        into.push(state(Key::Offset(topic, partition), Some(next.value())));
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
        own: message.headers().cloned(),
        added: headers(&error).collect(),
        purpose: Purpose::Letter(message.partition(), message.offset()),
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
    let named =
        [(NOTIFICATION, letter.idempotency_key.clone().into_bytes()), (RECEIVER, letter.receiver.clone().into_bytes())];
    Output {
        topic: topics.dead_letters.clone(),
        key: Some(letter.key.clone().into_bytes()),
        value: Some(letter.body.to_vec()),
        own: None,
        added: named.into_iter().chain(headers(&error)).collect(),
        purpose: Purpose::Letter(-1, -1),
    }
}

/// The dead letter of a record that a route's topic does not take.
#[must_use]
pub fn too_large(dead_letters: &str, record: &Output, limit: usize) -> Output {
    let message = format!("the topic takes {limit} bytes at most: raise its max.message.bytes");
    let error = dead_letter::Error {
        worker: WORKER,
        topic: &record.topic,
        partition: -1,
        offset: -1,
        stage: "deliver",
        reason: "too_large",
        message: &message,
    };
    let added = record.added.iter().cloned().chain(headers(&error)).collect();
    Output { topic: dead_letters.to_owned(), added, purpose: Purpose::Letter(-1, -1), ..record.clone() }
}

fn headers<'a>(error: &dead_letter::Error<'a>) -> impl Iterator<Item = (&'static str, Vec<u8>)> + use<'a> {
    error.headers().map(|(name, value)| (name, value.into_owned()))
}
