//! `cargo stack replay`.

mod fleet;
mod metric_workers;
mod settings;
mod watermarks;

pub use fleet::{Fleet, Instance, Usage};
pub use metric_workers::{METRIC_WORKERS, MetricWorker, RowTopic, WRITER};
pub use settings::{Addresses, Protocol, Setting};
pub use watermarks::{Counts, Fold, Merge, Watermarks};
