//! What a fold task has decided that its input alone does not determine. All decisions between two cuts are one record of
//! the state topic; a replay obeys them and asks no clock and no registry.
//!
//! Key `decisions/<first offset>`, value [`DecisionRecord`] as postcard. Records refused by the outside are kept as runs of
//! offsets, by reason: their messages stand in the dead letters.

use std::collections::BTreeMap;

use records::Reason;
use serde::{Deserialize, Serialize};

use crate::offset_runs::{OffsetRuns, RunsBuilder, RunsReader};

const KEY: &str = "decisions/";

/// The decisions between two cuts, as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DecisionRecord {
    /// The last offset that something was decided about.
    pub(crate) last: i64,
    /// Before these offsets the idle partition had followed others to these watermarks (epoch ms).
    followed: Vec<(i64, i64)>,
    /// The records refused by the outside, by the reason's name. Those with the reason `future_timestamp` were refused by
    /// the reader's clock: of those in such a run none has passed it, but some may have been refused for another reason.
    refused: Vec<(String, OffsetRuns)>,
}

/// The key of a decision record whose first decision is about that offset.
pub(crate) fn decisions_key(first: i64) -> String {
    format!("{KEY}{first}")
}

/// The first offset that a decision record of that key is about; `None` for other keys.
pub(crate) fn first_decision(key: &str) -> Option<i64> {
    key.strip_prefix(KEY)?.parse().ok()
}

impl DecisionRecord {
    /// Checks what postcard does not.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (reason, runs) in &self.refused {
            Reason::from_name(reason).ok_or_else(|| format!("{reason:?} is no reason of refusal"))?;
            runs.check().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// The decisions since the last cut.
#[derive(Debug, Default)]
pub(crate) struct PendingDecisions {
    first: Option<i64>,
    record: DecisionRecord,
    refused: BTreeMap<Reason, RunsBuilder>,
    /// How many records had passed the reader's clock when the newest one was refused by it.
    passed: u64,
}

impl PendingDecisions {
    /// Before this record the idle partition has followed others to `watermark`.
    pub(crate) fn follow(&mut self, offset: i64, watermark: i64) {
        self.note(offset);
        self.record.followed.push((offset, watermark));
    }

    /// The record was refused by the outside, a registry for instance; `before` is the offset behind the record before it.
    /// Runs hold nothing else, since a replay does not decode what is in them.
    pub(crate) fn refuse(&mut self, reason: Reason, offset: i64, before: i64) {
        self.note(offset);
        let runs = self.refused.entry(reason).or_default();
        let extends = runs.last().is_some_and(|last| last.saturating_add(1) == before);
        runs.push(offset, extends);
    }

    /// The record was refused by the reader's clock, when `passed` records had passed it so far. A run goes on until one
    /// passes: what was refused in between for itself is judged before the clock in a replay too.
    pub(crate) fn refuse_by_clock(&mut self, offset: i64, passed: u64) {
        self.note(offset);
        let extends = self.passed == passed;
        self.passed = passed;
        self.refused.entry(Reason::FutureTimestamp).or_default().push(offset, extends);
    }

    fn note(&mut self, offset: i64) {
        self.first.get_or_insert(offset);
        self.record.last = offset;
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.record.followed.len() * size_of::<(i64, i64)>()
            + self.refused.values().map(|runs| runs.bytes() + size_of::<RunsBuilder>()).sum::<usize>()
    }

    /// The first offset and the record to write, where something was decided.
    pub(crate) fn take(&mut self) -> Option<(i64, DecisionRecord)> {
        let first = self.first.take()?;
        let mut record = std::mem::take(&mut self.record);
        let refused = std::mem::take(&mut self.refused).into_iter();
        record.refused = refused.map(|(reason, runs)| (reason.name().to_owned(), runs.finish())).collect();
        Some((first, record))
    }
}

/// The decisions that a replay obeys, in the order of the offsets.
#[derive(Debug, Default)]
pub(crate) struct DecisionReplay {
    followed: BTreeMap<i64, i64>,
    refused: BTreeMap<Reason, ReplayedRuns>,
}

impl DecisionReplay {
    /// Those of these records; each has been [checked](DecisionRecord::check), and their offsets ascend.
    pub(crate) fn new(records: impl IntoIterator<Item = DecisionRecord>) -> Self {
        let mut replay = Self::default();
        for DecisionRecord { followed, refused, .. } in records {
            replay.followed.extend(followed);
            for (reason, runs) in refused {
                let Some(reason) = Reason::from_name(&reason) else { continue };
                replay.refused.entry(reason).or_default().waiting.push(runs);
            }
        }
        for runs in replay.refused.values_mut() {
            runs.waiting.reverse();
        }
        replay
    }

    /// To which watermark the partition had followed others before this record.
    pub(crate) fn followed(&mut self, offset: i64) -> Option<i64> {
        self.followed.remove(&offset)
    }

    /// For which reason the record was refused without being looked at.
    pub(crate) fn refusal(&mut self, offset: i64) -> Option<Reason> {
        let mut outside = self.refused.iter_mut().filter(|(reason, _)| **reason != Reason::FutureTimestamp);
        outside.find_map(|(reason, runs)| runs.contain(offset).then_some(*reason))
    }

    /// What stands for the reader's clock at this record: one that refuses what was refused by a clock, and nothing else.
    pub(crate) fn clock(&mut self, offset: i64) -> i64 {
        let refused = self.refused.get_mut(&Reason::FutureTimestamp).is_some_and(|runs| runs.contain(offset));
        if refused { i64::MIN } else { i64::MAX }
    }
}

/// Runs that are asked for ascending offsets; unpacked as far as they were asked for.
#[derive(Debug, Default)]
struct ReplayedRuns {
    /// The first one last.
    waiting: Vec<OffsetRuns>,
    reader: Option<RunsReader>,
    run: Option<(i64, i64)>,
}

impl ReplayedRuns {
    fn contain(&mut self, offset: i64) -> bool {
        loop {
            match self.run {
                Some((first, last)) if offset <= last => return offset >= first,
                _ => self.run = self.next(),
            }
            if self.run.is_none() {
                return false;
            }
        }
    }

    fn next(&mut self) -> Option<(i64, i64)> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Ok(Some(run)) = reader.next()
            {
                return Some(run.into_inner());
            }
            self.reader = Some(self.waiting.pop()?.reader());
        }
    }
}
