//! Whether the topics that are read are still those of the take-over. Offsets name a topic, not its id: librdkafka goes on at
//! the old offset in a topic that was created again.

use std::collections::BTreeMap;

use kafka::{ASK, Reader, TopicId, describe_topics, recreated};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use crate::core::restore::NextOffset;
use crate::writer::Lost;

/// Ids by topic; `None` where brokers give none.
pub(super) struct TopicIds(BTreeMap<String, Option<TopicId>>);

impl TopicIds {
    /// Those of now.
    pub(super) fn of(reader: &Reader, topics: [&String; 2]) -> Result<Self, KafkaError> {
        let topics = topics.map(String::as_str);
        let described = describe_topics(reader.client(), &topics, ASK)?;
        let ids = described.into_iter().filter_map(|(topic, identity)| Some((topic, identity.ok()?.id)));
        Ok(Self(ids.collect()))
    }

    /// Offsets of these topics; those of topics that are no more are left out, so that the new ones are read from their
    /// beginning.
    pub(super) fn still_valid(&self, offsets: BTreeMap<(String, i32), NextOffset>) -> BTreeMap<(String, i32), i64> {
        let mut valid = BTreeMap::new();
        for ((topic, partition), NextOffset { next, topic: was }) in offsets {
            match recreated(&topic, was.as_ref(), self.id(&topic)) {
                None => drop(valid.insert((topic, partition), next)),
                Some(change) => tracing::warn!(partition, next, "{change}: it is read from its beginning"),
            }
        }
        valid
    }

    /// Each with its topic's id.
    pub(super) fn with(&self, offsets: BTreeMap<(String, i32), i64>) -> BTreeMap<(String, i32), NextOffset> {
        let with_id = |((topic, partition), next): ((String, i32), i64)| {
            let id = self.id(&topic).cloned();
            ((topic, partition), NextOffset { next, topic: id })
        };
        offsets.into_iter().map(with_id).collect()
    }

    /// Asks the brokers.
    pub(super) fn check(&self, reader: &Reader) -> Result<(), Lost> {
        let lost = |error: String| Lost { error, fenced: false, stays: false };
        let topics: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let described = describe_topics(reader.client(), &topics, ASK).map_err(|error| lost(error.to_string()))?;
        for topic in &topics {
            let is = described.get(*topic).and_then(|identity| identity.as_ref().ok()?.id.as_ref());
            if let Some(change) = recreated(topic, self.id(topic), is) {
                return Err(lost(change.to_string()));
            }
        }
        Ok(())
    }

    fn id(&self, topic: &str) -> Option<&TopicId> {
        self.0.get(topic)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_of_a_topic_that_is_no_more_is_left_out_and_one_without_an_id_is_taken() {
        let ids = TopicIds([("alerts".to_owned(), TopicId::parse("b"))].into());
        let offset = |next, id| NextOffset { next, topic: TopicId::parse(id) };
        let key = |partition| ("alerts".to_owned(), partition);
        let read = [(key(0), offset(5, "a")), (key(1), offset(6, "b")), (key(2), offset(7, ""))];
        assert_eq!(ids.still_valid(read.into()), [(key(1), 6), (key(2), 7)].into());
        assert_eq!(ids.with([(key(1), 8)].into()), [(key(1), offset(8, "b"))].into());
    }
}
