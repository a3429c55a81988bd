//! The runtime's metrics: names in one place, `recwatch_streaming_*`.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::operator::Figure;

/// One partition of an input topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PartitionLabels {
    /// Topic.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
}

/// One input topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabels {
    /// Topic.
    pub(crate) topic: String,
}

/// One input topic and a reason of refusal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    /// Topic.
    pub(crate) topic: String,
    /// Reason as METRICS.md names it.
    pub(crate) reason: String,
}

/// One figure of the operator of a partition of an input topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct FigureLabels {
    /// Topic.
    pub(crate) topic: String,
    /// Partition.
    pub(crate) partition: i32,
    /// What it is.
    pub(crate) name: &'static str,
    /// What it is of.
    pub(crate) of: String,
}

type PerPartition = Family<PartitionLabels, Gauge<i64, AtomicI64>>;
type PerTopic = Family<TopicLabels, Counter>;
type PerTable = Family<TopicLabels, Gauge<i64, AtomicI64>>;

/// Metrics of an instance. Gauges of a partition exist while this instance owns it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    pub(crate) read: PerTopic,
    pub(crate) applied: PerTopic,
    pub(crate) late: PerTopic,
    pub(crate) dead_lettered: Family<ReasonLabels, Counter>,
    pub(crate) position: PerPartition,
    pub(crate) committed: PerPartition,
    pub(crate) lag: PerPartition,
    pub(crate) watermark_delay: PerPartition,
    pub(crate) open_windows: PerPartition,
    pub(crate) overflowed_groups: PerPartition,
    pub(crate) state_keys: PerPartition,
    pub(crate) state_bytes: PerPartition,
    pub(crate) operator: Family<FigureLabels, Gauge<i64, AtomicI64>>,
    pub(crate) commit_seconds: Histogram,
    pub(crate) row_commit_seconds: Histogram,
    pub(crate) commit_aborts: Counter,
    pub(crate) snapshot_seconds: Histogram,
    pub(crate) restore_seconds: Histogram,
    pub(crate) end_to_end_seconds: Histogram,
    pub(crate) pending_bytes: Gauge,
    pub(crate) pauses: Counter,
    pub(crate) table_entries: PerTable,
    pub(crate) table_bytes: PerTable,
    pub(crate) table_delay: PerTable,
}

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            read: Family::default(),
            applied: Family::default(),
            late: Family::default(),
            dead_lettered: Family::default(),
            position: Family::default(),
            committed: Family::default(),
            lag: Family::default(),
            watermark_delay: Family::default(),
            open_windows: Family::default(),
            overflowed_groups: Family::default(),
            state_keys: Family::default(),
            state_bytes: Family::default(),
            operator: Family::default(),
            commit_seconds: seconds(),
            row_commit_seconds: seconds(),
            commit_aborts: Counter::default(),
            snapshot_seconds: seconds(),
            restore_seconds: seconds(),
            end_to_end_seconds: seconds(),
            pending_bytes: Gauge::default(),
            pauses: Counter::default(),
            table_entries: Family::default(),
            table_bytes: Family::default(),
            table_delay: Family::default(),
        }
    }
}

