//! The runtime's metrics: names in one place, `recwatch_streaming_*`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use records::names::bounded_to;

use crate::operator::Figure;

/// What a figure is of has at most this many bytes as a label's value.
const MAX_LABEL_BYTES: usize = 128;
/// A figure is shown of at most so many things a partition; the rest are one, their sum.
const MAX_LABELS: usize = 100;
/// What that one is called.
const OTHERS: &str = "__other__";

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

/// One input topic and a rule for event times.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RuleLabels {
    /// Topic.
    pub(crate) topic: String,
    /// Rule as [`RefusedTimes::by_rule`](crate::RefusedTimes::by_rule) names it.
    pub(crate) rule: &'static str,
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
    pub(crate) lost: PerTopic,
    pub(crate) dead_lettered: Family<ReasonLabels, Counter>,
    pub(crate) refused_times: Family<RuleLabels, Counter>,
    pub(crate) foreign_records: Counter,
    pub(crate) too_large: PerTopic,
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
            lost: Family::default(),
            dead_lettered: Family::default(),
            refused_times: Family::default(),
            foreign_records: Counter::default(),
            too_large: Family::default(),
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
        let help = "Records that were deleted before they were read, and skipped; an upper bound";
        registry.register("records_lost", help, self.lost.clone());
        registry.register("records_dead_lettered", "Records refused, by reason", self.dead_lettered.clone());
        let help = "Records refused for their event time, by the rule: ahead of the record's timestamp, ahead of the reader's \
                    clock (with or without a timestamp), or out of range";
        registry.register("records_refused_event_time", help, self.refused_times.clone());
        let help = "Records of the watermarks topics that no task of this worker has written: left out";
        registry.register("foreign_records", help, self.foreign_records.clone());
        let help =
            "Records that their topic does not take, nor their beginnings: they are left out, and named in the log";
        registry.register("records_too_large", help, self.too_large.clone());
        registry.register("position", "Next offset that this instance will process", self.position.clone());
        registry.register("committed", "Offset that is committed with its outputs", self.committed.clone());
        registry.register(
            "lag_records",
            "Records that wait in the partition; 0 where its end is confirmed",
            self.lag.clone(),
        );
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
        let mut told: Vec<FigureLabels> = Vec::new();
        let mut others: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut shown: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut show = |name, of: &str, value: u64| {
            let of = bounded_to(of, MAX_LABEL_BYTES).into_owned();
            let labels = FigureLabels { topic: labels.topic.clone(), partition: labels.partition, name, of };
            self.operator.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            told.push(labels);
        };
        for figure in figures {
            let shown = shown.entry(figure.name).or_default();
            *shown += 1;
            if *shown <= MAX_LABELS {
                show(figure.name, figure.of, figure.value);
            } else {
                let sum = others.entry(figure.name).or_default();
                *sum = sum.saturating_add(figure.value);
            }
        }
        for (name, value) in others {
            show(name, OTHERS, value);
        }
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

    /// Domains are named by the input.
    #[test]
    fn figures_are_of_so_many_things_at_most_and_these_have_short_names() {
        let (mut registry, telemetry) = (Registry::default(), Telemetry::default());
        telemetry.register(registry.sub_registry_with_prefix("recwatch_streaming"));
        let labels = PartitionLabels { topic: "users".to_owned(), partition: 3 };
        let domains: Vec<String> = (0..5_000).map(|at| format!("{}{at:04}", "\"é".repeat(100_000 / 3))).collect();
        let figures: Vec<Figure<'_>> =
            domains.iter().map(|of| Figure { name: "samples", of, value: u64::MAX / 2 }).collect();
        let told = telemetry.show(&labels, &[], &figures);
        let lines = shown(&registry);
        assert_eq!((told.len(), lines.len()), (101, 101));
        assert!(lines.iter().map(String::len).sum::<usize>() < 101 * 400, "{:?}", lines[1]);
        assert!(lines.iter().any(|line| line.contains(r#"of="__other__"} 9223372036854775807"#)), "{:?}", lines[0]);
        telemetry.forget(&labels, &told);
        assert_eq!(shown(&registry), Vec::<String>::new());
    }
}
