//! What a replay is asked to run.

use std::collections::BTreeSet;

use super::metric_workers::{MetricWorker, WRITER};
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
            if !instances.iter().any(|(worker, instance)| fault.hits(worker, instance)) {
                let processes: Vec<&str> = instances.iter().map(|(_, instance)| instance.as_str()).collect();
                problems.push(format!("--fault {fault}: no such process; there are: {}", processes.join(", ")));
            }
        }
        problems
    }

    /// The workers that run.
    pub(super) fn worker_names(&self) -> Vec<&'static str> {
        self.workers.iter().map(|worker| worker.name).chain(self.writer.then_some(WRITER)).collect()
    }

    /// Worker and name of every process.
    pub(super) fn instance_names(&self) -> Vec<(&'static str, String)> {
        let metric = |worker: &MetricWorker| {
            let name = worker.name;
            (1..=self.instances).map(move |number| (name, format!("{name}-{number}")))
        };
        self.workers.iter().flat_map(metric).chain(self.writer.then(|| (WRITER, WRITER.to_owned()))).collect()
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
}
