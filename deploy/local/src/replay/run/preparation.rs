//! Everything before the first line: settings judged, topics and tables made, workers started.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use records::{EmbeddingUpdated, Interaction};

use super::super::metric_workers::WRITER;
use super::super::plan::Plan;
use super::super::settings::{self, Setting};
use super::{Run, STANDSTILL};
use crate::recording::Content;
use crate::{Worker, WorkerBinaries, fault};

/// What the recommender's topics accept: more than the workers do, so that too large records reach them.
const MAX_SOURCE_BYTES: &str = "4194304";

/// What the progress calls this.
const STEP: &str = "workers";

impl Run<'_> {
    /// Topics and schemas of the recommender.
    pub(super) fn prepare_sources(&mut self) -> Result<()> {
        let mut contents = self.plan.contents.clone();
        contents.extend(self.plan.workers.iter().flat_map(|worker| worker.sources));
        for content in contents {
            let settings = [("max.message.bytes", MAX_SOURCE_BYTES), ("retention.ms", "-1")];
            self.stack.create_topic(content.topic(), self.plan.partitions, &settings)?;
            let id = match content {
                Content::Interactions => self.registry.register_for::<Interaction<'static>>(content.topic())?,
                Content::ItemEmbeddings | Content::UserEmbeddings => {
                    self.registry.register_for::<EmbeddingUpdated<'static>>(content.topic())?
                }
            };
            self.ids.insert(content, id);
        }
        Ok(())
    }

    /// Makes the tables and starts the workers; returns when they are ready. Until a line is published, their time counts
    /// from here.
    ///
    /// # Errors
    /// A process cannot be started, ends while it starts, or does not become ready.
    pub fn start_workers(&mut self) -> Result<()> {
        let addresses = self.addresses();
        let protocol = self.plan.protocol;
        let directory = self.stack.work_directory();
        if self.plan.writer {
            self.progress.update(STEP, "creating tables");
            let mut arguments = self.plan.settings_of(WRITER);
            arguments.push("--apply-ddl".to_owned());
            let configuration = settings::configuration(WRITER, WRITER, protocol, 0, &addresses);
            let writer = self.binaries.path(WRITER)?;
            Worker::run(writer, "apply-ddl", &configuration, &arguments, &directory, Duration::from_secs(60))
                .context("the tables cannot be created")?;
        }
        self.progress.update(STEP, "starting");
        for (worker, name) in self.plan.instance_names() {
            self.parts().start_instance(worker, &name)?;
        }
        self.wait_until_ready()
    }

    /// Starts the workers again after [`stop_workers`](Self::stop_workers), until they stop with these settings besides;
    /// returns when they are ready, and how long (wall clock) that took. Their time counts from there.
    ///
    /// # Errors
    /// As [`start_workers`](Self::start_workers).
    pub fn restart_workers(&mut self, settings: &[Setting]) -> Result<Duration> {
        self.progress.update(STEP, "starting again");
        let begun = Instant::now();
        self.fleet.start_again(settings)?;
        self.wait_until_ready()?;
        Ok(begun.elapsed())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.fleet.check()?;
            let starting = self.not_ready();
            if starting.is_empty() {
                break;
            }
            if begun.elapsed() > STANDSTILL {
                bail!(
                    "no process of {} has become ready in {STANDSTILL:?}; logs are in {}",
                    starting.join(", "),
                    self.stack.work_directory().display()
                );
            }
            self.progress.update(STEP, &format!("waiting for {}", starting.join(", ")));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.begun = Instant::now();
        self.courses.clear();
        self.progress.done(STEP, &format!("{} processes run", self.fleet.instances().len()));
        Ok(())
    }

    /// Workers of which no process is ready. One without a partition never is, so not all of them have to be.
    fn not_ready(&self) -> Vec<&'static str> {
        let workers = self.plan.worker_names().into_iter();
        let ready = |worker: &str| {
            self.fleet.instances().iter().any(|instance| instance.worker == worker && fault::ready(instance.http))
        };
        workers.filter(|worker| !ready(worker)).collect()
    }
}

/// By worker and source: how far apart windows end, and after how long a silent partition is idle (ms).
pub(super) type Paces = BTreeMap<(&'static str, Content), (i64, i64)>;

/// Lets every worker judge its settings, and asks for the paces of the metric workers.
pub(super) fn check_settings(plan: &Plan, binaries: &WorkerBinaries) -> Result<Paces> {
    let mut problems = Vec::new();
    let mut paces = BTreeMap::new();
    for worker in plan.worker_names() {
        let binary = binaries.path(worker)?;
        let ask = |arguments: &[String]| {
            let output = Command::new(binary).args(arguments).output();
            output.with_context(|| format!("{} cannot be run", binary.display()))
        };
        let mut arguments = plan.settings_of(worker);
        arguments.push("--check-config".to_owned());
        let output = ask(&arguments)?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            problems.push(format!("{worker} refuses its settings:\n{}", String::from_utf8_lossy(&said).trim()));
            continue;
        }
        if let Some(metric_worker) = plan.workers.iter().find(|of| of.name == worker) {
            let defaults = ask(&["--print-default-config".to_owned()])?;
            let defaults = String::from_utf8_lossy(&defaults.stdout).into_owned();
            let duration = |key| settings::duration(key, worker, &plan.settings, &defaults).map_err(anyhow::Error::msg);
            for &source in metric_worker.sources {
                let pace = (duration(metric_worker.slide_key(source))?, duration("idle_timeout")?);
                paces.insert((worker, source), pace);
            }
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(paces)
}
