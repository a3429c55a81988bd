//! What became of the records of a source partition: task state, so that a crash cannot count twice.

use std::collections::BTreeMap;

use records::{Reason, Rejection};
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
    /// Records that were deleted before they were read, and skipped: no part of `read`. An upper bound: aborted records and
    /// transaction markers among them count too.
    #[serde(default)]
    pub lost: u64,
    /// Refused records by reason.
    pub dead_lettered_by_reason: BTreeMap<String, u64>,
    /// Those of them whose event time was refused, by the rule that did it.
    #[serde(default)]
    pub refused_times: RefusedTimes,
}

/// Records refused for their event times (METRICS.md §1), each under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefusedTimes {
    /// Too far ahead of the record's Kafka timestamp.
    pub record_timestamp: u64,
    /// Too far ahead of the reader's clock, with a Kafka timestamp that agreed with the event time.
    pub reader_clock: u64,
    /// Too far ahead of the reader's clock, without a Kafka timestamp.
    pub no_timestamp: u64,
    /// Outside of the range of event times.
    pub range: u64,
}

/// The rule by which an event time lies in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FutureRule {
    /// The record's Kafka timestamp alone decides.
    RecordTimestamp,
    /// The reader's clock does, since the record's timestamp is as far ahead.
    ReaderClock,
    /// The reader's clock does, since the record has no timestamp.
    NoTimestamp,
}

impl RefusedTimes {
    /// Each count with the name of its rule.
    #[must_use]
    pub fn by_rule(&self) -> [(&'static str, u64); 4] {
        [
            ("record_timestamp", self.record_timestamp),
            ("reader_clock", self.reader_clock),
            ("no_timestamp", self.no_timestamp),
            ("range", self.range),
        ]
    }

    /// Those that lay in the future.
    pub(crate) fn future(&self) -> u64 {
        self.record_timestamp + self.reader_clock + self.no_timestamp
    }
}

impl Counts {
    pub(crate) fn refuse(&mut self, rejection: &Rejection) {
        self.refused_times.range += u64::from(rejection.out_of_time);
        self.refuse_by(rejection.reason);
    }

    pub(crate) fn refuse_future(&mut self, rule: FutureRule) {
        let times = &mut self.refused_times;
        *match rule {
            FutureRule::RecordTimestamp => &mut times.record_timestamp,
            FutureRule::ReaderClock => &mut times.reader_clock,
            FutureRule::NoTimestamp => &mut times.no_timestamp,
        } += 1;
        self.refuse_by(Reason::FutureTimestamp);
    }

    fn refuse_by(&mut self, reason: Reason) {
        self.dead_lettered += 1;
        *self.dead_lettered_by_reason.entry(reason.name().to_owned()).or_default() += 1;
    }

    /// Events whose times were accepted.
    pub(crate) fn passed(&self) -> u64 {
        self.applied + self.late
    }

    /// Whether every record read is accounted for.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.read == self.applied + self.late + self.dead_lettered
    }
}
