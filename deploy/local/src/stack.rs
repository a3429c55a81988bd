//! A set of running components.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::component::{Component, Components};
use crate::components::{self, Place, ProxiedListener, registry};
use crate::downloads::{self, Cache};
use crate::home::{self, DetachedStack, Running};
use crate::options::{Load, Options, Ports};
use crate::prerequisites::{self, Tools};
use crate::processes::{Process, Signal, ThrowAwayDirectory};
use crate::progress::Progress;
use crate::{http, topics};

/// How long a component may take to end in an orderly way.
const PATIENCE: Duration = Duration::from_secs(15);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// Running components. They stop when it is dropped, and die when this process does.
#[derive(Debug)]
pub struct Stack {
    // Before the folder, so that they are gone when it is removed.
    slots: [Mutex<Slot>; Component::ALL.len()],
    home: Home,
    tools: Tools,
    cache: Cache,
    load: Load,
    broker_session: Duration,
    proxied_listener: Option<ProxiedListener>,
    ports: Ports,
    detachable: bool,
}

#[derive(Debug, Default)]
struct Slot {
    /// Of the first start; an address once given stays.
    port: Option<u16>,
    process: Option<Process>,
}

#[derive(Debug)]
enum Home {
    ThrowAway(ThrowAwayDirectory),
    Given(PathBuf),
}

impl Stack {
    /// Downloads what is missing and starts the components, in parallel; returns when all of them answer.
    ///
    /// # Errors
    /// A prerequisite is missing, a download fails, a given port is taken, or a component dies or does not answer at
    /// start: the error then shows the tail of its log. Nothing is left running.
    pub fn start(options: &Options, progress: &dyn Progress) -> Result<Stack> {
        let tools = prerequisites::check()?;
        let home = match &options.directory {
            Some(directory) => Home::Given(occupy(directory)?),
            None => Home::ThrowAway(ThrowAwayDirectory::create("recwatch-stack-")?),
        };
        let stack = Stack {
            slots: Default::default(),
            home,
            tools,
            cache: Cache::of_user()?,
            load: options.load,
            broker_session: options.broker_session,
            proxied_listener: options.broker_proxy.map(ProxiedListener::behind).transpose()?,
            ports: options.ports,
            detachable: options.detachable,
        };
        fs::create_dir_all(stack.work_directory())?;
        stack.ensure(options.components, progress)?;
        Ok(stack)
    }

