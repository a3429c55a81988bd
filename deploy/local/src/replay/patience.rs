//! Waiting for something that may take as long as it likes, as long as it moves.

use std::time::{Duration, Instant};

/// Ends when what is watched has stood still for too long.
#[derive(Debug)]
pub(super) struct Patience<T> {
    limit: Duration,
    state: Option<T>,
    since: Instant,
}

impl<T: PartialEq> Patience<T> {
    /// Patience with anything that moves within `limit`.
    #[must_use]
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, state: None, since: Instant::now() }
    }

    /// Whether to wait on: `state` is another one than last time, or has not stood still for too long.
    #[must_use]
    pub(super) fn lasts(&mut self, state: T) -> bool {
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state);
            self.since = Instant::now();
        }
        self.since.elapsed() < self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_only_with_what_stands_still() {
        let mut none = Patience::new(Duration::ZERO);
        assert!(!none.lasts(1));
        let mut some = Patience::new(Duration::from_secs(3_600));
        assert!(some.lasts(1) && some.lasts(1) && some.lasts(2));
    }
}
