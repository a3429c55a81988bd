//! Waiting until all is done.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use rdkafka::Message;

use super::super::audit::{self, RowAudit};
use super::super::metric_workers::{MetricWorker, WRITER, group, internal_topic};
use super::super::patience::Patience;
use super::super::watermarks::Watermarks;
use super::{Run, STANDSTILL};
use crate::broker::{CommittedOffsets, Follower, TopicPartition};
use crate::recording::Content;
use crate::terminal::{thousands, time_of_day};

impl Run<'_> {
    /// Waits until every record is processed and every closable window closed.
    ///
    /// # Errors
    /// A worker ends unasked, or nothing moves any more: the error says what is missing.
    pub fn process(&mut self) -> Result<()> {
        for worker in self.plan.workers.clone() {
            for &source in worker.sources {
                let watermarks = self.wait_for_windows(worker, source)?;
                self.watermarks.insert((worker.name, source), watermarks);
            }
        }
        Ok(())
    }

    /// Waits until every record is processed, every closable window closed, and every row in ClickHouse.
    ///
    /// # Errors
    /// A worker ends unasked, or nothing moves any more: the error says what is missing.
    pub fn complete(&mut self) -> Result<()> {
        self.process()?;
        for worker in self.plan.workers.clone() {
            let expected = self.rows_of(worker);
            let brokers = self.stack.brokers();
            let audits: Result<Vec<RowAudit>> = worker
                .row_topics
                .iter()
                .map(|&topic| RowAudit::new(&brokers, &self.broker, &self.registry, topic))
                .collect();
            let mut audits = audits?;
            self.progress.update("rows", &format!("reading {} rows of {}", thousands(expected), worker.name));
            audit::read_rows(&mut audits, expected)?;
            self.audits.push((worker.name, audits));
        }
        self.wait_for_writer()
    }

    /// Rows that a worker's tasks count.
    pub(super) fn rows_of(&self, worker: MetricWorker) -> u64 {
        worker
            .sources
            .iter()
            .filter_map(|&source| self.watermarks.get(&(worker.name, source)))
            .map(Watermarks::rows)
            .sum()
    }

    fn wait_for_windows(&mut self, worker: MetricWorker, source: Content) -> Result<Watermarks> {
        let (slide, idle_timeout) = self.paces[&(worker.name, source)];
        let ends = self.broker.ends(source.topic())?;
        let total: i64 = ends.values().sum();
        let topic = internal_topic(worker.name, source, "watermarks");
        let (Some(partitions), Some(merges)) = (
            self.broker.partitions(&topic)?,
            self.broker.partitions(&internal_topic(worker.name, source, "repartition"))?,
        ) else {
            bail!("{} runs, but there is no topic {topic}, or none that its steps exchange summaries on", worker.name);
        };
        let follower = Follower::new(&self.stack.brokers(), &topic, partitions)?;
        let mut watermarks = Watermarks::default();
        let mut patience = Patience::new(STANDSTILL + Duration::from_millis(idle_timeout.unsigned_abs()));
        loop {
            follower.read_more(Duration::from_millis(100), |message| {
                watermarks.take(message.key().unwrap_or_default(), message.payload())
            })?;
            self.fleet.check()?;
            let unread = watermarks.unread(&ends);
            let committed = total as u64 - unread;
            if committed > 0 {
                self.first.entry(worker.name).or_insert_with(|| (self.begun.elapsed(), committed));
            }
            if unread == 0 {
                let elapsed = self.begun.elapsed();
                self.done.entry(worker.name).or_insert(elapsed);
            }
            let missing = watermarks.missing(&ends, merges, slide);
            let read = thousands(committed);
            if missing.is_empty() {
                self.progress.done(worker.name, &format!("{read} records, {} rows", thousands(watermarks.rows())));
                return Ok(watermarks);
            }
            let closed = watermarks.merges.values().filter_map(|merge| merge.closed).min();
            let closed =
                closed.map_or_else(String::new, |closed| format!(", windows closed to {}", time_of_day(closed)));
            let message = format!("{read} of {} records{closed}", thousands(total as u64));
            self.progress.part(worker.name, committed, total as u64, &message);
            if !patience.lasts(watermarks.clone()) {
                bail!("{} stands still: {}", worker.name, missing.join("; "));
            }
        }
    }

    fn wait_for_writer(&mut self) -> Result<()> {
        let offsets = CommittedOffsets::new(&self.stack.brokers(), &group(WRITER))?;
        let last = |audit: &RowAudit| -> Vec<(TopicPartition, i64)> {
            let topic = audit.topic().name;
            audit.last.iter().map(|(&partition, &offset)| ((topic.to_owned(), partition), offset)).collect()
        };
        let rows: BTreeMap<TopicPartition, i64> =
            self.audits.iter().flat_map(|(_, audits)| audits.iter().flat_map(last)).collect();
        let mut patience = Patience::new(STANDSTILL);
        loop {
            let committed = offsets.ask(rows.keys())?;
            let missing: Vec<String> = rows
                .iter()
                .filter_map(|(partition, &last)| {
                    let offset = committed.get(partition).copied().unwrap_or(0);
                    let (topic, number) = partition;
                    (offset <= last).then(|| format!("{topic}-{number} is committed to {offset} of {}", last + 1))
                })
                .collect();
            if missing.is_empty() {
                let elapsed = self.begun.elapsed();
                self.done.insert(WRITER, elapsed);
                let rows: u64 = self.audits.iter().flat_map(|(_, audits)| audits).map(|audit| audit.rows).sum();
                self.progress.done(WRITER, &format!("{} rows", thousands(rows)));
                return Ok(());
            }
            self.progress.update(WRITER, &missing.join("; "));
            self.fleet.check()?;
            if !patience.lasts(committed) {
                bail!("{WRITER} stands still: {}", missing.join("; "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
