//! What becomes of a record: refused, late or applied, by the record alone or by a decision that is remembered.

use records::{Reason, Rejection};

use super::FoldTask;
use crate::counts::FutureRule;
use crate::operator::{Fold, Record, Source, Timed};
use crate::task::{RefusedFuture, Task};

impl<F: Fold> FoldTask<F> {
    /// The partition has a record. What its watermark has followed while it was idle is a decision: written where records
    /// come live, obeyed in a replay.
    pub(super) fn wake(&mut self, offset: i64) {
        match &mut self.replay {
            Some(replay) => {
                if let Some(watermark) = replay.followed(offset) {
                    self.follow(watermark);
                }
            }
            None => {
                if let Some(watermark) = self.progress.watermark.value().filter(|_| self.progress.watermark.followed())
                {
                    self.decisions.follow(offset, watermark);
                }
            }
        }
        self.progress.watermark.speaks();
    }

    pub(super) fn judge(
        &mut self,
        record: &Record<'_>,
        verdict: Result<<F::Source as Source>::Event<'_>, Rejection>,
        now: i64,
    ) {
        let event = match verdict {
            Ok(event) => event,
            Err(rejection) => return self.refuse(record, &rejection),
        };
        let event_time = event.event_time();
        let clock = record.timestamp.map_or(now, |timestamp| timestamp.min(now));
        if event_time > clock.saturating_add(self.time.max_future_skew) {
            return self.refuse_future(record, event_time, now);
        }
        if self.progress.watermark.is_late(event_time) {
            self.progress.counts.late += 1;
            let watermark = self.progress.watermark.value().unwrap_or_default();
            let message = format!("event_time {event_time} is at or below the partition's watermark {watermark}");
            return self.refusals.late(record, &message, &mut self.out.records);
        }
        self.out.mark = self.mark();
        self.fold.apply(&event, &mut self.out);
        self.progress.counts.applied += 1;
        if self.progress.watermark.accept(event_time) {
            self.close();
        }
    }

    fn refuse(&mut self, record: &Record<'_>, rejection: &Rejection) {
        if rejection.outside && self.replay.is_none() {
            self.decisions.refuse(rejection.reason, record.offset, self.position);
        }
        self.progress.counts.refuse(rejection);
        self.refusals.dead_letter(record, rejection, &mut self.out.records);
    }

    /// What the record's own timestamp refuses is refused alike in a replay; what only the reader's clock does is decided.
    fn refuse_future(&mut self, record: &Record<'_>, event_time: i64, now: i64) {
        let skew = self.time.max_future_skew;
        let rule = match record.timestamp {
            None => FutureRule::NoTimestamp,
            Some(timestamp) if event_time > timestamp.saturating_add(skew) => FutureRule::RecordTimestamp,
            Some(_) => FutureRule::ReaderClock,
        };
        if rule != FutureRule::RecordTimestamp && self.replay.is_none() {
            self.decisions.refuse_by_clock(record.offset, self.progress.counts.passed());
        }
        self.progress.counts.refuse_future(rule);
        let refused = RefusedFuture { offset: record.offset, event_time, timestamp: record.timestamp, now, rule };
        self.refused_future = Some(refused).filter(|_| self.replay.is_none());
        let message = format!("event_time {event_time} lies more than {skew} ms ahead of {refused}");
        let rejection = Rejection::new(Reason::FutureTimestamp, message);
        self.refusals.dead_letter(record, &rejection, &mut self.out.records);
    }
}
