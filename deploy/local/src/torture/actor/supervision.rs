//! What a supervisor of services does beside the schedule: whoever ends is judged and started again, whoever does not leave
//! is ended by force, memory and descriptors are looked at.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Actor, GOODBYE};
use crate::torture::usage;
use crate::{Component, Exit};

/// What a crash at a failpoint ends with.
const SIGABRT: i32 = 6;
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

impl Actor<'_, '_> {
    /// Looks who has ended, judges it, and starts it again.
    pub(super) fn supervise(&mut self) -> Result<()> {
        for index in 0..self.stage.parts.fleet.instances().len() {
            let Some(exit) = self.stage.parts.fleet.ended(index) else {
                self.hurry(index)?;
                continue;
            };
            if self.away.contains(&index) {
                continue;
            }
            let (name, _) = self.names(index);
            if self.leaving.remove(&index).is_some() {
                self.away.insert(index);
                self.note(format!("{name} has left with {exit}"));
                if !exit.success() {
                    self.judge_end(index, exit, &format!("{name} was asked to leave and ended with {exit}"));
                }
                continue;
            }
            match self.armed.remove(&index) {
                Some(failpoint) if exit.signal == Some(SIGABRT) => {
                    self.note(format!("{name} has crashed at {failpoint}"));
                    self.seen.crashes += 1;
                }
                _ => {
                    self.note(format!("{name} ended unasked with {exit}"));
                    self.judge_end(index, exit, &format!("{name} ended unasked with {exit}"));
                }
            }
            self.revive(index, &[])?;
        }
        Ok(())
    }

    /// Ends a process by force that should have left long ago.
    fn hurry(&mut self, index: usize) -> Result<()> {
        if self.leaving.get(&index).is_some_and(|until| Instant::now() > *until) {
            let instance = &self.stage.parts.fleet.instances()[index];
            let words = instance.last_words();
            self.seen.problems.push(format!("{} has not left within {GOODBYE:?}. {words}", instance.name));
            self.leaving.remove(&index);
            self.stage.parts.fleet.kill(index)?;
            self.away.insert(index);
        }
        Ok(())
    }

    /// A process may end with an error while the broker is away, or where it was itself frozen: its supervisor restarts it. It
    /// may never crash.
    fn judge_end(&mut self, index: usize, exit: Exit, what: &str) {
        let (name, _) = self.names(index);
        let now = Instant::now();
        let mut excuses = [Component::Kafka.name(), Component::Registry.name(), &name].into_iter();
        let is_excused = exit.signal.is_none() && excuses.any(|excuse| self.stage.aftermath.covers(excuse, now));
        if !is_excused {
            let words = self.stage.parts.fleet.instances()[index].last_words();
            self.seen.problems.push(format!("{what}. {words}"));
        }
    }

    pub(super) fn sample(&mut self) {
        if self.sampled.elapsed() < SAMPLE_EVERY {
            return;
        }
        self.sampled = Instant::now();
        let now = self.begun.elapsed();
        for instance in self.stage.parts.fleet.instances() {
            let pid = instance.process().pid();
            if let Some(sample) = usage::sample(pid) {
                self.seen.usage.take(&instance.name, pid, now, sample);
            }
        }
    }
}
