//! What both pipelines have in common: groups' shares that slide with a window.

use grouping::Summary;

/// A group's share of a window that slides. Taking back what was added leaves no trace.
pub trait Sliding: Summary + PartialEq {
    /// Takes back what [`merge`](grouping::Share::merge) has added.
    fn subtract(&mut self, other: &Self);
}
