//! What the binaries of metric workers have in common: from a checked configuration and a topology to a running worker.
//!
//! - [`run`] does what the command line asks for, or runs until it is told to stop; with a state that is given up its alerts end,
//! - [`SourceConfig`], [`check_topic`], [`check_windows`], [`check_span`], [`check_sections`]: the keys that all of them have, checked alike.

mod config;
mod left_alerts;
mod run;

pub use config::{SourceConfig, check_sections, check_span, check_topic, check_windows};
pub use run::{MetricWorker, Options, lookup, run};
