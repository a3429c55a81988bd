//! What the tasks of a worker have committed about themselves: the records of its watermarks topic.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What became of the records of a source, or of one of its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Those that changed results.
    pub applied: u64,
    /// Those that came too late.
    pub late: u64,
    /// Those that were bad input.
    pub dead_lettered: u64,
    /// Records emitted to row topics.
    #[serde(default)]
    pub rows: u64,
    /// The bad ones by reason.
    #[serde(default)]
    pub dead_lettered_by_reason: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another partition's.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.applied += other.applied;
        self.late += other.late;
        self.dead_lettered += other.dead_lettered;
        self.rows += other.rows;
        for (reason, count) in &other.dead_lettered_by_reason {
            *self.dead_lettered_by_reason.entry(reason.clone()).or_default() += count;
        }
    }

    /// Whether every record read became exactly one of applied, late and dead-lettered.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.read == self.applied + self.late + self.dead_lettered
            && self.dead_lettered == self.dead_lettered_by_reason.values().sum::<u64>()
    }
}

/// The fold of one source partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Fold {
    /// Its watermark (epoch ms), once it has one.
    pub watermark: Option<i64>,
    /// Whether it follows the other partitions.
    #[serde(default)]
    pub idle: bool,
    /// The next offset of its source partition.
    pub offset: i64,
    /// What became of its records.
    pub counts: Counts,
}

/// The merge of one partition of the repartition topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Merge {
    /// The newest window end that it has closed (epoch ms).
    pub closed: Option<i64>,
    /// The next offset of its partition.
    pub offset: i64,
    /// Rows emitted.
    pub rows: u64,
}

/// The newest committed words of all tasks of a worker on one source topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// By source partition.
    pub folds: BTreeMap<i32, Fold>,
    /// By partition of the repartition topic.
    pub merges: BTreeMap<i32, Merge>,
}

