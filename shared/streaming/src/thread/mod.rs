//! A stream thread: a member of the worker's group with its consumer, its transactional producer and its tasks. One
//! loop; nothing in it waits but the poll.

mod expelled;
mod flow;
mod future_warnings;
mod lost;
mod metrics;
mod reading;
mod rebalances;
mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use kafka::RebalanceRecorder;
use rdkafka::consumer::Consumer;
use service::Heartbeat;

use crate::committer::{Committer, Outputs};
use crate::cut::Cut;
use crate::kafka::{GroupMember, member, producer};
use crate::restore::Assistants;
use crate::slot::Slot;
use crate::worker::Worker;
use expelled::Fenced;
pub(crate) use expelled::run;
use rebalances::Revocation;

const TICK: Duration = Duration::from_millis(5);
/// A leaving task's last cut is tried for this long; then the successor does the work again.
const LEAVE_LIMIT: Duration = Duration::from_secs(20);

/// The end waits for so long for the answer to a transaction.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What a thread tells about itself to `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct ThreadStatus {
    pub(crate) assigned: AtomicUsize,
    pub(crate) restoring: AtomicUsize,
    pub(crate) keys: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// See the module.
pub(crate) struct StreamThread {
    worker: Arc<Worker>,
    status: Arc<ThreadStatus>,
    name: String,
    consumer: Arc<GroupMember>,
    /// The member's id when it got the first of its tasks.
    member_id: String,
    committer: Committer,
    assistants: Assistants,
    heartbeat: Heartbeat,
    slots: Vec<Slot>,
    assignments: u64,
    in_flight: Option<Cut>,
    in_flight_since: Instant,
    /// An aborted cut that is to be made again, not before this moment.
    retry: Option<(Cut, Instant)>,
    snapshot_interval: Duration,
    aborts_in_a_row: u32,
    /// Since when brokers refuse records for a reason that stays.
    refused_since: Option<Instant>,
    fenced: Fenced,
    revocation: Option<Revocation>,
    last_cut: Instant,
    last_tick: Instant,
    last_metrics: Instant,
    last_lag: Instant,
    last_prune: Instant,
    /// Whether the last batch ended because nothing was there.
    drained: bool,
    lead_pauses: bool,
    over_budget: bool,
    oldest_uncommitted: Option<i64>,
    in_flight_oldest: Option<i64>,
    /// When the first row or alert that waits for a cut was made, at the latest; and that of the cut in flight.
    oldest_row: Option<Instant>,
    in_flight_row: Option<Instant>,
}

impl StreamThread {
    fn new(worker: Arc<Worker>, index: usize, status: Arc<ThreadStatus>) -> anyhow::Result<Self> {
        let name = worker.thread_name(index);
        let config = member(&worker.kafka, &worker.group, &name, &worker.config);
        let topics = worker.input_topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let consumer =
            GroupMember::join(&config, RebalanceRecorder::default(), &topics).context("the group cannot be joined")?;
        let assistants = Assistants::start(&worker, &name)?;
        let outputs = Outputs {
            topics: worker.topics.clone(),
            limits: worker.topic_limits.clone(),
            first_internal: worker.topology.dead_letter_index() + 1,
            kafka: worker.kafka.clone(),
        };
        let transactions = producer(&worker.kafka, &name, &worker.config);
        let heartbeats = worker.health.heartbeats();
        let committing = heartbeats.of_thread(format!("{name}-commit"));
        let committer = Committer::start(&name, transactions, outputs, &worker, committing)?;
        let heartbeat = heartbeats.of_thread(name.as_str());
        let now = Instant::now();
        let snapshot_interval = worker.config.snapshot_interval.as_duration();
        Ok(Self {
            worker,
            status,
            name,
            consumer: Arc::new(consumer),
            member_id: String::new(),
            committer,
            assistants,
            heartbeat,
            slots: Vec::new(),
            assignments: 0,
            in_flight: None,
            in_flight_since: now,
            retry: None,
            snapshot_interval,
            aborts_in_a_row: 0,
            refused_since: None,
            fenced: Fenced::default(),
            revocation: None,
            last_cut: now,
            last_tick: now,
            last_metrics: now,
            last_lag: now,
            last_prune: now,
            drained: false,
            lead_pauses: false,
            over_budget: false,
            oldest_uncommitted: None,
            in_flight_oldest: None,
            oldest_row: None,
            in_flight_row: None,
        })
    }

    /// Runs until the worker is stopped: then commits what it has, and leaves the group.
    fn run(mut self) -> anyhow::Result<()> {
        let result = self.work();
        let left = self.leave_group();
        result.and(left).with_context(|| format!("stream thread {}", self.name))
    }

    fn work(&mut self) -> anyhow::Result<()> {
        while !self.worker.stopping() {
            self.turn(true)?;
        }
        self.pause_everything()?;
        let deadline = Instant::now() + LEAVE_LIMIT;
        // with a snapshot of where they stand, whoever takes the tasks over has nothing to read again
        self.snapshot_interval = Duration::ZERO;
        let unfinished = |thread: &Self| {
            let has_work = |slot: &Slot| slot.has_uncut_work() || slot.writes_snapshot();
            thread.in_flight.is_some() || thread.retry.is_some() || thread.slots.iter().any(has_work)
        };
        self.cut(Instant::now())?;
        while unfinished(self) && Instant::now() < deadline && !self.is_unanswered() {
            self.turn(false)?;
            self.cut(Instant::now())?;
        }
        Ok(())
    }

    /// Whether the brokers do not answer a transaction, so that the end waits for it no longer.
    fn is_unanswered(&self) -> bool {
        self.in_flight.is_some() && self.in_flight_since.elapsed() >= ANSWER_LIMIT
    }

    fn turn(&mut self, read: bool) -> anyhow::Result<()> {
        self.heartbeat.turn(Instant::now(), "taking a turn");
        self.take_rebalances()?;
        self.take_replies()?;
        self.take_outcome()?;
        let before = Instant::now();
        self.poll(read)?;
        self.go_on_closing();
        self.note_rows(before);
        let now = Instant::now();
        if now.duration_since(self.last_tick) >= TICK {
            self.last_tick = now;
            self.tick(now)?;
        }
        self.maybe_cut(now)?;
        self.finish_revocation(now)
    }

    fn pause_everything(&mut self) -> anyhow::Result<()> {
        if let Ok(assignment) = self.consumer.assignment()
            && assignment.count() > 0
        {
            self.consumer.pause(&assignment)?;
        }
        for slot in &mut self.slots {
            slot.leave();
            slot.paused = true;
        }
        Ok(())
    }

    fn leave_group(&mut self) -> anyhow::Result<()> {
        // a transaction without an answer ends with its producer, or by its timeout: whoever takes the tasks over waits for that
        let left = ANSWER_LIMIT.saturating_sub(self.in_flight_since.elapsed());
        if self.in_flight.is_some()
            && let Some(outcome) = self.committer.wait(left)
        {
            self.settle(outcome)?;
        }
        for slot in self.slots.drain(..) {
            self.assistants.forget(slot.assignment);
            self.worker.telemetry.forget(&slot.labels, &slot.told);
        }
        self.tell_status();
        Ok(())
    }
}

/// The clock of this host, epoch ms.
pub(crate) fn epoch_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
