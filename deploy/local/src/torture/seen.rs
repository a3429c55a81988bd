//! What an actor reports.

use std::time::Duration;

use super::usage::Usage;

/// What was seen while a schedule was carried out.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When and what, in the order in which it happened.
    pub(crate) events: Vec<(Duration, String)>,
    pub(crate) problems: Vec<String>,
    /// Starts of processes behind the first.
    pub(crate) restarts: u64,
    /// Crashes at failpoints.
    pub(crate) crashes: u64,
    pub(crate) usage: Usage,
}
