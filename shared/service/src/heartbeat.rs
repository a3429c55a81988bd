//! What the threads of a process are doing, and when each has last come round: a thread that hangs cannot say so itself.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// In place of a time: the thread waits for work, for as long as it likes.
const RESTS: u64 = u64::MAX;

/// What a thread is doing.
#[derive(Debug, Clone, Default)]
pub struct Activity {
    /// In words that go on "it is …", such as `reading records`.
    pub what: &'static str,
    /// Of which partition, and from which offset on.
    pub place: Option<(Arc<str>, i32, i64)>,
}

impl Display for Activity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((topic, partition, offset)) => {
                write!(f, "{}, partition {partition} of {topic}, from offset {offset} on", self.what)
            }
            None => f.write_str(self.what),
        }
    }
}

/// The threads of a process that report their turns. Clones share them.
#[derive(Debug, Clone)]
pub struct Heartbeats {
    origin: Instant,
    threads: Arc<Mutex<Vec<Weak<Pulse>>>>,
}

#[derive(Debug)]
struct Pulse {
    name: String,
    /// Milliseconds from the origin to the beginning of the last turn, or [`RESTS`].
    turned: AtomicU64,
    activity: Mutex<Activity>,
}

/// A thread's silence.
#[derive(Debug, Clone)]
pub(crate) struct Silence {
    pub(crate) thread: String,
    pub(crate) lasts: Duration,
    pub(crate) activity: Activity,
}

impl Silence {
    pub(crate) fn line(&self) -> String {
        let Self { thread, lasts, activity } = self;
        format!("thread {thread} has made no turn for {} s; it is {activity}", lasts.as_secs())
    }
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { origin: Instant::now(), threads: Arc::default() }
    }
}

impl Heartbeats {
    /// A thread reports its turns from now on, until what this returns is dropped. It rests at first.
    pub fn of_thread(&self, name: impl Into<String>) -> Heartbeat {
        let pulse = Arc::new(Pulse { name: name.into(), turned: AtomicU64::new(RESTS), activity: Mutex::default() });
        self.lock().push(Arc::downgrade(&pulse));
        Heartbeat { origin: self.origin, pulse }
    }

    /// How long each thread's last turn lies back, by name; zero for one that waits for work.
    pub(crate) fn silences(&self, now: Instant) -> Vec<Silence> {
        let mut threads = self.lock();
        threads.retain(|thread| thread.strong_count() > 0);
        let silence = |pulse: Arc<Pulse>| {
            let turned = pulse.turned.load(Ordering::Relaxed);
            let lasts = if turned == RESTS {
                Duration::ZERO
            } else {
                now.saturating_duration_since(self.origin).saturating_sub(Duration::from_millis(turned))
            };
            let activity = pulse.activity.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Silence { thread: pulse.name.clone(), lasts, activity }
        };
        threads.iter().filter_map(Weak::upgrade).map(silence).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Pulse>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread's own end: it says when a turn begins, and what it does in it. As cheap as two uncontended locks a turn.
#[derive(Debug)]
pub struct Heartbeat {
    origin: Instant,
    pulse: Arc<Pulse>,
}

impl Heartbeat {
    /// A turn begins.
    pub fn turn(&self, now: Instant, what: &'static str) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        self.pulse.turned.store(u64::try_from(millis).unwrap_or(RESTS - 1), Ordering::Relaxed);
        self.set(Activity { what, place: None });
    }

    /// Within the turn, it is at this now.
    pub fn at(&self, what: &'static str, topic: &Arc<str>, partition: i32, offset: i64) {
        self.set(Activity { what, place: Some((topic.clone(), partition, offset)) });
    }

    /// The thread waits for work: nobody misses its next turn.
    pub fn rest(&self) {
        self.pulse.turned.store(RESTS, Ordering::Relaxed);
    }

    fn set(&self, activity: Activity) {
        *self.pulse.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_makes_no_turn_is_named_with_what_it_is_at_and_one_that_rests_or_has_ended_is_not() {
        let heartbeats = Heartbeats::default();
        let at = |seconds: u64| heartbeats.origin + Duration::from_secs(seconds);
        let (stream, commits) = (heartbeats.of_thread("stream-0"), heartbeats.of_thread("stream-0-commit"));
        let lasting = |now: u64| -> Vec<(String, u64)> {
            heartbeats.silences(at(now)).into_iter().map(|silence| (silence.thread, silence.lasts.as_secs())).collect()
        };
        let named =
            |stream: u64, commits: u64| vec![("stream-0".to_owned(), stream), ("stream-0-commit".to_owned(), commits)];
        assert_eq!(lasting(5), named(0, 0), "neither has begun");
        stream.turn(at(10), "polling");
        stream.at("reading records", &"clicks".into(), 3, 17);
        commits.turn(at(12), "committing");
        assert_eq!(lasting(22), named(12, 10));
        assert_eq!(
            heartbeats.silences(at(22))[0].line(),
            "thread stream-0 has made no turn for 12 s; it is reading records, partition 3 of clicks, from offset 17 on"
        );
        commits.rest();
        stream.turn(at(23), "polling");
        assert_eq!(lasting(24), named(1, 0));
        drop(commits);
        assert_eq!(lasting(26), [("stream-0".to_owned(), 3)]);
    }
}