impl Watermarks {
    /// Takes in one record of the topic; a record that deletes its key is nothing said yet. What instances announce of
    /// themselves is left out.
    ///
    /// # Errors
    /// Key or value are none of this topic's.
    pub fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let text = String::from_utf8_lossy(key);
        let parts = text.split_once('/').and_then(|(step, partition)| Some((step, partition.parse::<i32>().ok()?)));
        let context = || {
            let value = value.map(String::from_utf8_lossy);
            format!("the record {text} of the watermarks topic cannot be read: {value:?}")
        };
        // which processes live is none of the tasks' business
        if text.starts_with("instance/") {
            return Ok(());
        }
        match (parts, value) {
            (Some(("fold", partition)), Some(value)) => {
                self.folds.insert(partition, serde_json::from_slice(value).with_context(context)?);
            }
            (Some(("merge", partition)), Some(value)) => {
                self.merges.insert(partition, serde_json::from_slice(value).with_context(context)?);
            }
            (Some(("fold", partition)), None) => drop(self.folds.remove(&partition)),
            (Some(("merge", partition)), None) => drop(self.merges.remove(&partition)),
            _ => bail!("the key {text:?} of the watermarks topic is neither fold/PARTITION nor merge/PARTITION"),
        }
        Ok(())
    }

    /// The counts of all folds together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.folds.values().for_each(|fold| sum.add(&fold.counts));
        sum
    }

    /// Rows of all folds and merges together.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts().rows + self.merges.values().map(|merge| merge.rows).sum::<u64>()
    }

    /// Source records that are not committed yet, with the ends of the source partitions.
    #[must_use]
    pub fn unread(&self, ends: &BTreeMap<i32, i64>) -> u64 {
        let offset = |partition| self.folds.get(partition).map_or(0, |fold| fold.offset);
        ends.iter().map(|(partition, end)| u64::try_from(end - offset(partition)).unwrap_or(0)).sum()
    }

    /// Whether all windows are closed that close without a partition being idle: those up to the smallest watermark.
    #[must_use]
    pub fn has_closed_what_it_read(&self, merges: i32, slide: i64) -> bool {
        let smallest = self.folds.values().map(|fold| fold.watermark).min().flatten();
        let closed = |partition| self.merges.get(&partition).and_then(|merge| merge.closed);
        smallest.is_some_and(|watermark| {
            let last_end = watermark.div_euclid(slide) * slide;
            (0..merges).all(|partition| closed(partition).is_some_and(|closed| closed >= last_end))
        })
    }

    /// What is missing until every record is processed and every window closed that can be: the largest watermark of
    /// all is the one that idle partitions follow to. Empty when all is done.
    #[must_use]
    pub fn missing(&self, ends: &BTreeMap<i32, i64>, merges: i32, slide: i64) -> Vec<String> {
        let mut missing = Vec::new();
        for (partition, &end) in ends {
            let offset = self.folds.get(partition).map_or(0, |fold| fold.offset);
            if offset < end {
                missing.push(format!("partition {partition} is committed to {offset} of {end}"));
            }
        }
        if !missing.is_empty() {
            return missing;
        }
        // Without any accepted event there is no watermark, and no window to close.
        let Some(largest) = self.folds.values().filter_map(|fold| fold.watermark).max() else { return missing };
        let last_end = largest.div_euclid(slide) * slide;
        for partition in ends.keys() {
            let watermark = self.folds.get(partition).and_then(|fold| fold.watermark);
            if watermark.is_none_or(|watermark| watermark < last_end) {
                let at = watermark.map_or("nowhere".to_owned(), |watermark| watermark.to_string());
                missing.push(format!("the watermark of partition {partition} is at {at}, before {last_end}"));
            }
        }
        for partition in 0..merges {
            let closed = self.merges.get(&partition).and_then(|merge| merge.closed);
            if closed.is_none_or(|closed| closed < last_end) {
                let at = closed.map_or("none".to_owned(), |closed| closed.to_string());
                missing.push(format!("merge {partition} has closed windows up to {at}, not {last_end}"));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(watermark: Option<i64>, offset: i64) -> Vec<u8> {
        let counts =
            r#"{"read":4,"applied":2,"late":1,"dead_lettered":1,"rows":3,"dead_lettered_by_reason":{"undecodable":1}}"#;
        let watermark = watermark.map_or("null".to_owned(), |watermark| watermark.to_string());
        format!(r#"{{"watermark":{watermark},"idle":false,"offset":{offset},"counts":{counts}}}"#).into_bytes()
    }

    fn merge(closed: i64) -> Vec<u8> {
        format!(r#"{{"closed":{closed},"offset":9,"rows":5}}"#).into_bytes()
    }

    fn watermarks(folds: &[(Option<i64>, i64)], closed: &[i64]) -> Watermarks {
        let mut watermarks = Watermarks::default();
        for (partition, &(watermark, offset)) in folds.iter().enumerate() {
            watermarks.take(format!("fold/{partition}").as_bytes(), Some(&fold(watermark, offset))).unwrap();
        }
        for (partition, &closed) in closed.iter().enumerate() {
            watermarks.take(format!("merge/{partition}").as_bytes(), Some(&merge(closed))).unwrap();
        }
        watermarks
    }

    fn ends(ends: &[i64]) -> BTreeMap<i32, i64> {
        (0..).zip(ends.iter().copied()).collect()
    }

    #[test]
    fn the_newest_record_of_a_task_counts_and_counts_are_added_over_partitions() {
        let mut watermarks = watermarks(&[(Some(1), 10), (None, 20)], &[0]);
        watermarks.take(b"fold/0", Some(&fold(Some(7), 11))).unwrap();
        assert_eq!(watermarks.folds[&0].watermark, Some(7));
        let counts = watermarks.counts();
        assert_eq!((counts.read, counts.applied, counts.late, counts.dead_lettered), (8, 4, 2, 2));
        assert_eq!(counts.dead_lettered_by_reason, [("undecodable".to_owned(), 2)].into());
        assert!(counts.add_up());
        assert_eq!(watermarks.rows(), 6 + 5);
        assert_eq!(watermarks.unread(&ends(&[15, 20])), 4);
    }

    #[test]
    fn counts_that_do_not_add_up_are_seen() {
        let good = watermarks(&[(None, 0)], &[]).counts();
        assert!(good.add_up());
        assert!(!Counts { late: 0, ..good.clone() }.add_up());
        assert!(!Counts { dead_lettered_by_reason: BTreeMap::new(), ..good }.add_up());
    }

    #[test]
    fn records_of_another_topic_are_errors() {
        let mut watermarks = Watermarks::default();
        for (key, value) in [("fold", b"{}".as_slice()), ("fold/x", b"{}"), ("other/1", b"{}"), ("fold/1", b"[]")] {
            assert!(watermarks.take(key.as_bytes(), Some(value)).is_err(), "{key}");
        }
    }

    #[test]
    fn all_is_done_when_every_partition_is_read_and_every_merge_has_closed_the_last_window() {
        // The largest watermark is 25,999: the last window that can close ends at 20,000.
        let done = watermarks(&[(Some(25_999), 10), (Some(20_000), 5)], &[20_000, 20_000]);
        assert_eq!(done.missing(&ends(&[10, 5]), 2, 10_000), [""; 0]);
        assert_eq!(done.missing(&ends(&[10, 6]), 2, 10_000), ["partition 1 is committed to 5 of 6"]);
        assert_eq!(
            done.missing(&ends(&[10, 5, 0]), 3, 10_000),
            [
                "the watermark of partition 2 is at nowhere, before 20000",
                "merge 2 has closed windows up to none, not 20000"
            ]
        );
    }

    #[test]
    fn a_partition_that_has_not_followed_the_largest_watermark_is_waited_for() {
        let waiting = watermarks(&[(Some(25_999), 10), (Some(10_000), 5)], &[10_000]);
        assert_eq!(
            waiting.missing(&ends(&[10, 5]), 1, 10_000),
            [
                "the watermark of partition 1 is at 10000, before 20000",
                "merge 0 has closed windows up to 10000, not 20000"
            ]
        );
    }

    #[test]
    fn what_is_read_is_closed_when_the_windows_up_to_the_smallest_watermark_are() {
        let of =
            |folds: &[(Option<i64>, i64)], closed: &[i64]| watermarks(folds, closed).has_closed_what_it_read(2, 10_000);
        let folds = [(Some(25_999), 10), (Some(19_000), 5)];
        assert!(of(&folds, &[10_000, 20_000]));
        assert!(!of(&folds, &[0, 20_000]) && !of(&folds, &[10_000]));
        assert!(!of(&[(Some(25_999), 10), (None, 5)], &[20_000, 20_000]), "one has no watermark yet");
    }

    #[test]
    fn without_accepted_events_reading_all_is_enough() {
        let refused = watermarks(&[(None, 10), (None, 0)], &[]);
        assert_eq!(refused.missing(&ends(&[10, 0]), 1, 10_000), [""; 0]);
        assert_eq!(Watermarks::default().missing(&ends(&[0, 0]), 1, 10_000), [""; 0]);
        assert_eq!(Watermarks::default().missing(&ends(&[0, 1]), 1, 10_000), ["partition 1 is committed to 0 of 1"]);
    }

    #[test]
    fn negative_times_round_down_to_their_window_end() {
        let done = watermarks(&[(Some(-4_000), 1)], &[-10_000]);
        assert_eq!(done.missing(&ends(&[1]), 1, 10_000), [""; 0]);
    }
}
