//! How often a warning may be repeated: once a minute, with the number of cases since the one before.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// What has been warned of.
#[derive(Debug, Default)]
pub(crate) struct WarningLimit {
    /// Cases up to the last warning.
    warned: u64,
    last: Option<Instant>,
}

impl WarningLimit {
    /// The first that many cases need no warning.
    pub(crate) fn after(cases: u64) -> Self {
        Self { warned: cases, last: None }
    }

    /// How many cases to warn of, where there were `cases` in all.
    pub(crate) fn due(&mut self, cases: u64, now: Instant) -> Option<u64> {
        let waits = self.last.is_some_and(|last| now.duration_since(last) < EVERY);
        if waits || cases <= self.warned {
            return None;
        }
        let since = cases - self.warned;
        (self.warned, self.last) = (cases, Some(now));
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_a_minute_says_how_many_cases_there_were_since_the_last() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut limit = WarningLimit::after(5);
        assert_eq!(limit.due(5, at(0)), None, "those were known");
        assert_eq!(limit.due(8, at(1)), Some(3));
        assert_eq!(limit.due(1_008, at(60)), None);
        assert_eq!(limit.due(1_010, at(61)), Some(1_002));
        assert_eq!(limit.due(1_010, at(500)), None);
    }
}
