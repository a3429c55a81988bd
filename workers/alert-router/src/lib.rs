//! alert-router: reads the alerts of recwatch's workers, groups them, and tells those who want to know.
//!
//! ```text
//! alerts, silences ──▶ core (routes, groups, inhibition, silences) ──▶ one transaction: state, route topics, dead letters
//!                        ▲                                                   │ committed
//!                        └────────── outcome ◀── deliver (HTTP, files) ◀─────┘
//! ```
//!
//! One instance is active, the others stand by. What it knows is in a compacted topic, so that whoever takes over goes on
//! where it stood: [`core`](crate::core) decides, everything else here only carries out.

pub mod active;
pub mod config;
pub mod core;
pub mod deliver;
pub mod explain;
pub mod inhibition;
pub mod labels;
pub mod matcher;
pub mod member;
pub mod metrics;
pub mod mute_time;
pub mod outputs;
pub mod payload;
pub mod receipt;
pub mod route;
pub mod router;
pub mod routing;
pub mod silence;
pub mod silence_command;
pub mod timestamp;
pub mod topics;
pub mod writer;
