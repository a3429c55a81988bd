//! A storm of alerts through alert-router: what it costs, and how long it holds up a route that it has nothing to do with.

mod alerts;
mod unrelated;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::Message;
use records::{Alert, Registry, RegistryConfig};

use crate::broker::Broker;
use crate::replay::{ALERTS_TOPIC, Addresses, Fleet, Protocol, ROUTER, Setting, configuration};
use crate::{Components, Load, Options, Profile, Progress, Stack, WorkerBinaries, build_workers, http, ports};
use alerts::{Sender, firing};
use unrelated::Unrelated;

use super::Delays;

/// Alerts of the storm a second: 100,000 a minute.
const PACE: f64 = 100_000.0 / 60.0;
/// How long unrelated alerts are sent without a storm.
const CALM: Duration = Duration::from_secs(15);
/// How long the router may take to become active, and to tell what is left when all is sent.
const PATIENCE: Duration = Duration::from_secs(120);

const STORM_TOPIC: &str = "recwatch.routes.storm.v1";
const STORM: &str = "storm";

/// What to measure.
#[derive(Debug, Clone)]
pub struct Storm {
    /// Different alerts of the storm, sent evenly at 100,000 a minute.
    pub alerts: u64,
    /// Partitions of the alerts' topic.
    pub partitions: i32,
    /// Settings of the router.
    pub settings: Vec<Setting>,
    /// What the stack is tuned for.
    pub load: Load,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct StormRow {
    /// What was measured.
    pub what: &'static str,
    /// Alerts a second, from the first one sent to the last one told.
    pub alerts_per_second: f64,
    /// Records on the storm's route.
    pub storm_records: u64,
    /// From sending an unrelated alert until a consumer of committed records has it from its route.
    pub delays: Delays,
    /// Processor time of the router.
    pub cpu: Duration,
    /// The most memory that it held.
    pub peak_rss_bytes: u64,
}

/// How the storm is routed.
#[derive(Debug, Clone, Copy)]
struct Case {
    what: &'static str,
    group_by: &'static str,
    /// Whether the storm is for a pager, too, which does not answer.
    pager: bool,
    storm: bool,
}

const CASES: [Case; 4] = [
    Case { what: "no storm", group_by: "rule", pager: false, storm: false },
    Case { what: "storm in a group", group_by: "rule", pager: false, storm: true },
    Case { what: "storm, each alert a group", group_by: "...", pager: false, storm: true },
    Case { what: "the same, and a pager that is down", group_by: "...", pager: true, storm: true },
];

/// Measures a storm in one group, one of which each alert is a group, and that for a pager besides; each on a stack of its
/// own.
///
/// # Errors
/// Something cannot be started, or does not tell all alerts.
pub fn run(storm: &Storm, progress: &dyn Progress) -> Result<Vec<StormRow>> {
    let binaries = build_workers(&Profile::of_this_program()?, progress)?;
    CASES.iter().map(|case| Measurement { storm, case, progress }.measure(&binaries)).collect()
}

struct Measurement<'a> {
    storm: &'a Storm,
    case: &'a Case,
    progress: &'a dyn Progress,
}

