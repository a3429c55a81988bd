//! `cargo stack replay`.

mod audit;
mod fleet;
mod metric_workers;
mod patience;
mod plan;
mod route_audit;
mod run;
mod settings;
mod summary;
mod watermarks;

pub use fleet::{Fleet, Instance, Usage};
pub use metric_workers::find as find_worker;
pub(crate) use metric_workers::{ALERTS, DEAD_LETTER_TOPIC, LATE_TOPIC, internal_topic};
pub use metric_workers::{ALERTS_TOPIC, METRIC_WORKERS, MetricWorker, ROUTE_TOPIC, ROUTER, RowKind, RowTopic, WRITER};
pub use plan::Plan;
pub(crate) use run::Parts;
pub use run::Run;
pub(crate) use settings::configuration;
pub use settings::{Addresses, Protocol, Setting};
pub use summary::{Summary, TopicSummary, WorkerSummary};
pub use watermarks::{Counts, Fold, Merge, Watermarks};
