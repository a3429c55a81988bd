//! Memory and descriptors of processes, looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// No process needs more memory for what a run gives it.
const MAX_RSS: u64 = 700 << 20;
/// No process needs more descriptors.
const MAX_DESCRIPTORS: u64 = 400;
/// What a process has filled after so long is no leak.
const WARM: Duration = Duration::from_secs(45);
/// A process may hold so much more than when it was warm.
const MAX_GROWTH: u64 = 200 << 20;
const MAX_MORE_DESCRIPTORS: u64 = 100;

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) rss: u64,
    pub(crate) descriptors: u64,
}

/// Looks at a process; `None` where it has ended.
pub(crate) fn sample(pid: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse::<u64>();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample { rss: kilobytes.ok()? * 1024, descriptors })
}

/// One life of a process.
#[derive(Debug, Default)]
struct Life {
    warm: Option<Sample>,
    peak: Option<Sample>,
    newest: Option<Sample>,
}

/// What the processes of a run held.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    lives: BTreeMap<(String, u32), (Duration, Life)>,
}

impl Usage {
    /// Takes one look in, `now` after the run's beginning.
    pub(crate) fn take(&mut self, name: &str, pid: u32, now: Duration, sample: Sample) {
        let (since, life) = self.lives.entry((name.to_owned(), pid)).or_insert((now, Life::default()));
        let peak = life.peak.get_or_insert(sample);
        peak.rss = peak.rss.max(sample.rss);
        peak.descriptors = peak.descriptors.max(sample.descriptors);
        if now - *since >= WARM {
            life.warm.get_or_insert(sample);
        }
        life.newest = Some(sample);
    }

    /// The most memory and the most descriptors that one process held.
    pub(crate) fn peak(&self) -> Sample {
        let peaks = || self.lives.values().filter_map(|(_, life)| life.peak);
        Sample {
            rss: peaks().map(|peak| peak.rss).max().unwrap_or(0),
            descriptors: peaks().map(|peak| peak.descriptors).max().unwrap_or(0),
        }
    }

    /// What is more than it may be.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for ((name, pid), (_, life)) in &self.lives {
            let (Some(peak), Some(newest)) = (life.peak, life.newest) else { continue };
            if peak.rss > MAX_RSS {
                problems.push(format!("{name} ({pid}) held {} MB", peak.rss >> 20));
            }
            if peak.descriptors > MAX_DESCRIPTORS {
                problems.push(format!("{name} ({pid}) held {} descriptors", peak.descriptors));
            }
            let Some(warm) = life.warm else { continue };
            if newest.rss > warm.rss + MAX_GROWTH {
                problems.push(format!("{name} ({pid}) grew from {} to {} MB", warm.rss >> 20, newest.rss >> 20));
            }
            if newest.descriptors > warm.descriptors + MAX_MORE_DESCRIPTORS {
                let (from, to) = (warm.descriptors, newest.descriptors);
                problems.push(format!("{name} ({pid}) grew from {from} to {to} descriptors"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let seen = sample(std::process::id()).unwrap();
        assert!(seen.rss > 1 << 20 && seen.descriptors >= 3, "{seen:?}");
        assert_eq!(sample(u32::MAX), None);
    }

    #[test]
    fn too_much_and_growth_are_problems_and_a_start_is_not_growth() {
        let mut usage = Usage::default();
        let at = |seconds| Duration::from_secs(seconds);
        let of = |megabytes: u64, descriptors| Sample { rss: megabytes << 20, descriptors };
        for (seconds, sample) in [(0, of(10, 10)), (40, of(300, 90)), (50, of(310, 90)), (90, of(320, 95))] {
            usage.take("good-1", 1, at(seconds), sample);
        }
        assert_eq!(usage.problems(), [""; 0]);
        for (seconds, sample) in [(0, of(10, 10)), (50, of(100, 90)), (90, of(400, 250))] {
            usage.take("leaks-1", 2, at(seconds), sample);
        }
        usage.take("large-1", 3, at(0), of(2_000, 900));
        let problems = usage.problems();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert_eq!(usage.peak(), of(2_000, 900));
    }
}
