//! Windows that close in pieces: what happens between them.

use std::time::{Duration, Instant};

use super::*;
use crate::slot::{Phase, Semantics, Slot};
use crate::task::Reached;
use crate::toy::InPieces;

fn in_pieces(pieces: usize) -> FoldTask<InPieces> {
    task_with(InPieces::new(pieces), SharedTable::none())
}

fn try_to_process(task: &mut FoldTask<InPieces>, offset: i64, value: &str) -> Processed {
    task.process(&record(offset, value), TIMESTAMP).unwrap()
}

#[test]
fn a_half_closed_window_keeps_records_waiting_and_nothing_of_it_gets_out() {
    let mut task = in_pieces(3);
    process(&mut task, 0, "1000,5");
    cut(&mut task);
    // watermark 1021: the windows that end at 1000 and 1020 are to be closed, in four pieces each
    process(&mut task, 1, "1031,7");
    let before = task.reached();
    assert_eq!((before.watermark, before.closed), (Some(1021), Some(980)));
    for _ in 0..6 {
        assert!(task.is_closing());
        assert_eq!(try_to_process(&mut task, 2, "1032,1"), Processed::Closing);
        task.prune(1000);
        assert_eq!((task.position(), task.reached(), task.row_waits()), (2, before, false));
        assert_eq!(summaries(&cut(&mut task)), []);
        task.advance();
    }
    assert!(!task.is_closing());
    assert_eq!(task.reached().closed, Some(1020));
    let ends: Vec<i64> = summaries(&cut(&mut task)).iter().map(|(end, ..)| *end).collect();
    assert_eq!(ends, [1000, 1020]);
    process(&mut task, 2, "1032,1");
    assert_eq!(task.counts().unwrap().applied, 3);
}

#[test]
fn a_task_is_cut_where_it_stood_before_and_its_snapshot_waits() {
    let mut task = in_pieces(1);
    process(&mut task, 0, "1000,5");
    process(&mut task, 1, "1031,7");
    let (id, reached) = (task.id, task.reached());
    let now = Instant::now();
    let mut slot = Slot::new(id, "amounts".into(), TOPICS.state, 1, now);
    slot.phase = Phase::Running(Box::new(task));
    let semantics = || Semantics { hash: 7, partitions: 1, topic: None };
    let part = slot.cut(false, semantics()).unwrap();
    let metadata = crate::metadata::CommitMetadata::parse(&part.metadata).unwrap();
    assert_eq!((part.offset, metadata.reached), (2, reached));
    assert!(slot.snapshot_due(Duration::ZERO, now).is_none());
    assert!(slot.cut(false, semantics()).is_none(), "there is no news of a window that is half closed");
    while slot.task().unwrap().is_closing() {
        slot.task_mut().unwrap().advance();
    }
    let part = slot.cut(false, semantics()).unwrap();
    let metadata = crate::metadata::CommitMetadata::parse(&part.metadata).unwrap();
    assert_eq!(metadata.reached, Reached { closed: Some(1020), ..reached });
    assert!(slot.snapshot_due(Duration::ZERO, now).is_some());
}

proptest! {
    /// However many pieces there are, whatever is cut between them, and wherever the task is broken off: it emits what it
    /// would have emitted in one go, each once.
    #[test]
    fn pieces_cuts_and_breaks_between_them_change_nothing(
        records in prop::collection::vec((0_i64..40, 1_i64..9), 1..60),
        pieces in 0_usize..5,
        cuts in any::<u64>(),
        snapshot_after in 0_usize..60,
        broken_off_after in 0_usize..200,
    ) {
        let records: Vec<String> =
            records.iter().enumerate().map(|(at, (ahead, amount))| format!("{},{amount}", ahead + at as i64)).collect();
        let mut plain = task();
        for (offset, record) in records.iter().enumerate() {
            process(&mut plain, offset as i64, record);
        }
        let expected = summaries(&cut(&mut plain));

        let mut task = in_pieces(pieces);
        let mut emitted = Vec::new();
        let mut saved = (Vec::new(), 0);
        task.snapshot(&mut saved.0);
        let mut turn = 0;
        while task.position() < records.len() as i64 || task.is_closing() {
            turn += 1;
            if cuts >> (turn % 64) & 1 == 1 {
                emitted.extend(summaries(&cut(&mut task)));
            }
            if turn >= snapshot_after && saved.1 == 0 && !task.is_closing() {
                emitted.extend(summaries(&cut(&mut task)));
                saved = (Vec::new(), task.position());
                task.snapshot(&mut saved.0);
            }
            if turn == broken_off_after {
                emitted.extend(summaries(&cut(&mut task)));
                let (committed, reached) = (task.position(), task.reached());
                task = in_pieces(pieces);
                task.restore(log_with(&StateLog::default(), &saved.0, saved.1).load().unwrap().unwrap(), reached).unwrap();
                task.start_at(saved.1);
                for offset in saved.1..committed {
                    process(&mut task, offset, &records[offset as usize]);
                    task.discard_outputs();
                }
                task.end_replay(reached);
                task.start_at(committed);
                prop_assert_eq!(task.reached(), reached);
            }
            task.advance();
            let offset = task.position();
            if let Some(record) = records.get(offset as usize) {
                let is_closing = task.is_closing();
                let processed = try_to_process(&mut task, offset, record);
                prop_assert_eq!(processed, if is_closing { Processed::Closing } else { Processed::Done });
            }
        }
        emitted.extend(summaries(&cut(&mut task)));
        prop_assert_eq!(emitted, expected);
        prop_assert_eq!(task.counts().unwrap().applied, plain.counts().unwrap().applied);
    }
}
