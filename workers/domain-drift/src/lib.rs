//! The domain-drift worker: how far the users of one domain lie from those of others, and from their own past, by sliding
//! windows of event time.
//!
//! [`fold::DriftFold`] keeps the newest vectors of one source partition's users and reduces each slide to
//! [`summary::Summary`]s, one a domain; [`merge::DriftMerge`] adds those of all partitions and emits a closed window's rows.
//! Both are pure.

pub mod alerts;
pub mod avro;
pub mod config;
pub mod distance;
pub mod event;
pub mod fold;
pub mod history;
pub mod limit;
pub mod merge;
pub mod pairs;
mod pane;
pub mod projector;
pub mod rows;
pub mod settings;
mod snapshot;
pub mod source;
pub mod summary;
mod totals;
mod users;
mod versions;
