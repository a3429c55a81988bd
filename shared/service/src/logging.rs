//! Logging: `tracing` to standard error, for people or as JSON lines.

mod fields;
mod line;
mod text;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::sections::Log;
use line::Line;

/// Installs the process's subscriber; a second call changes nothing.
pub(crate) fn start(log: &Log) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .event_format(Line { format: log.format })
        .try_init();
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let cause = panic.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(%thread, %place, %backtrace, "panic: {cause}"),
            _ => tracing::error!(%thread, %place, "panic: {cause}"),
        }
    }));
}
