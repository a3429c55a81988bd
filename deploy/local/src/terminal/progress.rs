//! Progress on standard error.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::Progress;

/// What suits standard error: moving lines and bars on a terminal, a plain line now and then elsewhere.
#[must_use]
pub fn progress() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Moving::default()) } else { Box::new(Plain::default()) }
}

/// One line a step, which moves while the step is under way.
#[derive(Default)]
struct Moving {
    lines: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Moving {
    fn bar(&self, step: &str) -> ProgressBar {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(step.to_owned()).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::no_length()).with_prefix(step.to_owned());
            bar.set_style(style("{spinner:.cyan} {prefix:20} {wide_msg}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.clone()
    }
}

impl Progress for Moving {
    fn update(&self, step: &str, message: &str) {
        self.bar(step).set_message(message.to_owned());
    }

    fn part(&self, step: &str, done: u64, of: u64, message: &str) {
        let bar = self.bar(step);
        if bar.length() != Some(of) {
            bar.set_length(of);
            bar.set_style(style("{spinner:.cyan} {prefix:20} {bar:24.cyan/dim} {wide_msg}"));
        }
        bar.set_position(done);
        bar.set_message(message.to_owned());
    }

    fn done(&self, step: &str, message: &str) {
        let bar = self.bar(step);
        bar.set_style(style("{prefix:.green.bold} {wide_msg}"));
        bar.set_prefix(format!("✔ {step:20}"));
        bar.finish_with_message(message.to_owned());
        // A step that comes again has a line of its own.
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
    }

    fn tell(&self, text: &str) {
        // A terminal that cannot be written to has nobody who would miss it.
        let _ = self.lines.println(text);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A line a report, but not more than one in two seconds for each step.
#[derive(Default)]
struct Plain {
    said: Mutex<HashMap<String, (Instant, String)>>,
}

impl Progress for Plain {
    fn update(&self, step: &str, message: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let again =
            said.get(step).is_some_and(|(when, what)| what == message || when.elapsed() < Duration::from_secs(2));
        if !again {
            said.insert(step.to_owned(), (Instant::now(), message.to_owned()));
            eprintln!("{step}: {message}");
        }
    }

    fn done(&self, step: &str, message: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
        eprintln!("{step}: {message}");
    }
}
