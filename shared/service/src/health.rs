//! Health: is the process alive, and is it ready. Parts register named conditions; the HTTP server reports them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The conditions of one process. Ready when at least one is registered and all hold. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<String, Result<String, String>>>>,
}

impl Health {
    /// Without any condition: not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the condition called `name` (or takes a registered one over), not holding until it is set.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition { health: self.clone(), name: name.into() };
        condition.fail("not reported yet");
        condition
    }

    /// `Ok` when ready, else one line for each condition that does not hold: `name: reason`.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let conditions = self.lock();
        if conditions.is_empty() {
            return Err(vec!["starting: no part has reported yet".to_owned()]);
        }
        let failing: Vec<String> = conditions
            .iter()
            .filter_map(|(name, state)| state.as_ref().err().map(|reason| format!("{name}: {reason}")))
            .collect();
        if failing.is_empty() { Ok(()) } else { Err(failing) }
    }

    /// What conditions that hold have to say: `name: remark`.
    pub fn remarks(&self) -> Vec<String> {
        let said = |(name, state): (&String, &Result<String, String>)| {
            let remark = state.as_ref().ok().filter(|remark| !remark.is_empty())?;
            Some(format!("{name}: {remark}"))
        };
        self.lock().iter().filter_map(said).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Result<String, String>>> {
        // No code that can panic runs under the lock, so what it protects is whole even if it is poisoned.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One named condition; its owner says whether it holds. Stays as it was left when the handle is dropped.
#[derive(Clone, Debug)]
pub struct Condition {
    health: Health,
    name: String,
}

impl Condition {
    /// The condition holds.
    pub fn ok(&self) {
        self.set(Ok(()));
    }

    /// The condition holds, and people should know this about it (a short text, such as `standing by`).
    pub fn remark(&self, remark: impl Into<String>) {
        self.health.lock().insert(self.name.clone(), Ok(remark.into()));
    }

    /// The condition does not hold, because of `reason` (a short text for people, without secrets).
    pub fn fail(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    /// Either.
    pub fn set(&self, state: Result<(), String>) {
        self.health.lock().insert(self.name.clone(), state.map(|()| String::new()));
    }

    /// Takes the condition back, for a part that has ended well.
    pub fn remove(self) {
        self.health.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_of_its_conditions_hold_and_there_is_one() {
        let health = Health::new();
        assert!(health.ready().is_err());
        let assigned = health.condition("partitions assigned");
        let restored = health.condition("partitions restored");
        assigned.ok();
        assert_eq!(health.ready(), Err(vec!["partitions restored: not reported yet".to_owned()]));
        restored.fail("3 of 4 left");
        assert_eq!(health.ready(), Err(vec!["partitions restored: 3 of 4 left".to_owned()]));
        restored.ok();
        assert_eq!(health.ready(), Ok(()));
        assigned.fail("rebalancing");
        assert!(health.ready().is_err());
        assigned.remove();
        assert_eq!(health.ready(), Ok(()));
        assert!(health.remarks().is_empty());
        restored.remark("3 partitions");
        assert_eq!((health.ready(), health.remarks()), (Ok(()), vec!["partitions restored: 3 partitions".to_owned()]));
    }
}
