//! Which partitions wait for what, as `/readyz` and the metrics show it.

use std::collections::{BTreeMap, BTreeSet};

use service::{Wait, WaitReason, Waits};

/// Topic and partition.
type Place = (String, i32);

/// The waits of the writer's partitions; each lasts as long as it is kept.
pub(crate) struct Waiting {
    waits: Waits,
    schemas: BTreeMap<Place, Wait>,
    rows: BTreeMap<Place, Wait>,
    brokers: BTreeMap<Place, Wait>,
}

impl Waiting {
    pub(crate) fn new(waits: Waits) -> Self {
        Self { waits, schemas: BTreeMap::new(), rows: BTreeMap::new(), brokers: BTreeMap::new() }
    }

    /// A record of this partition waits for its schema.
    pub(crate) fn is_for_schema(&mut self, topic: &str, partition: i32, text: &str) {
        match self.schemas.get(&(topic.to_owned(), partition)) {
            Some(wait) => wait.update(WaitReason::Schema, text),
            None => {
                let wait = self.waits.begin(topic, partition, WaitReason::Schema, text);
                self.schemas.insert((topic.to_owned(), partition), wait);
            }
        }
    }

    /// Of this topic, only these partitions wait for a schema still.
    pub(crate) fn have_schemas(&mut self, topic: &str, is_stalled: impl Fn(i32) -> bool) {
        self.schemas.retain(|place, _| place.0 != topic || is_stalled(place.1));
    }

    /// Rows of these partitions of the topic wait to be acknowledged, and of no others of it.
    pub(crate) fn are_for_rows(&mut self, topic: &str, table: &str, partitions: impl Iterator<Item = i32>) {
        let partitions: BTreeSet<i32> = partitions.collect();
        self.rows.retain(|place, _| place.0 != topic || partitions.contains(&place.1));
        for partition in partitions {
            let waits = &self.waits;
            self.rows.entry((topic.to_owned(), partition)).or_insert_with(|| {
                let text = format!("rows for {table} are not acknowledged");
                waits.begin(topic, partition, WaitReason::ClickHouse, &text)
            });
        }
    }

    /// These partitions wait for an answer of the brokers about offsets, and no others.
    pub(crate) fn are_for_brokers<'a>(&mut self, partitions: impl Iterator<Item = (&'a str, i32)>) {
        let partitions: BTreeSet<Place> = partitions.map(|(topic, partition)| (topic.to_owned(), partition)).collect();
        self.brokers.retain(|place, _| partitions.contains(place));
        for place in partitions {
            let waits = &self.waits;
            let begin = |place: &Place| {
                waits.begin(&place.0, place.1, WaitReason::Brokers, "they have not given or taken its offset")
            };
            self.brokers.entry(place).or_insert_with_key(begin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn partitions_wait_for_a_schema_for_rows_and_for_brokers_as_long_as_they_do() {
        let waits = Waits::default();
        let mut waiting = Waiting::new(waits.clone());
        let lines = || waits.lines(Instant::now()).len();
        waiting.is_for_schema("rows", 1, "schema 7");
        waiting.is_for_schema("rows", 1, "schema 7");
        waiting.are_for_rows("rows", "session_entropy", [0, 2].into_iter());
        waiting.are_for_brokers([("rows", 3)].into_iter());
        assert_eq!(lines(), 4);
        waiting.are_for_rows("rows", "session_entropy", [2].into_iter());
        waiting.are_for_rows("other rows", "session_freshness", [].into_iter());
        assert_eq!(lines(), 3);
        waiting.have_schemas("rows", |_| false);
        waiting.are_for_rows("rows", "session_entropy", [].into_iter());
        assert_eq!(lines(), 1);
        waiting.are_for_brokers([].into_iter());
        assert_eq!(lines(), 0);
    }
}
