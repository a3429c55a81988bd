//! Vectors that wait for the end of their pane: of each user the newest.

use hashbrown::HashTable;
use storage::Text;

/// The newest vector of a user in a pane.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) user: u32,
    pub(crate) version: u32,
    pub(crate) time: i64,
    pub(crate) event_id: Text,
}

/// The updates of one pane that is not closed.
#[derive(Debug, Default)]
pub(crate) struct Pane {
    updates: HashTable<Update>,
    heap_bytes: usize,
}

impl Pane {
    pub(crate) fn find_mut(&mut self, user: u32) -> Option<&mut Update> {
        self.updates.find_mut(hash(user), |update| update.user == user)
    }

    /// Adds the first update of a user.
    pub(crate) fn insert(&mut self, update: Update) {
        self.heap_bytes += update.event_id.heap_bytes();
        self.updates.insert_unique(hash(update.user), update, |update| hash(update.user));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Update> {
        self.updates.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.updates.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.updates.allocation_size() + self.heap_bytes
    }
}

/// Users have small numbers: an odd factor spreads them over the table's upper bits too.
fn hash(user: u32) -> u64 {
    u64::from(user).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
