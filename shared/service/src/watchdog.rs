//! Reports threads that make no turn and partitions that wait: to the log once in a while, and as metrics when scraped.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::health::Health;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A wait that is shorter is not logged: many end soon by themselves.
const LONG: Duration = Duration::from_secs(10);
/// What lasts is logged again after twice the time, at most after this long.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Waits named in the log at one time.
const LOGGED_AT_ONCE: usize = 10;

/// Starts looking, on a thread of its own for the rest of the process's life.
///
/// Errors: the thread cannot be started.
pub(crate) fn watch(health: Health) -> anyhow::Result<()> {
    let mut watchdog = Watchdog::default();
    let look = move || {
        loop {
            std::thread::sleep(LOOK);
            for line in watchdog.look(&health, Instant::now()) {
                tracing::warn!("{line}");
            }
        }
    };
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(look).context("starting the watchdog").map(|_| ())
}

/// When what was logged.
#[derive(Debug, Default)]
struct Watchdog {
    /// Of waits, all together.
    waits: Repetition,
    /// By thread.
    threads: HashMap<String, Repetition>,
}

/// Says when something that lasts is logged again: after 10 s, 20 s, 40 s, …
#[derive(Debug, Default)]
struct Repetition {
    next: Option<(Instant, Duration)>,
}

impl Repetition {
    fn is_due(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|(at, _)| now < at) {
            return false;
        }
        let pause = self.next.map_or(LONG, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        self.next = Some((now + pause, pause));
        true
    }
}

impl Watchdog {
    /// What is to be logged now.
    fn look(&mut self, health: &Health, now: Instant) -> Vec<String> {
        let silent = health.silent_threads(now);
        self.threads.retain(|name, _| silent.iter().any(|silence| silence.thread == *name));
        let mut lines: Vec<String> = silent
            .iter()
            .filter(|silence| self.threads.entry(silence.thread.clone()).or_default().is_due(now))
            .map(|silence| silence.line())
            .collect();
        if health.waits().longest(now).is_none_or(|longest| longest < LONG) {
            self.waits = Repetition::default();
        } else if self.waits.is_due(now) {
            let waits = health.waits().log_lines(LONG, now);
            let more = waits.len().saturating_sub(LOGGED_AT_ONCE);
            lines.extend(waits.into_iter().take(LOGGED_AT_ONCE));
            if more > 0 {
                lines.push(format!("waiting: {more} more partitions"));
            }
        }
        lines
    }
}

/// Shows waits and silences when it is scraped.
#[derive(Debug)]
pub(crate) struct HealthCollector(pub(crate) Health);

impl Collector for HealthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = Instant::now();
        let by_reason = self.0.waits().by_reason(now);
        let help = "Partitions that wait, by what they wait for";
        let mut family = encoder.encode_descriptor("waiting_partitions", help, None, MetricType::Gauge)?;
        for (reason, count, _) in by_reason {
            ConstGauge::new(count as i64).encode(family.encode_family(&[("reason", reason.name())])?)?;
        }
        let help = "How long the longest of these waits lasts by now";
        let mut family = encoder.encode_descriptor("longest_wait_seconds", help, None, MetricType::Gauge)?;
        for (reason, _, longest) in by_reason {
            ConstGauge::new(longest.as_secs_f64()).encode(family.encode_family(&[("reason", reason.name())])?)?;
        }
        let help = "How long a thread's last turn lies back; 0 while it waits for work";
        let mut family = encoder.encode_descriptor("thread_silence_seconds", help, None, MetricType::Gauge)?;
        for silence in self.0.heartbeats().silences(now) {
            let labels = [("thread", silence.thread.as_str())];
            ConstGauge::new(silence.lasts.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::waits::WaitReason;

    fn seconds_logged(until: u64, mut look: impl FnMut(u64) -> Vec<String>) -> Vec<u64> {
        (0..until).flat_map(|second| look(second).into_iter().map(move |_| second)).collect()
    }

    #[test]
    fn a_partition_that_waits_for_an_hour_is_logged_at_doubling_distances() {
        let (health, start) = (Health::new(), Instant::now());
        let _wait = health.waits().begin_at("clicks", 3, (WaitReason::Schema, "schema 7"), start, SystemTime::now());
        let mut watchdog = Watchdog::default();
        let logged = seconds_logged(3600, |second| watchdog.look(&health, start + Duration::from_secs(second)));
        assert_eq!(logged, [10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440, 3040]);
    }

    #[test]
    fn a_hundred_partitions_that_wait_take_eleven_lines() {
        let (health, start) = (Health::new(), Instant::now());
        let begin = |partition| {
            health.waits().begin_at("clicks", partition, (WaitReason::Schema, "schema 7"), start, SystemTime::now())
        };
        let _waits: Vec<_> = (0..100).map(begin).collect();
        let lines = Watchdog::default().look(&health, start + LONG);
        assert_eq!((lines.len(), lines[10].as_str()), (11, "waiting: 90 more partitions"));
    }

    #[test]
    fn a_thread_that_hangs_is_logged_at_doubling_distances_and_at_once_when_it_hangs_again() {
        let health = Health::new();
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let heartbeat = health.heartbeats().of_thread("stream-0");
        heartbeat.turn(start, "reading records");
        let mut watchdog = Watchdog::default();
        let logged = seconds_logged(100, |second| watchdog.look(&health, at(second)));
        assert_eq!(logged, [10, 20, 40, 80]);
        heartbeat.turn(at(100), "reading records");
        assert!(watchdog.look(&health, at(100)).is_empty());
        let logged =
            seconds_logged(115, |second| if second < 100 { vec![] } else { watchdog.look(&health, at(second)) });
        assert_eq!(logged, [110]);
    }
}