    /// Starts those of the components that do not run, where they were before.
    ///
    /// # Errors
    /// As [`Stack::start`]; the components that did start go on.
    pub fn ensure(&self, components: Components, progress: &dyn Progress) -> Result<()> {
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                components.iter().map(|component| scope.spawn(move || self.start_one(component, progress))).collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let errors: Vec<String> =
            results.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("\n")) }
    }

    fn start_one(&self, component: Component, progress: &dyn Progress) -> Result<()> {
        let mut slot = self.slot(component);
        if slot.process.as_ref().is_some_and(|process| process.exit().is_none()) {
            return Ok(());
        }
        let files = downloads::fetch(component, &self.cache, &self.tools, progress)?;
        progress.update(component.name(), "starting");
        let place = Place {
            directory: self.directory().to_owned(),
            files,
            tools: self.tools.clone(),
            load: self.load,
            broker_session: self.broker_session,
            proxied_listener: self.proxied_listener,
            releasable: self.detachable,
        };
        let wanted = slot.port.or(self.ports.of(component));
        let (process, port) = components::start(component, &place, wanted)?;
        slot.port = Some(port);
        slot.process = Some(process);
        drop(slot);
        progress.done(component.name(), &format!("ready at {}", self.address(component)));
        Ok(())
    }

    /// Where the stack keeps its data and logs; callers put files of their own into [`Stack::work_directory`].
    pub fn directory(&self) -> &Path {
        match &self.home {
            Home::ThrowAway(directory) => directory.path(),
            Home::Given(directory) => directory,
        }
    }

    /// A folder inside [`Stack::directory`] for the caller's files: worker configurations, logs.
    pub fn work_directory(&self) -> PathBuf {
        self.directory().join(home::WORK)
    }

    /// Kafka's bootstrap servers, `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// The stack was never asked for Kafka.
    pub fn brokers(&self) -> String {
        self.address(Component::Kafka)
    }

    /// Where the broker listens for the proxy of [`Options::broker_proxy`], `127.0.0.1:PORT`; `None` without one.
    pub fn proxied_broker(&self) -> Option<String> {
        self.proxied_listener.map(|listener| format!("127.0.0.1:{}", listener.port))
    }

    /// The base of the registry's Confluent API, `http://127.0.0.1:PORT/apis/ccompat/v7`.
    ///
    /// # Panics
    /// The stack was never asked for a registry.
    pub fn registry_url(&self) -> String {
        self.address(Component::Registry)
    }

    /// The ClickHouse gateway, `http://127.0.0.1:PORT`.
    ///
    /// # Panics
    /// The stack was never asked for ClickHouse.
    pub fn clickhouse_url(&self) -> String {
        self.address(Component::ClickHouse)
    }

    fn address(&self, component: Component) -> String {
        let port = self.slot(component).port.unwrap_or_else(|| panic!("this stack was never asked for {component}"));
        match component {
            Component::Kafka => format!("127.0.0.1:{port}"),
            Component::Registry => format!("http://127.0.0.1:{port}{}", registry::API),
            Component::ClickHouse => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Stops one component in an orderly way and keeps its data and its address: an outage.
    ///
    /// # Errors
    /// It cannot even be killed.
    pub fn stop_component(&self, component: Component) -> Result<()> {
        if let Some(process) = self.slot(component).process.take() {
            process.stop(PATIENCE)?;
        }
        Ok(())
    }

    /// Kills one component (SIGKILL) and keeps its data and its address: a crash.
    ///
    /// # Errors
    /// It does not die.
    pub fn kill_component(&self, component: Component) -> Result<()> {
        if let Some(process) = self.slot(component).process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts a stopped component again, at the same address, with the data that it had.
    ///
    /// # Errors
    /// As [`Stack::start`].
    pub fn start_component(&self, component: Component) -> Result<()> {
        self.start_one(component, &crate::progress::Silent)
    }

    /// Freezes a component: it accepts connections and answers nothing. [`Signal::Resume`] wakes it.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_component(&self, component: Component, signal: Signal) -> Result<()> {
        self.slot(component).process.as_ref().with_context(|| format!("{component} does not run"))?.signal(signal)
    }

    /// The components that were started and not stopped.
    pub fn running(&self) -> Vec<Running> {
        let pid = |component| self.slot(component).process.as_ref().map(Process::pid);
        Component::ALL
            .into_iter()
            .filter_map(|component| Some(Running { component, pid: pid(component)?, address: self.address(component) }))
            .collect()
    }

    /// The components that died without being asked to, each with the tail of its log.
    pub fn casualties(&self) -> Vec<String> {
        Component::ALL
            .into_iter()
            .filter_map(|component| {
                let slot = self.slot(component);
                let process = slot.process.as_ref()?;
                let exit = process.exit()?;
                Some(format!("{component} died with {exit}; its log ends:\n{}", process.log_tail(15)))
            })
            .collect()
    }

    /// Creates a topic with these settings (`("cleanup.policy", "compact,delete")`, …) and waits until it can be used.
    ///
    /// # Errors
    /// The broker refuses it, also when it exists.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        topics::create_topic(&self.brokers(), name, partitions, settings)
    }

    /// Runs one statement in ClickHouse and returns its answer as text (`FORMAT …` in the statement decides how).
    ///
    /// # Errors
    /// ClickHouse refuses it, in its own words, or does not answer.
    pub fn clickhouse_query(&self, statement: &str) -> Result<String> {
        http::post(&self.clickhouse_url(), "text/plain", statement, STATEMENT_TIMEOUT)?
            .ok()
            .with_context(|| format!("ClickHouse refuses {statement:?}"))
    }

    /// Lets the components run on after this process; [`DetachedStack::find`] finds them again by the folder.
    ///
    /// # Errors
    /// The stack was not started as detachable or not in a given folder, or the folder cannot be written.
    pub fn detach(self) -> Result<DetachedStack> {
        let directory = match &self.home {
            Home::Given(directory) if self.detachable => directory.clone(),
            _ => bail!("only a stack that was started as detachable, in a given folder, can be detached"),
        };
        // First, so that nothing ever runs on unseen.
        home::record(&directory, &self.running())?;
        for component in Component::ALL {
            if let Some(process) = self.slot(component).process.take() {
                process.release()?;
            }
        }
        DetachedStack::find(&directory)?.context("the stack's description has vanished")
    }

    /// Stops everything; a temporary folder is removed, a given one is kept.
    ///
    /// # Errors
    /// A component cannot even be killed.
    pub fn stop(self) -> Result<()> {
        self.stop_all()
    }

    /// Data that is thrown away needs no orderly end.
    fn stop_all(&self) -> Result<()> {
        let processes: Vec<Process> =
            Component::ALL.into_iter().filter_map(|component| self.slot(component).process.take()).collect();
        let (first, patience) = match self.home {
            Home::ThrowAway(_) => (Signal::Kill, Duration::ZERO),
            Home::Given(_) => (Signal::Terminate, PATIENCE),
        };
        // All are asked before one is waited for.
        for process in &processes {
            process.signal(first)?;
        }
        for process in &processes {
            process.stop(patience)?;
        }
        Ok(())
    }

    /// A panic while a component was being started leaves the slot as it was: usable.
    fn slot(&self, component: Component) -> MutexGuard<'_, Slot> {
        self.slots[component as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // What fails here, the supervisor does at the latest when this process ends.
        let _ = self.stop_all();
    }
}

/// Makes the folder of a stack, unless a stack runs there.
fn occupy(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    if DetachedStack::find(directory)?.is_some_and(|stack| stack.is_any_alive()) {
        bail!("a stack runs in {} already: stop it (cargo stack down), or choose another folder", directory.display());
    }
    // The components run in other folders.
    fs::canonicalize(directory).with_context(|| format!("{} cannot be found", directory.display()))
}
