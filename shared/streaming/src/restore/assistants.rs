//! The threads beside a stream thread: they restore its tasks, check the ends of its partitions and pack its snapshots.
//!
//! Restores and end checks take turns of a fifth of a second in the prompt lane. What fails there, as where a partition's
//! leader does not answer, goes on in the patient lane, whose questions may take longer: it holds up nobody but its like.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, unbounded};
use service::Heartbeat;

use super::readers::Readers;
use super::schedule::{Entry, Kind, Lane, Schedule, Turn};
use super::{Progress, Reply, Restoration, RestoreFailure};
use crate::state::pack;
use crate::task::TaskId;
use crate::worker::Worker;

/// A turn is over after this, where others wait for theirs.
const SLICE: Duration = Duration::from_millis(200);
/// Clients that nobody needs are kept for this long.
const KEEP_CLIENTS: Duration = Duration::from_secs(30);

impl Lane {
    /// The limit of a question to the brokers.
    fn patience(self) -> Duration {
        match self {
            Self::Prompt => Duration::from_secs(2),
            Self::Patient => Duration::from_secs(8),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "restore",
            Self::Patient => "restore-again",
        }
    }
}

/// A state to be made a snapshot of.
pub(crate) struct ToPack {
    pub(crate) id: TaskId,
    pub(crate) assignment: u64,
    pub(crate) state: Vec<u8>,
    pub(crate) generation: u64,
    pub(crate) offset: i64,
}

/// A question whether a partition is read to its end, and how far behind it is.
pub(crate) struct EndCheck {
    pub(crate) id: TaskId,
    pub(crate) input_topic: Arc<str>,
    pub(crate) position: i64,
}

enum Job {
    Restore(Box<Restoration>),
    EndCheck(EndCheck),
}

/// A stream thread's end of its assistants. They end when it is dropped; nobody waits for that.
pub(crate) struct Assistants {
    jobs: Arc<Jobs>,
    to_pack: Sender<ToPack>,
    replies: Receiver<Reply>,
}

impl Assistants {
    pub(crate) fn start(worker: &Arc<Worker>, name: &str) -> anyhow::Result<Self> {
        let (to_pack, packing) = unbounded();
        let (reply, replies) = unbounded();
        let jobs = Arc::new(Jobs::default());
        for lane in [Lane::Prompt, Lane::Patient] {
            let thread = format!("{name}-{}", lane.name());
            let heartbeat = worker.health.heartbeats().of_thread(thread.as_str());
            let server = LaneServer {
                worker: worker.clone(),
                jobs: jobs.clone(),
                replies: Replies(reply.clone()),
                lane,
                client: thread.clone(),
            };
            let serve = move || server.serve(&heartbeat);
            std::thread::Builder::new().name(thread).spawn(serve).context("starting a restore thread")?;
        }
        let replies_of_packing = Replies(reply);
        let pack = move || pack_all(&packing, &replies_of_packing);
        let name = format!("{name}-pack");
        std::thread::Builder::new().name(name).spawn(pack).context("starting the snapshot thread")?;
        Ok(Self { jobs, to_pack, replies })
    }

    pub(crate) fn restore(&self, restoration: Restoration) {
        self.jobs.add(restoration.assignment, Kind::Restore, Job::Restore(Box::new(restoration)));
    }

    pub(crate) fn check_end(&self, assignment: u64, check: EndCheck) {
        self.jobs.add(assignment, Kind::EndCheck, Job::EndCheck(check));
    }

    pub(crate) fn pack(&self, state: ToPack) {
        // without its receiver there is no answer, which the stream thread notices
        let _ = self.to_pack.send(state);
    }

    /// Nothing more is to be done for this assignment.
    pub(crate) fn forget(&self, assignment: u64) {
        self.jobs.lock().schedule.forget(assignment);
    }

    pub(crate) fn reply(&self) -> Option<Reply> {
        self.replies.try_recv().ok()
    }
}

impl Drop for Assistants {
    fn drop(&mut self) {
        self.jobs.lock().is_over = true;
        self.jobs.changed.notify_all();
    }
}

/// What is to be done, shared by both lanes.
#[derive(Default)]
struct Jobs {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    schedule: Schedule<Job>,
    is_over: bool,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // what is under the lock is whole between any two calls
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, assignment: u64, kind: Kind, job: Job) {
        self.lock().schedule.add(assignment, kind, job, Instant::now());
        self.changed.notify_all();
    }

    /// Waits for the next thing to do; `None` within it after `limit` without any, `None` outside at the end.
    fn next(&self, lane: Lane, limit: Duration) -> Option<Option<Entry<Job>>> {
        let deadline = Instant::now() + limit;
        let mut inner = self.lock();
        loop {
            if inner.is_over {
                return None;
            }
            let now = Instant::now();
            if let Some(entry) = inner.schedule.next(lane, now) {
                return Some(Some(entry));
            }
            if now >= deadline {
                return Some(None);
            }
            let until = inner.schedule.next_due(lane).map_or(deadline, |due| due.min(deadline));
            let wait = until.saturating_duration_since(now);
            inner = self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take_back(&self, assignment: u64, kind: Kind, job: Job, turn: Turn) {
        self.lock().schedule.take_back(assignment, kind, job, turn, Instant::now());
        self.changed.notify_all();
    }
}

/// Replies to the stream thread; a panic is one too, or it would wait for ever.
struct Replies(Sender<Reply>);

impl Replies {
    fn send(&self, reply: Reply) {
        // the stream thread has ended
        let _ = self.0.send(reply);
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.send(Reply::Panicked);
        }
    }
}

