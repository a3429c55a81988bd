//! A stream thread: a member of the worker's group with its consumer, its transactional producer and its tasks. One
//! loop; nothing in it waits but the poll.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use crossbeam_channel::{Receiver, Sender, unbounded};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;

use crate::committer::{Committer, Job, Outcome};
use crate::cut::Cut;
use crate::kafka::{ASK, Rebalance, RebalanceRecorder, member, one, producer};
use crate::partition_queue::{BATCH, PartitionQueue};
use crate::restore::{Reply, Request, RestoreFailure, assist};
use crate::slot::{Phase, Semantics, Slot};
use crate::task::{Processed, Step, TaskId};
use crate::telemetry::{ReasonLabels, TopicLabels};
use crate::watermark::{follow_target, slowest};
use crate::worker::Worker;

const TICK: Duration = Duration::from_millis(5);
const METRICS_EVERY: Duration = Duration::from_millis(250);
const END_CHECK_EVERY: Duration = Duration::from_millis(500);
const LAG_EVERY: Duration = Duration::from_secs(5);
/// A leaving task's last cut is tried for this long; then the successor does the work again.
const LEAVE_LIMIT: Duration = Duration::from_secs(20);
/// The broker refuses larger values than it says; handed-on records are then cut to this.
const TRUNCATE_TO: usize = 512 * 1024;
/// A partition whose next record cannot be decoded yet is tried again after this long.
const WAIT: Duration = Duration::from_millis(500);
const FENCED_LIMIT: usize = 3;
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// What a thread tells about itself to `/readyz`.
#[derive(Debug, Default)]
pub(crate) struct ThreadStatus {
    pub(crate) assigned: AtomicUsize,
    pub(crate) restoring: AtomicUsize,
    pub(crate) keys: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Why a batch was not read to its end.
enum Stopped {
    /// The task has a window to close first, which takes long.
    Closes,
    /// Something outside does not answer.
    Waits {
        offset: i64,
        reason: String,
    },
    Failed(anyhow::Error),
}

impl Stopped {
    fn failed(error: anyhow::Error) -> ControlFlow<Self> {
        ControlFlow::Break(Self::Failed(error))
    }
}

struct Revocation {
    partitions: TopicPartitionList,
    lost: bool,
    since: Instant,
}

/// See the module.
pub(crate) struct StreamThread {
    worker: Arc<Worker>,
    status: Arc<ThreadStatus>,
    name: String,
    consumer: Arc<BaseConsumer<RebalanceRecorder>>,
    committer: Committer,
    requests: Sender<Request>,
    replies: Receiver<Reply>,
    slots: Vec<Slot>,
    assignments: u64,
    in_flight: Option<Cut>,
    /// An aborted cut that is to be made again, not before this moment.
    retry: Option<(Cut, Instant)>,
    snapshot_interval: Duration,
    truncate: Option<usize>,
    aborts_in_a_row: u32,
    fenced: Vec<Instant>,
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
}

impl StreamThread {
    pub(crate) fn new(worker: Arc<Worker>, index: usize, status: Arc<ThreadStatus>) -> anyhow::Result<Self> {
        let name = format!("{}-{}-{index}", worker.topology.worker, worker.config.instance);
        let config = member(&worker.kafka, &worker.group, &name, &worker.config);
        let consumer: BaseConsumer<RebalanceRecorder> =
            config.create_with_context(RebalanceRecorder::default()).context("the consumer cannot be made")?;
        let (requests, request_receiver) = unbounded();
        let (reply_sender, replies) = unbounded();
        let (assistant_worker, assistant_name) = (worker.clone(), name.clone());
        std::thread::Builder::new().name(format!("{name}-assist")).spawn(move || {
            assist(&assistant_worker, &assistant_name, &request_receiver, &reply_sender);
        })?;
        let handed_on = worker.topology.late_index()..worker.topology.dead_letter_index() + 1;
        let transactions = producer(&worker.kafka, &name, &worker.config);
        let committer = Committer::start(&name, transactions, worker.topics.clone(), handed_on, worker.stop.clone())?;
        let now = Instant::now();
        let snapshot_interval = worker.config.snapshot_interval.as_duration();
        Ok(Self {
            worker,
            status,
            name,
            consumer: Arc::new(consumer),
            committer,
            requests,
            replies,
            slots: Vec::new(),
            assignments: 0,
            in_flight: None,
            retry: None,
            snapshot_interval,
            truncate: None,
            aborts_in_a_row: 0,
            fenced: Vec::new(),
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
        })
    }

