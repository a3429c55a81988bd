//! The cosine-decay worker: how alike are the items that sessions meet one after the other, and how fast items' vectors
//! lose their likeness to what they were, by sliding windows of event time.
//!
//! [`clicks::ClicksFold`] makes pairs of the clicks of one source partition, with the items' vectors as of their time, from
//! the [`table::ItemTable`] that every instance holds whole, and reduces each slide to [`clicks::PairSummary`]s, one a
//! group; [`items::ItemsFold`] feeds that table, reduces each slide to [`items::RateSummary`]s, one a domain, and asks for
//! retraining; [`grouping::GroupMerge`] adds those of all partitions and emits a closed window's rows. All of it is pure.

pub mod alerts;
pub mod avro;
pub mod clicks;
pub mod config;
pub mod event;
pub mod items;
pub mod rows;
pub mod settings;
pub mod source;
pub mod summary;
pub mod table;
pub mod version;
mod window_sums;
