//! An evaluator inside of a merge.

use records::{Alert, Encoder};
use streaming::operator::{Figure, RestoreError, StateSize};
use streaming::output::MergeOutput;

use crate::catalogue::Row;
use crate::evaluator::Evaluator;

/// The key under which a merge remembers its rules.
const KEY: &str = "alert-rules";

/// What turns a merge's rows into alerts on a topic. Every method is to be called by the merge's method of the same name.
pub struct AlertStage {
    evaluator: Evaluator,
    encoder: Encoder<Alert<'static>>,
    topic: u16,
}

impl AlertStage {
    /// Alerts of `evaluator`, under the id that the registry gave their schema, for the output topic with this index.
    #[must_use]
    pub fn new(evaluator: Evaluator, schema: i32, topic: u16) -> Self {
        Self { evaluator, encoder: Encoder::new(schema), topic }
    }

    /// The task goes live.
    pub fn begin(&mut self, out: &mut MergeOutput) {
        let Self { evaluator, encoder, topic } = self;
        let news = evaluator.begin(&mut |alert| push(encoder, *topic, alert, out));
        if news {
            out.remember(KEY, |into| evaluator.remembered(into));
        }
    }

    /// Whether a rule looks at the rows of the window that ends at `end`.
    #[must_use]
    pub fn wants(&self, end: i64) -> bool {
        self.evaluator.wants(end)
    }

    /// A window is closed; `rows` are made where a rule looks at them.
    pub fn close(&mut self, end: i64, rows: impl FnOnce() -> Vec<Row>, out: &mut MergeOutput) {
        let Self { evaluator, encoder, topic } = self;
        let rows = if evaluator.wants(end) { rows() } else { Vec::new() };
        evaluator.close(end, &rows, &mut |alert| push(encoder, *topic, alert, out));
    }

    /// Takes the rules back, if `key` is theirs; false where it is another's.
    ///
    /// # Errors
    /// Where the bytes are no rules.
    pub fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<bool, RestoreError> {
        if key != KEY {
            return Ok(false);
        }
        self.evaluator.recall(bytes)?;
        Ok(true)
    }

    /// Appends the state.
    pub fn snapshot(&self, into: &mut Vec<u8>) {
        self.evaluator.snapshot(into);
    }

    /// Reads what [`snapshot`](Self::snapshot) has written; nothing of what was written before there were alerts.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        if bytes.is_empty() { Ok(()) } else { self.evaluator.restore(bytes) }
    }

    /// `alerts_firing`; `alert_series`: what rules keep; `alert_evaluations`: rows judged, `alerts_overflowed`: rows not
    /// judged because there were too many series, `alert_transitions`: records by reason. The last three are since the task
    /// was restored, with what it has replayed. None without rules.
    pub fn figures(&self) -> impl Iterator<Item = Figure<'_>> {
        let (evaluator, counts) = (&self.evaluator, self.evaluator.counts());
        let single = [
            ("alerts_firing", evaluator.firing()),
            ("alert_series", evaluator.tracked()),
            ("alert_evaluations", counts.evaluations),
            ("alerts_overflowed", counts.overflowed),
        ];
        let single = single.map(|(name, value)| Figure { name, of: "", value }).into_iter();
        let by_reason: Vec<_> = counts.transitions().collect();
        let by_reason = by_reason.into_iter().map(|(of, value)| Figure { name: "alert_transitions", of, value });
        single.chain(by_reason).filter(|_| evaluator.has_rules())
    }

    /// What rules keep.
    #[must_use]
    pub fn size(&self) -> StateSize {
        StateSize { keys: self.evaluator.tracked(), bytes: self.evaluator.bytes() }
    }
}

fn push(encoder: &mut Encoder<Alert<'static>>, topic: u16, alert: &Alert<'_>, out: &mut MergeOutput) {
    out.push_aside(topic, alert.fingerprint.as_bytes(), |into| {
        encoder.encode(alert, into).expect("the record type and its schema agree, as a test of records proves");
    });
}
