//! What the core asks its shell for: all of it belongs into one transaction, and is sent after that.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a record of the state topic is about; its key there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Counters.
    Router,
    /// The next offset to read of a topic's partition.
    Offset(String, i32),
    /// An alert, by its number.
    Alert(u64),
    /// A group, by its number.
    Group(u32),
    /// What a group's receiver was told of an alert.
    Told(u32, u64),
    /// A group's notification that is under way.
    Pending(u32),
}

impl Key {
    /// As it stands in the topic.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Router => "router".to_owned(),
            Self::Offset(topic, partition) => format!("offset/{topic}/{partition}"),
            Self::Alert(id) => format!("alert/{id}"),
            Self::Group(id) => format!("group/{id}"),
            Self::Told(group, alert) => format!("told/{group}/{alert}"),
            Self::Pending(group) => format!("pending/{group}"),
        }
    }

    /// Of a key in the topic; `None` where another version wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        Some(match kind {
            "router" if rest.is_empty() => Self::Router,
            "offset" => {
                let (topic, partition) = rest.rsplit_once('/')?;
                Self::Offset(topic.to_owned(), partition.parse().ok()?)
            }
            "alert" => Self::Alert(rest.parse().ok()?),
            "group" => Self::Group(rest.parse().ok()?),
            "told" => {
                let (group, alert) = rest.split_once('/')?;
                Self::Told(group.parse().ok()?, alert.parse().ok()?)
            }
            "pending" => Self::Pending(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// A record of a route's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// The topic.
    pub topic: String,
    /// The group's key.
    pub key: String,
    /// The notification.
    pub value: Vec<u8>,
    /// Names the notification: no other one has it.
    pub notification: String,
}

/// A notification to be sent once its transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// Index of the receiver.
    pub receiver: usize,
    /// The group.
    pub group: u32,
    /// Its number.
    pub number: u64,
    /// The same for each repetition, also after a crash; no other notification has it.
    pub idempotency_key: String,
    /// The same for each repetition.
    pub body: Arc<[u8]>,
}

/// [`Letter::reason`]: the receiver will not take it.
pub const REFUSED: &str = "refused";
/// [`Letter::reason`]: the receiver has not taken it for as long as it is tried.
pub const GAVE_UP: &str = "gave_up";
/// [`Letter::reason`]: an end that it tells was not taken for so long that it is told no more.
pub const EXPIRED: &str = "expired";
/// Why notifications are given up.
pub const REASONS: [&str; 3] = [REFUSED, GAVE_UP, EXPIRED];

/// A notification that its receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The receiver's name.
    pub receiver: String,
    /// The group's key.
    pub key: String,
    /// The notification.
    pub body: Arc<[u8]>,
    /// Its name.
    pub idempotency_key: String,
    /// One of [`REASONS`].
    pub reason: &'static str,
    /// What the receiver said last.
    pub message: String,
}

/// One transaction, and what is sent behind it.
#[derive(Debug, Default)]
pub struct Changes {
    /// By key; `None`: there is no such thing any more.
    pub state: BTreeMap<Key, Option<Vec<u8>>>,
    /// In order.
    pub topics: Vec<TopicRecord>,
    /// In order.
    pub letters: Vec<Letter>,
    /// In order.
    pub sends: Vec<Send>,
}

impl Changes {
    /// Whether a transaction would be empty and nothing is to be sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.is_empty() && self.topics.is_empty() && self.letters.is_empty() && self.sends.is_empty()
    }

    pub(crate) fn put<T: Serialize>(&mut self, key: Key, value: &T) {
        // of these types, writing into memory cannot fail
        if let Ok(bytes) = postcard::to_allocvec(value) {
            self.state.insert(key, Some(bytes));
        }
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.state.insert(key, None);
    }
}

/// [`Key::Router`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// When this state began, epoch ms: tells its notifications from those of an earlier one.
    pub(crate) born: i64,
    pub(crate) next_notification: u64,
    pub(crate) next_alert: u64,
    pub(crate) next_group: u32,
}

/// [`Key::Alert`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AlertState<'a> {
    pub(crate) firing: bool,
    /// Whether a later record of its fingerprint, with other labels, has taken its place.
    pub(crate) replaced: bool,
    /// Its newest record, as it was read.
    #[serde(borrow)]
    pub(crate) value: &'a [u8],
}

/// [`Key::Group`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupState<'a> {
    #[serde(borrow)]
    pub(crate) receiver: &'a str,
    #[serde(borrow)]
    pub(crate) key: &'a str,
    pub(crate) next_flush: i64,
    pub(crate) last_sent: i64,
    /// What the receiver takes: [`Style::name`](crate::routing::Style::name); empty in older states.
    pub(crate) style: &'a str,
}

/// [`Key::Told`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ToldState {
    pub(crate) told: super::held::Told,
    pub(crate) by: u64,
    pub(crate) untaken_since: i64,
}

/// [`Key::Pending`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PendingState<'a> {
    pub(crate) number: u64,
    pub(crate) first_at: i64,
    #[serde(borrow)]
    pub(crate) idempotency_key: &'a str,
    #[serde(borrow)]
    pub(crate) body: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn keys_read_back_as_written() {
        let keys = [
            Key::Router,
            Key::Offset("a/b.v1".to_owned(), 3),
            Key::Alert(7),
            Key::Group(8),
            Key::Told(9, 10),
            Key::Pending(11),
        ];
        for key in keys {
            assert_eq!(Key::parse(&key.text()), Some(key));
        }
        assert_eq!(Key::parse("novelty/1"), None);
        assert_eq!(Key::parse("told/1"), None);
    }
}
