//! What a topic is known by: its id, which is new when it is deleted and created again, and its number of partitions.

use std::fmt::{self, Display, Formatter};

use rdkafka::error::RDKafkaErrorCode;

/// Kafka's id of a topic, as Kafka's own tools write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicId(Box<str>);

/// How Kafka writes the id of 16 zero bytes, which stands for none.
const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAA";

impl TopicId {
    /// `None` where the text stands for no id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = |character: char| character.is_ascii_alphanumeric() || "-_+/=".contains(character);
        let is_id = !text.is_empty() && text != "-" && text != ZERO && text.chars().all(known);
        is_id.then(|| Self(text.replace('+', "-").replace('/', "_").into()))
    }
}

impl Display for TopicId {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A topic as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIdentity {
    /// `None` where the brokers give no ids (before Kafka 2.8).
    pub id: Option<TopicId>,
    /// How many partitions it has.
    pub partitions: i32,
}

/// How a topic is not the one that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicChange {
    /// Another topic has its name.
    #[error("{topic} was deleted and created again: its id was {was}, it is {is}")]
    Recreated {
        /// Its name.
        topic: String,
        /// The id of what was read.
        was: TopicId,
        /// The id of what has the name now.
        is: TopicId,
    },
    /// Another number of partitions.
    #[error("{topic} had {was} partitions, it has {is}")]
    Partitions {
        /// Its name.
        topic: String,
        /// As before.
        was: i32,
        /// As now.
        is: i32,
    },
    /// It is not there.
    #[error("{topic} does not exist")]
    Deleted {
        /// Its name.
        topic: String,
    },
}

impl TopicChange {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        match self {
            Self::Recreated { topic, .. } | Self::Partitions { topic, .. } | Self::Deleted { topic } => topic,
        }
    }
}

impl TopicIdentity {
    /// How the topic as described now is another one than this.
    ///
    /// # Errors
    /// The code where the description says neither that it is the same nor that it is another one.
    pub fn change(
        &self,
        topic: &str,
        now: Option<&Result<Self, RDKafkaErrorCode>>,
    ) -> Result<Option<TopicChange>, RDKafkaErrorCode> {
        let topic = || topic.to_owned();
        let now = match now {
            Some(Ok(now)) => now,
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
                return Ok(Some(TopicChange::Deleted { topic: topic() }));
            }
            Some(Err(code)) => return Err(*code),
            None => return Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        };
        if let Some(change) = recreated(&topic(), self.id.as_ref(), now.id.as_ref()) {
            return Ok(Some(change));
        }
        let differs = self.partitions != now.partitions;
        Ok(differs.then(|| TopicChange::Partitions { topic: topic(), was: self.partitions, is: now.partitions }))
    }
}

/// Whether a topic of this name was created again, as its ids say; ids that are not known say nothing.
#[must_use]
pub fn recreated(topic: &str, was: Option<&TopicId>, is: Option<&TopicId>) -> Option<TopicChange> {
    let (was, is) = (was?, is?);
    (was != is).then(|| TopicChange::Recreated { topic: topic.to_owned(), was: was.clone(), is: is.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str, partitions: i32) -> TopicIdentity {
        TopicIdentity { id: TopicId::parse(id), partitions }
    }

    #[test]
    fn a_topic_is_another_one_by_its_id_first_and_then_by_its_number_of_partitions() {
        let known = identity("a", 2);
        let change = |now: &TopicIdentity| known.change("t", Some(&Ok(now.clone()))).unwrap().map(|it| it.to_string());
        assert_eq!(change(&known), None);
        let recreated = change(&identity("b", 3)).unwrap();
        assert_eq!(recreated, "t was deleted and created again: its id was a, it is b");
        assert_eq!(change(&identity("a", 3)).unwrap(), "t had 2 partitions, it has 3");
    }

    #[test]
    fn without_ids_the_number_of_partitions_is_all_that_is_compared() {
        assert_eq!(TopicId::parse(ZERO), None);
        let (with, without) = (identity("a", 2), identity(ZERO, 2));
        assert_eq!(without.change("t", Some(&Ok(with.clone()))), Ok(None));
        assert_eq!(with.change("t", Some(&Ok(without.clone()))), Ok(None));
        assert!(with.change("t", Some(&Ok(identity(ZERO, 1)))).unwrap().is_some());
    }

    #[test]
    fn what_a_broker_does_not_say_is_no_change() {
        let known = identity("a", 2);
        let deleted = Err(RDKafkaErrorCode::UnknownTopicOrPartition);
        assert_eq!(known.change("t", Some(&deleted)), Ok(Some(TopicChange::Deleted { topic: "t".to_owned() })));
        let leaderless = RDKafkaErrorCode::LeaderNotAvailable;
        assert_eq!(known.change("t", Some(&Err(leaderless))), Err(leaderless));
        assert!(known.change("t", None).is_err());
    }
}
