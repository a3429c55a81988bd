//! What operators keep their state in, laid out for millions of keys, and the bytes that it is written as.
//!
//! - [`Slab`]: values under small numbers; [`Text`]: identifiers without an allocation each; [`Rows`]: vectors,
//! - [`wire`]: the integers and strings of summaries and snapshots.

mod rows;
mod slab;
mod text;
pub mod wire;

pub use rows::Rows;
pub use slab::Slab;
pub use text::Text;
