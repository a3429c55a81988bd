//! The Avro records of `schemas/` as Rust types, their wire format, the schema registry, and dead letters.

mod rejection;

pub use rejection::{Reason, Rejection};
pub mod dead_letter;
