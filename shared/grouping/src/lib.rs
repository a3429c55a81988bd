//! What rows are grouped by, and how many groups a window has.
//!
//! - [`Dimension`], [`Grouping`]: the properties of events that make a group, and the bytes that stand for one,
//! - [`GroupLimit`]: of too many groups the smallest stay; the others' [`Share`]s become one,
//! - [`Examples`]: an event of each group in the window whose trace people can follow,
//! - [`GroupMerge`]: the merge of workers whose rows are groups.

mod dimensions;
mod example;
mod limit;
mod merge;
mod validation;

pub use dimensions::{Dimension, Grouping, OTHER, Values};
pub use example::{Example, Examples, WithExample, traceparent, write_example};
pub use limit::{GroupLimit, Share};
pub use merge::{Group, GroupMerge, Summary, WriteRow};
pub use validation::validate;
