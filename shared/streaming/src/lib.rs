//! The windowing runtime: stream threads, tasks, watermarks, windows, transactions, snapshots. It knows Kafka and no
//! metric.

mod frame;
pub mod headers;
pub mod operator;
pub mod output;
pub mod window;
