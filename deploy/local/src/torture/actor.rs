//! Carries a schedule out on a run, heals what it did, and restarts what ended, as a supervisor of services does.

mod supervision;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::action::{Action, Outage};
use super::aftermath::Aftermath;
use super::alteration;
use super::hostile::Planned;
use super::proxies::Proxies;
use super::schedule::{Schedule, Step};
use super::seen::Seen;
use crate::replay::Parts;
use crate::{Component, Progress, Signal, Stack};

/// How long a process may take to leave.
const GOODBYE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The variable by which a process is to crash somewhere.
pub(crate) const FAILPOINTS: &str = "FAILPOINTS";

/// What remains to be done about a step.
#[derive(Debug, Clone, Copy)]
enum Heal {
    /// Starts a process again once it has ended.
    Revive(usize),
    Thaw(usize),
    Leave(usize),
    ThawComponent(Component),
    Pass(Component),
    /// Restarts a process whose crash has not come.
    Disarm(usize),
}

/// What an actor acts on.
pub(crate) struct Stage<'env> {
    pub(crate) parts: Parts<'env>,
    pub(crate) proxies: &'env Proxies,
    pub(crate) aftermath: &'env Aftermath,
    pub(crate) hostile: Sender<Vec<Planned>>,
}

/// Something that takes its time beside the schedule.
struct Errand<'scope> {
    what: String,
    component: Option<Component>,
    thread: ScopedJoinHandle<'scope, Result<()>>,
    /// Whether the run goes on if it fails.
    may_fail: bool,
}

pub(crate) struct Actor<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    stack: &'env Stack,
    stage: Stage<'env>,
    begun: Instant,
    heals: Vec<(Instant, Heal)>,
    errands: Vec<Errand<'scope>>,
    /// Processes that are to crash at a failpoint.
    armed: BTreeMap<usize, &'static str>,
    /// Processes that were asked to leave, and until when they have to be gone.
    leaving: BTreeMap<usize, Instant>,
    /// Processes that have ended because they should.
    away: BTreeSet<usize>,
    sampled: Instant,
    progress: &'env dyn Progress,
    seen: Seen,
}

