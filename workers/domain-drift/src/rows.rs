//! The rows that leave the worker, and what turns them into bytes.

use crate::distance::Distance;

/// Index of the topic of [`DriftRow`]s among the worker's output topics.
pub const DRIFT_TOPIC: u16 = 0;

/// Index of the topic of alerts among the worker's output topics.
pub const ALERTS_TOPIC: u16 = 1;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sources with a target.
    Pair,
    /// A domain with its own past.
    SelfDrift,
}

impl Kind {
    /// Its name in rows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::SelfDrift => "self",
        }
    }
}

/// One comparison at one window end.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftRow<'a> {
    /// Start of the window in epoch ms, itself not included.
    pub window_start: i64,
    /// End of the window in epoch ms, included.
    pub window_end: i64,
    /// What is compared.
    pub kind: Kind,
    /// The source domains, joined.
    pub sources: &'a str,
    /// The target domain.
    pub target: &'a str,
    /// The numbers.
    pub distance: Distance,
    /// As configured.
    pub revision: i64,
}

impl DriftRow<'_> {
    /// The record's key, for people: kind, sources and target, joined by `|`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}|{}|{}", self.kind.name(), self.sources, self.target)
    }
}

/// Turns rows into the values of records. Two equal rows must give equal bytes.
pub trait RowEncoder: Send + 'static {
    /// Appends a row.
    fn drift(&mut self, row: &DriftRow<'_>, into: &mut Vec<u8>);
}
