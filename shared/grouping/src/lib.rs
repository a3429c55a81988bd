//! What rows are grouped by, and how many groups a window has.
//!
//! - [`Dimension`], [`Grouping`]: the properties of events that make a group, and the bytes that stand for one,
//! - [`GroupLimit`]: of too many groups the smallest stay; the others' [`Share`]s become one.

mod dimensions;
mod limit;
mod validation;

pub use dimensions::{Dimension, Grouping, OTHER, Values};
pub use limit::{GroupLimit, Share};
pub use validation::validate;
