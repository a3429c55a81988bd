//! Health: is the process alive, and is it ready. Parts register named conditions, partitions that wait, and threads that
//! report their turns; the HTTP server shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::heartbeat::{Heartbeats, Silence};
use crate::waits::Waits;

/// The health of one process. It is ready when at least one condition is registered and all hold, no partition has waited for
/// too long, and no thread hangs. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    conditions: Arc<Mutex<BTreeMap<String, Result<String, String>>>>,
    waits: Waits,
    heartbeats: Heartbeats,
    max_wait: Duration,
    max_silence: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            conditions: Arc::default(),
            waits: Waits::default(),
            heartbeats: Heartbeats::default(),
            max_wait: Duration::from_secs(60),
            max_silence: Duration::from_secs(10),
        }
    }
}

impl Health {
    /// Without any condition: not ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process is not ready while a partition has waited for `max_wait`, or a thread has made no turn for `max_silence`.
    #[must_use]
    pub fn with_limits(self, max_wait: Duration, max_silence: Duration) -> Self {
        Self { max_wait, max_silence, ..self }
    }

    /// The partitions that wait.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The threads that report their turns.
    #[must_use]
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// Threads that have made no turn for too long.
    pub(crate) fn silent_threads(&self, now: Instant) -> Vec<Silence> {
        self.heartbeats.silences(now).into_iter().filter(|silence| silence.lasts >= self.max_silence).collect()
    }

    /// Registers the condition called `name` (or takes a registered one over), not holding until it is set.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition { health: self.clone(), name: name.into() };
        condition.fail("not reported yet");
        condition
    }

    /// `Ok` when ready, else one line for each reason: `name: reason` of a condition that does not hold, a thread that hangs,
    /// partitions that wait.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        self.ready_at(Instant::now())
    }

    fn ready_at(&self, now: Instant) -> Result<(), Vec<String>> {
        let conditions = self.lock();
        if conditions.is_empty() {
            return Err(vec!["starting: no part has reported yet".to_owned()]);
        }
        let mut reasons: Vec<String> = conditions
            .iter()
            .filter_map(|(name, state)| state.as_ref().err().map(|reason| format!("{name}: {reason}")))
            .collect();
        drop(conditions);
        reasons.extend(self.silent_threads(now).iter().map(Silence::line));
        let waits_too_long = self.waits.longest(now).is_some_and(|longest| longest >= self.max_wait);
        if reasons.is_empty() && !waits_too_long {
            return Ok(());
        }
        // all that wait, or it would seem that what has just begun to wait does not
        reasons.extend(self.waits.lines(now));
        Err(reasons)
    }

    /// What is to be known of a process that is ready: `name: remark` of conditions, and partitions that wait.
    pub fn remarks(&self) -> Vec<String> {
        let said = |(name, state): (&String, &Result<String, String>)| {
            let remark = state.as_ref().ok().filter(|remark| !remark.is_empty())?;
            Some(format!("{name}: {remark}"))
        };
        let remarks: Vec<String> = self.lock().iter().filter_map(said).collect();
        remarks.into_iter().chain(self.waits.lines(Instant::now())).collect()
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
    use crate::waits::WaitReason;

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

    #[test]
    fn a_wait_informs_at_first_and_takes_readiness_when_it_lasts() {
        let limit = Duration::from_secs(60);
        let health = Health::new().with_limits(limit, Duration::from_secs(10));
        health.condition("partitions").ok();
        let wait = health.waits().begin("clicks", 3, WaitReason::Schema, "schema 7");
        let begun = Instant::now();
        assert_eq!(health.ready_at(begun), Ok(()));
        assert!(health.remarks()[0].contains("partition 3 of clicks for a schema"), "{:?}", health.remarks());
        let reasons = health.ready_at(begun + limit).unwrap_err();
        assert!(reasons[0].contains("partition 3 of clicks for a schema"), "{reasons:?}");
        drop(wait);
        assert_eq!((health.ready_at(begun + limit), health.remarks()), (Ok(()), vec![]));
    }

    #[test]
    fn a_thread_that_hangs_takes_readiness_and_is_named() {
        let health = Health::new().with_limits(Duration::from_secs(60), Duration::from_secs(10));
        health.condition("partitions").ok();
        let (heartbeat, begun) = (health.heartbeats().of_thread("stream-0"), Instant::now());
        heartbeat.turn(begun, "reading records");
        assert_eq!(health.ready_at(begun + Duration::from_secs(9)), Ok(()));
        let reasons = health.ready_at(begun + Duration::from_secs(11)).unwrap_err();
        assert_eq!(reasons, ["thread stream-0 has made no turn for 11 s; it is reading records"]);
    }
}
