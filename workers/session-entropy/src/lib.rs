//! The session-entropy worker: how fresh do sessions stay, by sliding windows of event time.
//!
//! [`fold::SessionFold`] keeps the sessions of one source partition and reduces each slide to [`summary::Summary`]s, one
//! a group; [`grouping::GroupMerge`] adds those of all partitions and emits a closed window's rows. Both are pure.

pub mod alerts;
pub mod avro;
pub mod config;
pub mod event;
pub mod fold;
pub mod rows;
mod sessions;
pub mod settings;
mod snapshot;
pub mod source;
mod state;
pub mod summary;
