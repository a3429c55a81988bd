//! The entropy of the gaps between the events of a sliding window, kept up to date event by event.

use std::collections::VecDeque;

use crate::{BinCounts, Score, Scorer};

/// Times of a window's events, and the counts of the gaps between neighbours.
///
/// [`insert`](Self::insert) takes times in any order and costs O(1) where they are nearly sorted; [`evict`](Self::evict)
/// costs O(1) for each time that leaves.
#[derive(Debug, Clone, Default)]
pub struct GapEntropy {
    times: VecDeque<i64>,
    counts: BinCounts,
}

impl GapEntropy {
    /// An empty window.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Takes in an event at `time` (epoch ms); equal times count each. All calls must use one scorer.
    pub fn insert(&mut self, time: i64, scorer: &Scorer) {
        let mut at = self.times.len();
        // events come almost in order, so the place is near the end
        while at > 0 && self.times[at - 1] > time {
            at -= 1;
        }
        let before = at.checked_sub(1).map(|index| self.times[index]);
        let after = self.times.get(at).copied();
        if let (Some(before), Some(after)) = (before, after) {
            self.remove_gap(before, after, scorer);
        }
        if let Some(before) = before {
            self.add_gap(before, time, scorer);
        }
        if let Some(after) = after {
            self.add_gap(time, after, scorer);
        }
        self.times.insert(at, time);
    }

    /// Forgets all events at or before `time` (epoch ms).
    pub fn evict(&mut self, time: i64, scorer: &Scorer) {
        while let Some(first) = self.times.front().copied()
            && first <= time
        {
            self.times.pop_front();
            if let Some(second) = self.times.front().copied() {
                self.remove_gap(first, second, scorer);
            }
        }
    }

    /// The entropy of the events held.
    #[must_use]
    pub fn score(&self, scorer: &Scorer) -> Score {
        scorer.score(&self.counts)
    }

    fn add_gap(&mut self, from: i64, to: i64, scorer: &Scorer) {
        if let Some(bin) = scorer.bins().index(to - from) {
            self.counts.add(bin);
        }
    }

    fn remove_gap(&mut self, from: i64, to: i64, scorer: &Scorer) {
        if let Some(bin) = scorer.bins().index(to - from) {
            self.counts.remove(bin);
        }
    }
}
