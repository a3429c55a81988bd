//! What became of the records of a source partition: task state, so that a crash cannot count twice.

use std::collections::BTreeMap;

use records::Reason;
use serde::{Deserialize, Serialize};

/// Counts of one fold task. `read = applied + late + dead_lettered` holds after every record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Records taken from the source partition.
    pub read: u64,
    /// Events that entered the state.
    pub applied: u64,
    /// Events at or below the watermark.
    pub late: u64,
    /// Records refused.
    pub dead_lettered: u64,
    /// Records written to output topics by this task.
    pub rows: u64,
    /// Refused records by reason.
    pub dead_lettered_by_reason: BTreeMap<String, u64>,
}

impl Counts {
    pub(crate) fn refuse(&mut self, reason: Reason) {
        self.dead_lettered += 1;
        *self.dead_lettered_by_reason.entry(reason.name().to_owned()).or_default() += 1;
    }

    /// Whether every record read is accounted for.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.read == self.applied + self.late + self.dead_lettered
    }
}
