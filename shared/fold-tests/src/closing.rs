//! Closing makes progress, whatever the watermark does.

use proptest::prelude::*;
use streaming::operator::Fold;
use streaming::window::Windows;

use crate::close;

/// Event times of all that there are, the ends often.
fn any_event_time() -> impl Strategy<Value = i64> {
    let (first, last) = records::EVENT_TIMES.into_inner();
    prop_oneof![first..=last, first..first + 2_000, last - 2_000..=last]
}

/// Watermarks of all that can be, the ends often.
fn any_watermark() -> impl Strategy<Value = i64> {
    prop_oneof![4 => any_event_time(), 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

/// Events' times, each with the watermark behind it (epoch ms).
pub fn any_steps() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((any_event_time(), any_watermark()), 1..40)
}

/// Each end lies above the one before, and no event has more than `ends_of_an_event`: a watermark can jump over centuries, and
/// to the end of all times. `apply` takes the event's number, from 1 on, and its time.
///
/// # Errors
/// Where an end lies too low, or there are too many.
pub fn closing_makes_progress<F: Fold>(
    mut fold: F,
    table: &F::Table,
    windows: Windows,
    ends_of_an_event: usize,
    steps: Vec<(i64, i64)>,
    apply: impl Fn(&mut F, usize, i64),
) -> Result<(), TestCaseError> {
    let (mut after, mut closes) = (i64::MIN, 0);
    for (applied, (time, watermark)) in (1..).zip(steps) {
        if time > after {
            apply(&mut fold, applied, time);
        }
        let target = windows.floor(watermark);
        while let Some(end) = fold.next_end(after).filter(|end| *end <= target && after < i64::MAX) {
            prop_assert!(end > after, "{} behind {}", end, after);
            close(&mut fold, end, table);
            (after, closes) = (end, closes + 1);
            prop_assert!(closes <= applied * ends_of_an_event, "{} ends closed for {} events", closes, applied);
        }
        after = after.max(target);
    }
    Ok(())
}
