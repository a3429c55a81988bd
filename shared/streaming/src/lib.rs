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
mod decisions;
mod deployment;
mod fold_task;
mod frame;
pub mod headers;
mod instance;
mod kafka;
mod merge_task;
mod metadata;
mod offset_runs;
pub mod operator;
pub mod output;
mod partition_queue;
mod progress;
mod refusal;
mod reset;
mod restore;
mod resume;
mod runtime;
mod slot;
mod state;
mod table;
mod task;
mod telemetry;
mod thread;
mod topic_watch;
mod topics;
mod topology;
mod warning_limit;
mod watermark;
mod way_out;
pub mod window;
mod worker;

pub use counts::{Counts, RefusedTimes};
pub use deployment::Deployment;
pub use progress::{FoldProgress, MergeProgress};
pub use runtime::{Readiness, Runtime, StartOptions};
pub use table::SharedTable;
pub use telemetry::Telemetry;
pub use topology::{Cleanup, EventTime, OutputTopic, Pipeline, Topology};
pub use watermark::Announced;
