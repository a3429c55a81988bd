//! What the writer counts. Every name stands here; log lines that belong to a counter are written beside it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use service::{Condition, Health, LatencyHistogram, Metrics as Registry, Throttle};

use crate::dead_letters::TooLarge;
use crate::deliver::Observer;
use crate::tables::Table;
use crate::verdict::{InsertError, Verdict};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    table: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    topic: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    table: &'static str,
    code: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    table: &'static str,
    status: &'static str,
}

/// The writer's metrics, and the readiness that depends on ClickHouse.
pub struct Metrics {
    records_read: Family<TopicLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    too_large: Family<TopicLabels, Counter>,
    position: Family<PartitionLabels, Gauge>,
    committed: Family<PartitionLabels, Gauge>,
    lag: Family<PartitionLabels, Gauge>,
    held_bytes: Family<TableLabels, Gauge>,
    paused: Family<TableLabels, Gauge>,
    inserts: Family<TableLabels, Counter>,
    insert_rows: Family<TableLabels, Counter>,
    insert_bytes: Family<TableLabels, Counter>,
    insert_duration: Family<TableLabels, LatencyHistogram>,
    insert_retries: Family<RetryLabels, Counter>,
    insert_splits: Family<TableLabels, Counter>,
    unexpected_answers: Family<AnswerLabels, Counter>,
    end_to_end: Family<TableLabels, LatencyHistogram>,
    oldest_row_seconds: Family<TableLabels, Gauge<f64, AtomicU64>>,
    commit_failures: Counter,
    conditions: BTreeMap<&'static str, Condition>,
    retry_log: Mutex<Throttle>,
    too_large_log: Mutex<Throttle>,
}

