//! `cargo stack torture`: everything runs, everything is disturbed, and what is left is compared with what an undisturbed
//! run leaves.
//!
//! A seed decides on the records ([`scenario`]) and on what is done to the run ([`Schedule`]). An [`actor`] carries it out
//! while records are published at a pace. Then the [`judge`] looks at rows, dead letters, logs, memory and standstills.

mod action;
mod actor;
mod aftermath;
mod alteration;
mod hostile;
mod judge;
mod proxies;
mod proxy;
mod publishing;
mod reset;
mod scenario;
mod schedule;
mod seen;
mod stalls;
mod usage;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};

pub use action::{Action, Alteration, Canned, Outage, ProxyFault};
pub use hostile::Planned;
pub use schedule::{Schedule, Step};
pub use verdict::{Verdict, table};

use actor::{Actor, Stage};
use aftermath::Aftermath;
use hostile::Ids;
use proxies::Proxies;
use publishing::{Course, register_bombs, register_foreign};
use scenario::{PARTITIONS, Scenario};
use seen::Seen;
use stalls::Stall;

use crate::at_the_end::AtTheEnd;
use crate::broker::Broker;
use crate::publish::SchemaIds;
use crate::replay::{ALERTS, Run};
use crate::workspace::build_workers_with;
use crate::{Options, Profile, Progress, ThrowAwayDirectory, WorkerBinaries, free_port};

/// The feature of workers that can be made to crash at chosen places.
const FEATURE: &str = "failpoints";

/// Rows by table.
type Tables = BTreeMap<&'static str, String>;

/// Runs seeds one after the other.
pub struct Torture<'a> {
    progress: &'a dyn Progress,
    binaries: WorkerBinaries,
    /// Where they are.
    _folder: ThrowAwayDirectory,
    length: Duration,
    keep: bool,
    /// Rows of undisturbed runs, by recording.
    references: BTreeMap<u64, Tables>,
}

impl<'a> Torture<'a> {
    /// Builds the workers. In each run records are published for `length`; with `keep`, logs of good runs are kept too.
    ///
    /// # Errors
    /// The workers do not build.
    pub fn new(length: Duration, keep: bool, progress: &'a dyn Progress) -> Result<Self> {
        let folder = ThrowAwayDirectory::create("recwatch-torture-workers-")?;
        let binaries = build_workers_with(&Profile::of_this_program()?, Some(FEATURE), progress)?;
        // whoever builds meanwhile builds workers that do not crash
        let binaries = binaries.copied_to(folder.path())?;
        Ok(Self { progress, binaries, _folder: folder, length, keep, references: BTreeMap::new() })
    }

    /// What a seed does to a run of this length.
    #[must_use]
    pub fn schedule(seed: u64, length: Duration) -> Schedule {
        Schedule::new(seed, length, PARTITIONS)
    }

    /// Runs one seed and judges it.
    ///
    /// # Errors
    /// The reference cannot be computed, or the report of a failure cannot be written.
    pub fn run(&mut self, seed: u64) -> Result<Verdict> {
        let scenario = Scenario::new(seed, self.length);
        if !self.references.contains_key(&scenario.recording()) {
            let rows = self.undisturbed(scenario).context("the reference, an undisturbed run, failed")?;
            self.references.insert(scenario.recording(), rows);
        }
        let schedule = Self::schedule(seed, self.length);
        let mut verdict = Verdict::new(&schedule);
        let folder = tempfile::Builder::new().prefix(&format!("recwatch-torture-{seed}-")).tempdir()?;
        if let Err(error) = self.attempt(scenario, &schedule, &mut verdict, folder.path()) {
            verdict.problems.push(format!("{error:#}"));
        }
        if self.keep || !verdict.is_good() {
            std::fs::write(folder.path().join("verdict.txt"), verdict.report())?;
            verdict.logs = Some(folder.keep());
        }
        Ok(verdict)
    }

    /// One run, from its first process to its last.
    fn attempt(&self, scenario: Scenario, schedule: &Schedule, verdict: &mut Verdict, folder: &Path) -> Result<()> {
        let port = free_port()?;
        let options = Options { broker_proxy: Some(port), ..Options::default() };
        let mut run = Run::prepare_on(scenario.disturbed(), &options, self.binaries.clone(), self.progress)?;
        let proxies = Proxies::start(run.stack(), port)?;
        run.send_workers_to(proxies.addresses(run.stack()));
        let done = self.disturb(&mut run, scenario, schedule, &proxies, verdict, folder);
        verdict.problems.extend(run.summary().problems.iter().cloned());
        if self.keep || done.is_err() || !verdict.is_good() {
            run.keep_logs(folder)?;
        }
        run.stop()?;
        done
    }

    /// The rows that the scenario's records lead to.
    fn undisturbed(&self, scenario: Scenario) -> Result<Tables> {
        self.progress.update("reference", "computed by an undisturbed run");
        let mut run =
            Run::prepare_on(scenario.undisturbed(), &Options::default(), self.binaries.clone(), self.progress)?;
        run.start_workers()?;
        let brokers = run.stack().brokers();
        let (none, ids) = (SchemaIds::new(), Ids { own: run.parts().ids.clone(), bombs: SchemaIds::new() });
        let course = Course { brokers: &brokers, scenario, partitions: 1, length: None, ids: &ids, foreign: &none };
        *run.parts().published = course.run(&channel().1)?;
        run.complete()?;
        run.stop_workers()?;
        run.account()?;
        let folder = tempfile::tempdir()?;
        run.export(folder.path())?;
        let problems = run.summary().problems.join("\n");
        anyhow::ensure!(problems.is_empty(), "{problems}");
        let rows = read_tables(&run, folder.path())?;
        run.stop()?;
        for (table, rows) in &rows {
            anyhow::ensure!(!rows.is_empty(), "{table} has no rows to compare");
        }
        self.progress
            .done("reference", &format!("{} rows", rows.values().map(|rows| rows.lines().count()).sum::<usize>()));
        Ok(rows)
    }

