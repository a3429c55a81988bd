//! Orderly end: SIGTERM or SIGINT asks for it once, a second signal or the deadline enforces it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a worker may take to finish its batch, commit and leave its group, unless configured otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// In place of a time.
const NEVER: u64 = u64::MAX;

/// A request to end that many parts watch. Clones share it; once requested, it stays so.
#[derive(Clone, Debug)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requested: AtomicBool,
    /// When, in milliseconds from `origin`; [`NEVER`] before.
    requested_millis: AtomicU64,
    origin: Instant,
    starting: AtomicBool,
    deadline_millis: AtomicU64,
    /// Pairs with `changed` for threads; `notify` is the same news for async tasks.
    gate: Mutex<()>,
    changed: Condvar,
    notify: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Not requested yet. Tests make their own; workers get theirs from [`crate::run`].
    pub fn new() -> Self {
        let inner = Inner {
            requested: AtomicBool::new(false),
            requested_millis: AtomicU64::new(NEVER),
            origin: Instant::now(),
            starting: AtomicBool::new(false),
            deadline_millis: AtomicU64::new(u64::try_from(DEFAULT_DEADLINE.as_millis()).unwrap_or(u64::MAX)),
            gate: Mutex::new(()),
            changed: Condvar::new(),
            notify: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Asks for the end. Also for a part that cannot go on: the others then end in good order.
    pub fn request(&self) {
        {
            let _gate = self.inner.gate.lock().unwrap_or_else(PoisonError::into_inner);
            let millis = u64::try_from(self.inner.origin.elapsed().as_millis()).unwrap_or(NEVER - 1);
            let _ = self.inner.requested_millis.compare_exchange(NEVER, millis, Ordering::Relaxed, Ordering::Relaxed);
            self.inner.requested.store(true, Ordering::Release);
        }
        self.inner.changed.notify_all();
        self.inner.notify.send_replace(true);
    }

    /// Whether the end was asked for. As cheap as reading a bool: for hot loops.
    pub fn requested(&self) -> bool {
        self.inner.requested.load(Ordering::Acquire)
    }

    /// Whether the end was asked for at least `limit` ago: a last attempt that has not succeeded by then is given up.
    pub fn is_overdue(&self, limit: Duration) -> bool {
        let asked = self.inner.requested_millis.load(Ordering::Relaxed);
        asked != NEVER && self.inner.origin.elapsed() >= Duration::from_millis(asked).saturating_add(limit)
    }

    /// The process waits for what it needs (brokers, schemas, tables), and has begun nothing that has to be brought to an end:
    /// until [`started`](Self::started), a request ends it at once.
    pub(crate) fn starts(&self) {
        self.inner.starting.store(true, Ordering::Relaxed);
    }

    /// The process begins its work: from now on it ends in good order. To be called when all that it needs is there.
    pub fn started(&self) {
        self.inner.starting.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.inner.starting.load(Ordering::Relaxed)
    }

    /// Resolves once the end is asked for. Cancel-safe.
    pub async fn wait(&self) {
        let mut news = self.inner.notify.subscribe();
        // Fails only if the sender is gone, and `self` holds it.
        let _ = news.wait_for(|requested| *requested).await;
    }

    /// Blocks this thread until the end is asked for.
    pub fn wait_blocking(&self) {
        let mut gate = self.inner.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.requested() {
            gate = self.inner.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks this thread until the end is asked for, at most for `limit`; whether it was. A pause that a signal cuts short.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut gate = self.inner.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gate = self.inner.changed.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Changes how long the process may take from the request to its end (30 s at first).
    pub fn set_deadline(&self, deadline: Duration) {
        let millis = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.inner.deadline_millis.store(millis, Ordering::Relaxed);
    }

    /// How long the process may take from the request to its end.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.inner.deadline_millis.load(Ordering::Relaxed))
    }
}
