//! The local stack: Kafka, the schema registry and the ClickHouse engine as plain processes of this machine, without
//! containers, for development, `cargo demo`, `cargo stack replay` and the tests.
//!
//! ```no_run
//! use stack::{Components, Options, Stack, progress};
//!
//! let stack = Stack::start(&Options { components: Components::ALL, ..Options::default() }, &progress::Silent)?;
//! stack.create_topic("clicks", 4, &[("retention.ms", "-1")])?;
//! println!("{} {} {}", stack.brokers(), stack.registry_url(), stack.clickhouse_url());
//! stack.stop()?;
//! # anyhow::Ok(())
//! ```
//!
//! Everything started here dies with this process, however it dies ([`processes`]), unless it was detached on purpose.

pub mod broker;
pub mod demo;
pub mod export;
pub mod fault;
pub mod generator;
pub mod http;
pub mod measure;
pub mod processes;
pub mod progress;
pub mod publish;
pub mod recording;
pub mod replay;
pub mod routes;
pub mod terminal;
pub mod torture;

mod at_the_end;
mod component;
mod components;
mod downloads;
mod home;
mod logs;
mod options;
mod ports;
mod prerequisites;
mod stack;
mod topics;
mod worker;
mod workspace;

pub use component::{Component, Components};
pub use home::{DetachedStack, Running, remove_data};
pub use options::{Load, Options, Ports};
pub use ports::free_port;
pub use processes::{Exit, Launch, Process, Signal, ThrowAwayDirectory};
pub use progress::Progress;
pub use stack::Stack;
pub use topics::{create_topic, set_group_session};
pub use worker::Worker;
pub use workspace::{Profile, WorkerBinaries, build_workers};