    fn disturb(
        &self,
        run: &mut Run<'_>,
        scenario: Scenario,
        schedule: &Schedule,
        proxies: &Proxies,
        verdict: &mut Verdict,
        folder: &Path,
    ) -> Result<()> {
        run.start_workers()?;
        for worker in schedule::workers() {
            for number in 2..=schedule::INSTANCES {
                run.parts().start_instance(worker, &schedule::instance(worker, number))?;
            }
        }
        let (seen, stall) = self.play(run, scenario, schedule, proxies)?;
        let problems = verdict.take(seen, &stall);
        run.parts().problems.extend(problems);
        self.progress.update("torture", "waiting until everything is processed");
        run.complete()?;
        run.stop_workers()?;
        run.account()?;
        self.judge(run, scenario, verdict, folder)?;
        if reset::is_on(schedule.seed) && verdict.is_good() && run.summary().problems.is_empty() {
            self.progress.update("torture", "a worker's state is given up");
            let event = reset::play(run, schedule.seed)?;
            verdict.note(schedule.length, &event);
            // alerts of the time that is read again are sent again
            self.compare(run, scenario, verdict, folder, "after a reset", |table| table != ALERTS.table)?;
        }
        Ok(())
    }

    /// Publishes, and carries the schedule out meanwhile.
    fn play(
        &self,
        run: &mut Run<'_>,
        scenario: Scenario,
        schedule: &Schedule,
        proxies: &Proxies,
    ) -> Result<(Seen, Stall)> {
        let foreign = register_foreign(&run.stack().registry_url())?;
        let (brokers, aftermath, over) = (run.stack().brokers(), Aftermath::default(), AtomicBool::new(false));
        let (sender, hostile) = channel();
        let bombs = register_bombs(&run.stack().registry_url())?;
        let ids = Ids { own: run.parts().ids.clone(), bombs };
        let course = Course {
            brokers: &brokers,
            scenario,
            partitions: PARTITIONS,
            length: Some(schedule.length),
            ids: &ids,
            foreign: &foreign,
        };
        let parts = run.parts();
        let (seen, stall, published) = std::thread::scope(|scope| {
            let over = &over;
            let publisher = scope.spawn(move || {
                // behind it partitions stand still because nothing comes
                let _over = AtTheEnd(over);
                course.run(&hostile)
            });
            let watcher = scope.spawn(|| stalls::watch(&brokers, &aftermath, || over.load(Ordering::Acquire)));
            let stage = Stage { parts, proxies, aftermath: &aftermath, hostile: sender };
            let seen = Actor::new(scope, stage, self.progress).play(schedule, || publisher.is_finished());
            let stall = watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let published = publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (seen, stall, published)
        });
        *run.parts().published = published?;
        Ok((seen?, stall?))
    }

    fn judge(&self, run: &mut Run<'_>, scenario: Scenario, verdict: &mut Verdict, folder: &Path) -> Result<()> {
        self.progress.update("torture", "comparing");
        self.compare(run, scenario, verdict, folder, "", |_| true)?;
        let problems = &mut verdict.problems;
        let brokers = run.stack().brokers();
        let broker = Broker::new(&brokers)?;
        let hostile = judge::hostile_records(&broker)?;
        verdict.hostile = hostile.len() as u64;
        let handed_on = judge::handed_on(&brokers, &broker, judge::expected(&hostile))?;
        problems.extend(judge::ends(&hostile, &handed_on));
        problems.extend(judge::logs(&run.stack().work_directory())?);
        self.progress.done("torture", &format!("seed {}: {} problems", verdict.seed, verdict.problems.len()));
        Ok(())
    }
}

impl Torture<'_> {
    /// Compares the tables' rows, final ones and all that are stored, with those of the reference.
    fn compare(
        &self,
        run: &Run<'_>,
        scenario: Scenario,
        verdict: &mut Verdict,
        folder: &Path,
        when: &str,
        is_compared: impl Fn(&str) -> bool,
    ) -> Result<()> {
        run.export(folder)?;
        let stored = folder.join("stored");
        std::fs::create_dir_all(&stored)?;
        run.export_stored(&stored)?;
        let reference = &self.references[&scenario.recording()];
        for (which, folder) in [("final rows", folder), ("stored rows", stored.as_path())] {
            for (table, rows) in read_tables(run, folder)?.into_iter().filter(|(table, _)| is_compared(table)) {
                let what = format!("{table}, {which} {when}");
                verdict.problems.extend(judge::difference(what.trim_end(), &reference[table], &rows));
            }
        }
        verdict.rows = reference.values().map(|rows| rows.lines().count() as u64).sum();
        Ok(())
    }
}

fn read_tables(run: &Run<'_>, folder: &Path) -> Result<Tables> {
    let read = |table: &'static str| {
        let file: PathBuf = folder.join(format!("{table}.ndjson"));
        let rows = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        Ok((table, rows))
    };
    run.tables().map(read).collect()
}
