//! One session.

use measures::{BinCounts, Score, Scorer};
use storage::Text;

use super::gaps::Gaps;

/// What is known of a session: its events in the window of the last closed end, and how many events wait in panes.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) id: Text,
    /// Times of its oldest and newest event in the window, epoch ms; meaningless where `events` is 0.
    pub(crate) oldest: i64,
    newest: i64,
    /// Between its events in the window, in order.
    pub(crate) gaps: Gaps,
    /// The gaps by bin.
    counts: BinCounts,
    /// As its group's summary has it.
    pub(crate) score: Score,
    /// Events in the window.
    pub(crate) events: u32,
    /// Events in panes that are not closed.
    pub(crate) waiting: u32,
    /// The group of its newest event in the window; meaningless where `events` is 0.
    pub(crate) group: u32,
    /// Whether it is in the list of those that leave with its oldest event's pane.
    pub(crate) listed: bool,
    /// Whether its share is taken out of its group's summary while a window is being closed.
    pub(crate) touched: bool,
}

impl Session {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: Text::new(id), ..Self::default() }
    }

    /// Whether it has events in the window or waiting.
    pub(crate) fn is_live(&self) -> bool {
        self.events > 0 || self.waiting > 0
    }

    /// Takes in an event at or after its newest one; their distance is shorter than a window.
    pub(crate) fn append(&mut self, time: i64, scorer: &Scorer) {
        if self.events == 0 {
            self.oldest = time;
        } else {
            let gap = time - self.newest;
            self.gaps.push(u32::try_from(gap).expect("windows are shorter than 2^32 ms, and events come in order"));
            if let Some(bin) = scorer.bins().index(gap) {
                self.counts.add(bin);
            }
        }
        self.newest = time;
        self.events += 1;
    }

    /// Forgets the events at or before `time`.
    pub(crate) fn evict(&mut self, time: i64, scorer: &Scorer) {
        while self.events > 0 && self.oldest <= time {
            self.events -= 1;
            if let Some(gap) = self.gaps.pop() {
                let gap = i64::from(gap);
                self.oldest += gap;
                if let Some(bin) = scorer.bins().index(gap) {
                    self.counts.remove(bin);
                }
            }
        }
    }

    /// Scores the events in the window.
    pub(crate) fn rescore(&mut self, scorer: &Scorer) {
        self.score = scorer.score(&self.counts);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.id.heap_bytes() + self.gaps.heap_bytes() + self.counts.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_with_ten_events_takes_152_bytes() {
        assert!(size_of::<Session>() <= 152, "{}", size_of::<Session>());
    }
}
