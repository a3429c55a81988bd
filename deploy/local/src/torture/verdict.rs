//! What became of a seed, for people.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{Table, TableStyle};

use super::schedule::Schedule;
use super::seen::Seen;
use super::stalls::{LIMIT, Stall};

/// What became of one seed.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// The schedule as text.
    schedule: String,
    steps: usize,
    /// What was done and seen, as lines of text.
    events: String,
    restarts: u64,
    crashes: u64,
    /// Records, good and hostile.
    pub(super) hostile: u64,
    pub(super) rows: u64,
    stall: Duration,
    rss: u64,
    descriptors: u64,
    /// All that is not as it must be.
    pub problems: Vec<String>,
    /// Where the logs are, if they were kept.
    pub logs: Option<PathBuf>,
}

impl Verdict {
    pub(super) fn new(schedule: &Schedule) -> Self {
        Self {
            seed: schedule.seed,
            schedule: schedule.to_string(),
            steps: schedule.steps.len(),
            events: String::new(),
            restarts: 0,
            crashes: 0,
            hostile: 0,
            rows: 0,
            stall: Duration::ZERO,
            rss: 0,
            descriptors: 0,
            problems: Vec::new(),
            logs: None,
        }
    }

    /// Takes in what was seen while the schedule was carried out; returns what was wrong with it.
    pub(super) fn take(&mut self, seen: Seen, stall: &Stall) -> Vec<String> {
        for (at, event) in &seen.events {
            self.note(*at, event);
        }
        (self.restarts, self.crashes, self.stall) = (seen.restarts, seen.crashes, stall.lasted);
        let peak = seen.usage.peak();
        (self.rss, self.descriptors) = (peak.rss, peak.descriptors);
        let mut problems = seen.problems;
        problems.extend(seen.usage.problems());
        if stall.lasted > LIMIT {
            problems.push(format!("{} stood still for {:.1?}, undisturbed", stall.what, stall.lasted));
        }
        problems
    }

    /// Adds an event.
    pub(super) fn note(&mut self, at: Duration, event: &str) {
        let _ = writeln!(self.events, "{:>7.1} s  {event}", at.as_secs_f64());
    }

    /// Whether all is as it must be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// All that there is to know about a failure: problems, schedule, and what happened when.
    #[must_use]
    pub fn report(&self) -> String {
        let problems: String = self.problems.iter().map(|problem| format!("- {problem}\n")).collect();
        let logs = self.logs.as_ref().map_or_else(String::new, |logs| format!("logs and rows: {}\n", logs.display()));
        let (seed, schedule, events) = (self.seed, &self.schedule, &self.events);
        format!(
            "seed {seed}: {} problems\n{problems}\nschedule: {schedule}\nwhat happened:\n{events}{logs}",
            self.problems.len()
        )
    }
}

/// A line for each seed.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    table.set_header([
        "seed",
        "steps",
        "restarts",
        "crashes",
        "hostile",
        "rows",
        "longest stall",
        "most memory",
        "descriptors",
        "verdict",
    ]);
    for verdict in verdicts {
        table.add_row([
            verdict.seed.to_string(),
            verdict.steps.to_string(),
            verdict.restarts.to_string(),
            verdict.crashes.to_string(),
            verdict.hostile.to_string(),
            verdict.rows.to_string(),
            format!("{:.1} s", verdict.stall.as_secs_f64()),
            format!("{} MB", verdict.rss >> 20),
            verdict.descriptors.to_string(),
            if verdict.is_good() { "good".to_owned() } else { format!("{} problems", verdict.problems.len()) },
        ]);
    }
    table.to_string()
}
