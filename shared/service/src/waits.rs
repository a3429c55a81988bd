//! What partitions wait for, and since when: shown by `/readyz`, counted by `/metrics`, logged by the watchdog.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Waits that `/readyz` names one by one; of the others it says how many they are.
const SHOWN: usize = 20;
/// Longer explanations are cut to this many characters.
const LONGEST_TEXT: usize = 300;

/// What kind of thing a partition waits for: the values of a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitReason {
    /// Its committed state is being restored.
    Restore,
    /// The schema registry has to say what a schema id means.
    Schema,
    /// ClickHouse has to take its rows.
    ClickHouse,
    /// Brokers have to answer.
    Brokers,
}

impl WaitReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Restore, Self::Schema, Self::ClickHouse, Self::Brokers];

    /// Its name as a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Schema => "schema",
            Self::ClickHouse => "clickhouse",
            Self::Brokers => "brokers",
        }
    }
}

impl Display for WaitReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "its state",
            Self::Schema => "a schema",
            Self::ClickHouse => "ClickHouse",
            Self::Brokers => "the brokers",
        })
    }
}

/// The partitions of a process that wait. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_number: BTreeMap<u64, Entry>,
}

/// One partition's wait, as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    topic: Arc<str>,
    partition: i32,
    reason: WaitReason,
    text: String,
    since: Instant,
    /// `since` by the wall clock.
    began: SystemTime,
    /// Whether the log has said so.
    logged: bool,
}

impl Entry {
    pub(crate) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) fn line(&self, now: Instant) -> String {
        let Self { topic, partition, reason, text, began, .. } = self;
        let (began, seconds) = (humantime::format_rfc3339_seconds(*began), self.lasts(now).as_secs());
        format!("waiting: partition {partition} of {topic} for {reason}, since {began} ({seconds} s): {text}")
    }
}

impl Waits {
    /// A partition waits from now on, until what this returns is dropped. `text` explains for what, in a few words for
    /// people, without secrets.
    pub fn begin(&self, topic: &str, partition: i32, reason: WaitReason, text: &str) -> Wait {
        self.begin_at(topic, partition, (reason, text), Instant::now(), SystemTime::now())
    }

    pub(crate) fn begin_at(
        &self,
        topic: &str,
        partition: i32,
        (reason, text): (WaitReason, &str),
        since: Instant,
        began: SystemTime,
    ) -> Wait {
        let mut waiting = self.lock();
        waiting.next += 1;
        let number = waiting.next;
        let entry = Entry { topic: topic.into(), partition, reason, text: shown(text), since, began, logged: false };
        waiting.by_number.insert(number, entry);
        Wait { waits: self.clone(), number }
    }

    /// A line for each partition that waits, the longest wait first; of many, how many more there are.
    #[must_use]
    pub fn lines(&self, now: Instant) -> Vec<String> {
        // waits are numbered in the order in which they began
        let waiting = self.lock();
        let mut lines: Vec<String> = waiting.by_number.values().take(SHOWN).map(|entry| entry.line(now)).collect();
        if let more @ 1.. = waiting.by_number.len().saturating_sub(SHOWN) {
            lines.push(format!("waiting: {more} more partitions"));
        }
        lines
    }

    /// How long the longest wait lasts, whatever it is for.
    #[must_use]
    pub fn longest(&self, now: Instant) -> Option<Duration> {
        self.lock().by_number.values().map(|entry| entry.lasts(now)).max()
    }

    /// For each reason how many partitions wait, and how long the longest one does.
    #[must_use]
    pub fn by_reason(&self, now: Instant) -> [(WaitReason, usize, Duration); 4] {
        let waiting = self.lock();
        WaitReason::ALL.map(|reason| {
            let entries = waiting.by_number.values().filter(|entry| entry.reason == reason);
            let lasting = entries.map(|entry| entry.lasts(now));
            lasting
                .fold((reason, 0, Duration::ZERO), |(_, count, longest), lasts| (reason, count + 1, longest.max(lasts)))
        })
    }

    /// The lines of waits that have lasted for longer than that, now marked as logged.
    pub(crate) fn log_lines(&self, longer_than: Duration, now: Instant) -> Vec<String> {
        let mut waiting = self.lock();
        let long = waiting.by_number.values_mut().filter(|entry| entry.lasts(now) >= longer_than);
        let lines = long.map(|entry| {
            entry.logged = true;
            entry.line(now)
        });
        lines.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // single insertions and removals: there is no half-done state that a panic could leave
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A partition that waits, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Wait {
    waits: Waits,
    number: u64,
}

impl Wait {
    /// It waits on, for this now; since when stays as it is.
    pub fn update(&self, reason: WaitReason, text: &str) {
        if let Some(entry) = self.waits.lock().by_number.get_mut(&self.number) {
            entry.reason = reason;
            if entry.text != text {
                entry.text = shown(text);
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let ended = self.waits.lock().by_number.remove(&self.number);
        if let Some(entry) = ended.filter(|entry| entry.logged) {
            let waited_seconds = entry.lasts(Instant::now()).as_secs();
            tracing::info!(topic = &*entry.topic, partition = entry.partition, waited_seconds, "the wait is over");
        }
    }
}

/// Explanations come from outside too: one line of bounded length.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_796_094_000);

    fn begin(waits: &Waits, partition: i32, text: &str, now: Instant) -> Wait {
        let wall_clock = SystemTime::UNIX_EPOCH + START;
        waits.begin_at("clicks", partition, (WaitReason::Schema, text), now, wall_clock)
    }

    #[test]
    fn a_wait_is_named_with_its_partition_its_reason_and_since_when_until_it_is_over() {
        let (waits, start) = (Waits::default(), Instant::now());
        let wait = begin(&waits, 3, "schema 7\nis not known", start);
        let later = start + Duration::from_secs(65);
        let line =
            "waiting: partition 3 of clicks for a schema, since 2026-12-01T03:00:00Z (65 s): schema 7 is not known";
        assert_eq!(waits.lines(later), [line]);
        let of_schemas = |waits: &Waits| waits.by_reason(later)[1];
        assert_eq!(of_schemas(&waits), (WaitReason::Schema, 1, Duration::from_secs(65)));
        wait.update(WaitReason::Restore, "a transaction is open");
        assert!(
            waits.lines(later)[0].ends_with("for its state, since 2026-12-01T03:00:00Z (65 s): a transaction is open")
        );
        assert_eq!(of_schemas(&waits), (WaitReason::Schema, 0, Duration::ZERO));
        drop(wait);
        assert!(waits.lines(later).is_empty() && waits.longest(later).is_none());
    }

    #[test]
    fn of_many_waits_the_oldest_are_named_and_the_others_counted() {
        let (waits, start) = (Waits::default(), Instant::now());
        let at = |partition: i32| start + Duration::from_secs(partition as u64);
        let held: Vec<Wait> =
            (0..25).map(|partition| begin(&waits, partition, &"x".repeat(1000), at(partition))).collect();
        let lines = waits.lines(at(30));
        assert_eq!(lines.len(), 21);
        assert!(lines[0].starts_with("waiting: partition 0 of clicks") && lines[0].len() < 400, "{}", lines[0]);
        assert_eq!(lines[20], "waiting: 5 more partitions");
        assert_eq!(waits.longest(at(30)), Some(Duration::from_secs(30)));
        drop(held);
        assert!(waits.lines(at(30)).is_empty());
    }
}
