//! What every worker of recwatch needs around its work: configuration, command line, logging, metrics, health, shutdown.
//!
//! A worker's `main` is a few lines: parse the command line, then hand the work to [`run`], which loads the configuration
//! (all problems at once), sets up logging and signals, and maps the outcome to an exit code:
//!
//! ```no_run
//! use clap::Parser;
//! use serde::Deserialize;
//! use service::{Arguments, Http, Log, Problems, Program, Settings, Validate, sections};
//!
//! #[derive(clap::Parser)]
//! #[command(name = "example", version, about = "An example.")]
//! struct CommandLine {
//!     #[command(flatten)]
//!     arguments: Arguments,
//! }
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Configuration {
//!     window: service::HumanDuration,
//!     http: Http,
//!     log: Log,
//! }
//!
//! impl Validate for Configuration {
//!     fn validate(&self, problems: &mut Problems) {
//!         if self.window.as_millis() == 0 {
//!             problems.add("window", self.window, "longer than 0s");
//!         }
//!         problems.within("http", &self.http);
//!         problems.within("log", &self.log);
//!     }
//! }
//!
//! impl Settings for Configuration {
//!     fn http(&self) -> &Http {
//!         &self.http
//!     }
//!     fn log(&self) -> &Log {
//!         &self.log
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let command_line = CommandLine::parse();
//!     // Keys of its own come first: in TOML they must stand above the first section.
//!     let defaults = service::defaults(&["# The window.\nwindow = \"5m\"\n", sections::HTTP, sections::LOG]);
//!     let program = Program { name: "example", version: env!("CARGO_PKG_VERSION"), defaults: &defaults };
//!     service::run::<Configuration>(&program, &command_line.arguments, |context| {
//!         let _http = context.serve()?;
//!         let running = context.health.condition("running");
//!         running.ok();
//!         context.shutdown.wait_blocking();
//!         Ok(())
//!     })
//! }
//! ```

mod arguments;
mod configuration;
mod failpoints;
mod health;
mod heartbeat;
mod http;
mod latency;
mod logging;
mod metrics;
mod process;
mod retry_after;
mod run;
pub mod sections;
mod shutdown;
mod signals;
mod throttle;
mod types;
mod waits;
mod watchdog;

pub use arguments::Arguments;
pub use configuration::{Loaded, Origin, Problem, Problems, Sources, Validate, defaults, load};
pub use failpoints::crash_point;
pub use health::{Condition, Health};
pub use heartbeat::{Activity, Heartbeat, Heartbeats};
pub use http::HttpServer;
pub use latency::LatencyHistogram;
pub use metrics::Metrics;
pub use retry_after::retry_after;
pub use run::{Context, Program, Settings, run};
pub use sections::{GroupProtocol, Http, Kafka, Log, Registry};
pub use shutdown::Shutdown;
pub use throttle::Throttle;
pub use types::{HttpUrl, HttpUrls, HumanDuration, Secret, Size};
pub use waits::{Wait, WaitReason, Waits};
