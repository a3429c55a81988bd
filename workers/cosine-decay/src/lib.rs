//! The cosine-decay worker.

pub mod table;
pub mod version;
