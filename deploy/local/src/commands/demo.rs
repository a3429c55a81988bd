//! `cargo demo`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use stack::{demo, terminal};

/// Show everything once: start the stack and the workers, send clicks of more than two hours through them, and look at
/// the result. Alerts are shown as they come; each of the six episodes in the clicks must lead to one.
///
/// Takes about a minute; the first time, downloads and builds come on top. Nothing is left behind, however it ends.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// A recording of interactions (NDJSON, plain or gz) instead of generated shoppers.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The generator's seed: the same one gives the same shoppers.
    #[arg(long, default_value_t = 1, conflicts_with = "input")]
    seed: u64,
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        let progress = terminal::progress();
        let demo = demo::Demo { input: self.input, seed: self.seed, keep: self.keep };
        if !demo::run(&demo, progress.as_ref())? {
            bail!("the demo ran, but not everything was as it must be: see above");
        }
        Ok(())
    }
}
