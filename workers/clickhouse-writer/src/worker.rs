//! The loop: polls, fills lanes, starts deliveries, commits what they have delivered.
//!
//! One thread owns the consumer and all lanes and waits neither for ClickHouse nor for a commit: each lane delivers one
//! batch at a time in a task of its own and reports to the loop over a channel. In each turn:
//! 1. deliveries that ended, first, so that their offsets can be committed before partitions leave;
//! 2. rebalances;
//! 3. commits, which are made in a thread of their own;
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
use service::{Condition, Heartbeat, Shutdown, Throttle};

use crate::batch::{Batch, Place};
use crate::dead_letters::DeadLetters;
use crate::deliver::{Destination, Policy, Sink, deliver};
use crate::lane::{Lane, Taken};
use crate::metrics::Metrics;
use crate::source::{self, CommitFailure, Source};
use crate::waiting::Waiting;

/// Messages taken in one turn.
const MESSAGES_PER_TURN: usize = 1000;
/// How long a turn waits for a message: the delay of commits and batches that are due meanwhile.
const WAIT: Duration = Duration::from_millis(20);
/// Between two looks for schemas that the registry was asked for.
const REGISTRY_PAUSE: Duration = Duration::from_millis(100);
/// Of the shutdown's deadline, the part that is left for leaving the group: a busy broker takes seconds for that.
const LEAVE: u32 = 3;
/// Between two looks at whether the topics are still those of the start, while nothing is committed.
const TOPICS_LOOK: Duration = Duration::from_secs(15);
/// Between two attempts at a commit or a rebalance that the brokers did not answer.
const BROKER_PAUSE: Duration = Duration::from_millis(200);

