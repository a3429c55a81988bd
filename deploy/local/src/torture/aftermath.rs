//! Who may show consequences of a fault, and until when.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the consequences of a fault may show in whoever it hit once it is healed: a group misses a member, partitions
/// are read back, on a machine that is busy.
pub(crate) const AFTERMATH: Duration = Duration::from_secs(30);

/// By name of a worker, a process or a component.
#[derive(Debug, Default)]
pub(crate) struct Aftermath(Mutex<BTreeMap<String, Instant>>);

impl Aftermath {
    /// A fault hits this one until `healed`.
    pub(crate) fn hit(&self, whom: &str, healed: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = all.entry(whom.to_owned()).or_insert(healed);
        *until = (*until).max(healed + AFTERMATH);
    }

    /// Whether this one may show consequences now.
    pub(crate) fn covers(&self, whom: &str, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(whom).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequences_may_show_until_some_time_after_the_last_fault_is_healed() {
        let (aftermath, now) = (Aftermath::default(), Instant::now());
        aftermath.hit("a", now + Duration::from_secs(9));
        aftermath.hit("a", now + Duration::from_secs(2));
        assert!(aftermath.covers("a", now + Duration::from_secs(9)));
        assert!(aftermath.covers("a", now + Duration::from_secs(8) + AFTERMATH));
        assert!(!aftermath.covers("a", now + Duration::from_secs(10) + AFTERMATH));
        assert!(!aftermath.covers("b", now));
    }
}
