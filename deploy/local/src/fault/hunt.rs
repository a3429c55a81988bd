//! The hunt for the moment of a kill, decided from what was observed: no IO, no clock.
//!
//! Publishing stands still at first: a victim that is behind shows uncommitted work by itself. One that has committed all
//! that it could read is given a thin flow of lines, so that there is always something between reading and committing
//! (a writer sees rows only when windows close, a gauge is a moment old).

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
#[derive(Debug, Clone, Default)]
pub struct Hunt {
    /// Looks in which every candidate had committed what it had read.
    quiet: u64,
}

impl Hunt {
    /// Quiet looks before lines flow. Commits take part of a second, looks some milliseconds.
    const PATIENCE: u64 = 40;
    /// Quiet looks after which one line more is published each time.
    const SWELLING: u64 = 50;
    /// Lines published at a look, at most.
    const MOST_LINES: u64 = 10;

    /// Decides from one look at the candidates; `None` is one that did not answer.
    pub fn look(&mut self, candidates: &[Option<Gauges>]) -> Next {
        let most = candidates
            .iter()
            .enumerate()
            .filter_map(|(index, gauges)| {
                let gauges = gauges.as_ref()?;
                Some((uncommitted(&gauges.position, &gauges.committed), index))
            })
            .max();
        if let Some((1.., index)) = most {
            return Next::Freeze(index);
        }
        // One that owns nothing yet, or has not answered, is still starting: lines would not help it.
        let reading = |gauges: &Option<Gauges>| gauges.as_ref().is_some_and(|gauges| !gauges.position.is_empty());
        if candidates.iter().any(reading) { self.quiet_look() } else { Next::Watch }
    }

    /// The frozen candidate turned out to have everything committed, and goes on.
    pub fn missed(&mut self) -> Next {
        self.quiet = self.quiet.max(Self::PATIENCE);
        self.quiet_look()
    }

    fn quiet_look(&mut self) -> Next {
        self.quiet += 1;
        match self.quiet.checked_sub(Self::PATIENCE) {
            None | Some(0) => Next::Watch,
            Some(flowing) => Next::Publish((1 + flowing / Self::SWELLING).min(Self::MOST_LINES)),
        }
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
        let mut hunt = Hunt::default();
        let candidates = [gauges(&[(0, 10)], &[(0, 9)]), None, gauges(&[(1, 10)], &[(1, 2)])];
        assert_eq!(hunt.look(&candidates), Next::Freeze(2));
    }

    #[test]
    fn candidates_that_are_still_starting_are_waited_for_without_more_lines() {
        let mut hunt = Hunt::default();
        for _ in 0..10 * Hunt::PATIENCE {
            assert_eq!(hunt.look(&[None, gauges(&[], &[])]), Next::Watch);
        }
    }

    #[test]
    fn a_candidate_that_has_committed_everything_gets_a_flow_of_lines_that_swells_up_to_a_limit() {
        let mut hunt = Hunt::default();
        let settled = [gauges(&[(0, 10)], &[(0, 10)])];
        for _ in 0..Hunt::PATIENCE {
            assert_eq!(hunt.look(&settled), Next::Watch);
        }
        assert_eq!(hunt.look(&settled), Next::Publish(1));
        let looks: Vec<Next> = (0..1_000).map(|_| hunt.look(&settled)).collect();
        assert_eq!((looks[100], looks[999]), (Next::Publish(3), Next::Publish(Hunt::MOST_LINES)));
    }

    #[test]
    fn after_a_miss_lines_flow_at_once() {
        assert_eq!(Hunt::default().missed(), Next::Publish(1));
    }
}
