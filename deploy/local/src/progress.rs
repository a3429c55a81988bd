//! What a person is told while something takes its time.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);

/// Receives the course of named steps, from several threads at once. Every step is reported any number of times and then
/// either done or, with the error that the caller gets, forgotten.
pub trait Progress: Send + Sync {
    /// `step` (a short stable name such as `kafka`) is now doing `message`.
    fn update(&self, step: &str, message: &str);
    /// `step` has come to its end, with `message` as its result.
    fn done(&self, step: &str, message: &str);
}

/// Says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _step: &str, _message: &str) {}
    fn done(&self, _step: &str, _message: &str) {}
}

/// One plain line a report, on standard error: for pipes and logs.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl Progress for Lines {
    fn update(&self, step: &str, message: &str) {
        eprintln!("{step}: {message}");
    }
    fn done(&self, step: &str, message: &str) {
        eprintln!("{step}: {message}");
    }
}

/// A line that moves for every step, on standard error: for people at a terminal.
#[derive(Debug, Default)]
pub struct Spinners {
    lines: MultiProgress,
    steps: Mutex<HashMap<String, ProgressBar>>,
}

impl Spinners {
    fn line(&self, step: &str) -> ProgressBar {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let line = self.lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:12} {wide_msg} {elapsed:>5}") {
                line.set_style(style);
            }
            line.set_prefix(step.to_owned());
            line.enable_steady_tick(TICK);
            line
        };
        steps.entry(step.to_owned()).or_insert_with(make).clone()
    }
}

impl Progress for Spinners {
    fn update(&self, step: &str, message: &str) {
        self.line(step).set_message(message.to_owned());
    }
    fn done(&self, step: &str, message: &str) {
        self.line(step).finish_with_message(message.to_owned());
        // A step that begins again gets a line of its own.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
    }
}

/// What suits standard error: moving lines on a terminal, plain ones elsewhere.
pub fn for_terminal() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Spinners::default()) } else { Box::new(Lines) }
}
