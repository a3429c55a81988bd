//! Times at the ends of all that there are: a task closes each window once, and comes to an end.

use super::*;
use crate::toy::Amount;

/// The toy fold, which counts what is closed.
struct Counted {
    fold: SumFold,
    ends: Vec<i64>,
}

impl Fold for Counted {
    type Source = Amounts;
    type Table = NoTable;

    fn apply(&mut self, event: &Amount<'_>, out: &mut FoldOutput) {
        self.fold.apply(event, out);
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        self.fold.next_end(after)
    }

    fn close(&mut self, end: i64, table: &NoTable, out: &mut FoldOutput) {
        self.ends.push(end);
        self.fold.close(end, table, out);
    }

    fn size(&self) -> StateSize {
        self.fold.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        self.fold.snapshot(into);
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.fold.restore(bytes)
    }
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![4 => any::<i64>(), 4 => 0..2_000_i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX), 1 => Just(i64::MAX - 5)]
}

proptest! {
    /// No clock is in the way of any event here.
    #[test]
    fn windows_close_in_order_and_no_more_often_than_their_panes_allow(
        steps in prop::collection::vec((any_time(), any::<bool>()), 1..60),
    ) {
        let mut task = task_with(Counted { fold: sum_fold(), ends: Vec::new() }, SharedTable::none());
        let mut offset = 0;
        for (time, follows) in steps {
            if follows {
                task.follow(time);
                continue;
            }
            let value = format!("{time},1");
            let record = Record { timestamp: None, ..record(offset, &value) };
            prop_assert_eq!(task.process(&record, i64::MAX).unwrap(), Processed::Done);
            offset += 1;
            prop_assert!(task.counts().unwrap().add_up());
        }
        let ends = &task.fold.ends;
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ends);
        prop_assert!(ends.len() as i64 <= offset * (WINDOW / SLIDE + 1), "{} ends of {} events", ends.len(), offset);
    }
}
