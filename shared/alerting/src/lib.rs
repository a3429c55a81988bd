//! Alerts: rules over the rows of closed windows, and the transitions that they lead to. Times are event times; there is no
//! clock and no IO in here.
//!
//! - [`AlertsConfig`] is what people write, checked against a catalogue of [`RowKind`]s; it becomes a [`RuleSet`],
//! - [`Evaluator`] judges the rows of one window after the other and keeps what it has to know of each group,
//! - [`AlertStage`] is an evaluator inside of a merge: its alerts go to a topic, its rules are remembered.

mod attribution;
mod catalogue;
mod check;
mod config;
mod evaluator;
mod judging;
mod live;
mod rule;
mod series;
mod shorten;
mod snapshot;
mod stage;
mod summary;
mod transition;

pub use catalogue::{Group, Metric, Row, RowKind};
pub use config::{AlertsConfig, DEFAULTS, Direction, Kind, RuleConfig};
pub use evaluator::{Counts, Evaluator};
pub use rule::{Bound, Comparison, Condition, Rule, RuleSet, Terms};
pub use stage::AlertStage;
pub use transition::fingerprint;
