//! Whose turn it is: restores and end checks take turns, and what fails does not hold up what does not. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The pause after a first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Two lines of work, each with clients of its own: what has just failed may take its whole time to fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For partitions that have not failed since their last success.
    Prompt,
    /// For the others.
    Patient,
}

/// What is done first when both are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Soon done, and windows wait for its answer.
    EndCheck,
    Restore,
}

/// Something to be done for an assignment of a partition.
#[derive(Debug)]
pub(crate) struct Entry<J> {
    pub(crate) assignment: u64,
    pub(crate) kind: Kind,
    pub(crate) job: J,
    due: Instant,
    /// The number of its last turn: who has waited longest is next.
    last_turn: u64,
}

/// How a turn has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on as soon as it is its turn again.
    GoesOn,
    /// It is looked at again after this.
    Waits(Duration),
    /// It failed; it is tried again after a pause, in the patient lane.
    Failed,
}

/// Whose turn it is, in which lane and when.
#[derive(Debug)]
pub(crate) struct Schedule<J> {
    entries: Vec<Entry<J>>,
    turns: u64,
    /// By assignment, how often in a row it has failed.
    failures: BTreeMap<u64, u32>,
    /// Assignments that are not over.
    live: BTreeSet<u64>,
}

impl<J> Default for Schedule<J> {
    fn default() -> Self {
        Self { entries: Vec::new(), turns: 0, failures: BTreeMap::new(), live: BTreeSet::new() }
    }
}

impl<J> Schedule<J> {
    pub(crate) fn add(&mut self, assignment: u64, kind: Kind, job: J, now: Instant) {
        self.live.insert(assignment);
        self.entries.push(Entry { assignment, kind, job, due: now, last_turn: self.turns });
    }

    /// What is to be done next in a lane, taken out.
    pub(crate) fn next(&mut self, lane: Lane, now: Instant) -> Option<Entry<J>> {
        let due = self.entries.iter().enumerate().filter(|(_, entry)| self.lane(entry) == lane && entry.due <= now);
        let (index, _) = due.min_by_key(|(_, entry)| (entry.kind, entry.last_turn))?;
        Some(self.entries.remove(index))
    }

    /// When something is to be done next in a lane, if nothing is added.
    pub(crate) fn next_due(&self, lane: Lane) -> Option<Instant> {
        self.entries.iter().filter(|entry| self.lane(entry) == lane).map(|entry| entry.due).min()
    }

    /// Whether something else is to be done in that lane now.
    pub(crate) fn is_busy(&self, lane: Lane, now: Instant) -> bool {
        self.next_due(lane).is_some_and(|due| due <= now)
    }

    /// Takes back what was taken out and is not done. What is over by now is dropped.
    pub(crate) fn take_back(&mut self, assignment: u64, kind: Kind, job: J, turn: Turn, now: Instant) {
        let pause = match turn {
            Turn::GoesOn => Duration::ZERO,
            Turn::Waits(pause) => pause,
            Turn::Failed => self.failed(assignment),
        };
        self.turns += 1;
        if self.is_live(assignment) {
            self.entries.push(Entry { assignment, kind, job, due: now + pause, last_turn: self.turns });
        }
    }

    /// Something for this assignment failed: how long it is to be left alone.
    pub(crate) fn failed(&mut self, assignment: u64) -> Duration {
        if !self.is_live(assignment) {
            return Duration::ZERO;
        }
        let failures = self.failures.entry(assignment).or_default();
        *failures = failures.saturating_add(1);
        FIRST_PAUSE.saturating_mul(1 << (*failures - 1).min(8)).min(LONGEST_PAUSE)
    }

    /// Something for this assignment succeeded.
    pub(crate) fn succeeded(&mut self, assignment: u64) {
        self.failures.remove(&assignment);
    }

    /// The assignment is over: nothing more is done for it.
    pub(crate) fn forget(&mut self, assignment: u64) {
        self.live.remove(&assignment);
        self.failures.remove(&assignment);
        self.entries.retain(|entry| entry.assignment != assignment);
    }

    pub(crate) fn is_live(&self, assignment: u64) -> bool {
        self.live.contains(&assignment)
    }