impl<'scope, 'env> Actor<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, stage: Stage<'env>, progress: &'env dyn Progress) -> Self {
        let begun = Instant::now();
        Self {
            scope,
            stack: stage.parts.stack,
            stage,
            begun,
            heals: Vec::new(),
            errands: Vec::new(),
            armed: BTreeMap::new(),
            leaving: BTreeMap::new(),
            away: BTreeSet::new(),
            sampled: begun,
            progress,
            seen: Seen::default(),
        }
    }

    /// Carries everything out, and goes on supervising until all is healed and `is_over`.
    ///
    /// # Errors
    /// A process cannot be signalled or started, or a component does not come back.
    pub(crate) fn play(mut self, schedule: &Schedule, is_over: impl Fn() -> bool) -> Result<Seen> {
        let mut steps = schedule.steps.iter().peekable();
        loop {
            while let Some(step) = steps.next_if(|step| step.at <= self.begun.elapsed()) {
                self.perform(step).with_context(|| format!("while doing: {}", step.action))?;
            }
            self.heal()?;
            self.finish_errands()?;
            self.supervise()?;
            self.sample();
            let healed = self.heals.is_empty() && self.errands.is_empty() && self.leaving.is_empty();
            // what follows from a fault of the broker may come when it is long healed
            let settled = healed && !self.stage.aftermath.covers(Component::Kafka.name(), Instant::now());
            if steps.peek().is_none() && settled && is_over() {
                return Ok(self.seen);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.progress.update("torture", &what);
        self.seen.events.push((self.begun.elapsed(), what));
    }

    fn find(&self, name: &str) -> Result<usize> {
        let found = self.stage.parts.fleet.instances().iter().position(|instance| instance.name == name);
        found.with_context(|| format!("there is no process {name}"))
    }

    /// Name and worker of a process.
    fn names(&self, index: usize) -> (String, String) {
        let instance = &self.stage.parts.fleet.instances()[index];
        (instance.name.clone(), instance.worker.clone())
    }

    /// A fault hits a process for so long.
    fn hit(&self, index: usize, lasts: Duration) {
        let (name, worker) = self.names(index);
        for whom in [name, worker] {
            self.stage.aftermath.hit(&whom, Instant::now() + lasts);
        }
    }

    fn perform(&mut self, step: &Step) -> Result<()> {
        let action = &step.action;
        self.note(action.to_string());
        let heal_at = Instant::now() + action.lasts();
        match action {
            Action::Kill { instance, away } => {
                let index = self.find(instance)?;
                self.hit(index, *away);
                self.stage.parts.fleet.kill(index)?;
                self.away.insert(index);
                self.heals.push((heal_at, Heal::Revive(index)));
            }
            Action::Freeze { instance, lasts } => {
                let index = self.find(instance)?;
                self.hit(index, *lasts);
                self.stage.parts.fleet.freeze(index)?;
                self.heals.push((heal_at, Heal::Thaw(index)));
            }
            Action::Leave { instance, away } => {
                let index = self.find(instance)?;
                self.hit(index, *away);
                self.leave(index)?;
                self.heals.push((heal_at, Heal::Revive(index)));
            }
            Action::Join { worker, instance, stays } => {
                self.stage.parts.start_instance(worker, instance)?;
                let index = self.find(instance)?;
                self.hit(index, *stays);
                self.heals.push((heal_at, Heal::Leave(index)));
            }
            Action::Outage { component, how: Outage::Freeze, .. } => {
                self.stack.signal_component(*component, Signal::Suspend)?;
                self.heals.push((heal_at, Heal::ThawComponent(*component)));
            }
            Action::Outage { component, how, lasts } => self.restart_component(*component, *how, *lasts),
            Action::Proxy { component, fault, .. } => {
                self.stage.proxies.set(*component, Some(*fault));
                self.heals.push((heal_at, Heal::Pass(*component)));
            }
            Action::Alter { alteration, lasts } => {
                let (brokers, alteration, lasts) = (self.stack.brokers(), *alteration, *lasts);
                let thread = self.scope.spawn(move || alteration::change_for(&brokers, alteration, lasts));
                let what = alteration.to_string();
                self.errands.push(Errand { what, component: None, thread, may_fail: true });
            }
            Action::Hostile { records } => {
                // the publisher has ended only where its own error ends the run
                let _ = self.stage.hostile.send(records.clone());
            }
            Action::Crash { instance, failpoint, after, lasts } => {
                let index = self.find(instance)?;
                self.hit(index, *lasts);
                self.stage.parts.fleet.kill(index)?;
                let armed = (FAILPOINTS.to_owned(), format!("{failpoint}={after}*off->return"));
                self.revive(index, &[armed])?;
                self.armed.insert(index, failpoint);
                self.heals.push((heal_at, Heal::Disarm(index)));
            }
        }
        if let Action::Outage { component, lasts, .. } | Action::Proxy { component, lasts, .. } = action {
            self.stage.aftermath.hit(component.name(), Instant::now() + *lasts);
        }
        Ok(())
    }

    fn restart_component(&mut self, component: Component, how: Outage, lasts: Duration) {
        let stack = self.stack;
        let thread = self.scope.spawn(move || {
            match how {
                Outage::Stop => stack.stop_component(component)?,
                Outage::Kill | Outage::Freeze => stack.kill_component(component)?,
            }
            std::thread::sleep(lasts);
            stack.start_component(component)
        });
        let what = format!("{component} is back");
        self.errands.push(Errand { what, component: Some(component), thread, may_fail: false });
    }

    fn leave(&mut self, index: usize) -> Result<()> {
        self.leaving.insert(index, Instant::now() + GOODBYE);
        self.stage.parts.fleet.ask_to_stop(index)
    }

    fn revive(&mut self, index: usize, environment: &[(String, String)]) -> Result<()> {
        self.away.remove(&index);
        self.hit(index, Duration::ZERO);
        self.seen.restarts += 1;
        self.stage.parts.fleet.revive(index, environment)
    }

    fn heal(&mut self) -> Result<()> {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.heals).into_iter().partition(|(at, _)| *at <= now);
        self.heals = later;
        for (at, heal) in Vec::<(Instant, Heal)>::from_iter(due) {
            match heal {
                // it is still leaving
                Heal::Revive(index) if self.leaving.contains_key(&index) => self.heals.push((at, heal)),
                Heal::Revive(index) => self.revive(index, &[])?,
                Heal::Thaw(index) => {
                    self.hit(index, Duration::ZERO);
                    self.stage.parts.fleet.thaw(index)?;
                }
                Heal::Leave(index) => {
                    self.hit(index, Duration::ZERO);
                    self.leave(index)?;
                }
                Heal::ThawComponent(component) => self.stack.signal_component(component, Signal::Resume)?,
                Heal::Pass(component) => {
                    self.stage.proxies.set(component, None);
                    let hits = self.stage.proxies.hits(component);
                    self.note(format!("proxy of {component} passes everything on again ({hits} hits so far)"));
                }
                Heal::Disarm(index) => {
                    if let Some(failpoint) = self.armed.remove(&index) {
                        let (name, _) = self.names(index);
                        self.note(format!("{name} did not come to {failpoint}: restarted"));
                        self.stage.parts.fleet.kill(index)?;
                        self.revive(index, &[])?;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish_errands(&mut self) -> Result<()> {
        let now = Instant::now();
        for errand in std::mem::take(&mut self.errands) {
            if let Some(component) = errand.component {
                self.stage.aftermath.hit(component.name(), now);
            }
            if !errand.thread.is_finished() {
                self.errands.push(errand);
                continue;
            }
            let result = errand.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match result {
                Ok(()) => self.note(errand.what),
                Err(error) if errand.may_fail => self.note(format!("{}: {error:#}", errand.what)),
                Err(error) => return Err(error.context(errand.what)),
            }
        }
        Ok(())
    }
}
