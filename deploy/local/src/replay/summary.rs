//! `summary.json`: what became of every record, and what it cost.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fleet::Usage;
use super::watermarks::Counts;
use crate::fault::Kill;

/// The summary of a replay.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// By worker.
    pub workers: BTreeMap<String, WorkerSummary>,
    /// What each kill hit.
    pub kills: Vec<Kill>,
    /// Lines published.
    pub published: u64,
    /// Those of them that could not be encoded and were published as they were.
    pub published_raw: u64,
    /// What was not as it must be; empty after a good replay.
    pub problems: Vec<String>,
}

/// One worker, all instances and lives together.
#[derive(Debug, Default, Serialize)]
pub struct WorkerSummary {
    /// What became of its input.
    #[serde(flatten)]
    pub counts: TopicSummary,
    /// Rows: emitted by a metric worker, in the tables for the writer; transitions told by alert-router.
    pub rows: u64,
    /// From the first line published until its last input record was committed (s); 0 of alert-router.
    pub wall_seconds: f64,
    /// Processor time, user and system (s).
    pub cpu_seconds: f64,
    /// The most memory that one of its processes held.
    pub peak_rss_bytes: u64,
    /// Starts after a kill.
    pub restarts: u64,
    /// The counts of each input topic.
    pub topics: BTreeMap<String, TopicSummary>,
}

/// What became of the records of one topic, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicSummary {
    /// Records read.
    pub read: u64,
    /// Those that changed results.
    pub applied: u64,
    /// Those that came too late.
    pub late: u64,
    /// Those that were bad input.
    pub dead_lettered: u64,
    /// The late ones by reason.
    pub late_by_reason: BTreeMap<String, u64>,
    /// The bad ones by reason.
    pub dead_lettered_by_reason: BTreeMap<String, u64>,
}

impl From<&Counts> for TopicSummary {
    fn from(counts: &Counts) -> Self {
        let late_by_reason = if counts.late > 0 { [("late".to_owned(), counts.late)].into() } else { BTreeMap::new() };
        Self {
            read: counts.read,
            applied: counts.applied,
            late: counts.late,
            dead_lettered: counts.dead_lettered,
            late_by_reason,
            dead_lettered_by_reason: counts.dead_lettered_by_reason.clone(),
        }
    }
}

impl TopicSummary {
    /// Adds another topic's.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.applied += other.applied;
        self.late += other.late;
        self.dead_lettered += other.dead_lettered;
        for (mine, theirs) in [
            (&mut self.late_by_reason, &other.late_by_reason),
            (&mut self.dead_lettered_by_reason, &other.dead_lettered_by_reason),
        ] {
            theirs.iter().for_each(|(reason, count)| *mine.entry(reason.clone()).or_default() += count);
        }
    }

    /// Says so where the parts are not the whole.
    #[must_use]
    pub fn problem(&self, of: &str) -> Option<String> {
        let by_reason = self.dead_lettered_by_reason.values().sum::<u64>();
        if self.read != self.applied + self.late + self.dead_lettered {
            let Self { read, applied, late, dead_lettered, .. } = self;
            Some(format!(
                "{of} has read {read} records, which is not {applied} applied + {late} late + {dead_lettered} dead-lettered"
            ))
        } else if by_reason != self.dead_lettered {
            Some(format!("{of} has dead-lettered {} records, but {by_reason} by reason", self.dead_lettered))
        } else {
            None
        }
    }
}

impl WorkerSummary {
    /// Of its topics and what its processes used.
    #[must_use]
    pub fn new(topics: BTreeMap<String, TopicSummary>, rows: u64, wall_seconds: f64, usage: Usage) -> Self {
        let mut counts = TopicSummary::default();
        topics.values().for_each(|topic| counts.add(topic));
        Self {
            counts,
            rows,
            wall_seconds,
            cpu_seconds: usage.cpu.as_secs_f64(),
            peak_rss_bytes: usage.peak_rss_bytes,
            restarts: usage.restarts,
            topics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(read: u64, applied: u64, late: u64, undecodable: u64) -> TopicSummary {
        let reasons = [("undecodable".to_owned(), undecodable)].into();
        let counts = Counts {
            read,
            applied,
            late,
            dead_lettered: undecodable,
            dead_lettered_by_reason: reasons,
            ..Counts::default()
        };
        TopicSummary::from(&counts)
    }

    #[test]
    fn the_json_has_the_names_that_others_read() {
        let usage = Usage { cpu: std::time::Duration::from_millis(1_500), peak_rss_bytes: 7, restarts: 1 };
        let topics = [("a".to_owned(), topic(5, 3, 1, 1)), ("b".to_owned(), topic(2, 2, 0, 0))].into();
        let mut summary = Summary::default();
        summary.workers.insert("session-entropy".to_owned(), WorkerSummary::new(topics, 9, 2.0, usage));
        summary.kills.push(Kill { process: "session-entropy-1".to_owned(), records_read: 5, uncommitted: 2 });
        let json = serde_json::to_value(&summary).unwrap();
        let worker = &json["workers"]["session-entropy"];
        for (name, value) in [
            ("read", 7.0),
            ("applied", 5.0),
            ("late", 1.0),
            ("dead_lettered", 1.0),
            ("rows", 9.0),
            ("wall_seconds", 2.0),
            ("cpu_seconds", 1.5),
            ("peak_rss_bytes", 7.0),
            ("restarts", 1.0),
        ] {
            assert_eq!(worker[name].as_f64(), Some(value), "{name}");
        }
        assert_eq!(worker["late_by_reason"]["late"], 1);
        assert_eq!(worker["dead_lettered_by_reason"]["undecodable"], 1);
        assert_eq!(worker["topics"]["b"]["applied"], 2);
        assert_eq!(json["kills"][0]["uncommitted"], 2);
    }

    #[test]
    fn counts_that_do_not_add_up_are_a_problem() {
        assert_eq!(topic(5, 3, 1, 1).problem("it"), None);
        assert!(topic(6, 3, 1, 1).problem("it").unwrap().contains("6 records"));
        let mut unreasoned = topic(5, 3, 1, 1);
        unreasoned.dead_lettered_by_reason.clear();
        assert!(unreasoned.problem("it").unwrap().contains("0 by reason"));
    }
}
