//! What the tests of all crates share: the real components, topics of their own, records in and out, and waiting.
//!
//! ```no_run
//! use std::time::Duration;
//! use testkit::Outgoing;
//!
//! let topic = testkit::topic("clicks", 2, &[]);
//! testkit::produce(&topic, [Outgoing::new("session", "payload")]);
//! assert_eq!(testkit::read_committed(&topic).len(), 1);
//! let first = testkit::eventually("a record", Duration::from_secs(5), || testkit::read_committed(&topic).pop());
//! ```
//!
//! Helpers panic where a test could only fail: a test that has no broker has nothing to say.

mod components;
mod groups;
mod records;
mod waiting;

pub use components::{brokers, clickhouse, kafka, kafka_with_session, stack, workers};
pub use groups::{expel, members};
pub use records::{Outgoing, Recorded, create_topic, produce, produce_with, read_committed, topic, unique};
pub use stack::broker::ends_by_itself;
pub use stack::{Component, Signal, set_group_session};
pub use waiting::eventually;
