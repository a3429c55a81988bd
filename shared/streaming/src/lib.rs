//! The windowing runtime: stream threads, tasks, watermarks, windows, transactions, snapshots. It knows Kafka and no
//! metric.
//!
//! A worker is a [`Topology`]: [`Pipeline`]s, each a source topic with a [fold](operator::Fold) for every partition and
//! a [merge](operator::Merge) for every partition of its repartition topic. [`Runtime`] runs it exactly once.

// so that the toy worker of tests/ serves the unit tests too
#[cfg(test)]
extern crate self as streaming;
#[cfg(test)]
#[path = "../tests/toy/mod.rs"]
mod toy;

mod committer;
pub mod config;
mod counts;
mod cut;
mod fold_task;
mod frame;
pub mod headers;
mod kafka;
mod merge_task;
mod metadata;
pub mod operator;
pub mod output;
mod partition_queue;
mod progress;
mod refusal;
mod restore;
mod runtime;
mod slot;
mod state;
mod table;
mod task;
mod telemetry;
mod thread;
mod topics;
mod topology;
mod watermark;
pub mod window;
mod worker;

pub use counts::Counts;
pub use progress::{FoldProgress, MergeProgress};
pub use refusal::TRUNCATED_HEADER;
pub use runtime::{Readiness, Runtime};
pub use table::SharedTable;
pub use telemetry::Telemetry;
pub use topology::{Cleanup, EventTime, OutputTopic, Pipeline, Topology};
pub use watermark::Announced;