    fn lane(&self, entry: &Entry<J>) -> Lane {
        if self.failures.contains_key(&entry.assignment) { Lane::Patient } else { Lane::Prompt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = Schedule<&'static str>;

    fn restore(schedule: &mut Names, assignment: u64, name: &'static str, now: Instant) {
        schedule.add(assignment, Kind::Restore, name, now);
    }

    /// Has turns of 200 ms in a lane, which end as `turn` says; who had them.
    fn run(
        schedule: &mut Names,
        lane: Lane,
        (start, turns): (Instant, u32),
        mut turn: impl FnMut(&str) -> Turn,
    ) -> Vec<&'static str> {
        let mut had = Vec::new();
        for number in 0..turns {
            let now = start + number * Duration::from_millis(200);
            if let Some(entry) = schedule.next(lane, now) {
                had.push(entry.job);
                let ended = turn(entry.job);
                schedule.take_back(entry.assignment, entry.kind, entry.job, ended, now + Duration::from_millis(200));
            }
        }
        had
    }

    #[test]
    fn restores_take_turns_and_an_end_check_comes_before_them() {
        let (mut schedule, start) = (Names::default(), Instant::now());
        for (assignment, name) in [(1, "huge"), (2, "b"), (3, "c")] {
            restore(&mut schedule, assignment, name, start);
        }
        assert_eq!(run(&mut schedule, Lane::Prompt, (start, 4), |_| Turn::GoesOn), ["huge", "b", "c", "huge"]);
        let later = start + Duration::from_secs(1);
        schedule.add(9, Kind::EndCheck, "check", later);
        assert!(schedule.is_busy(Lane::Prompt, later));
        assert_eq!(schedule.next(Lane::Prompt, later).map(|entry| entry.job), Some("check"));
        assert_eq!(schedule.next(Lane::Prompt, later).map(|entry| entry.job), Some("b"));
    }

    #[test]
    fn what_fails_leaves_the_prompt_lane_until_it_succeeds_and_is_tried_less_and_less_often() {
        let (mut schedule, start) = (Names::default(), Instant::now());
        for (assignment, name) in [(1, "bad"), (2, "good")] {
            restore(&mut schedule, assignment, name, start);
        }
        let ends = |name: &str| if name == "bad" { Turn::Failed } else { Turn::GoesOn };
        assert_eq!(run(&mut schedule, Lane::Prompt, (start, 4), ends), ["bad", "good", "good", "good"]);
        let tries = run(&mut schedule, Lane::Patient, (start + Duration::from_secs(1), 300), ends);
        assert!((10..=20).contains(&tries.len()), "{} tries in a minute", tries.len());
        assert!(tries.iter().all(|name| *name == "bad"));
        schedule.succeeded(1);
        let later = start + Duration::from_secs(100);
        assert!(run(&mut schedule, Lane::Prompt, (later, 2), ends).contains(&"bad"));
    }

    #[test]
    fn what_waits_takes_no_turn_before_its_time() {
        let (mut schedule, start) = (Names::default(), Instant::now());
        for (assignment, name) in [(1, "waits"), (2, "runs")] {
            restore(&mut schedule, assignment, name, start);
        }
        let ends = |name: &str| if name == "waits" { Turn::Waits(Duration::from_secs(1)) } else { Turn::GoesOn };
        let had = run(&mut schedule, Lane::Prompt, (start, 7), ends);
        assert_eq!(had, ["waits", "runs", "runs", "runs", "runs", "runs", "waits"]);
        assert_eq!(schedule.next_due(Lane::Patient), None);
    }

    #[test]
    fn what_is_over_is_done_no_more_wherever_it_is() {
        let (mut schedule, start) = (Names::default(), Instant::now());
        restore(&mut schedule, 1, "gone", start);
        restore(&mut schedule, 2, "under way", start);
        schedule.forget(1);
        let entry = schedule.next(Lane::Prompt, start).unwrap();
        assert_eq!(entry.job, "under way");
        schedule.forget(2);
        assert!(!schedule.is_live(2));
        schedule.take_back(2, entry.kind, entry.job, Turn::Failed, start);
        assert!(schedule.next_due(Lane::Prompt).is_none() && schedule.next_due(Lane::Patient).is_none());
    }
}
