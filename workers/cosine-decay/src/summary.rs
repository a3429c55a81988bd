//! What both pipelines have in common: groups' shares that slide with a window and become rows.

use grouping::{Share, Values};
use streaming::operator::RestoreError;

use crate::rows::RowEncoder;

/// A group's share of one window. Taking back what was added leaves no trace.
pub trait Summary: Share + Clone + PartialEq + Send + 'static {
    /// Index of the topic of its rows among the worker's output topics.
    const TOPIC: u16;

    /// Takes back what [`merge`](Share::merge) has added.
    fn subtract(&mut self, other: &Self);

    /// How many groups' shares were merged into this one because there were too many groups.
    fn overflowed(&self) -> u64;

    /// Reads what [`encode`](Share::encode) has written.
    ///
    /// # Errors
    /// Where the bytes are none of it, or of another version.
    fn decode(bytes: &[u8]) -> Result<Self, RestoreError>;

    /// The numbers of its row as alert rules see them, in the order of [`crate::alerts`].
    fn values(&self) -> Vec<Option<f64>>;

    /// Appends the row of a closed window.
    fn write_row(&self, group: &Group<'_>, encoder: &mut impl RowEncoder, into: &mut Vec<u8>);
}

/// Whose row it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// Start of the window in epoch ms, itself not included.
    pub window_start: i64,
    /// End of the window in epoch ms, included.
    pub window_end: i64,
    /// The group.
    pub dimensions: &'a Values<'a>,
    /// As configured.
    pub revision: i64,
}
