//! What a replay is asked to run.

use std::collections::BTreeSet;

use super::metric_workers::{MetricWorker, ROUTER, WRITER};
use super::settings::{Protocol, Setting};
use crate::Load;
use crate::fault::Fault;
use crate::recording::Content;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The metric workers.
    pub workers: Vec<MetricWorker>,
    /// Processes of each.
    pub instances: u32,
    /// Partitions of each source topic.
    pub partitions: i32,
    /// Kafka's group protocol.
    pub protocol: Protocol,
    /// Settings of the workers.
    pub settings: Vec<Setting>,
    /// What will be published.
    pub contents: BTreeSet<Content>,
    /// Lines a second; as fast as possible if `None`.
    pub rate: Option<f64>,
    /// Kills, while publishing.
    pub faults: Vec<Fault>,
    /// What the stack is tuned for.
    pub load: Load,
    /// Whether clickhouse-writer runs.
    pub writer: bool,
    /// Whether alert-router runs.
    pub router: bool,
}

impl Plan {
    /// All that is wrong with it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let names = self.worker_names();
        let mut problems = Vec::new();
        for setting in self.settings.iter().filter(|setting| !names.contains(&setting.worker.as_str())) {
            let [_, text] = setting.arguments();
            problems.push(format!(
                "--set {}.{text}: {} does not run here; there are: {}",
                setting.worker,
                setting.worker,
                names.join(", ")
            ));
        }
        let instances = self.instance_names();
        for fault in &self.faults {
            if fault.hits(ROUTER, ROUTER) {
                problems.push(format!(
                    "--fault {fault}: {ROUTER} does not say how far it has read, so its worst moment is not known"
                ));
            } else if !instances.iter().any(|(worker, instance)| fault.hits(worker, instance)) {
                let processes: Vec<&str> = instances.iter().map(|(_, instance)| instance.as_str()).collect();
                problems.push(format!("--fault {fault}: no such process; there are: {}", processes.join(", ")));
            }
        }
        problems
    }

    /// The workers that run.
    pub(super) fn worker_names(&self) -> Vec<&'static str> {
        let metric = self.workers.iter().map(|worker| worker.name);
        metric.chain(self.writer.then_some(WRITER)).chain(self.router.then_some(ROUTER)).collect()
    }

    /// Worker and name of every process.
    pub(super) fn instance_names(&self) -> Vec<(&'static str, String)> {
        let metric = |worker: &MetricWorker| {
            let name = worker.name;
            (1..=self.instances).map(move |number| (name, format!("{name}-{number}")))
        };
        let single = |runs: bool, name: &'static str| runs.then(|| (name, name.to_owned()));
        let metric = self.workers.iter().flat_map(metric);
        metric.chain(single(self.writer, WRITER)).chain(single(self.router, ROUTER)).collect()
    }

    /// Whether alert-router tells [`ROUTE_TOPIC`](super::ROUTE_TOPIC) of all alerts: its routes are those that it has by
    /// default.
    pub(super) fn routes_to_the_topic(&self) -> bool {
        const ROUTES: [&str; 5] = ["route", "receivers", "inhibit", "mute_times", "topics"];
        let is_about_routes = |key: &str| ROUTES.contains(&key.split('.').next().unwrap_or(key));
        self.router && !self.settings.iter().any(|setting| setting.worker == ROUTER && is_about_routes(&setting.key))
    }

    pub(super) fn settings_of(&self, worker: &str) -> Vec<String> {
        self.settings.iter().filter(|setting| setting.worker == worker).flat_map(Setting::arguments).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            workers: super::super::METRIC_WORKERS[..1].to_vec(),
            instances: 2,
            partitions: 4,
            protocol: Protocol::default(),
            settings: Vec::new(),
            contents: BTreeSet::new(),
            rate: None,
            faults: Vec::new(),
            load: Load::Short,
            writer: true,
            router: true,
        }
    }

    #[test]
    fn settings_and_faults_of_processes_that_do_not_run_are_all_named_at_once() {
        let mut plan = plan();
        plan.settings = vec!["cosine-decay.window=1m".parse().unwrap(), "clickhouse-writer.batch=1".parse().unwrap()];
        plan.faults = vec!["kill:session-entropy-3:1".parse().unwrap(), "kill:clickhouse-writer:1".parse().unwrap()];
        let problems = plan.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("--set cosine-decay.window=1m") && problems[0].contains("session-entropy"));
        assert!(problems[1].contains("--fault kill:session-entropy-3:1") && problems[1].contains("session-entropy-2"));
    }

    #[test]
    fn what_the_router_tells_is_judged_only_with_the_routes_that_it_ships_with() {
        let mut plan = plan();
        assert!(plan.routes_to_the_topic());
        plan.settings = vec!["alert-router.http.listen=\"127.0.0.1:1\"".parse().unwrap()];
        assert!(plan.routes_to_the_topic());
        plan.settings.push("alert-router.route.group_by=[\"...\"]".parse().unwrap());
        assert!(!plan.routes_to_the_topic());
        let without = Plan { settings: Vec::new(), router: false, ..plan };
        assert!(!without.routes_to_the_topic());
    }
}
