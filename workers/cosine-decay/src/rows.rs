//! The rows that leave the worker, and what turns them into bytes.

use grouping::Group;

/// Index of the topic of [`PairsRow`]s among the worker's output topics.
pub const PAIRS_TOPIC: u16 = 0;
/// Index of the topic of [`RateRow`]s among the worker's output topics.
pub const RATE_TOPIC: u16 = 1;
/// Index of the topic of [`RetrainRow`]s among the worker's output topics.
pub const RETRAIN_TOPIC: u16 = 2;

/// Index of the topic of alerts among the worker's output topics.
pub const ALERTS_TOPIC: u16 = 3;

/// How alike successive items of sessions are: one group at one window end.
#[derive(Debug, Clone, PartialEq)]
pub struct PairsRow<'a> {
    /// Window and group.
    pub group: &'a Group<'a>,
    /// Pairs whose vectors were both there.
    pub pairs: u64,
    /// Pairs with a vector missing.
    pub missing: u64,
    /// Of the pairs; `None` where there are none.
    pub scores: Option<PairScores>,
}

/// What is told of a group's pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScores {
    /// From -1 to 1.
    pub mean_cosine: f64,
    /// From -1 to 1.
    pub mean_decayed: f64,
    /// Nearest-rank quantiles of the decayed similarity in thousandths: 0.05, 0.5, 0.95.
    pub decayed_quantiles: [f64; 3],
    /// Time between the two events of a pair.
    pub mean_dt_seconds: f64,
}

/// How fast items' vectors lose their likeness to what they were: one domain at one window end.
#[derive(Debug, Clone, PartialEq)]
pub struct RateRow<'a> {
    /// Window and domain.
    pub group: &'a Group<'a>,
    /// Versions that came after another one of their item.
    pub updates: u64,
    /// The rate per hour.
    pub lambda_hat: f64,
    /// `None` where nothing decays.
    pub half_life_hours: Option<f64>,
    /// From 0 to 1.
    pub retention_24h: f64,
}

/// An item asks for retraining.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrainRow<'a> {
    /// Time of the version that made it ask, epoch ms.
    pub event_time: i64,
    /// The item.
    pub item_id: &'a str,
    /// The version's domain.
    pub domain: &'a str,
    /// The version's model.
    pub model_version: &'a str,
    /// Mean cosine to its nearest other items.
    pub observation: f64,
    /// Observations of the item so far.
    pub observations: u64,
    /// Mean step of the newest observations.
    pub slope: f64,
    /// Of the version's vector.
    pub norm: f64,
    /// As configured.
    pub revision: i64,
}

/// Turns rows into the values of records. Two equal rows must give equal bytes.
pub trait RowEncoder: Send + 'static {
    /// Appends a row of pairs.
    fn pairs(&mut self, row: &PairsRow<'_>, into: &mut Vec<u8>);

    /// Appends a domain's rate.
    fn rate(&mut self, row: &RateRow<'_>, into: &mut Vec<u8>);

    /// Appends a request.
    fn retrain(&mut self, row: &RetrainRow<'_>, into: &mut Vec<u8>);
}
