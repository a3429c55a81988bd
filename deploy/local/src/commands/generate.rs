//! `cargo stack generate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use stack::generator::Shape;
use stack::recording::Recording;

/// The event time at which generated recordings begin, unless told otherwise: 2026-01-05 08:00 UTC, a Monday.
pub(crate) const START: i64 = 1_767_600_000_000;

/// Write a recording of generated interactions, the same ones for the same seed.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// How many interactions, in about two hours of event time.
    #[arg(long, value_name = "N")]
    records: u64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Event time of the beginning (epoch ms).
    #[arg(long, value_name = "MS", default_value_t = START)]
    start: i64,
    /// Where to; compressed if the name ends in .gz.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Generate {
    pub(crate) fn run(self) -> Result<()> {
        let shape = Shape::load(self.seed, self.start, self.records);
        let lines = Recording::generated(shape, Some(self.records)).write_to(&self.out)?;
        eprintln!("{lines} interactions in {}", self.out.display());
        Ok(())
    }
}