    /// Runs until the worker is stopped: then commits what it has, and leaves the group.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let result = self.work();
        let left = self.leave_group();
        result.and(left).with_context(|| format!("stream thread {}", self.name))
    }

    fn work(&mut self) -> anyhow::Result<()> {
        let mut topics: Vec<String> = Vec::new();
        for pipeline in 0..self.worker.pipelines.len() {
            topics.push(self.worker.topology.input_topic(pipeline, Step::Fold));
            topics.push(self.worker.topology.input_topic(pipeline, Step::Merge));
        }
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)?;
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
        while unfinished(self) && Instant::now() < deadline {
            self.turn(false)?;
            self.cut(Instant::now())?;
        }
        Ok(())
    }

    fn turn(&mut self, read: bool) -> anyhow::Result<()> {
        self.take_rebalances()?;
        self.take_replies()?;
        self.take_outcome()?;
        self.poll(read)?;
        self.go_on_closing();
        let now = Instant::now();
        if now.duration_since(self.last_tick) >= TICK {
            self.last_tick = now;
            self.tick(now)?;
        }
        self.maybe_cut(now)?;
        self.finish_revocation(now)
    }

    // ---- reading

    /// Reads a batch of each partition; waits a moment where nothing is there. The consumer's own queue has everything else.
    fn poll(&mut self, read: bool) -> anyhow::Result<()> {
        let mut taken = 0;
        self.drained = true;
        for index in 0..if read { self.slots.len() } else { 0 } {
            let count = self.read(index)?;
            taken += count;
            self.drained &= count < BATCH;
        }
        let is_closing = self.slots.iter().filter_map(Slot::task).any(|task| task.is_closing());
        let mut timeout = if taken == 0 && !is_closing { TICK } else { Duration::ZERO };
        while let Some(polled) = self.consumer.poll(timeout) {
            match polled {
                // fetched before its partition had a queue of its own: its restore ends with a seek
                Ok(_) => {}
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => bail!("consumer: {error}"),
                Err(KafkaError::MessageConsumption(code)) => consumption_error(code)?,
                Err(error) => tracing::warn!(%error, "consumer"),
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Processes a batch of a partition's records; how many were taken.
    fn read(&mut self, index: usize) -> anyhow::Result<usize> {
        let slot = &mut self.slots[index];
        let (Phase::Running(task), Some(queue), false) = (&mut slot.phase, &mut slot.queue, slot.paused) else {
            return Ok(0);
        };
        let mut oldest = None;
        let (count, stopped) = queue.take(|fetched| {
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(code) => return consumption_error(code).map_or_else(Stopped::failed, ControlFlow::Continue),
            };
            let record = fetched.record();
            // fetched before a seek took hold
            if record.offset < task.position() {
                return ControlFlow::Continue(());
            }
            match task.process(&record) {
                Ok(Processed::Done) => {
                    oldest.get_or_insert(record.timestamp);
                    ControlFlow::Continue(())
                }
                Ok(Processed::Closing) => ControlFlow::Break(Stopped::Closes),
                Ok(Processed::NotNow(reason)) => ControlFlow::Break(Stopped::Waits { offset: record.offset, reason }),
                Err(error) => Stopped::failed(error.into()),
            }
        });
        if slot.is_fold() {
            self.oldest_uncommitted = self.oldest_uncommitted.or(oldest);
        }
        let waits_until = match stopped {
            None => return Ok(count),
            Some(Stopped::Failed(error)) => return Err(error),
            Some(Stopped::Closes) => None,
            Some(Stopped::Waits { offset, reason }) => {
                tracing::warn!(task = %slot.id, offset, reason, "the partition waits");
                Some(Instant::now() + WAIT)
            }
        };
        slot.waits_until = waits_until;
        slot.paused = true;
        self.consumer.pause(&one(&slot.input_topic, slot.id.partition))?;
        Ok(count)
    }

    /// Closes one piece more of the windows that take long.
    fn go_on_closing(&mut self) {
        for slot in &mut self.slots {
            if let Phase::Running(task) = &mut slot.phase
                && task.is_closing()
            {
                task.advance();
            }
        }
    }

    // ---- rebalances

    fn take_rebalances(&mut self) -> anyhow::Result<()> {
        while self.revocation.is_none()
            && let Some(event) = self.consumer.context().next()
        {
            match event {
                Rebalance::Assign(list) => self.assign(&list)?,
                Rebalance::Revoke(list) => self.revoke(list)?,
            }
        }
        Ok(())
    }

    /// Partitions are taken at once, paused; their state is read elsewhere meanwhile.
    fn assign(&mut self, list: &TopicPartitionList) -> anyhow::Result<()> {
        let mut placed = TopicPartitionList::with_capacity(list.count());
        for element in list.elements() {
            placed.add_partition_offset(element.topic(), element.partition(), Offset::Offset(0))?;
        }
        // also an empty list wants its answer, or no revocation is announced any more
        self.consumer.incremental_assign(&placed).context("incremental_assign")?;
        if placed.count() > 0 {
            self.consumer.pause(&placed).context("pause")?;
        }
        let now = Instant::now();
        for element in list.elements() {
            let id = self
                .worker
                .task_id(element.topic(), element.partition())
                .with_context(|| format!("{} was assigned, which is no input of the worker", element.topic()))?;
            tracing::info!(task = %id, topic = element.topic(), "assigned");
            self.assignments += 1;
            let input_topic: Arc<str> = element.topic().into();
            let state_topic = self.worker.state_topic_index(id);
            let mut slot = Slot::new(id, input_topic, state_topic, self.assignments, now);
            slot.queue = Some(split(&self.consumer, &slot)?);
            self.request_restore(&slot)?;
            self.slots.push(slot);
        }
        self.tell_status();
        Ok(())
    }

    fn request_restore(&self, slot: &Slot) -> anyhow::Result<()> {
        let (id, assignment, input_topic) = (slot.id, slot.assignment, slot.input_topic.clone());
        self.requests.send(Request::Restore { id, assignment, input_topic }).context("the assistant thread has ended")
    }

    /// Partitions that leave read nothing more; they are given up once what they produced is committed.
    fn revoke(&mut self, list: TopicPartitionList) -> anyhow::Result<()> {
        let lost = self.consumer.assignment_lost();
        tracing::info!(partitions = list.count(), lost, "revoked");
        for slot in &mut self.slots {
            if list.find_partition(&slot.input_topic, slot.id.partition).is_some() {
                slot.leave();
                slot.paused = true;
            }
        }
        let _ = self.consumer.pause(&list);
        self.revocation = Some(Revocation { partitions: list, lost, since: Instant::now() });
        self.finish_revocation(Instant::now())
    }

    fn finish_revocation(&mut self, now: Instant) -> anyhow::Result<()> {
        let Some(revocation) = &self.revocation else { return Ok(()) };
        let leaving =
            |slot: &Slot| revocation.partitions.find_partition(&slot.input_topic, slot.id.partition).is_some();
        if !revocation.lost {
            let out_of_time = now.duration_since(revocation.since) >= LEAVE_LIMIT;
            let leaving: Vec<&Slot> = self.slots.iter().filter(|slot| leaving(slot)).collect();
            let held =
                |cut: &Cut| cut.parts.iter().any(|part| leaving.iter().any(|slot| slot.assignment == part.assignment));
            let in_flight = self.in_flight.as_ref().is_some_and(held);
            let retrying = self.retry.as_ref().is_some_and(|(cut, _)| held(cut));
            // what is in flight is always waited for: it could still commit when the successor has begun
            if in_flight || (!out_of_time && (retrying || leaving.iter().any(|slot| slot.has_uncut_work()))) {
                return Ok(());
            }
        }
        let telemetry = &self.worker.telemetry;
        self.slots.retain(|slot| {
            let leaves = leaving(slot);
            if leaves {
                telemetry.forget(&slot.labels, &slot.told);
            }
            !leaves
        });
        let partitions = revocation.partitions.clone();
        self.revocation = None;
        self.consumer.incremental_unassign(&partitions).context("incremental_unassign")?;
        self.tell_status();
        Ok(())
    }

    fn tell_status(&self) {
        let restoring = self.slots.iter().filter(|slot| matches!(slot.phase, Phase::Restoring)).count();
        self.status.assigned.store(self.slots.len(), Ordering::Relaxed);
        self.status.restoring.store(restoring, Ordering::Relaxed);
    }

    // ---- answers

    fn slot_of(&mut self, id: TaskId, assignment: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == id && slot.assignment == assignment)
    }

    fn take_replies(&mut self) -> anyhow::Result<()> {
        while let Ok(reply) = self.replies.try_recv() {
            match reply {
                Reply::Restored { id, assignment, result } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    match result {
                        Ok(restored) => self.restored(index, *restored)?,
                        Err(RestoreFailure::Stopped) => {}
                        Err(failure) => return Err(failure.into()),
                    }
                }
                Reply::Packed { id, assignment, result } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    match result {
                        Ok(packed) => self.slots[index].packed(packed),
                        Err(error) => {
                            tracing::warn!(task = %id, %error, "the snapshot could not be packed");
                            self.slots[index].packing_failed();
                        }
                    }
                }
                Reply::Checked { id, assignment, position, at_end, lag } => {
                    let Some(index) = self.slot_of(id, assignment) else { continue };
                    let slot = &mut self.slots[index];
                    slot.idleness.confirm(position, at_end);
                    if let Some(lag) = lag {
                        self.worker.telemetry.lag.get_or_create(&slot.labels).set(lag);
                    }
                }
            }
        }
        Ok(())
    }

    fn restored(&mut self, index: usize, restored: crate::restore::Restored) -> anyhow::Result<()> {
        let slot = &mut self.slots[index];
        if !matches!(slot.phase, Phase::Restoring) {
            return Ok(());
        }
        let position = restored.task.position();
        self.worker.telemetry.restore_seconds.observe(restored.duration.as_secs_f64());
        tracing::info!(task = %slot.id, topic = %slot.input_topic, position, generation = restored.generation,
            seconds = restored.duration.as_secs_f64(), "restored");
        let stagger = self.snapshot_interval.mul_f64(f64::from(slot.id.partition.rem_euclid(16)) / 32.0);
        slot.begin(restored, stagger, Instant::now());
        slot.position_gauge = Some(self.worker.telemetry.position.get_or_create_owned(&slot.labels));
        if self.revocation.as_ref().is_some_and(|revocation| {
            revocation.partitions.find_partition(&slot.input_topic, slot.id.partition).is_some()
        }) {
            slot.leave();
            return Ok(());
        }
        let list = one(&slot.input_topic, slot.id.partition);
        if let Err(error) = self.consumer.seek(&slot.input_topic, slot.id.partition, Offset::Offset(position), ASK) {
            // librdkafka refuses to seek where its fetcher has not started yet
            tracing::info!(task = %slot.id, %error, "assigned anew instead of a seek");
            let mut placed = TopicPartitionList::new();
            placed.add_partition_offset(&slot.input_topic, slot.id.partition, Offset::Offset(position))?;
            self.consumer.incremental_unassign(&list)?;
            self.consumer.incremental_assign(&placed)?;
            self.consumer.pause(&list)?;
            slot.queue = Some(split(&self.consumer, slot)?);
        }
        if !self.over_budget {
            slot.paused = false;
            resume(&self.consumer, &list)?;
        }
        self.tell_status();
        Ok(())
    }

    // ---- flow control, idleness, metrics

    fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        self.watch_idleness(now);
        self.serve_tables(now);
        self.control_flow()?;
        for slot in &self.slots {
            if let (Some(task), Some(position)) = (slot.task(), &slot.position_gauge) {
                position.set(task.position());
            }
        }
        if now.duration_since(self.last_metrics) >= METRICS_EVERY {
            self.last_metrics = now;
            self.measure();
        }
        if now.duration_since(self.last_lag) >= LAG_EVERY {
            self.last_lag = now;
            for slot in &mut self.slots {
                if let Some(position) = slot.task().map(|task| task.position()) {
                    ask_for_end(&self.requests, slot, position, now);
                }
            }
        }
        Ok(())
    }

    fn watch_idleness(&mut self, now: Instant) {
        let wall_clock = epoch_millis();
        for slot in self.slots.iter_mut().filter(|slot| slot.is_fold()) {
            let Phase::Running(task) = &slot.phase else { continue };
            let (position, watermark) = (task.position(), task.watermark());
            let pipeline = &self.worker.pipelines[slot.id.pipeline];
            let time = &self.worker.topology.pipelines[slot.id.pipeline].time;
            slot.idleness.observe(watermark, now);
            slot.first_watermark = slot.first_watermark.or(watermark);
            if !slot.idleness.silent(time.idle_timeout, now) {
                continue;
            }
            if now.duration_since(slot.idleness.last_asked) >= END_CHECK_EVERY.min(time.idle_timeout) {
                ask_for_end(&self.requests, slot, position, now);
            }
            if !slot.idleness.may_follow(position, time.idle_timeout, now) {
                continue;
            }
            let announced = pipeline.board.announced();
            let own = slot.id.partition as usize;
            let target = follow_target(&announced, own, &time.windows, time.out_of_orderness, wall_clock);
            if let (Some(target), Phase::Running(task)) = (target, &mut slot.phase)
                && task.follow(target)
            {
                slot.idleness.followed(task.watermark());
            }
        }
    }

    /// Lets folds with a table close what the table allows by now; where a partition that feeds one is idle, its mark
    /// follows those who look things up, so that they need not wait for entries that do not come.
    fn serve_tables(&mut self, now: Instant) {
        if self.worker.tables().next().is_none() {
            return;
        }
        let mut horizon = None;
        if now.duration_since(self.last_prune) >= PRUNE_EVERY {
            self.last_prune = now;
            horizon = self.worker.horizon();
        }
        for index in 0..self.slots.len() {
            let feeds = self.worker.topology.pipelines[self.slots[index].id.pipeline].feeds;
            let idle = feeds && self.is_idle(&self.slots[index], now);
            let Phase::Running(task) = &mut self.slots[index].phase else { continue };
            if idle && let Some(mark) = self.worker.smallest_looking_up() {
                task.follow_mark(mark);
            }
            task.advance();
            if feeds && let Some(horizon) = horizon {
                task.prune(horizon);
            }
        }
    }

    fn is_idle(&self, slot: &Slot, now: Instant) -> bool {
        let timeout = self.worker.topology.pipelines[slot.id.pipeline].time.idle_timeout;
        slot.is_fold() && slot.task().is_some_and(|task| slot.idleness.is_idle(task.position(), timeout, now))
    }

    /// Pauses what is too far ahead, and everything while too much output waits for its commit.
    fn control_flow(&mut self) -> anyhow::Result<()> {
        let budget = self.worker.config.max_pending.as_usize();
        let pending: usize = self.slots.iter().filter_map(|slot| slot.task()).map(|task| task.pending_bytes()).sum();
        self.worker.telemetry.pending_bytes.set(pending as i64);
        self.over_budget = pending > budget;
        self.lead_pauses = false;
        let max_lead = self.worker.config.max_lead.as_millis();
        let mut pause = TopicPartitionList::new();
        let mut resumed = TopicPartitionList::new();
        for index in 0..self.slots.len() {
            let ahead = self.lead(index).is_some_and(|lead| lead > max_lead);
            let slot = &mut self.slots[index];
            if !matches!(slot.phase, Phase::Running(_)) {
                continue;
            }
            self.lead_pauses |= ahead;
            let waits = slot.waits_until.is_some_and(|moment| Instant::now() < moment);
            if !waits {
                slot.waits_until = None;
            }
            let wanted = ahead || self.over_budget || waits || slot.task().is_some_and(|task| task.is_closing());
            if wanted != slot.paused {
                slot.paused = wanted;
                let position = slot.task().map(|task| task.position()).unwrap_or_default();
                if wanted {
                    pause.add_partition(&slot.input_topic, slot.id.partition);
                } else {
                    resumed.add_partition_offset(&slot.input_topic, slot.id.partition, Offset::Offset(position))?;
                }
            }
        }
        if pause.count() > 0 {
            self.worker.telemetry.pauses.inc_by(pause.count() as u64);
            self.consumer.pause(&pause)?;
        }
        for element in resumed.elements() {
            // records that were fetched before the pause and dropped by the loop are read again
            self.consumer.seek(element.topic(), element.partition(), element.offset(), ASK)?;
        }
        if resumed.count() > 0 {
            resume(&self.consumer, &resumed)?;
        }
        Ok(())
    }

    /// How far (event time, ms) a fold is ahead of the slowest partition of its topic. Partitions of this thread count
    /// with what they have reached, others with what they have announced.
    fn lead(&self, index: usize) -> Option<i64> {
        let slot = &self.slots[index];
        let (true, Some(task)) = (slot.is_fold(), slot.task()) else { return None };
        let watermark = task.watermark()?;
        let mut announced = self.worker.pipelines[slot.id.pipeline].board.announced();
        for other in self.slots.iter().filter(|other| other.is_fold() && other.id.pipeline == slot.id.pipeline) {
            if let (Some(entry), Some(task)) = (announced.get_mut(other.id.partition as usize), other.task())
                && let Some(watermark) = task.watermark()
            {
                *entry = Some(crate::watermark::Announced { watermark: Some(watermark), ..entry.unwrap_or_default() });
            }
        }
        let start = slot.first_watermark.unwrap_or(watermark);
        let slowest = slowest(&announced, slot.id.partition as usize, start);
        // a table that nothing is known of yet holds nobody back before the first watermark
        let table = task.table_complete().map_or(i64::MAX, |complete| complete.max(start));
        Some(watermark.saturating_sub(slowest.min(table)))
    }

    fn measure(&mut self) {
        let telemetry = &self.worker.telemetry;
        let now = epoch_millis();
        for (pipeline, table) in self.worker.tables() {
            let topic = TopicLabels { topic: self.worker.topology.internal_topic(pipeline, "table") };
            let size = table.size();
            telemetry.table_entries.get_or_create(&topic).set(size.keys as i64);
            telemetry.table_bytes.get_or_create(&topic).set(size.bytes as i64);
            telemetry.table_delay.get_or_create(&topic).set(now.saturating_sub(table.complete()));
        }
        let (mut keys, mut bytes) = (0, 0);
        for slot in &mut self.slots {
            let Some(task) = slot.task() else { continue };
            telemetry.open_windows.get_or_create(&slot.labels).set(task.open_windows() as i64);
            if !slot.is_fold() {
                telemetry.overflowed_groups.get_or_create(&slot.labels).set(task.overflowed() as i64);
            }
            if let Some(watermark) = task.watermark() {
                telemetry.watermark_delay.get_or_create(&slot.labels).set(now - watermark);
            }
            let size = task.size();
            keys += size.keys;
            bytes += size.bytes;
            telemetry.state_keys.get_or_create(&slot.labels).set(size.keys as i64);
            telemetry.state_bytes.get_or_create(&slot.labels).set(size.bytes as i64);
            let (figures, counts) = (task.figures(), task.counts().cloned());
            let told = telemetry.show(&slot.labels, &slot.told, &figures);
            slot.told = told;
            let Some(counts) = counts else { continue };
            let topic = TopicLabels { topic: slot.labels.topic.clone() };
            let seen = slot.counted.get_or_insert_with(|| counts.clone());
            telemetry.read.get_or_create(&topic).inc_by(counts.read - seen.read);
            telemetry.applied.get_or_create(&topic).inc_by(counts.applied - seen.applied);
            telemetry.late.get_or_create(&topic).inc_by(counts.late - seen.late);
            for (reason, count) in &counts.dead_lettered_by_reason {
                let before = seen.dead_lettered_by_reason.get(reason).copied().unwrap_or_default();
                let labels = ReasonLabels { topic: topic.topic.clone(), reason: reason.clone() };
                telemetry.dead_lettered.get_or_create(&labels).inc_by(count - before);
            }
            slot.counted = Some(counts);
        }
        self.status.keys.store(keys, Ordering::Relaxed);
        self.status.bytes.store(bytes, Ordering::Relaxed);
    }

    // ---- transactions

    fn maybe_cut(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.in_flight.is_some() {
            return Ok(());
        }
        if let Some((_, moment)) = &self.retry {
            return if now >= *moment { self.make_again() } else { Ok(()) };
        }
        let config = &self.worker.config;
        let interval = if self.drained { config.commit_interval } else { config.backlog_commit_interval }.as_duration();
        let tasks = || self.slots.iter().filter_map(|slot| slot.task());
        let due = now.duration_since(self.last_cut) >= interval
            || self.revocation.is_some()
            || self.lead_pauses
            || (self.drained && tasks().any(|task| task.row_waits()))
            || tasks().map(|task| task.pending_bytes()).sum::<usize>() > config.max_pending.as_usize() / 4;
        if due { self.cut(now) } else { Ok(()) }
    }

    /// Takes all that the tasks have produced, with their offsets and the group's metadata, and hands it over.
    fn cut(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.in_flight.is_some() || self.retry.is_some() {
            return Ok(());
        }
        self.last_cut = now;
        let mut cut = Cut::default();
        for index in 0..self.slots.len() {
            let idle = self.is_idle(&self.slots[index], now);
            let slot = &mut self.slots[index];
            let semantics =
                Semantics { hash: self.worker.semantics, partitions: self.worker.source_partitions(slot.id) };
            cut.parts.extend(slot.cut(idle, semantics).map(Arc::new));
            // who only moves elsewhere does not wait for it
            let stays = matches!(slot.phase, Phase::Running(_)) || self.worker.stopping();
            let started = Instant::now();
            if stays && let Some((state, generation, offset)) = slot.snapshot_due(self.snapshot_interval, now) {
                self.worker.telemetry.snapshot_seconds.observe(started.elapsed().as_secs_f64());
                let (id, assignment) = (slot.id, slot.assignment);
                self.requests.send(Request::Pack { id, assignment, state, generation, offset })?;
            }
        }
        if cut.is_empty() {
            return Ok(());
        }
        self.in_flight_oldest = self.oldest_uncommitted.take();
        self.submit(cut);
        Ok(())
    }

    fn submit(&mut self, cut: Cut) {
        match self.consumer.group_metadata() {
            Some(group) => {
                self.committer.submit(Job { cut: cut.clone(), group, truncate: self.truncate });
                self.in_flight = Some(cut);
            }
            None => self.retry = Some((cut, Instant::now() + TICK)),
        }
    }

    /// Sends an aborted cut again: the same bytes and offsets of the tasks that are still here, with fresh metadata.
    fn make_again(&mut self) -> anyhow::Result<()> {
        let Some((mut cut, _)) = self.retry.take() else { return Ok(()) };
        let slots = &self.slots;
        cut.retain(|part| slots.iter().any(|slot| slot.assignment == part.assignment));
        if !cut.is_empty() {
            self.submit(cut);
        }
        Ok(())
    }

    fn take_outcome(&mut self) -> anyhow::Result<()> {
        let Some(outcome) = self.committer.outcome() else { return Ok(()) };
        self.settle(outcome)
    }

    fn settle(&mut self, outcome: Outcome) -> anyhow::Result<()> {
        let cut = self.in_flight.take().unwrap_or_default();
        let telemetry = &self.worker.telemetry;
        match outcome {
            Outcome::Committed { duration } => {
                self.aborts_in_a_row = 0;
                self.truncate = None;
                telemetry.commit_seconds.observe(duration.as_secs_f64());
                if let Some(oldest) = self.in_flight_oldest.take() {
                    telemetry.end_to_end_seconds.observe((epoch_millis() - oldest).max(0) as f64 / 1e3);
                }
                for part in cut.parts {
                    if let Some(slot) = self.slots.iter_mut().find(|slot| slot.assignment == part.assignment) {
                        telemetry.committed.get_or_create(&slot.labels).set(part.offset);
                        if let Some(part) = Arc::into_inner(part) {
                            slot.reuse(part.outputs);
                        }
                    }
                }
            }
            Outcome::Aborted { error, too_large } => {
                telemetry.commit_aborts.inc();
                self.aborts_in_a_row += 1;
                tracing::info!(%error, attempt = self.aborts_in_a_row, "transaction aborted, it is made again");
                if too_large && self.truncate.replace(TRUNCATE_TO).is_some() {
                    bail!("a record is too large for its topic even when cut: {error}");
                }
                let pause = Duration::from_millis(10 << self.aborts_in_a_row.min(6));
                self.retry = Some((cut, Instant::now() + pause));
            }
            Outcome::Renewed { error, fenced } => {
                tracing::warn!(%error, "the producer was replaced; tasks are read back from what is committed");
                let now = Instant::now();
                if fenced {
                    self.fenced.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
                    self.fenced.push(now);
                    if self.fenced.len() >= FENCED_LIMIT {
                        bail!(
                            "another process uses the transactional id {}: give each instance its own runtime.instance",
                            self.name
                        );
                    }
                }
                self.reload()?;
            }
            Outcome::Failed { error } => bail!("transactions cannot be made: {error}"),
        }
        Ok(())
    }

    /// Drops all tasks' state and reads it back.
    fn reload(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.retry = None;
        self.oldest_uncommitted = None;
        for index in 0..self.slots.len() {
            let old = &self.slots[index];
            if matches!(old.phase, Phase::Leaving(_)) {
                // it leaves without its last outputs: the successor makes them
                self.slots[index].phase = Phase::Restoring;
                continue;
            }
            self.consumer.pause(&one(&old.input_topic, old.id.partition))?;
            self.assignments += 1;
            let state_topic = self.worker.state_topic_index(old.id);
            let mut slot = Slot::new(old.id, old.input_topic.clone(), state_topic, self.assignments, now);
            slot.told.clone_from(&old.told);
            slot.queue = self.slots[index].queue.take();
            self.request_restore(&slot)?;
            self.slots[index] = slot;
        }
        self.tell_status();
        Ok(())
    }

    // ---- the end

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
        if self.in_flight.is_some()
            && let Some(outcome) = self.committer.wait(LEAVE_LIMIT)
        {
            self.settle(outcome)?;
        }
        for slot in self.slots.drain(..) {
            self.worker.telemetry.forget(&slot.labels, &slot.told);
        }
        self.consumer.context().close();
        // whatever is still held must be given up here, or dropping the consumer waits for ever
        if let Ok(held) = self.consumer.assignment()
            && held.count() > 0
        {
            self.consumer.incremental_unassign(&held)?;
        }
        self.tell_status();
        Ok(())
    }
}