impl Metrics {
    /// Registers everything, and one readiness condition a table.
    #[must_use]
    pub fn new(registry: &Registry, health: &Health, tables: &[&'static Table]) -> Self {
        let conditions: BTreeMap<_, _> =
            tables.iter().map(|table| (table.name, health.condition(format!("inserts into {}", table.name)))).collect();
        for condition in conditions.values() {
            condition.ok();
        }
        let metrics = Self {
            records_read: Family::default(),
            dead_letters: Family::default(),
            too_large: Family::default(),
            position: Family::default(),
            committed: Family::default(),
            lag: Family::default(),
            held_bytes: Family::default(),
            paused: Family::default(),
            inserts: Family::default(),
            insert_rows: Family::default(),
            insert_bytes: Family::default(),
            insert_duration: Family::default(),
            insert_retries: Family::default(),
            insert_splits: Family::default(),
            unexpected_answers: Family::default(),
            end_to_end: Family::default(),
            oldest_row_seconds: Family::default(),
            commit_failures: Counter::default(),
            conditions,
            retry_log: Mutex::new(Throttle::new(Duration::from_secs(10))),
            too_large_log: Mutex::new(Throttle::new(Duration::from_secs(1))),
        };
        registry.register("clickhouse_writer", |registry| {
            registry.register("records_read", "Records taken from the row topics", metrics.records_read.clone());
            registry.register("dead_letters", "Records handed on to the dead letters", metrics.dead_letters.clone());
            registry.register(
                "records_too_large",
                "Records that the dead letters' topic does not take, nor their beginnings: they are left out, and named in the log",
                metrics.too_large.clone(),
            );
            registry.register("position", "Next offset that this instance will take", metrics.position.clone());
            registry.register("committed", "Committed offset, the next one to read", metrics.committed.clone());
            registry.register(
                "lag_records",
                "Offsets between the position and the last stable offset; the marker behind a transaction counts as one",
                metrics.lag.clone(),
            );
            registry.register("held_bytes", "Bytes of rows and records not yet delivered", metrics.held_bytes.clone());
            registry.register("paused", "1 while partitions of the table's topic are paused", metrics.paused.clone());
            registry.register("inserts", "Inserts that ClickHouse acknowledged", metrics.inserts.clone());
            registry.register("insert_rows", "Rows in acknowledged inserts", metrics.insert_rows.clone());
            registry.register("insert_bytes", "Bytes of acknowledged inserts, uncompressed", metrics.insert_bytes.clone());
            registry.register("insert_duration_seconds", "Time to an acknowledgement", metrics.insert_duration.clone());
            registry.register(
                "insert_retries",
                "Inserts sent again, by ClickHouse's error code (0: no answer)",
                metrics.insert_retries.clone(),
            );
            registry.register("insert_splits", "Inserts cut in two", metrics.insert_splits.clone());
            registry.register(
                "unexpected_answers",
                "Answers to inserts that ClickHouse does not give, by class of the HTTP status: a page, a redirect, no right",
                metrics.unexpected_answers.clone(),
            );
            registry.register(
                "end_to_end_seconds",
                "From a record's Kafka timestamp to the acknowledgement of its row",
                metrics.end_to_end.clone(),
            );
            registry.register(
                "oldest_row_seconds",
                "Age of the oldest record in the last delivered batch, by its Kafka timestamp",
                metrics.oldest_row_seconds.clone(),
            );
            registry.register("commit_failures", "Offset commits that failed and are repeated", metrics.commit_failures.clone());
        });
        for table in tables {
            let labels = TableLabels { table: table.name };
            let _ = (metrics.inserts.get_or_create(&labels), metrics.insert_rows.get_or_create(&labels));
        }
        metrics
    }

    /// Records were taken from a topic.
    pub fn read(&self, topic: &str, records: u64) {
        self.records_read.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc_by(records);
    }

    /// A record is in the dead letters.
    pub fn dead_letter(&self, topic: &str, reason: &'static str) {
        self.dead_letters.get_or_create(&ReasonLabels { topic: topic.to_owned(), reason }).inc();
    }

    /// A dead letter of a topic is in no topic.
    pub fn too_large(&self, topic: &str, record: &TooLarge) {
        self.too_large.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc();
        let mut log = self.too_large_log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.pass(Instant::now()) {
            let TooLarge { place, bytes, limit } = record;
            let (partition, offset) = (place.partition, place.offset);
            tracing::error!(
                topic,
                partition,
                offset,
                bytes,
                limit,
                left_out,
                "a record is too large for the dead letters and is left out: raise the topic's max.message.bytes"
            );
        }
    }

    /// How far an owned partition is.
    pub fn progress(&self, topic: &str, partition: i32, position: i64, committed: Option<i64>, end: Option<i64>) {
        let labels = PartitionLabels { topic: topic.to_owned(), partition };
        self.position.get_or_create(&labels).set(position);
        if let Some(committed) = committed {
            self.committed.get_or_create(&labels).set(committed);
        }
        if let Some(end) = end {
            self.lag.get_or_create(&labels).set((end - position).max(0));
        }
    }

    /// A partition is not owned any more: its series end, so that no lag of another instance's partition is told.
    pub fn forget(&self, topic: &str, partition: i32) {
        let labels = PartitionLabels { topic: topic.to_owned(), partition };
        self.position.remove(&labels);
        self.committed.remove(&labels);
        self.lag.remove(&labels);
    }

    /// What a lane holds.
    pub fn held(&self, table: &'static Table, bytes: usize, paused: bool) {
        let labels = TableLabels { table: table.name };
        self.held_bytes.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.paused.get_or_create(&labels).set(paused.into());
    }

    /// Rows of a batch were acknowledged; `timestamps` are their records' Kafka timestamps, `now` the clock, in epoch ms.
    pub fn delivered(&self, table: &'static Table, timestamps: impl Iterator<Item = i64>, now: i64) {
        let labels = TableLabels { table: table.name };
        let histogram = self.end_to_end.get_or_create(&labels).clone();
        let mut oldest = 0;
        for timestamp in timestamps {
            histogram.observe_millis(now - timestamp);
            oldest = oldest.max(now - timestamp);
        }
        self.oldest_row_seconds.get_or_create(&labels).set(oldest as f64 / 1000.0);
    }

    /// A commit failed.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }
}

impl Observer for Metrics {
    fn inserted(&self, table: &'static Table, rows: usize, bytes: usize, took: Duration) {
        let labels = TableLabels { table: table.name };
        self.inserts.get_or_create(&labels).inc();
        self.insert_rows.get_or_create(&labels).inc_by(rows as u64);
        self.insert_bytes.get_or_create(&labels).inc_by(bytes as u64);
        self.insert_duration.get_or_create(&labels).observe(took);
        if let Some(condition) = self.conditions.get(table.name) {
            condition.ok();
        }
        tracing::debug!(table = table.name, rows, bytes, ?took, "inserted");
    }

