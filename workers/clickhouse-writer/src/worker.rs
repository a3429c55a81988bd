//! The loop: polls, fills lanes, starts deliveries, commits what they have delivered.
//!
//! One thread owns the consumer and all lanes and never waits for ClickHouse: each lane delivers one batch at a time in
//! a task of its own and tells the loop over a channel. In each turn:
//! 1. deliveries that ended, first, so that their offsets can be committed before partitions leave;
//! 2. rebalances;
//! 3. commits;
//! 4. batches that are due, pauses and resumptions;
//! 5. messages, until a lane has to be looked at again.
//!
//! Polling never ends, whatever waits: it is what keeps the member in the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use kafka::{Partitions, Rebalance};
use rdkafka::Message as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use service::{Condition, Shutdown, Throttle};

use crate::batch::{Batch, Place};
use crate::dead_letters::DeadLetters;
use crate::deliver::{Destination, Policy, Sink, deliver};
use crate::lane::{Lane, Taken};
use crate::metrics::Metrics;
use crate::source::{self, Source};

/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 1000;
/// How long a turn waits for a message: the delay of commits and batches that are due meanwhile.
const WAIT: Duration = Duration::from_millis(20);
/// Between two questions to a registry that did not answer.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);
/// Of the shutdown's deadline, what is left for leaving the group.
const LEAVE: Duration = Duration::from_secs(3);
/// Between two attempts at a commit or a rebalance that the brokers did not answer.
const BROKER_PAUSE: Duration = Duration::from_millis(200);

/// What a delivery task tells the loop.
struct Delivered {
    lane: usize,
    result: anyhow::Result<()>,
}

/// What deliveries need.
pub struct Delivery<S> {
    /// ClickHouse.
    pub sink: Arc<S>,
    /// By lane.
    pub destinations: Vec<Arc<Destination>>,
    /// How inserts are repeated.
    pub policy: Policy,
    /// Where refused records go.
    pub dead_letters: DeadLetters,
    /// Where deliveries run.
    pub runtime: tokio::runtime::Handle,
}

/// The writer at work.
pub struct Worker<S> {
    source: Source,
    lanes: Vec<Lane>,
    by_topic: BTreeMap<String, usize>,
    paused: Vec<bool>,
    delivery: Delivery<S>,
    metrics: Arc<Metrics>,
    assigned: Condition,
    registry: Condition,
    shutdown: Shutdown,
    ended: Receiver<Delivered>,
    end: Sender<Delivered>,
    /// A rebalance that the brokers have not answered yet.
    assigning: Option<Partitions>,
    not_before: Instant,
    ask_registry_at: Instant,
    poll_log: Throttle,
}

impl<S: Sink> Worker<S> {
    /// A writer that has joined the group; [`run`](Self::run) does the rest.
    pub fn new(
        source: Source,
        lanes: Vec<Lane>,
        delivery: Delivery<S>,
        metrics: Arc<Metrics>,
        health: &service::Health,
        shutdown: Shutdown,
    ) -> Self {
        let (end, ended) = channel();
        let by_topic = lanes.iter().enumerate().map(|(index, lane)| (lane.topic.clone(), index)).collect();
        let registry = health.condition("schemas known");
        registry.ok();
        let assigned = health.condition("partitions assigned");
        assigned.fail("the group has not answered yet");
        let paused = vec![false; lanes.len()];
        let now = Instant::now();
        Self {
            source,
            lanes,
            by_topic,
            paused,
            delivery,
            metrics,
            assigned,
            registry,
            shutdown,
            ended,
            end,
            assigning: None,
            not_before: now,
            ask_registry_at: now,
            poll_log: Throttle::new(Duration::from_secs(10)),
        }
    }

    /// Works until the end is asked for, delivers and commits what is held, and leaves the group.
    ///
    /// # Errors
    /// Where a person has to help. What is not committed is read again at the next start.
    pub fn run(mut self) -> anyhow::Result<()> {
        let result = self.work();
        if result.is_err() {
            // What was delivered is committed even so: less to do again.
            self.commit();
        }
        result
    }

