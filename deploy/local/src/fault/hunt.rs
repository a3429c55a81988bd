//! The hunt for the moment of a kill, decided from what was observed: no IO, no clock.
//!
//! Publishing stands still meanwhile. A victim that is behind will show uncommitted work by itself; one that has
//! committed all it could read is given a few more lines, more each time (a writer sees rows only when windows close).

use std::collections::BTreeMap;

use super::gauges::Gauges;
use crate::broker::TopicPartition;

/// Records that were read and lie beyond what is committed.
#[must_use]
pub fn uncommitted(position: &BTreeMap<TopicPartition, i64>, committed: &BTreeMap<TopicPartition, i64>) -> u64 {
    let beyond = |(partition, &position): (&TopicPartition, &i64)| {
        let committed = committed.get(partition).copied().unwrap_or(0).max(0);
        u64::try_from(position - committed).unwrap_or(0)
    };
    position.iter().map(beyond).sum()
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Look again.
    Watch,
    /// Publish this many more lines, then look again.
    Publish(u64),
    /// Freeze the candidate of this index and ask the broker what is committed.
    Freeze(usize),
}

/// The course of one hunt.
#[derive(Debug, Clone)]
pub struct Hunt {
    /// Looks in a row in which every candidate had committed what it had read.
    quiet: u32,
    lines: u64,
    most_lines: u64,
}

impl Hunt {
    /// Quiet looks before more lines are published. Commits take part of a second, looks some milliseconds.
    const PATIENCE: u32 = 40;
    const FIRST_LINES: u64 = 20;

    /// A hunt that publishes at most `most_lines` at once.
    #[must_use]
    pub fn new(most_lines: u64) -> Self {
        Self { quiet: 0, lines: Self::FIRST_LINES, most_lines }
    }

    /// Decides from one look at the candidates; `None` is one that did not answer.
    pub fn look(&mut self, candidates: &[Option<Gauges>]) -> Next {
        let most = candidates
            .iter()
            .enumerate()
            .filter_map(|(index, gauges)| {
                Some((uncommitted(&gauges.as_ref()?.position, &gauges.as_ref()?.committed), index))
            })
            .max();
        if let Some((1.., index)) = most {
            self.quiet = 0;
            return Next::Freeze(index);
        }
        // One that owns nothing yet, or has not answered, is still starting: more lines would not help it.
        let reading = |gauges: &Option<Gauges>| gauges.as_ref().is_some_and(|gauges| !gauges.position.is_empty());
        if !candidates.iter().any(reading) {
            self.quiet = 0;
            return Next::Watch;
        }
        self.quiet += 1;
        if self.quiet < Self::PATIENCE { Next::Watch } else { self.publish() }
    }

    /// The frozen candidate turned out to have everything committed: it goes on, with more to read.
    pub fn missed(&mut self) -> Next {
        self.publish()
    }

    fn publish(&mut self) -> Next {
        self.quiet = 0;
        let lines = self.lines;
        self.lines = (self.lines * 2).min(self.most_lines.max(1));
        Next::Publish(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        ("clicks".to_owned(), number)
    }

    fn gauges(position: &[(i32, i64)], committed: &[(i32, i64)]) -> Option<Gauges> {
        let map =
            |offsets: &[(i32, i64)]| offsets.iter().map(|&(number, offset)| (partition(number), offset)).collect();
        Some(Gauges { position: map(position), committed: map(committed), records_read: None })
    }

    #[test]
    fn uncommitted_records_are_counted_by_partition_and_a_partition_without_a_commit_counts_whole() {
        let of = |candidate: Option<Gauges>| candidate.map(|g| uncommitted(&g.position, &g.committed)).unwrap();
        assert_eq!(of(gauges(&[(0, 10), (1, 5), (2, 7)], &[(0, 8), (1, 9)])), 2 + 7);
        assert_eq!(of(gauges(&[(0, 10)], &[(0, -1001)])), 10);
        assert_eq!(of(gauges(&[], &[(0, 8)])), 0);
    }

    #[test]
    fn the_candidate_with_most_uncommitted_records_is_frozen() {
        let mut hunt = Hunt::new(1_000);
        let candidates = [gauges(&[(0, 10)], &[(0, 9)]), None, gauges(&[(1, 10)], &[(1, 2)])];
        assert_eq!(hunt.look(&candidates), Next::Freeze(2));
    }

    #[test]
    fn candidates_that_are_still_starting_are_waited_for_without_more_lines() {
        let mut hunt = Hunt::new(1_000);
        for _ in 0..10 * Hunt::PATIENCE {
            assert_eq!(hunt.look(&[None, gauges(&[], &[])]), Next::Watch);
        }
    }

    #[test]
    fn a_candidate_that_has_committed_everything_gets_more_and_more_lines_up_to_a_limit() {
        let mut hunt = Hunt::new(60);
        let settled = [gauges(&[(0, 10)], &[(0, 10)])];
        let mut published = Vec::new();
        for _ in 0..4 * Hunt::PATIENCE {
            if let Next::Publish(lines) = hunt.look(&settled) {
                published.push(lines);
            }
        }
        assert_eq!(published, [20, 40, 60, 60]);
        assert_eq!(hunt.missed(), Next::Publish(60));
    }
}
