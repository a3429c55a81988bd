//! The rules over one kind of rows, in one merge partition.

use records::Alert;
use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

use crate::catalogue::{Row, RowKind};
use crate::judging::evaluate;
use crate::live::LiveRule;
use crate::rule::{Compiled, RuleSet, TermsSince};
use crate::snapshot;
use crate::transition::{Origin, Reason, Seen, Transition};

/// What has happened since the evaluator was made, replays included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows judged by a rule.
    pub evaluations: u64,
    /// Rows not judged because there were too many series.
    pub overflowed: u64,
    pub(crate) transitions: [u64; Reason::ALL.len()],
}

impl Counts {
    /// Records sent, by their reason.
    pub fn transitions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.iter().zip(self.transitions).map(|(reason, count)| (reason.name(), count))
    }
}

/// Judges rows. Which alerts it emits depends on the rows alone, and on when its rules began.
///
/// Rules are live from [`begin`](Self::begin) on. Before that, in a replay, those run that ran then: they are
/// [remembered](Self::remembered) outside of snapshots.
pub struct Evaluator {
    origin: Origin,
    kind: RowKind,
    revision: i64,
    configured: RuleSet,
    /// Under which rules it runs.
    running: Option<RuleSet>,
    /// What held for all rules, for windows that end behind a time: ascending, the last one is that of today. Those before it
    /// are for replays.
    terms: TermsSince,
    live: Vec<LiveRule>,
    closed: Option<i64>,
    /// What was closed in the snapshot that it was restored from: replays begin there or later.
    restored_at: i64,
    counts: Counts,
}

impl Evaluator {
    /// An evaluator for the rows of a worker. Rules are those of [`AlertsConfig::rules`](crate::AlertsConfig::rules).
    #[must_use]
    pub fn new(worker: &str, kind: RowKind, revision: i64, rules: RuleSet) -> Self {
        Self {
            origin: Origin { worker: worker.to_owned(), deployment: None },
            kind,
            revision,
            configured: rules,
            running: None,
            terms: Vec::new(),
            live: Vec::new(),
            closed: None,
            restored_at: i64::MIN,
            counts: Counts::default(),
        }
    }

    /// The same for a deployment that is not the worker's default one: its alerts are others than those of the same rules
    /// and groups elsewhere.
    #[must_use]
    pub fn of_deployment(mut self, deployment: Option<&str>) -> Self {
        self.origin.deployment = deployment.map(str::to_owned);
        self
    }

    /// Begins to run under the configured rules: alerts of rules that are no more, or are others now, are resolved, new rules
    /// judge windows to come. True where that is to be [remembered](Self::remembered).
    pub fn begin(&mut self, sink: &mut dyn FnMut(&Alert<'_>)) -> bool {
        let since = self.closed.unwrap_or(i64::MIN);
        let mut before = std::mem::take(&mut self.live);
        for rule in &self.configured.rules {
            if let Some(at) = before.iter().position(|live| live.rule.rule == *rule) {
                self.live.push(before.remove(at));
            } else if let Ok(compiled) = Compiled::new(rule.clone(), &self.kind) {
                self.live.push(LiveRule::new(compiled, since));
            }
        }
        for removed in &mut before {
            self.resolve(removed, sink);
        }
        let news = match &self.running {
            Some(running) => *running != self.configured,
            None => !self.configured.rules.is_empty(),
        };
        self.running = Some(self.configured.clone());
        if self.terms.last().is_none_or(|(_, terms)| *terms != self.configured.terms) {
            self.terms.push((since, self.configured.terms));
        }
        // no replay begins before the snapshot: of what held until then it needs the last one
        let needed = self.terms.partition_point(|(since, _)| *since <= self.restored_at).saturating_sub(1);
        self.terms.drain(..needed);
        news
    }

    /// Ends all alerts of a rule that is no more.
    fn resolve(&mut self, removed: &mut LiveRule, sink: &mut dyn FnMut(&Alert<'_>)) {
        let rule = &removed.rule.rule;
        for (group, series) in &mut removed.series {
            let Some(mut firing) = series.firing.take() else { continue };
            firing.sequence += 1;
            self.counts.transitions[Reason::RuleRemoved as usize] += 1;
            let end = self.closed.unwrap_or(firing.sent_at);
            let (reason, seen) = (Reason::RuleRemoved, Seen::NOTHING);
            let transition = Transition { rule, group, reason, end, firing: &firing, seen };
            transition.record(&self.origin, &self.kind, self.revision, sink);
        }
    }

    /// Whether any rule looks at the rows of the window that ends at `end`.
    #[must_use]
    pub fn wants(&self, end: i64) -> bool {
        self.live.iter().any(|live| live.wants(end))
    }

    /// The window that ends at `end` is closed with these rows, if any rule [wants](Self::wants) them. Ends come ascending.
    pub fn close(&mut self, end: i64, rows: &[Row], sink: &mut dyn FnMut(&Alert<'_>)) {
        let Self { origin, kind, revision, live, counts, terms, .. } = self;
        if let Some((_, terms)) = terms.iter().rev().find(|(since, _)| end > *since) {
            for live in live.iter_mut().filter(|live| live.wants(end)) {
                let mut emit = |transition: &Transition<'_>| transition.record(origin, kind, *revision, sink);
                evaluate(live, (end, rows), kind, *terms, counts, &mut emit);
            }
        }
        self.closed = Some(end);
    }

    /// The end of the newest window that is closed.
    #[must_use]
    pub fn closed(&self) -> Option<i64> {
        self.closed
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether any rule runs.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.live.is_empty()
    }

    /// Alerts that are firing.
    #[must_use]
    pub fn firing(&self) -> u64 {
        self.live.iter().map(|live| live.firing).sum()
    }

    /// What series take, as of their last evaluation; estimated.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.live.iter().map(|live| live.bytes).sum()
    }

    /// Series that are kept.
    #[must_use]
    pub fn tracked(&self) -> u64 {
        self.live.iter().map(|live| live.series.len() as u64).sum()
    }

    /// Appends the rules that run, and since when: whoever restores a snapshot must know them.
    pub fn remembered(&self, into: &mut Vec<u8>) {
        snapshot::write_rules(&self.terms, &self.live, into);
    }

    /// Takes the rules back that [`remembered`](Self::remembered) has written; before [`restore`](Self::restore).
    ///
    /// # Errors
    /// Where the bytes are none of it, or name what these rows do not have.
    pub fn recall(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let (terms, live) = snapshot::read_rules(bytes, &self.kind)?;
        let rules = live.iter().map(|live| live.rule.rule.clone()).collect();
        self.running = terms.last().map(|(_, terms)| RuleSet { terms: *terms, rules });
        (self.terms, self.live) = (terms, live);
        Ok(())
    }

    /// Appends what is known of all groups.
    pub fn snapshot(&self, into: &mut Vec<u8>) {
        into.push(snapshot::VERSION);
        wire::put_u64(into, u64::from(self.closed.is_some()));
        wire::put_signed(into, i128::from(self.closed.unwrap_or_default()));
        snapshot::write_series(&self.live, into);
    }

    /// Reads what [`snapshot`](Self::snapshot) has written. What belongs to rules that no longer run is left out.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::new(bytes);
        reader.version(snapshot::VERSION)?;
        let has_closed = reader.u64()? == 1;
        let closed = Some(reader.i64()?).filter(|_| has_closed);
        snapshot::read_series(&mut reader, &mut self.live)?;
        reader.finish()?;
        self.closed = closed;
        self.restored_at = closed.unwrap_or(i64::MIN);
        Ok(())
    }
}