    fn retried(&self, table: &'static Table, error: &InsertError, attempt: u32, pause: Duration) {
        let code = error.code.unwrap_or_default();
        self.insert_retries.get_or_create(&RetryLabels { table: table.name, code }).inc();
        if error.verdict == Verdict::Unexpected {
            let status = class(error.status);
            self.unexpected_answers.get_or_create(&AnswerLabels { table: table.name, status }).inc();
        }
        if let Some(condition) = self.conditions.get(table.name) {
            condition.fail(format!("attempt {attempt} failed: {error}"));
        }
        let mut log = self.retry_log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.pass(Instant::now()) {
            tracing::warn!(table = table.name, %error, attempt, ?pause, left_out, "an insert failed and is repeated");
        }
    }

    fn split(&self, table: &'static Table, error: &InsertError, rows: usize) {
        self.insert_splits.get_or_create(&TableLabels { table: table.name }).inc();
        tracing::debug!(table = table.name, %error, rows, "an insert is cut in two");
    }
}

/// The class of a status, so that no server can make series without number.
fn class(status: Option<u16>) -> &'static str {
    match status.map_or(0, |status| status / 100) {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service::Health;

    use super::Metrics;
    use crate::deliver::Observer;
    use crate::tables::TABLES;
    use crate::verdict::{InsertError, Verdict};

    #[test]
    fn the_names_that_dashboards_and_tools_use_stay() {
        let (registry, health) = (service::Metrics::new(), Health::new());
        let metrics = Metrics::new(&registry, &health, TABLES);
        metrics.read("t", 2);
        metrics.dead_letter("t", "undecodable");
        metrics.progress("t", 3, 10, Some(8), Some(12));
        metrics.inserted(TABLES[0], 5, 100, Duration::from_millis(3));
        let overloaded = InsertError { code: Some(202), ..InsertError::unanswered("too many queries") };
        metrics.retried(TABLES[0], &overloaded, 1, Duration::ZERO);
        let page = InsertError { status: Some(200), ..InsertError::new(Verdict::Unexpected, "a page") };
        metrics.retried(TABLES[0], &page, 2, Duration::ZERO);
        metrics.delivered(TABLES[0], [1_000].into_iter(), 3_500);
        let text = registry.encode();
        for line in [
            r#"recwatch_clickhouse_writer_records_read_total{topic="t"} 2"#,
            r#"recwatch_clickhouse_writer_dead_letters_total{topic="t",reason="undecodable"} 1"#,
            r#"recwatch_clickhouse_writer_position{topic="t",partition="3"} 10"#,
            r#"recwatch_clickhouse_writer_committed{topic="t",partition="3"} 8"#,
            r#"recwatch_clickhouse_writer_lag_records{topic="t",partition="3"} 2"#,
            r#"recwatch_clickhouse_writer_inserts_total{table="session_entropy"} 1"#,
            r#"recwatch_clickhouse_writer_insert_rows_total{table="session_entropy"} 5"#,
            r#"recwatch_clickhouse_writer_insert_retries_total{table="session_entropy",code="202"} 1"#,
            r#"recwatch_clickhouse_writer_unexpected_answers_total{table="session_entropy",status="2xx"} 1"#,
            r#"recwatch_clickhouse_writer_end_to_end_seconds_sum{table="session_entropy"} 2.5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        metrics.forget("t", 3);
        assert!(!registry.encode().contains(r#"partition="3""#));
    }

    #[test]
    fn an_insert_that_fails_is_told_by_readiness_until_one_succeeds() {
        let (registry, health) = (service::Metrics::new(), Health::new());
        let metrics = Metrics::new(&registry, &health, &TABLES[..1]);
        assert!(health.ready().is_ok());
        metrics.retried(TABLES[0], &InsertError::unanswered("connection refused"), 3, Duration::ZERO);
        assert!(health.ready().unwrap_err()[0].contains("connection refused"));
        metrics.inserted(TABLES[0], 1, 1, Duration::ZERO);
        assert!(health.ready().is_ok());
    }
}
