//! An instance's copy of a worker's table, and how far it is complete.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::operator::NoTable;

/// A table that the folds of an instance share. A fold takes the lock once a slide, never for an event.
#[derive(Debug)]
pub(crate) struct SharedTable<T> {
    table: RwLock<T>,
    /// Event time (epoch ms) up to which all entries are there; `i64::MIN` before the first mark.
    complete: AtomicI64,
}

impl SharedTable<NoTable> {
    /// Nothing is looked up, so nothing is waited for.
    pub(crate) fn none() -> Self {
        Self { table: RwLock::new(NoTable), complete: AtomicI64::new(i64::MAX) }
    }
}

impl<T> SharedTable<T> {
    pub(crate) fn complete(&self) -> i64 {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}
