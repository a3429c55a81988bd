//! Waiting until all is done.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::super::audit::{self, RowAudit};
use super::super::metric_workers::{ALERTS, MetricWorker, ROUTER, WRITER, group, internal_topic};
use super::super::patience::Patience;
use super::super::route_audit::RouteAudit;
use super::super::watermarks::Watermarks;
use super::watch::Watch;
use super::{Run, STANDSTILL};
use crate::broker::{CommittedOffsets, Follower, TopicPartition};
use crate::recording::Content;
use crate::terminal::thousands;

impl Run<'_> {
    /// Waits until every record is processed and every closable window closed.
    ///
    /// # Errors
    /// A worker ends unasked, or nothing moves any more: the error says what is missing.
    pub fn process(&mut self) -> Result<()> {
        let mut watches = Vec::new();
        for worker in self.plan.workers.clone() {
            for &source in worker.sources {
                watches.push(self.watch(worker, source)?);
            }
        }
        let idle_timeout = self.paces.values().map(|(_, idle_timeout)| *idle_timeout).max().unwrap_or(0);
        let mut patience = Patience::new(STANDSTILL + Duration::from_millis(idle_timeout.unsigned_abs()));
        while !watches.is_empty() {
            self.fleet.check()?;
            let mut missing = Vec::new();
            for mut watch in std::mem::take(&mut watches) {
                let key = (watch.worker, watch.source);
                let look = watch.look(self.courses.entry(key).or_default(), || self.begun.elapsed())?;
                if look.missing.is_empty() {
                    self.progress.done(&watch.step, &look.message);
                    self.watermarks.insert(key, watch.watermarks);
                    continue;
                }
                self.progress.part(&watch.step, look.committed, look.total, &look.message);
                missing.push(format!("{}: {}", watch.step, look.missing.join("; ")));
                watches.push(watch);
            }
            if !patience.lasts(watches.iter().map(|watch| watch.watermarks.clone()).collect::<Vec<_>>()) {
                bail!("nothing moves any more. {}", missing.join(". "));
            }
        }
        Ok(())
    }

    /// Waits until every record is processed, every closable window closed, every alert told, and every row in ClickHouse.
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
        // nobody counts them beforehand, but all are committed by now
        let mut alerts = [RowAudit::new(&self.stack.brokers(), &self.broker, &self.registry, ALERTS)?];
        alerts[0].read_to_end()?;
        audit::read_rows(&mut alerts, 0)?;
        self.audits.push((ALERTS.table, alerts.into()));
        if self.plan.routes_to_the_topic() {
            self.progress.update(ROUTER, "reading what it has told");
            let audit = RouteAudit::read(&self.stack.brokers(), &self.broker, &self.registry)?;
            self.progress.done(ROUTER, &format!("{} transitions told", thousands(audit.told())));
            self.route_audit = Some(audit);
        } else if self.plan.router {
            self.progress.done(ROUTER, "has routes of its own: what it has told is not looked at");
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

    fn watch(&self, worker: MetricWorker, source: Content) -> Result<Watch> {
        let topic = internal_topic(worker.name, source, "watermarks");
        let (Some(partitions), Some(merges)) = (
            self.broker.partitions(&topic)?,
            self.broker.partitions(&internal_topic(worker.name, source, "repartition"))?,
        ) else {
            bail!("{} runs, but there is no topic {topic}, or none that its steps exchange summaries on", worker.name);
        };
        Ok(Watch {
            worker: worker.name,
            source,
            step: match worker.sources {
                [_] => worker.name.to_owned(),
                _ => format!("{} {}", worker.name, source.name()),
            },
            ends: self.broker.ends(source.topic())?,
            merges,
            slide: self.paces[&(worker.name, source)].0,
            follower: Follower::new(&self.stack.brokers(), &topic, partitions)?,
            watermarks: Watermarks::default(),
        })
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
                self.written = Some(self.begun.elapsed());
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
