//! One replay from the first process to the last: what `cargo stack replay` and `cargo demo` share.

mod account;
mod completion;
mod preparation;
mod publishing;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use records::{Registry, RegistryConfig};

use super::audit::RowAudit;
use super::fleet::Fleet;
use super::plan::Plan;
use super::route_audit::RouteAudit;
use super::settings::{Addresses, configuration};
use super::summary::Summary;
use super::watermarks::{Counts, Watermarks};
use crate::broker::Broker;
use crate::publish::SchemaIds;
use crate::recording::Content;
use crate::{Components, Exit, Options, Profile, Progress, Stack, Worker, WorkerBinaries, build_workers};
use watch::Course;

/// How long workers may stand still before the replay gives up on them, beside the time after which a partition is idle.
const STANDSTILL: Duration = Duration::from_secs(120);

/// A running replay.
pub struct Run<'a> {
    binaries: WorkerBinaries,
    plan: Plan,
    progress: &'a dyn Progress,
    stack: Stack,
    broker: Broker,
    registry: Registry,
    fleet: Fleet,
    ids: SchemaIds,
    paces: preparation::Paces,
    begun: Instant,
    published: BTreeMap<Content, u64>,
    summary: Summary,
    /// How each metric worker came along with each of its sources.
    courses: BTreeMap<(&'static str, Content), Course>,
    /// When all rows were in ClickHouse.
    written: Option<Duration>,
    watermarks: BTreeMap<(&'static str, Content), Watermarks>,
    audits: Vec<(&'static str, Vec<RowAudit>)>,
    route_audit: Option<RouteAudit>,
    /// Where workers find the components, if not where they are.
    worker_addresses: Option<Addresses>,
}

/// What whoever disturbs a run needs of it.
pub(crate) struct Parts<'r> {
    pub(crate) stack: &'r Stack,
    pub(crate) fleet: &'r mut Fleet,
    pub(crate) published: &'r mut BTreeMap<Content, u64>,
    pub(crate) ids: &'r SchemaIds,
    pub(crate) problems: &'r mut Vec<String>,
    binaries: &'r WorkerBinaries,
    plan: &'r Plan,
    addresses: Addresses,
}

impl Parts<'_> {
    /// Starts one more process of a worker, and does not wait until it is ready.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start_instance(&mut self, worker: &str, name: &str) -> Result<()> {
        let (protocol, addresses) = (self.plan.protocol, &self.addresses);
        let mut arguments = self.plan.settings_of(worker);
        arguments.push("--create-topics".to_owned());
        self.fleet.start(self.binaries.path(worker)?, worker, name, arguments, |http| {
            configuration(worker, name, protocol, http, addresses)
        })
    }

    /// Runs a worker with its settings and an option that makes it do one thing and end.
    ///
    /// # Errors
    /// It cannot be started, or does not end within the deadline.
    pub(crate) fn run_once(
        &self,
        worker: &str,
        option: &str,
        environment: &[(String, String)],
        deadline: Duration,
    ) -> Result<Exit> {
        let name = format!("{worker}{option}");
        let configuration = configuration(worker, &name, self.plan.protocol, 0, &self.addresses);
        let mut arguments = self.plan.settings_of(worker);
        arguments.push(option.to_owned());
        let (binary, directory) = (self.binaries.path(worker)?, self.stack.work_directory());
        Worker::spawn_with(binary, &name, &configuration, &arguments, environment, &directory)?.wait(deadline)
    }
}

impl<'a> Run<'a> {
    /// Everything up to workers that are ready: [`prepare`](Self::prepare) and [`start_workers`](Self::start_workers).
    ///
    /// # Errors
    /// As those two.
    pub fn start(plan: Plan, progress: &'a dyn Progress) -> Result<Self> {
        let mut run = Self::prepare(plan, progress)?;
        run.start_workers()?;
        Ok(run)
    }

    /// Builds the workers, checks their settings, starts the stack, and makes topics and schemas of the recommender.
    ///
    /// # Errors
    /// The plan cannot be run, or something cannot be built or started.
    pub fn prepare(plan: Plan, progress: &'a dyn Progress) -> Result<Self> {
        let components = Components { clickhouse: plan.writer, ..Components::ALL };
        let options = Options { components, load: plan.load, ..Options::default() };
        let binaries = build_workers(&Profile::of_this_program()?, progress)?;
        Self::prepare_on(plan, &options, binaries, progress)
    }

    /// The same on a stack with these options, with workers that are built already.
    ///
    /// # Errors
    /// The plan cannot be run, or something cannot be started.
    pub(crate) fn prepare_on(
        plan: Plan,
        options: &Options,
        binaries: WorkerBinaries,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let problems = plan.problems();
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        let paces = preparation::check_settings(&plan, &binaries)?;
        let stack = Stack::start(options, progress)?;
        let brokers = stack.brokers();
        let mut run = Self {
            broker: Broker::new(&brokers)?,
            registry: Registry::new(RegistryConfig::new(stack.registry_url()), || false)?,
            fleet: Fleet::new(&stack.work_directory()),
            binaries,
            plan,
            progress,
            stack,
            ids: SchemaIds::new(),
            paces,
            begun: Instant::now(),
            published: BTreeMap::new(),
            summary: Summary::default(),
            courses: BTreeMap::new(),
            written: None,
            watermarks: BTreeMap::new(),
            audits: Vec::new(),
            route_audit: None,
            worker_addresses: None,
        };
        run.prepare_sources()?;
        Ok(run)
    }

    /// The stack that it runs on.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// What is known so far.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// What became of the records of one source.
    #[must_use]
    pub fn counts(&self, worker: &'static str, source: Content) -> Counts {
        self.watermarks.get(&(worker, source)).map(Watermarks::counts).unwrap_or_default()
    }

    /// Where a process of a worker answers HTTP.
    ///
    /// # Errors
    /// None was started.
    pub fn address_of(&self, worker: &str) -> Result<SocketAddr> {
        let instance = self.fleet.instances().iter().find(|instance| instance.worker == worker);
        instance.map(|instance| instance.http).with_context(|| format!("no {worker} was started"))
    }

    /// Lets workers that are started from now on find the components at these addresses.
    pub(crate) fn send_workers_to(&mut self, addresses: Addresses) {
        self.worker_addresses = Some(addresses);
    }

    /// What it is made of.
    pub(crate) fn parts(&mut self) -> Parts<'_> {
        Parts {
            addresses: self.addresses(),
            binaries: &self.binaries,
            plan: &self.plan,
            stack: &self.stack,
            fleet: &mut self.fleet,
            published: &mut self.published,
            ids: &self.ids,
            problems: &mut self.summary.problems,
        }
    }

    fn addresses(&self) -> Addresses {
        if let Some(addresses) = &self.worker_addresses {
            return addresses.clone();
        }
        Addresses {
            brokers: self.stack.brokers(),
            registry: self.stack.registry_url(),
            clickhouse: if self.plan.writer { self.stack.clickhouse_url() } else { String::new() },
        }
    }

    /// Ends the stack.
    ///
    /// # Errors
    /// A component cannot be stopped.
    pub fn stop(self) -> Result<()> {
        self.stack.stop()
    }
}
