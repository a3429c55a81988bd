//! The rows that leave the worker, and what turns them into bytes.

use grouping::{Group, Values};
use measures::{Band, Quantile, Score};

use crate::summary::Summary;

/// Index of the topic of [`FreshnessRow`]s among the worker's output topics.
pub const FRESHNESS_TOPIC: u16 = 0;
/// Index of the topic of [`EntropyRow`]s among the worker's output topics.
pub const ENTROPY_TOPIC: u16 = 1;

/// Index of the topic of alerts among the worker's output topics.
pub const ALERTS_TOPIC: u16 = 2;

/// One session at one window end.
#[derive(Debug, Clone, PartialEq)]
pub struct FreshnessRow<'a> {
    /// Start of the window in epoch ms, itself not included.
    pub window_start: i64,
    /// End of the window in epoch ms, included.
    pub window_end: i64,
    /// The session.
    pub session_id: &'a str,
    /// Dimensions of its newest event in the window.
    pub dimensions: &'a Values<'a>,
    /// Its events in the window.
    pub events: u64,
    /// Its entropy.
    pub score: Score,
    /// As configured.
    pub revision: i64,
}

impl FreshnessRow<'_> {
    /// The band of its normalised entropy.
    #[must_use]
    pub fn band(&self) -> Band {
        Band::of(self.score.normalised)
    }
}

/// One group at one window end.
#[derive(Debug, Clone, PartialEq)]
pub struct EntropyRow<'a> {
    /// Window and group.
    pub group: &'a Group<'a>,
    /// Sessions with an event in the window.
    pub sessions_total: u64,
    /// Their events.
    pub events: u64,
    /// Sessions with enough events to be scored.
    pub sessions: u64,
    /// Of the scored sessions; `None` where there are none.
    pub scores: Option<GroupScores>,
}

/// What is told of a group's scored sessions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupScores {
    /// Bits.
    pub mean_entropy: f64,
    /// From 0 to 1.
    pub mean_freshness: f64,
    /// Nearest-rank quantiles of freshness in thousandths: 0.05, 0.5, 0.95.
    pub freshness_quantiles: [f64; 3],
    /// Shares of the bands, from 0 to 1, in the order of [`Band::ALL`].
    pub shares: [f64; 3],
}

impl GroupScores {
    /// The scores of a closed window's summary; `None` where no session is scored.
    #[must_use]
    pub fn of(summary: &Summary) -> Option<Self> {
        let mean_entropy = summary.entropy.mean(summary.sessions)?;
        let mean_freshness = summary.freshness.mean(summary.sessions)?;
        let [low, median, high] = [Quantile::P05, Quantile::P50, Quantile::P95].map(|q| summary.grid.quantile(q));
        let shares = summary.bands.map(|count| count as f64 / summary.sessions as f64);
        Some(Self { mean_entropy, mean_freshness, freshness_quantiles: [low?, median?, high?], shares })
    }
}

/// Turns rows into the values of records. Two equal rows must give equal bytes.
pub trait RowEncoder: Send + 'static {
    /// Appends a session's row.
    fn freshness(&mut self, row: &FreshnessRow<'_>, into: &mut Vec<u8>);

    /// Appends a group's row.
    fn entropy(&mut self, row: &EntropyRow<'_>, into: &mut Vec<u8>);
}
