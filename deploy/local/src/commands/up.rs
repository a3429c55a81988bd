//! `cargo stack up`.

use clap::Args;

/// Start the stack, print its addresses and return; it runs until `down`.
#[derive(Debug, Args)]
pub(crate) struct Up {}

impl Up {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        Ok(())
    }
}
