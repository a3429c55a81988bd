//! Snapshots whose bytes are not those that were written.

use proptest::prelude::*;
use proptest::sample::Index;
use streaming::operator::Fold;

use crate::close;

/// Events' times (epoch ms), and what becomes of the snapshot behind them.
#[derive(Debug, Clone)]
pub struct Damage {
    times: Vec<i64>,
    changes: Vec<(Index, u8)>,
    cut: Option<Index>,
}

/// A few events, a few bytes that are changed, and now and then a cut.
pub fn any_damage() -> impl Strategy<Value = Damage> {
    let times = prop::collection::vec(0_i64..2_000, 0..20);
    let changes = prop::collection::vec((any::<Index>(), any::<u8>()), 0..6);
    let cut = prop::option::weighted(0.2, any::<Index>());
    (times, changes, cut).prop_map(|(times, changes, cut)| Damage { times, changes, cut })
}

/// Whatever a state topic holds: bytes that are no snapshot are an error, and those that are one can be gone on with. `apply`
/// takes the event's number, from 0 on, and its time.
///
/// # Errors
/// Where the ends of a restored fold do not rise.
pub fn damaged_snapshots_are_refused_or_gone_on_with<F: Fold>(
    new: impl Fn() -> F,
    table: &F::Table,
    damage: Damage,
    apply: impl Fn(&mut F, usize, i64),
) -> Result<(), TestCaseError> {
    let Damage { times, changes, cut } = damage;
    let mut fold = new();
    let mut closed = i64::MIN;
    for (at, time) in times.iter().enumerate() {
        if *time <= closed {
            continue;
        }
        apply(&mut fold, at, *time);
        if at == times.len() / 2
            && let Some(end) = fold.next_end(i64::MIN)
        {
            closed = end;
            close(&mut fold, end, table);
        }
    }
    let mut bytes = Vec::new();
    fold.snapshot(&mut bytes);
    for (place, byte) in changes {
        let place = place.index(bytes.len());
        bytes[place] = byte;
    }
    bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
    let mut restored = new();
    if restored.restore(&bytes).is_ok() {
        let (mut after, mut closes) = (i64::MIN, 0);
        while let Some(end) = restored.next_end(after).filter(|_| closes < 100) {
            prop_assert!(end > after);
            close(&mut restored, end, table);
            (after, closes) = (end, closes + 1);
        }
    }
    Ok(())
}
