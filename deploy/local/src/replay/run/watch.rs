//! How a worker comes along with one of its sources.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rdkafka::Message;

use super::super::watermarks::Watermarks;
use crate::broker::Follower;
use crate::recording::Content;
use crate::terminal::{thousands, time_of_day};

/// When it was how far, counted from the run's beginning.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Records that it had committed at first sight, perhaps in an earlier life.
    before: Option<u64>,
    /// When it was first seen to have committed more, and how many then.
    first: Option<(Duration, u64)>,
    /// When it had committed the last record.
    pub(super) committed: Option<Duration>,
    /// When it had, besides, closed all windows for which no partition has to be idle.
    worked_off: Option<Duration>,
}

impl Course {
    /// Takes one look in.
    fn see(&mut self, now: Duration, committed: u64, all_committed: bool, closed: bool) {
        if committed > *self.before.get_or_insert(committed) {
            self.first.get_or_insert((now, committed));
        }
        if all_committed {
            self.committed.get_or_insert(now);
            if closed {
                self.worked_off.get_or_insert(now);
            }
        }
    }

    /// Of so many records those a second that came behind the first that it was seen to have committed; where it was first
    /// seen when all was done, all of them from the beginning on.
    pub(super) fn records_per_second(&self, records: u64) -> f64 {
        let Some(end) = self.worked_off else { return 0.0 };
        match self.first {
            Some((first, committed)) if end > first && records > committed => {
                (records - committed) as f64 / (end - first).as_secs_f64()
            }
            _ => records as f64 / end.as_secs_f64(),
        }
    }
}

/// A source that a worker works off.
pub(super) struct Watch {
    pub(super) worker: &'static str,
    pub(super) source: Content,
    /// What the progress calls it.
    pub(super) step: String,
    /// Ends of the source's partitions.
    pub(super) ends: BTreeMap<i32, i64>,
    /// Partitions of the repartition topic.
    pub(super) merges: i32,
    pub(super) slide: i64,
    pub(super) follower: Follower,
    pub(super) watermarks: Watermarks,
}

/// What one look has found.
pub(super) struct Look {
    /// What is not done yet; empty when all is.
    pub(super) missing: Vec<String>,
    pub(super) committed: u64,
    pub(super) total: u64,
    /// For the progress.
    pub(super) message: String,
}

impl Watch {
    /// Looks how far the worker is by now, `now` after the run's beginning.
    pub(super) fn look(&mut self, course: &mut Course, now: impl Fn() -> Duration) -> Result<Look> {
        let watermarks = &mut self.watermarks;
        self.follower.read_more(Duration::from_millis(50), |message| {
            watermarks.take(message.key().unwrap_or_default(), message.payload())
        })?;
        let total: u64 = self.ends.values().map(|end| end.unsigned_abs()).sum();
        let unread = watermarks.unread(&self.ends);
        let committed = total - unread;
        let missing = watermarks.missing(&self.ends, self.merges, self.slide);
        let closed = missing.is_empty() || watermarks.has_closed_what_it_read(self.merges, self.slide);
        course.see(now(), committed, unread == 0, closed);
        let read = thousands(committed);
        let message = if missing.is_empty() {
            format!("{read} records, {} rows", thousands(watermarks.rows()))
        } else {
            let closed = watermarks.merges.values().filter_map(|merge| merge.closed).min();
            let closed =
                closed.map_or_else(String::new, |closed| format!(", windows closed to {}", time_of_day(closed)));
            format!("{read} of {} records{closed}", thousands(total))
        };
        Ok(Look { missing, committed, total, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_the_records_behind_those_first_seen_up_to_their_last_window() {
        let at = Duration::from_secs;
        let mut course = Course::default();
        assert_eq!(course.records_per_second(1_000), 0.0);
        course.see(at(1), 0, false, true);
        course.see(at(2), 100, false, false);
        course.see(at(5), 1_000, true, false);
        assert_eq!((course.committed, course.records_per_second(1_000)), (Some(at(5)), 0.0));
        course.see(at(11), 1_000, true, true);
        course.see(at(12), 1_000, true, true);
        assert_eq!((course.committed, course.records_per_second(1_000)), (Some(at(5)), 100.0));
    }

    #[test]
    fn what_was_done_at_first_sight_counts_from_the_beginning() {
        let mut course = Course::default();
        course.see(Duration::from_secs(4), 1_000, true, true);
        assert_eq!(course.records_per_second(1_000), 250.0);
    }
}
