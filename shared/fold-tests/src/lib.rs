//! Properties that every fold has to have, for the tests of metric workers: each brings its fold, its table, and how an event
//! of a time is applied.

mod closing;
mod damage;

use streaming::operator::{Closing, Fold};
use streaming::output::FoldOutput;

pub use closing::{any_steps, closing_makes_progress};
pub use damage::{Damage, any_damage, damaged_snapshots_are_refused_or_gone_on_with};

/// Closes a window to its last piece.
fn close<F: Fold>(fold: &mut F, end: i64, table: &F::Table) {
    let mut out = FoldOutput::new(1);
    fold.close(end, table, &mut out);
    while fold.go_on_closing(end, table, &mut out) == Closing::Unfinished {}
}