impl Telemetry {
    /// Registers all metrics; the registry given has the prefix `recwatch_streaming_`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("records_read", "Records taken from source topics", self.read.clone());
        registry.register("records_applied", "Events that entered the state", self.applied.clone());
        registry.register("records_late", "Events at or below the watermark", self.late.clone());
        registry.register("records_dead_lettered", "Records refused, by reason", self.dead_lettered.clone());
        registry.register("position", "Next offset that this instance will process", self.position.clone());
        registry.register("committed", "Offset that is committed with its outputs", self.committed.clone());
        registry.register("lag_records", "Offsets behind the partition's high watermark", self.lag.clone());
        let help = "Wall clock minus watermark, in milliseconds";
        registry.register("watermark_delay_milliseconds", help, self.watermark_delay.clone());
        registry.register("open_windows", "Windows that hold data and are not closed", self.open_windows.clone());
        let help = "Groups merged into others since the partition was assigned, because there were too many";
        registry.register("overflowed_groups", help, self.overflowed_groups.clone());
        registry.register("state_keys", "Live keys", self.state_keys.clone());
        registry.register("state_bytes", "Live state, estimated", self.state_bytes.clone());
        registry.register("operator", "What the worker's operators tell of themselves", self.operator.clone());
        registry.register("commit_duration_seconds", "From a cut to its commit", self.commit_seconds.clone());
        let help =
            "From the merge closing a window to the commit of its rows and alerts; of a commit's windows the first one";
        registry.register("row_commit_duration_seconds", help, self.row_commit_seconds.clone());
        registry.register("commit_aborts", "Transactions aborted and made again", self.commit_aborts.clone());
        registry.register("snapshot_duration_seconds", "Serialising a task's state", self.snapshot_seconds.clone());
        registry.register("restore_duration_seconds", "Bringing a task back", self.restore_seconds.clone());
        let help = "From a source record's Kafka timestamp to the commit of what it caused";
        registry.register("end_to_end_latency_seconds", help, self.end_to_end_seconds.clone());
        registry.register("pending_output_bytes", "Output that waits for its commit", self.pending_bytes.clone());
        let help = "Partitions paused: too far ahead of others, or too much output waiting";
        registry.register("pauses", help, self.pauses.clone());
        registry.register("table_entries", "Entries of a table", self.table_entries.clone());
        registry.register("table_bytes", "Bytes of a table in this instance", self.table_bytes.clone());
        let help = "Wall clock minus the event time up to which a table is complete, in ms";
        registry.register("table_delay_milliseconds", help, self.table_delay.clone());
    }

    /// Shows what a partition's operator tells of itself, and no longer what it has told before and does not tell now.
    /// Answers under which labels.
    pub(crate) fn show(
        &self,
        labels: &PartitionLabels,
        before: &[FigureLabels],
        figures: &[Figure<'_>],
    ) -> Vec<FigureLabels> {
        let told = figures.iter().map(|figure| {
            let labels = FigureLabels {
                topic: labels.topic.clone(),
                partition: labels.partition,
                name: figure.name,
                of: figure.of.to_owned(),
            };
            self.operator.get_or_create(&labels).set(i64::try_from(figure.value).unwrap_or(i64::MAX));
            labels
        });
        let told: Vec<FigureLabels> = told.collect();
        for gone in before.iter().filter(|labels| !told.contains(labels)) {
            self.operator.remove(gone);
        }
        told
    }

    /// Forgets a partition that this instance no longer owns.
    pub(crate) fn forget(&self, labels: &PartitionLabels, told: &[FigureLabels]) {
        self.show(labels, told, &[]);
        for family in [
            &self.position,
            &self.committed,
            &self.lag,
            &self.watermark_delay,
            &self.open_windows,
            &self.overflowed_groups,
            &self.state_keys,
            &self.state_bytes,
        ] {
            family.remove(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_rules_that_are_shipped_name_metrics_that_there_are() {
        const RULES: &str = include_str!("../../../deploy/prometheus/recwatch.rules.yml");
        let mut registry = Registry::with_prefix("recwatch_streaming");
        let telemetry = Telemetry::default();
        telemetry.register(&mut registry);
        // families show with their first member
        let (topic, reason) = (TopicLabels { topic: String::new() }, String::new());
        for family in [&telemetry.read, &telemetry.late] {
            let _ = family.get_or_create(&topic);
        }
        let _ = telemetry.dead_lettered.get_or_create(&ReasonLabels { topic: String::new(), reason });
        let figure = FigureLabels { topic: String::new(), partition: 0, name: "alerts_overflowed", of: String::new() };
        let _ = telemetry.operator.get_or_create(&figure);
        let Telemetry { position, committed, lag, watermark_delay, overflowed_groups, .. } = &telemetry;
        for family in [position, committed, lag, watermark_delay, overflowed_groups] {
            let _ = family.get_or_create(&PartitionLabels { topic: String::new(), partition: 0 });
        }
        let mut exported = String::new();
        prometheus_client::encoding::text::encode(&mut exported, &registry).unwrap();
        let is_named = |name: &str| exported.lines().any(|line| line.starts_with(&format!("# TYPE {name} ")));
        let names = RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = names.filter(|name| name.starts_with("recwatch_streaming_")).collect();
        assert!(names.len() > 5, "{names:?}");
        for name in names {
            let metric = ["_total", "_bucket"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(is_named(metric), "{name} is none of\n{exported}");
        }
    }

    fn shown(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.starts_with("recwatch_streaming_operator{")).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn figures_of_operators_are_shown_under_their_names_and_go_with_what_they_are_of() {
        let (mut registry, telemetry) = (Registry::default(), Telemetry::default());
        telemetry.register(registry.sub_registry_with_prefix("recwatch_streaming"));
        let labels = PartitionLabels { topic: "users".to_owned(), partition: 3 };
        let figures = ["books", "music"].map(|of| Figure { name: "samples", of, value: of.len() as u64 });
        let told = telemetry.show(&labels, &[], &figures);
        let line = |of: &str, value: u64| {
            format!(r#"recwatch_streaming_operator{{topic="users",partition="3",name="samples",of="{of}"}} {value}"#)
        };
        assert_eq!(shown(&registry), [line("books", 5), line("music", 5)]);
        let told = telemetry.show(&labels, &told, &[Figure { value: 7, ..figures[1] }]);
        assert_eq!(shown(&registry), [line("music", 7)]);
        telemetry.forget(&labels, &told);
        assert_eq!(shown(&registry), Vec::<String>::new());
    }
}