    fn work(&mut self) -> anyhow::Result<()> {
        let mut give_up_at = None;
        loop {
            self.take_ended()?;
            self.rebalance()?;
            self.commit();
            let ending = self.shutdown.requested();
            let now = Instant::now();
            if ending {
                let deadline = self.shutdown.deadline().saturating_sub(LEAVE);
                let give_up_at = *give_up_at.get_or_insert(now + deadline);
                if self.lanes.iter().all(|lane| lane.is_idle() && lane.committable().is_empty()) {
                    return Ok(());
                }
                if now >= give_up_at {
                    tracing::warn!(
                        "rows that were not delivered in time stay uncommitted; the next start reads them again"
                    );
                    return Ok(());
                }
            }
            self.ask_registry(now)?;
            self.send_due(ending);
            self.pause_or_resume(ending)?;
            self.take_messages(ending)?;
            self.tell_progress();
        }
    }

    fn take_ended(&mut self) -> anyhow::Result<()> {
        while let Ok(Delivered { lane, result }) = self.ended.try_recv() {
            result.with_context(|| format!("rows of {} cannot be delivered", self.lanes[lane].table.name))?;
            self.lanes[lane].delivered();
        }
        Ok(())
    }

    fn rebalance(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(list) = self.assigning.take()
                && !self.assign(&list)?
            {
                self.assigning = Some(list);
                return Ok(());
            }
            match self.source.next_rebalance() {
                None => return Ok(()),
                Some(Rebalance::Assign(list)) => self.assigning = Some(list),
                Some(Rebalance::Revoke(list)) => self.revoke(&list)?,
            }
        }
    }

    /// Whether it is done; if not, the brokers did not answer, and it is tried again in a later turn.
    fn assign(&mut self, partitions: &Partitions) -> anyhow::Result<bool> {
        if Instant::now() < self.not_before {
            return Ok(false);
        }
        let starts = match self.source.starts(partitions) {
            Ok(starts) => starts?,
            Err(error) => {
                tracing::warn!(%error, "the offsets of new partitions are asked for again");
                if let Err(error) = self.source.look_again() {
                    tracing::warn!(%error, "where partitions are is not known");
                }
                self.not_before = Instant::now() + BROKER_PAUSE;
                return Ok(false);
            }
        };
        self.source.assign(&starts)?;
        for (topic, partition, start) in &starts {
            if let Some(&lane) = self.by_topic.get(topic) {
                self.lanes[lane].assign(*partition, start.position, start.committed);
                if self.paused[lane] {
                    self.source.pause(topic, std::iter::once(*partition), true)?;
                }
            }
        }
        if !starts.is_empty() {
            tracing::info!(%partitions, "partitions taken");
        }
        self.assigned.ok();
        Ok(true)
    }

    fn revoke(&mut self, partitions: &Partitions) -> anyhow::Result<()> {
        if !self.source.assignment_lost() {
            self.take_ended()?;
            self.commit();
        }
        let mut leaving: BTreeMap<usize, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in partitions.iter() {
            if let Some(&lane) = self.by_topic.get(topic) {
                leaving.entry(lane).or_default().insert(partition);
                self.metrics.forget(topic, partition);
            }
        }
        for (lane, leaving) in leaving {
            self.lanes[lane].revoke(&leaving);
        }
        self.source.unassign(partitions)?;
        tracing::info!(%partitions, "partitions given up");
        Ok(())
    }

    /// Commits what may be committed. A failure is repeated in a later turn: the offsets are still committable then.
    fn commit(&mut self) {
        if Instant::now() < self.not_before {
            return;
        }
        let offsets: Vec<(usize, i32, i64)> = self
            .lanes
            .iter()
            .enumerate()
            .flat_map(|(index, lane)| {
                lane.committable().into_iter().map(move |(partition, next)| (index, partition, next))
            })
            .collect();
        if offsets.is_empty() {
            return;
        }
        let list: Vec<(&str, i32, i64)> =
            offsets.iter().map(|&(lane, partition, next)| (self.lanes[lane].topic.as_str(), partition, next)).collect();
        match self.source.commit(&list) {
            Ok(()) => {
                for (lane, partition, next) in offsets {
                    self.lanes[lane].committed(partition, next);
                }
            }
            Err(error) => {
                self.metrics.commit_failed();
                self.not_before = Instant::now() + BROKER_PAUSE;
                tracing::warn!(%error, "offsets were not committed, and will be again");
            }
        }
    }

    fn ask_registry(&mut self, now: Instant) -> anyhow::Result<()> {
        if now < self.ask_registry_at || !self.lanes.iter().any(Lane::is_stalled) {
            return Ok(());
        }
        for index in 0..self.lanes.len() {
            for taken in self.lanes[index].retry_stalled(now) {
                self.count(index, &taken);
            }
        }
        if !self.lanes.iter().any(Lane::is_stalled) {
            self.registry.ok();
        }
        self.ask_registry_at = Instant::now() + REGISTRY_PAUSE;
        Ok(())
    }

    fn send_due(&mut self, ending: bool) {
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            if let Some(batch) = self.lanes[index].seal(now, ending) {
                self.start_delivery(index, batch);
            }
        }
    }

    fn start_delivery(&self, lane: usize, mut batch: Batch) {
        let (sink, end, metrics) = (self.delivery.sink.clone(), self.end.clone(), self.metrics.clone());
        let (destination, dead_letters) =
            (self.delivery.destinations[lane].clone(), self.delivery.dead_letters.clone());
        let policy = self.delivery.policy;
        let delivery = self.delivery.runtime.spawn(async move {
            deliver_all(&mut batch, &destination, &*sink, &policy, &dead_letters, &metrics).await
        });
        self.delivery.runtime.spawn(async move {
            let result = delivery.await.unwrap_or_else(|panicked| Err(panicked.into()));
            // The loop is gone only when the process ends.
            let _ = end.send(Delivered { lane, result });
        });
    }

    fn pause_or_resume(&mut self, ending: bool) -> anyhow::Result<()> {
        for (lane, paused) in self.lanes.iter().zip(&mut self.paused) {
            let wanted = ending || lane.wants_pause();
            if wanted != *paused {
                self.source.pause(&lane.topic, lane.partitions().keys().copied(), wanted)?;
                *paused = wanted;
            }
            self.metrics.held(lane.table, lane.bytes(), wanted);
        }
        Ok(())
    }

    fn take_messages(&mut self, ending: bool) -> anyhow::Result<()> {
        let mut wait = WAIT;
        for _ in 0..MESSAGES_PER_TURN {
            let message = match self.source.poll(wait) {
                None => return Ok(()),
                Some(Err(error)) => return judge(error, &mut self.poll_log),
                Some(Ok(message)) => message,
            };
            wait = Duration::ZERO;
            if ending {
                // Fetched before the pause: not taken, hence not committed.
                continue;
            }
            let Some(&index) = self.by_topic.get(message.topic()) else {
                continue;
            };
            let place = Place { partition: message.partition(), offset: message.offset() };
            let taken = self.lanes[index].take(place, source::original(&message), Instant::now());
            drop(message);
            self.count(index, &taken);
            if matches!(taken, Taken::Stalled(_)) {
                self.ask_registry_at = Instant::now() + REGISTRY_PAUSE;
            }
            if self.lanes[index].wants_pause() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn count(&self, lane: usize, taken: &Taken) {
        let topic = &self.lanes[lane].topic;
        match taken {
            Taken::Held(_) => self.metrics.read(topic, 1),
            Taken::Stalled(message) => self.registry.fail(format!("{topic} waits: {message}")),
            Taken::NotOwned => {}
        }
    }

    fn tell_progress(&self) {
        for lane in &self.lanes {
            for (&partition, progress) in lane.partitions() {
                let end = self.source.end(&lane.topic, partition);
                self.metrics.progress(&lane.topic, partition, progress.position, progress.committed, end);
            }
        }
    }
}

async fn deliver_all(
    batch: &mut Batch,
    destination: &Destination,
    sink: &impl Sink,
    policy: &Policy,
    dead_letters: &DeadLetters,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    deliver(batch, destination, sink, policy, metrics).await?;
    metrics.delivered(destination.table, batch.rows().iter().filter_map(|row| row.original.timestamp), epoch_millis());
    dead_letters.publish(&destination.topic, batch.refusals()).await?;
    for refusal in batch.refusals() {
        metrics.dead_letter(&destination.topic, refusal.reason);
        let (partition, offset) = (refusal.place.partition, refusal.place.offset);
        tracing::debug!(topic = destination.topic, partition, offset, reason = refusal.reason, "handed on");
    }
    Ok(())
}

/// Errors of polling that end the writer; librdkafka repeats the others by itself.
fn judge(error: KafkaError, log: &mut Throttle) -> anyhow::Result<()> {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset) => Err(error).context(
            "the position lies outside of the log: rows were deleted before they were written; to go on from the start of \
             the log, stop all instances and run: clickhouse-writer --config FILE --reset-state",
        ),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed) => {
            Err(error).context("the cluster does not let this user read")
        }
        _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => Err(error).context("the consumer cannot go on"),
        _ => {
            if let Some(left_out) = log.pass(Instant::now()) {
                tracing::warn!(%error, left_out, "the consumer goes on after an error");
            }
            Ok(())
        }
    }
}

fn epoch_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
