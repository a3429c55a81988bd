//! Publishing, and the kills on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::super::metric_workers::group;
use super::{Run, STANDSTILL};
use crate::broker::CommittedOffsets;
use crate::fault::{self, Fault, Gauges, Hunt, Kill, Next, uncommitted};
use crate::publish::Publisher;
use crate::recording::Feed;
use crate::terminal::thousands;

/// How often the victims of a fault are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(3);

impl Run<'_> {
    /// Publishes all lines, killing on the way what the faults ask for.
    ///
    /// # Errors
    /// A recording cannot be read, a record cannot be delivered, a worker ends unasked, or a kill hits nothing.
    pub fn publish(&mut self, mut feed: Feed) -> Result<()> {
        self.publish_some(&mut feed, u64::MAX)
    }

    /// Publishes the next lines, at most so many.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_some(&mut self, feed: &mut Feed, most: u64) -> Result<()> {
        let mut publisher = Publisher::new(&self.stack.brokers(), self.ids.clone())?;
        let mut faults = self.plan.faults.clone();
        faults.sort_by_key(|fault| fault.after_records);
        let mut faults = VecDeque::from(faults);
        self.begun = Instant::now();
        // Time spent on kills does not count for the rate.
        let mut pace = Instant::now();
        let mut checked = Instant::now();
        loop {
            while let Some(fault) = faults.pop_front_if(|fault| fault.after_records <= publisher.published()) {
                let stopped = Instant::now();
                publisher.flush()?;
                self.kill(&fault, &mut publisher, feed)?;
                pace += stopped.elapsed();
            }
            if let Some(rate) = self.plan.rate {
                let due = pace + Duration::from_secs_f64(publisher.published() as f64 / rate);
                while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                    publisher.wait(left.min(Duration::from_millis(100)));
                }
            }
            if publisher.published() >= most || !self.publish_line(&mut publisher, feed)? {
                break;
            }
            if checked.elapsed() > Duration::from_millis(500) {
                checked = Instant::now();
                self.fleet.check()?;
                self.progress.update("publish", &format!("{} lines", thousands(publisher.published())));
            }
        }
        publisher.flush()?;
        if let Some(fault) = faults.front() {
            bail!("--fault {fault} was never due: the recordings have {} lines", publisher.published());
        }
        let (published, raw) = (publisher.published(), publisher.raw());
        self.summary.published += published;
        self.summary.published_raw += raw;
        let as_they_are = if raw > 0 { format!(", {} of them as they are", thousands(raw)) } else { String::new() };
        let seconds = self.begun.elapsed().as_secs_f64();
        self.progress.done("publish", &format!("{} lines{as_they_are} in {seconds:.1} s", thousands(published)));
        Ok(())
    }

    /// Kills the first process of a worker (SIGKILL), whatever it is doing, and starts it again at once.
    ///
    /// # Errors
    /// There is no such process, or it cannot be killed or started.
    pub fn kill_now(&mut self, worker: &str) -> Result<()> {
        let found = self.fleet.instances().iter().position(|instance| instance.worker == worker);
        let Some(index) = found else { bail!("{worker} cannot be killed: it does not run here") };
        self.fleet.kill_and_restart(index)
    }

    /// Whether there was a line.
    fn publish_line(&mut self, publisher: &mut Publisher, feed: &mut Feed) -> Result<bool> {
        let Some((origin, line)) = feed.next_line()? else { return Ok(false) };
        publisher.publish(origin, line)?;
        *self.published.entry(origin.content).or_default() += 1;
        Ok(true)
    }

    /// Kills a process once it has read records that it has not committed, and starts it again.
    fn kill(&mut self, fault: &Fault, publisher: &mut Publisher, feed: &mut Feed) -> Result<()> {
        let instances = self.fleet.instances().iter().enumerate();
        let candidates: Vec<usize> = instances
            .filter(|(_, instance)| fault.hits(&instance.worker, &instance.name))
            .map(|(index, _)| index)
            .collect();
        let worker = self.fleet.instances()[candidates[0]].worker.clone();
        let offsets = CommittedOffsets::new(&self.stack.brokers(), &group(&worker))?;
        let mut hunt = Hunt::default();
        let begun = Instant::now();
        while begun.elapsed() < STANDSTILL {
            self.fleet.check()?;
            let looks: Vec<Option<Gauges>> =
                candidates.iter().map(|&index| fault::fetch(self.fleet.instances()[index].http).ok()).collect();
            let mut next = hunt.look(&looks);
            if let Next::Freeze(candidate) = next
                && let Some(gauges) = &looks[candidate]
            {
                let index = candidates[candidate];
                self.fleet.freeze(index)?;
                let uncommitted = uncommitted(&gauges.position, &offsets.ask(gauges.position.keys())?);
                if uncommitted > 0 {
                    self.fleet.kill_and_restart(index)?;
                    let process = self.fleet.instances()[index].name.clone();
                    self.progress.update("fault", &format!("killed {process}, {uncommitted} records uncommitted"));
                    self.summary.kills.push(Kill { process, records_read: gauges.read(uncommitted), uncommitted });
                    return Ok(());
                }
                self.fleet.thaw(index)?;
                next = hunt.missed();
            }
            if let Next::Publish(lines) = next {
                for _ in 0..lines {
                    self.publish_line(publisher, feed)?;
                }
            }
            publisher.wait(LOOK_EVERY);
        }
        bail!("--fault {fault} hit nothing: {worker} had committed everything that it had read for {STANDSTILL:?}")
    }
}
