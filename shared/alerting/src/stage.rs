//! An evaluator inside of a merge.

use records::{Alert, Encoder};
use streaming::operator::{Figure, RestoreError, StateSize};
use streaming::output::MergeOutput;

use crate::catalogue::Row;
use crate::evaluator::Evaluator;

/// The key under which a merge remembers its rules.
const KEY: &str = "alert-rules";

/// What turns a merge's rows into alerts on a topic. Every method is to be called by the merge's method of the same name.
/// The default one judges nothing.
#[derive(Default)]
pub struct AlertStage(Option<Judging>);

struct Judging {
    evaluator: Evaluator,
    alerts: Alerts,
}

/// Where alerts go.
struct Alerts {
    encoder: Encoder<Alert<'static>>,
    topic: u16,
}

impl Alerts {
    fn push(&mut self, alert: &Alert<'_>, out: &mut MergeOutput) {
        out.push_aside(self.topic, alert.fingerprint.as_bytes(), |into| {
            self.encoder
                .encode(alert, into)
                .expect("the record type and its schema agree, as a test of records proves");
        });
    }
}

impl AlertStage {
    /// Alerts of `evaluator`, under the id that the registry gave their schema, for the output topic with this index.
    #[must_use]
    pub fn new(evaluator: Evaluator, schema: i32, topic: u16) -> Self {
        Self(Some(Judging { evaluator, alerts: Alerts { encoder: Encoder::new(schema), topic } }))
    }

    /// The task goes live.
    pub fn begin(&mut self, out: &mut MergeOutput) {
        let Some(Judging { evaluator, alerts }) = &mut self.0 else { return };
        if evaluator.begin(&mut |alert| alerts.push(alert, out)) {
            out.remember(KEY, |into| evaluator.remembered(into));
        }
    }

    /// Whether a rule looks at the rows of the window that ends at `end`.
    #[must_use]
    pub fn wants(&self, end: i64) -> bool {
        self.0.as_ref().is_some_and(|judging| judging.evaluator.wants(end))
    }

    /// A window is closed; `rows` are made where a rule looks at them.
    pub fn close(&mut self, end: i64, rows: impl FnOnce() -> Vec<Row>, out: &mut MergeOutput) {
        let Some(Judging { evaluator, alerts }) = &mut self.0 else { return };
        let rows = if evaluator.wants(end) { rows() } else { Vec::new() };
        evaluator.close(end, &rows, &mut |alert| alerts.push(alert, out));
    }

    /// A window is closed in which only other merge partitions have rows; nothing where it [is closed](Self::close) already.
    pub fn close_without_rows(&mut self, end: i64, out: &mut MergeOutput) {
        if self.0.as_ref().is_some_and(|judging| judging.evaluator.closed() < Some(end)) {
            self.close(end, Vec::new, out);
        }
    }

    /// Takes the rules back, if `key` is theirs; false where it is another's.
    ///
    /// # Errors
    /// Where the bytes are no rules.
    pub fn recall(&mut self, key: &str, bytes: &[u8]) -> Result<bool, RestoreError> {
        if let Some(Judging { evaluator, .. }) = &mut self.0
            && key == KEY
        {
            evaluator.recall(bytes)?;
        }
        Ok(key == KEY)
    }

    /// Appends the state.
    pub fn snapshot(&self, into: &mut Vec<u8>) {
        if let Some(judging) = &self.0 {
            judging.evaluator.snapshot(into);
        }
    }

    /// Reads what [`snapshot`](Self::snapshot) has written; nothing of what was written before there were alerts.
    ///
    /// # Errors
    /// Where the bytes are none of it.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        match &mut self.0 {
            Some(judging) if !bytes.is_empty() => judging.evaluator.restore(bytes),
            _ => Ok(()),
        }
    }

    /// `alerts_firing`; `alert_series`: what rules keep; `alert_evaluations`: rows judged, `alerts_overflowed`: rows not
    /// judged because there were too many series, `alert_transitions`: records by reason. The last three are since the task
    /// was restored, with what it has replayed. None without rules.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure<'_>> {
        let Some(Judging { evaluator, .. }) = self.0.as_ref().filter(|judging| judging.evaluator.has_rules()) else {
            return Vec::new();
        };
        let counts = evaluator.counts();
        let single = [
            ("alerts_firing", evaluator.firing()),
            ("alert_series", evaluator.tracked()),
            ("alert_evaluations", counts.evaluations),
            ("alerts_overflowed", counts.overflowed),
        ];
        let single = single.map(|(name, value)| Figure { name, of: "", value }).into_iter();
        let by_reason = counts.transitions().map(|(of, value)| Figure { name: "alert_transitions", of, value });
        single.chain(by_reason).collect()
    }

    /// What rules keep.
    #[must_use]
    pub fn size(&self) -> StateSize {
        let size =
            |judging: &Judging| StateSize { keys: judging.evaluator.tracked(), bytes: judging.evaluator.bytes() };
        self.0.as_ref().map(size).unwrap_or_default()
    }
}