struct LaneServer {
    worker: Arc<Worker>,
    jobs: Arc<Jobs>,
    replies: Replies,
    lane: Lane,
    client: String,
}

impl LaneServer {
    fn serve(&self, heartbeat: &Heartbeat) {
        let mut readers = None;
        loop {
            heartbeat.rest();
            match self.jobs.next(self.lane, KEEP_CLIENTS) {
                None => return,
                Some(None) => readers = None,
                Some(Some(entry)) => self.turn(entry, &mut readers, heartbeat),
            }
        }
    }

    fn turn<'a>(&self, entry: Entry<Job>, readers: &mut Option<Readers<'a>>, heartbeat: &'a Heartbeat) {
        let assignment = entry.assignment;
        let ended = match entry.job {
            // nobody waits for it any more
            _ if self.worker.stopping() => return,
            Job::EndCheck(check) => {
                let checked = self.readers(readers, heartbeat).and_then(|readers| check.ask(readers));
                let (end, lag) = match &checked {
                    Ok((end, lag)) => (*end, Some(*lag)),
                    Err(error) => {
                        tracing::debug!(task = %check.id, %error, "whether the partition is read to its end is not known");
                        (None, None)
                    }
                };
                let EndCheck { id, position, .. } = check;
                self.replies.send(Reply::Checked { id, assignment, position, end, lag });
                checked.map(|_| ())
            }
            Job::Restore(mut restoration) => {
                let until = Instant::now() + SLICE;
                let is_over = || self.is_over(assignment, until);
                let step = self
                    .readers(readers, heartbeat)
                    .and_then(|readers| restoration.step(&self.worker, readers, &is_over));
                let id = restoration.id;
                match step {
                    Ok(Progress::Done(restored)) => {
                        self.replies.send(Reply::Restored { id, assignment, result: Ok(restored) });
                        Ok(())
                    }
                    Err(error @ (RestoreFailure::Refused { .. } | RestoreFailure::Changed(_))) => {
                        return self.replies.send(Reply::Restored { id, assignment, result: Err(error) });
                    }
                    Ok(Progress::GoesOn) => return self.take_back(entry.kind, restoration, Turn::GoesOn),
                    Ok(Progress::Waits(pause)) => return self.take_back(entry.kind, restoration, Turn::Waits(pause)),
                    Err(error) => {
                        restoration.begin_again(&error);
                        // what clients have learnt of brokers that were just restarting they hold for true for a quarter
                        // of an hour
                        *readers = None;
                        return self.take_back(entry.kind, restoration, Turn::Failed);
                    }
                }
            }
        };
        let mut jobs = self.jobs.lock();
        if ended.is_ok() {
            jobs.schedule.succeeded(assignment);
        } else {
            jobs.schedule.failed(assignment);
            *readers = None;
        }
    }

    fn readers<'a, 'b>(
        &self,
        readers: &'b mut Option<Readers<'a>>,
        heartbeat: &'a Heartbeat,
    ) -> Result<&'b Readers<'a>, RestoreFailure> {
        match readers {
            Some(readers) => Ok(readers),
            None => Ok(readers.insert(Readers::new(&self.worker, &self.client, self.lane.patience(), heartbeat)?)),
        }
    }

    fn take_back(&self, kind: Kind, restoration: Box<Restoration>, turn: Turn) {
        self.jobs.take_back(restoration.assignment, kind, Job::Restore(restoration), turn);
    }

    /// Whether a turn is to end: nobody needs it any more, or others have waited for theirs.
    fn is_over(&self, assignment: u64, until: Instant) -> bool {
        let inner = self.jobs.lock();
        let now = Instant::now();
        inner.is_over
            || self.worker.stopping()
            || !inner.schedule.is_live(assignment)
            || (now >= until && inner.schedule.is_busy(self.lane, now))
    }
}

impl EndCheck {
    /// The partition's end, where it is read to there, and how many records wait.
    fn ask(&self, readers: &Readers<'_>) -> Result<(Option<i64>, i64), RestoreFailure> {
        let Self { id, input_topic, position } = self;
        match readers.end_behind(input_topic, id.partition, *position)? {
            Some(end) => Ok((Some(end), 0)),
            None => Ok((None, readers.lag(input_topic, id.partition, *position)?)),
        }
    }
}

fn pack_all(states: &Receiver<ToPack>, replies: &Replies) {
    for ToPack { id, assignment, state, generation, offset } in states {
        replies.send(Reply::Packed { id, assignment, result: pack(&state, generation, offset) });
    }
}