/// A commit before partitions leave is waited for at most so long. One that is taken later can only set offsets back: rows are
/// written again then, and none is lost.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// From the wish to end on, brokers that take no offsets are waited for at most so long, once all rows are delivered.
const LAST_COMMIT: Duration = Duration::from_secs(8);
/// Rows that are not acknowledged for longer show as waiting for ClickHouse.
const LONG_DELIVERY: Duration = Duration::from_secs(5);
/// Partitions whose offsets could not be committed for longer show as waiting for the brokers.
const LONG_COMMIT: Duration = Duration::from_secs(2);

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
    /// By lane, the partitions that are paused.
    paused: Vec<BTreeSet<i32>>,
    delivery: Delivery<S>,
    metrics: Arc<Metrics>,
    assigned: Condition,
    waits: Waiting,
    heartbeat: Heartbeat,
    shutdown: Shutdown,
    ended: Receiver<Delivered>,
    end: Sender<Delivered>,
    /// A rebalance that the brokers have not answered yet.
    assigning: Option<Partitions>,
    /// Lane, partition and next offset of a commit that has not ended.
    committing: Option<Vec<(usize, i32, i64)>>,
    /// When the first commit began since the last one that succeeded.
    uncommitted_since: Option<Instant>,
    not_before: Instant,
    ask_registry_at: Instant,
    check_topics_at: Instant,
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
        let assigned = health.condition("partitions assigned");
        assigned.fail("the group has not answered yet");
        let paused = vec![BTreeSet::new(); lanes.len()];
        let now = Instant::now();
        Self {
            source,
            lanes,
            by_topic,
            paused,
            delivery,
            metrics,
            assigned,
            waits: Waiting::new(health.waits().clone()),
            heartbeat: health.heartbeats().of_thread("writer"),
            shutdown,
            ended,
            end,
            assigning: None,
            committing: None,
            uncommitted_since: None,
            not_before: now,
            ask_registry_at: now,
            check_topics_at: now + TOPICS_LOOK,
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
            let _ = self.commit_now();
        }
        result
    }

    fn work(&mut self) -> anyhow::Result<()> {
        let mut give_up_at = None;
        loop {
            self.take_ended()?;
            self.rebalance()?;
            self.commit()?;
            let ending = self.shutdown.requested();
            let now = Instant::now();
            self.heartbeat.turn(now, "taking a turn");
            if ending {
                let deadline = self.shutdown.deadline();
                let give_up_at = *give_up_at.get_or_insert(now + (deadline - deadline / LEAVE));
                let delivered = self.lanes.iter().all(Lane::is_idle);
                if delivered && self.lanes.iter().all(|lane| lane.committable().is_empty()) {
                    return Ok(());
                }
                if delivered && self.shutdown.is_overdue(LAST_COMMIT) {
                    tracing::warn!("the brokers take no offsets: the next start reads these rows again");
                    return Ok(());
                }
                if now >= give_up_at {
                    self.report_undelivered();
                    return Ok(());
                }
            }
            self.ask_registry(now)?;
            self.send_due(ending);
            self.pause_or_resume(ending)?;
            self.take_messages(ending)?;
            self.tell_progress();
            self.show_waits(now);
        }
    }

    /// At the end: what is left to the next start.
    fn report_undelivered(&self) {
        for lane in &self.lanes {
            let partitions: Vec<i32> = lane.committable().into_iter().map(|(partition, _)| partition).collect();
            if lane.undelivered() == 0 && partitions.is_empty() {
                continue;
            }
            let (table, topic, records) = (lane.table.name, &lane.topic, lane.undelivered());
            tracing::warn!(
                table,
                topic,
                records,
                uncommitted = ?partitions,
                "not delivered in time: these records stay uncommitted, and the next start reads them again"
            );
        }
    }

    fn take_ended(&mut self) -> anyhow::Result<()> {
        while let Ok(Delivered { lane, result }) = self.ended.try_recv() {
            result.with_context(|| format!("rows of {} cannot be delivered", self.lanes[lane].table.name))?;
            service::crash_point("clickhouse_writer::inserted");
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
                // librdkafka remembers a pause across assignments: a partition that was paused when it left comes back paused
                self.source.pause(topic, std::iter::once(*partition), false)?;
                self.paused[lane].remove(partition);
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
            self.commit_now()?;
        }
        let mut leaving: BTreeMap<usize, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in partitions.iter() {
            if let Some(&lane) = self.by_topic.get(topic) {
                leaving.entry(lane).or_default().insert(partition);
                self.metrics.forget(topic, partition);
            }
        }
        if let Some(offsets) = &mut self.committing {
            // an answer that comes later says nothing about them when they have come back
            offsets.retain(|(lane, partition, _)| !leaving.get(lane).is_some_and(|left| left.contains(partition)));
        }
        for (lane, leaving) in leaving {
            self.lanes[lane].revoke(&leaving);
        }
        self.source.unassign(partitions)?;
        tracing::info!(%partitions, "partitions given up");
        Ok(())
    }

    /// Commits what may be committed, before partitions leave; brokers that do not answer are waited for only so long.
    fn commit_now(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + COMMIT_LIMIT;
        for _ in 0..2 {
            // the first one may have begun before what is committable now
            self.commit()?;
            self.end_commit(deadline.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    /// Begins to commit what may be committed, and now and then to check the topics, also while nothing is. A failure is
    /// repeated in a later turn: the offsets are still committable then.
    fn commit(&mut self) -> anyhow::Result<()> {
        self.end_commit(Duration::ZERO)?;
        let now = Instant::now();
        if self.committing.is_some() || now < self.not_before {
            return Ok(());
        }
        let offsets: Vec<(usize, i32, i64)> = self
            .lanes
            .iter()
            .enumerate()
            .flat_map(|(index, lane)| {
                lane.committable().into_iter().map(move |(partition, next)| (index, partition, next))
            })
            .collect();
        if offsets.is_empty() && now < self.check_topics_at {
            return Ok(());
        }
        self.check_topics_at = now + TOPICS_LOOK;
        let list = offsets.iter().map(|&(lane, partition, next)| (self.lanes[lane].topic.clone(), partition, next));
        self.source.begin_commit(list.collect());
        if !offsets.is_empty() {
            self.uncommitted_since.get_or_insert(now);
        }
        self.committing = Some(offsets);
        Ok(())
    }

    /// Notes how a commit has ended, if it has within `wait`.
    fn end_commit(&mut self, wait: Duration) -> anyhow::Result<()> {
        if self.committing.is_none() {
            return Ok(());
        }
        let Some(ended) = self.source.commit_ended(wait) else { return Ok(()) };
        let Some(offsets) = self.committing.take() else { return Ok(()) };
        match ended {
            Ok(()) => {
                self.uncommitted_since = None;
                for (lane, partition, next) in offsets {
                    self.lanes[lane].committed(partition, next);
                }
            }
            Err(CommitFailure::Kafka(error)) if offsets.is_empty() => {
                self.not_before = Instant::now() + BROKER_PAUSE;
                tracing::warn!(%error, "the ids of the row topics are not known");
            }
            Err(CommitFailure::Kafka(error)) => {
                self.metrics.commit_failed();
                self.not_before = Instant::now() + BROKER_PAUSE;
                tracing::warn!(%error, "offsets were not committed, and will be again");
            }
            Err(failure @ (CommitFailure::Changed(_) | CommitFailure::NoThread)) => return Err(failure.into()),
        }
        Ok(())
    }

    fn ask_registry(&mut self, now: Instant) -> anyhow::Result<()> {
        if now < self.ask_registry_at || !self.lanes.iter().any(Lane::is_waiting) {
            return Ok(());
        }
        for index in 0..self.lanes.len() {
            for taken in self.lanes[index].retry_stalled(now) {
                self.count(index, &taken);
            }
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
            let owned = lane.partitions();
            let wanted = if ending { owned.keys().copied().collect() } else { lane.partitions_to_pause() };
            paused.retain(|partition| owned.contains_key(partition));
            if wanted != *paused {
                self.source.pause(&lane.topic, wanted.difference(paused).copied(), true)?;
                self.source.pause(&lane.topic, paused.difference(&wanted).copied(), false)?;
            }
            self.metrics.held(lane.table, lane.bytes(), !wanted.is_empty());
            *paused = wanted;
        }
        Ok(())
    }

    fn take_messages(&mut self, ending: bool) -> anyhow::Result<()> {
        let mut wait = WAIT;
        for _ in 0..MESSAGES_PER_TURN {
            let message = match self.source.poll(wait) {
                None => return Ok(()),
                Some(Err(error)) => {
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
                        // a topic that was created again looks like that too
                        self.source.check_topics()?;
                    }
                    return judge(error, &mut self.poll_log);
                }
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
            if matches!(taken, Taken::Stalled { .. }) {
                self.ask_registry_at = Instant::now() + REGISTRY_PAUSE;
                return Ok(());
            }
            if self.lanes[index].is_full() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn count(&mut self, lane: usize, taken: &Taken) {
        let topic = &self.lanes[lane].topic;
        match taken {
            Taken::Held(_) => self.metrics.read(topic, 1),
            Taken::Stalled { place, message } => {
                self.waits.is_for_schema(topic, place.partition, &format!("offset {}: {message}", place.offset));
            }
            // the wait of its partition is known
            Taken::Queued | Taken::NotOwned => {}
        }
    }

    fn show_waits(&mut self, now: Instant) {
        for lane in &self.lanes {
            self.waits.have_schemas(&lane.topic, |partition| lane.is_stalled(partition));
            self.waits.are_for_rows(&lane.topic, lane.table.name, lane.delivering(LONG_DELIVERY, now));
        }
        let assigning = self.assigning.iter().flat_map(Partitions::iter);
        let is_long = self.uncommitted_since.is_some_and(|since| now.saturating_duration_since(since) >= LONG_COMMIT);
        let committing = self
            .lanes
            .iter()
            .filter(|_| is_long)
            .flat_map(|lane| lane.committable().into_iter().map(|(partition, _)| (lane.topic.as_str(), partition)));
        self.waits.are_for_brokers(assigning.chain(committing));
    }

    fn tell_progress(&self) {
        for lane in &self.lanes {
            for (&partition, progress) in lane.partitions() {
                let end = self.source.end(&lane.topic, partition, progress.position);
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
    for record in dead_letters.publish(&destination.topic, batch.refusals()).await? {
        metrics.too_large(&destination.topic, &record);
    }
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
