//! How much time and how many questions unknown schemas may cost.

use std::time::{Duration, Instant};

/// Time that a process waits for schemas which the registry does not know yet.
///
/// A producer that is faster than its schema is waited for in full. Ids that never come to be known use the time up: each
/// further one is waited for at most half of what is left, so that a flood of them does not stop a partition for longer than
/// twice the wait in all, and later for a tenth of the time. Ids that are waited for together cost their time once.
#[derive(Debug)]
pub(super) struct WaitBudget {
    wait: Duration,
    left: Duration,
    /// Up to when `left` is right.
    at: Instant,
    /// Up to when something is waited for.
    waiting_until: Instant,
}

/// Waiting for less than this part of the configured wait is not worth a pause.
const SMALLEST_PART: u32 = 32;
/// The part of the time without waiting that comes back.
const REFILL_PART: u32 = 10;

/// A wait that was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    from: Instant,
    pub(super) until: Instant,
}

impl WaitBudget {
    pub(super) fn new(wait: Duration, now: Instant) -> Self {
        Self { wait, left: wait * 2, at: now, waiting_until: now }
    }

    /// How long a schema that turns out unknown `now` is waited for; ends at `now` where no time is left.
    pub(super) fn grant(&mut self, now: Instant) -> Grant {
        self.settle(now);
        let wait = self.wait.min(self.left / 2);
        let wait = if wait < self.wait / SMALLEST_PART { Duration::ZERO } else { wait };
        let until = now + wait;
        self.waiting_until = self.waiting_until.max(until);
        Grant { from: now, until }
    }

    /// What was waited for has come: the time was not lost.
    pub(super) fn give_back(&mut self, grant: Grant, now: Instant) {
        self.settle(now);
        let used = now.min(grant.until).saturating_duration_since(grant.from);
        self.left = (self.left + used).min(self.wait * 2);
        if self.waiting_until == grant.until {
            self.waiting_until = now;
        }
    }

    fn settle(&mut self, now: Instant) {
        let now = now.max(self.at);
        let waited = now.min(self.waiting_until).saturating_duration_since(self.at);
        let idle = (now - self.at) - waited;
        self.left = self.left.saturating_sub(waited) + idle / REFILL_PART;
        self.left = self.left.min(self.wait * 2);
        self.at = now;
    }
}

/// Questions about schemas that the registry does not know.
#[derive(Debug)]
pub(super) struct QuestionBudget {
    left: f64,
    at: Instant,
}

/// Unknown schemas that are asked about in a row, and how many a second over time.
const MOST_QUESTIONS: f64 = 16.0;
const QUESTIONS_A_SECOND: f64 = 0.2;

impl QuestionBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: MOST_QUESTIONS, at: now }
    }

    pub(super) fn has_any(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * QUESTIONS_A_SECOND).min(MOST_QUESTIONS);
        self.at = self.at.max(now);
        self.left >= 1.0
    }

    /// A schema turned out to be unknown.
    pub(super) fn take(&mut self) {
        self.left = (self.left - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn wait_of(grant: Grant) -> Duration {
        grant.until - grant.from
    }

    #[test]
    fn one_after_the_other_in_vain_waits_twice_the_wait_in_all_and_then_a_tenth_of_the_time() {
        let begin = Instant::now();
        let mut budget = WaitBudget::new(WAIT, begin);
        let mut now = begin;
        let mut waits = Vec::new();
        // What is not waited for still takes a moment.
        while now < begin + Duration::from_secs(3600) {
            let grant = budget.grant(now);
            waits.push(wait_of(grant));
            now = grant.until + Duration::from_millis(500);
        }
        assert_eq!(waits[0], WAIT);
        assert!(waits[1] > WAIT / 3 && waits[1] <= WAIT / 2 + Duration::from_secs(1), "{:?}", waits[1]);
        let all: Duration = waits.iter().sum();
        assert!(all < WAIT * 2 + Duration::from_secs(3600 / 10), "{all:?} of an hour");
        let first_minutes: Duration = waits.iter().take(6).sum();
        assert!(first_minutes <= WAIT * 2 + Duration::from_secs(1), "{first_minutes:?}");
    }

    #[test]
    fn those_that_are_met_together_are_waited_for_together() {
        let begin = Instant::now();
        let mut budget = WaitBudget::new(WAIT, begin);
        for _ in 0..100 {
            assert_eq!(wait_of(budget.grant(begin)), WAIT);
        }
        assert_eq!(wait_of(budget.grant(begin + WAIT)), WAIT / 2);
    }

    #[test]
    fn what_comes_in_the_end_costs_nothing() {
        let mut now = Instant::now();
        let mut budget = WaitBudget::new(WAIT, now);
        for _ in 0..100 {
            let grant = budget.grant(now);
            assert_eq!(wait_of(grant), WAIT);
            now += Duration::from_secs(20);
            budget.give_back(grant, now);
        }
    }

    #[test]
    fn without_a_wait_nothing_is_waited_for() {
        let now = Instant::now();
        assert_eq!(wait_of(WaitBudget::new(Duration::ZERO, now).grant(now)), Duration::ZERO);
    }

    #[test]
    fn questions_come_back_with_time_and_not_beyond_the_most() {
        let now = Instant::now();
        let mut budget = QuestionBudget::new(now);
        for _ in 0..16 {
            assert!(budget.has_any(now));
            budget.take();
        }
        assert!(!budget.has_any(now + Duration::from_secs(4)));
        assert!(budget.has_any(now + Duration::from_secs(6)));
        assert!(budget.has_any(now + Duration::from_secs(3600)));
        assert!(budget.left <= MOST_QUESTIONS);
    }
}