impl Measurement<'_> {
    fn measure(&self, binaries: &WorkerBinaries) -> Result<StormRow> {
        let components = Components { clickhouse: false, ..Components::ALL };
        let options = Options { components, load: self.storm.load, ..Options::default() };
        let stack = Stack::start(&options, self.progress)?;
        stack.create_topic(ALERTS_TOPIC, self.storm.partitions, &[])?;
        let registry = Registry::new(RegistryConfig::new(stack.registry_url()), || false)?;
        let schema = registry.register_for::<Alert<'static>>(ALERTS_TOPIC)?;
        let mut fleet = Fleet::new(&stack.work_directory());
        self.start(&mut fleet, &stack, binaries)?;
        let router = fleet.instances()[0].http;
        self.progress.update(self.case.what, "running");
        let unrelated = Unrelated::begin(&stack.brokers(), schema)?;
        let (took, delays) = thread::scope(|scope| {
            let storm = scope.spawn(|| self.send(&stack.brokers(), schema, router));
            let delays = unrelated.delays(|| storm.is_finished());
            let took = storm.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // a storm that has failed says why the others did not come
            anyhow::Ok((took?, delays?))
        })?;
        fleet.check()?;
        let problems = fleet.stop()?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        let storm_records = self.storm_records(&stack.brokers())?;
        let usage = fleet.usage(ROUTER);
        self.progress.done(self.case.what, &format!("{:.0} s", took.as_secs_f64()));
        stack.stop()?;
        Ok(StormRow {
            what: self.case.what,
            alerts_per_second: (self.alerts() + delays.count()) as f64 / took.as_secs_f64(),
            storm_records,
            delays,
            cpu: usage.cpu,
            peak_rss_bytes: usage.peak_rss_bytes,
        })
    }

    fn alerts(&self) -> u64 {
        if self.case.storm { self.storm.alerts } else { 0 }
    }

    fn start(&self, fleet: &mut Fleet, stack: &Stack, binaries: &WorkerBinaries) -> Result<()> {
        let addresses =
            Addresses { brokers: stack.brokers(), registry: stack.registry_url(), clickhouse: String::new() };
        let routes = self.routes()?;
        let settings = self.storm.settings.iter().filter(|setting| setting.worker == ROUTER);
        let mut arguments: Vec<String> = settings.flat_map(Setting::arguments).collect();
        arguments.push("--create-topics".to_owned());
        fleet.start(binaries.path(ROUTER)?, ROUTER, ROUTER, arguments, |http| {
            configuration(ROUTER, ROUTER, Protocol::default(), http, &addresses) + &routes
        })?;
        let begun = Instant::now();
        let router = fleet.instances()[0].http;
        while metric(router, "recwatch_alert_router_active").unwrap_or_default() != 1.0 {
            fleet.check()?;
            ensure!(begun.elapsed() < PATIENCE, "{ROUTER} has not become active within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Two routes that have nothing to do with each other.
    fn routes(&self) -> Result<String> {
        let group_by = self.case.group_by;
        let mut routes = format!(
            r#"
            [route]
            receiver = "unrelated"
            group_by = ["{group_by}"]
            group_wait = "0s"
            [[route.routes]]
            matchers = ['rule="{}"']
            "#,
            unrelated::RULE
        );
        if self.case.pager {
            let down = ports::free_port()?;
            routes += &format!(
                r#"
                [[route.routes]]
                matchers = ['rule="{STORM}"']
                receiver = "pager"
                continue = true
                [receivers.pager]
                type = "webhook"
                url = "http://127.0.0.1:{down}/"
                "#
            );
        }
        routes += &format!(
            r#"
            [[route.routes]]
            matchers = ['rule="{STORM}"']
            receiver = "storm"
            [receivers.storm]
            type = "topic"
            topic = "{STORM_TOPIC}"
            [receivers.unrelated]
            type = "topic"
            topic = "{}"
            "#,
            unrelated::TOPIC
        );
        Ok(routes)
    }

    /// Sends the storm and waits until all of it is told; how long that took.
    fn send(&self, brokers: &str, schema: i32, router: SocketAddr) -> Result<Duration> {
        if !self.case.storm {
            thread::sleep(CALM);
            return Ok(CALM);
        }
        let mut sender = Sender::new(brokers, schema)?;
        let (begun, time) = (Instant::now(), now());
        let mut sent = 0;
        while sent < self.storm.alerts {
            let due = ((begun.elapsed().as_secs_f64() * PACE) as u64).min(self.storm.alerts);
            for number in sent..due {
                sender.send(&firing(STORM, number, time))?;
            }
            sent = due;
            thread::sleep(Duration::from_millis(2));
        }
        sender.flush()?;
        let flushed = Instant::now();
        let told = || metric(router, "recwatch_alert_router_notifications_total{receiver=\"storm\"}");
        while told().unwrap_or_default() < self.storm.alerts as f64 {
            if flushed.elapsed() > PATIENCE {
                bail!("{ROUTER} has told {:?} of {} alerts within {PATIENCE:?}", told(), self.storm.alerts);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(begun.elapsed())
    }

    /// The records of the storm's route, which have to tell each alert once.
    fn storm_records(&self, brokers: &str) -> Result<u64> {
        let (mut records, mut told) = (0, 0);
        Broker::new(brokers)?.read_all(STORM_TOPIC, |message| {
            records += 1;
            told += fingerprints(message.payload().unwrap_or_default())?.len() as u64;
            Ok(())
        })?;
        ensure!(told == self.alerts(), "{STORM_TOPIC} tells {told} of {} alerts", self.alerts());
        Ok(records)
    }
}

/// Which alerts a notification tells of.
fn fingerprints(notification: &[u8]) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Notification {
        alerts: Vec<Told>,
    }
    #[derive(serde::Deserialize)]
    struct Told {
        fingerprint: String,
    }
    let notification: Notification = serde_json::from_slice(notification).context("this is no notification")?;
    Ok(notification.alerts.into_iter().map(|alert| alert.fingerprint).collect())
}

/// The value of a metric of this name and labels; `None` while there is none.
fn metric(address: SocketAddr, series: &str) -> Option<f64> {
    let text = http::get(&format!("http://{address}/metrics"), Duration::from_millis(500)).ok()?.ok().ok()?;
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
