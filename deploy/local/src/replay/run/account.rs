//! What became of every record and row, and whether that is what must be.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::audit;
use super::super::fleet::Usage;
use super::super::metric_workers::{ALERTS, DEAD_LETTER_TOPIC, LATE_TOPIC, MetricWorker, ROUTER, WRITER};
use super::super::route_audit::RouteAudit;
use super::super::summary::{TopicSummary, WorkerSummary};
use super::super::watermarks::Watermarks;
use super::Run;
use crate::recording::Content;

impl Run<'_> {
    /// Stops the workers; what was wrong with their ends is in the summary.
    ///
    /// # Errors
    /// A process cannot be sent a signal.
    pub fn stop_workers(&mut self) -> Result<()> {
        self.progress.update("workers", "stopping");
        let problems = self.fleet.stop()?;
        self.summary.problems.extend(problems);
        self.progress.done("workers", "stopped");
        Ok(())
    }

    /// Accounts for every record and row: what was lost or doubled is in the summary.
    ///
    /// # Errors
    /// Something cannot be asked.
    pub fn account(&mut self) -> Result<()> {
        let mut problems = Vec::new();
        let mut handed_on: BTreeMap<&str, BTreeMap<audit::HandedOn, u64>> = BTreeMap::new();
        let counts = self.watermarks.values().map(Watermarks::counts);
        let (late, dead) =
            counts.fold((0, 0), |(late, dead), counts| (late + counts.late, dead + counts.dead_lettered));
        for (topic, expected) in [(LATE_TOPIC, late), (DEAD_LETTER_TOPIC, dead)] {
            let counts = audit::count_handed_on(&self.stack.brokers(), &self.broker, topic, expected)?;
            handed_on.insert(topic, counts);
        }
        for worker in self.plan.workers.clone() {
            let summary = self.metric_summary(worker, &handed_on, &mut problems)?;
            self.summary.workers.insert(worker.name.to_owned(), summary);
        }
        for (_, audits) in self.audits.iter_mut().filter(|(name, _)| *name == ALERTS.table) {
            count_rows(audits, &mut problems)?;
        }
        let summary = self.writer_summary(&handed_on[DEAD_LETTER_TOPIC], &mut problems)?;
        self.summary.workers.insert(WRITER.to_owned(), summary);
        if let Some(audit) = &self.route_audit {
            let summary = self.router_summary(audit, &handed_on[DEAD_LETTER_TOPIC]);
            self.summary.workers.insert(ROUTER.to_owned(), summary);
            problems.extend(audit.problems());
        }
        for (name, worker) in &self.summary.workers {
            problems.extend(
                worker.topics.iter().filter_map(|(topic, counts)| counts.problem(&format!("{name} ({topic})"))),
            );
        }
        self.summary.problems.extend(problems);
        Ok(())
    }

    /// What the processes of a worker have used, of those that have ended.
    #[must_use]
    pub fn usage(&self, worker: &str) -> Usage {
        self.fleet.usage(worker)
    }

    /// What its processes have used since they were started last.
    #[must_use]
    pub fn last_usage(&self, worker: &str) -> Usage {
        self.fleet.last_usage(worker)
    }

    /// From the first line (or, where all were there before, the start of the workers) until the worker had committed its
    /// last record (s); 0 while it has not.
    #[must_use]
    pub fn wall_seconds(&self, worker: &str) -> f64 {
        let courses = self.courses.iter().filter(|((name, _), _)| *name == worker);
        let committed = courses.filter_map(|(_, course)| course.committed).max();
        committed.or(self.written.filter(|_| worker == WRITER)).map_or(0.0, |time| time.as_secs_f64())
    }

    /// Records a second of one source's backlog once the worker runs: those behind the first that it was seen to have
    /// committed, until they were all committed and the windows closed that they close. Its start, the join of its group
    /// and its first records do not count, nor does waiting for idle partitions.
    #[must_use]
    pub fn records_per_second(&self, worker: &'static str, source: Content, records: u64) -> f64 {
        self.courses.get(&(worker, source)).map_or(0.0, |course| course.records_per_second(records))
    }

    fn metric_summary(
        &mut self,
        worker: MetricWorker,
        handed_on: &BTreeMap<&str, BTreeMap<audit::HandedOn, u64>>,
        problems: &mut Vec<String>,
    ) -> Result<WorkerSummary> {
        let mut topics = BTreeMap::new();
        for &source in worker.sources {
            let counts = self.counts(worker.name, source);
            let published = self.published.get(&source).copied().unwrap_or(0);
            if counts.read != published {
                problems.push(format!(
                    "{} has read {} of {published} records of {}",
                    worker.name,
                    counts.read,
                    source.topic()
                ));
            }
            for (topic, counted) in [(LATE_TOPIC, counts.late), (DEAD_LETTER_TOPIC, counts.dead_lettered)] {
                let ours =
                    handed_on[topic].iter().filter(|(r, _)| r.worker == worker.name && r.topic == source.topic());
                let written: u64 = ours.map(|(_, count)| count).sum();
                if written != counted {
                    problems.push(format!("{} counts {counted} records for {topic}, which has {written}", worker.name));
                }
            }
            topics.insert(source.topic().to_owned(), TopicSummary::from(&counts));
        }
        let counted = self.rows_of(worker);
        let mut rows = 0;
        for (_, audits) in self.audits.iter_mut().filter(|(name, _)| *name == worker.name) {
            rows += count_rows(audits, problems)?;
        }
        if rows != counted {
            problems.push(format!("{} counts {counted} rows, its topics have {rows}", worker.name));
        }
        Ok(WorkerSummary::new(topics, rows, self.wall_seconds(worker.name), self.fleet.usage(worker.name)))
    }

    fn writer_summary(
        &self,
        dead_letters: &BTreeMap<audit::HandedOn, u64>,
        problems: &mut Vec<String>,
    ) -> Result<WorkerSummary> {
        let mut topics = BTreeMap::new();
        let mut rows = 0;
        for audit in self.audits.iter().flat_map(|(_, audits)| audits) {
            let topic = audit.topic();
            let count = self.stack.clickhouse_query(&format!("SELECT count() FROM recwatch.{} FINAL", topic.table))?;
            let count: u64 = count.trim().parse().with_context(|| format!("no count of {}: {count:?}", topic.table))?;
            rows += count;
            let mut summary = TopicSummary { read: audit.rows, applied: count, ..TopicSummary::default() };
            for (record, count) in dead_letters.iter().filter(|(r, _)| r.worker == WRITER && r.topic == topic.name) {
                summary.dead_lettered += count;
                *summary.dead_lettered_by_reason.entry(record.reason.clone()).or_default() += count;
            }
            if count + summary.dead_lettered != audit.distinct() {
                problems.push(format!(
                    "table {} has {count} rows, topic {} {} keys, of which {} were dead-lettered",
                    topic.table,
                    topic.name,
                    audit.distinct(),
                    summary.dead_lettered
                ));
            }
            topics.insert(topic.name.to_owned(), summary);
        }
        Ok(WorkerSummary::new(topics, rows, self.wall_seconds(WRITER), self.fleet.usage(WRITER)))
    }

    fn router_summary(&self, audit: &RouteAudit, dead_letters: &BTreeMap<audit::HandedOn, u64>) -> WorkerSummary {
        let mut summary = TopicSummary { read: audit.alerts, ..TopicSummary::default() };
        for (record, count) in dead_letters.iter().filter(|(r, _)| r.worker == ROUTER && r.topic == ALERTS.name) {
            summary.dead_lettered += count;
            *summary.dead_lettered_by_reason.entry(record.reason.clone()).or_default() += count;
        }
        summary.applied = audit.alerts.saturating_sub(summary.dead_lettered);
        let topics = [(ALERTS.name.to_owned(), summary)].into();
        WorkerSummary::new(topics, audit.told(), self.wall_seconds(ROUTER), self.fleet.usage(ROUTER))
    }

    /// Writes every table's final rows to `<folder>/<table>.ndjson` and the summary to `<folder>/summary.json`.
    ///
    /// # Errors
    /// ClickHouse does not answer, or a file cannot be written.
    pub fn export(&self, folder: &Path) -> Result<()> {
        let query = |statement: &str| self.stack.clickhouse_query(statement);
        for table in self.tables() {
            self.progress.update("export", table);
            crate::export::table(&query, table, &folder.join(format!("{table}.ndjson")))?;
        }
        let file = folder.join("summary.json");
        let mut json = serde_json::to_string_pretty(&self.summary)?;
        json.push('\n');
        std::fs::write(&file, json).with_context(|| format!("{} cannot be written", file.display()))?;
        self.progress.done("export", &folder.display().to_string());
        Ok(())
    }

    /// Writes every table's stored rows, replaced ones included and equal ones once, to `<folder>/<table>.ndjson`.
    ///
    /// # Errors
    /// ClickHouse does not answer, or a file cannot be written.
    pub(crate) fn export_stored(&self, folder: &Path) -> Result<()> {
        let query = |statement: &str| self.stack.clickhouse_query(statement);
        for table in self.tables() {
            crate::export::stored(&query, table, &folder.join(format!("{table}.ndjson")))?;
        }
        Ok(())
    }

    /// The tables that rows go to.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &'static str> {
        self.plan.workers.iter().flat_map(|worker| worker.row_topics).chain([&ALERTS]).map(|topic| topic.table)
    }

    /// Copies the logs of all processes to `folder`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn keep_logs(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        for directory in [self.stack.directory().to_owned(), self.stack.work_directory()] {
            for entry in std::fs::read_dir(&directory)? {
                let file = entry?.path();
                if file.extension().is_some_and(|extension| extension == "log" || extension == "toml")
                    && let Some(name) = file.file_name()
                {
                    std::fs::copy(&file, folder.join(name)).with_context(|| format!("copying {}", file.display()))?;
                }
            }
        }
        Ok(())
    }
}

/// The rows of these topics, by now; those that are there twice are problems.
fn count_rows(audits: &mut [audit::RowAudit], problems: &mut Vec<String>) -> Result<u64> {
    let mut rows = 0;
    for audit in audits {
        // What came after all is seen here.
        audit.read_more(Duration::from_millis(300))?;
        rows += audit.rows;
        if audit.doubled > 0 {
            problems.push(format!("{} rows of {} are there twice", audit.doubled, audit.topic().name));
        }
    }
    Ok(rows)
}