/// The queue of a slot's messages, right after its partition was assigned.
fn split(
    consumer: &Arc<BaseConsumer<RebalanceRecorder>>,
    slot: &Slot,
) -> anyhow::Result<PartitionQueue<RebalanceRecorder>> {
    let queue = PartitionQueue::split(consumer, &slot.input_topic, slot.id.partition);
    queue.with_context(|| format!("the messages of {} have no queue", slot.id))
}

/// What an error among the messages means.
fn consumption_error(code: RDKafkaErrorCode) -> anyhow::Result<()> {
    if code == RDKafkaErrorCode::AutoOffsetReset {
        bail!("the log was deleted before it was read: an input topic's retention is too short");
    }
    tracing::warn!(%code, "consumer");
    Ok(())
}

/// Resumes partitions and wakes librdkafka's fetcher, which would otherwise sleep for up to a second.
fn resume(consumer: &BaseConsumer<RebalanceRecorder>, partitions: &TopicPartitionList) -> anyhow::Result<()> {
    consumer.resume(partitions)?;
    for element in partitions.elements() {
        if let Err(error) = consumer.fetch_watermarks(element.topic(), element.partition(), ASK) {
            tracing::debug!(%error, topic = element.topic(), "the fetcher wakes by itself");
        }
    }
    Ok(())
}

fn ask_for_end(requests: &Sender<Request>, slot: &mut Slot, position: i64, now: Instant) {
    if slot.idleness.asked {
        return;
    }
    slot.idleness.asked = true;
    slot.idleness.last_asked = now;
    let (id, assignment, input_topic) = (slot.id, slot.assignment, slot.input_topic.clone());
    // without an assistant the thread is ending anyway
    let _ = requests.send(Request::CheckEnd { id, assignment, input_topic, position });
}

fn epoch_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
