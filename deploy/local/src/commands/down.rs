//! `cargo stack down`.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use stack::{DetachedStack, remove_data};

use super::Place;

/// Stop the stack and remove its data and logs.
#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    place: Place,
    /// Keep topics, schemas and tables for the next `up` with the same folder.
    #[arg(long)]
    keep_data: bool,
}

impl Down {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let directory = self.place.directory()?;
        let Some(stack) = DetachedStack::find(&directory)? else {
            bail!("no stack was left running in {}: nothing is stopped or removed", directory.display())
        };
        stack.stop()?;
        if self.keep_data {
            println!("The stack is down; its data is kept in {}.", directory.display());
        } else {
            remove_data(&directory)?;
            println!("The stack is down and its data removed.");
        }
        Ok(ExitCode::SUCCESS)
    }
}
