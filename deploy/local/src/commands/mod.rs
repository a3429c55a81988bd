//! The subcommands, one file each: a new one is a file, a variant of [`Command`] and a line in [`main`].

mod demo;
mod down;
mod generate;
mod measure;
mod replay;
mod status;
mod torture;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

/// recwatch's local stack: Kafka, the schema registry and the ClickHouse engine as processes of this machine, without
/// containers.
///
/// The first start downloads about 300 MB through Maven and pip, as they are configured here, into $RECWATCH_CACHE,
/// $XDG_CACHE_HOME/recwatch or ~/.cache/recwatch. Everything listens on 127.0.0.1 only.
#[derive(Debug, Parser)]
#[command(name = "cargo stack", bin_name = "cargo stack", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Replay(Box<replay::Replay>),
    Generate(generate::Generate),
    Measure(measure::Measure),
    #[command(hide = true)]
    PollAndDecode(measure::PollAndDecode),
    Torture(torture::TortureArguments),
    Up(up::Up),
    Down(down::Down),
    Status(status::Status),
}

/// Where the stack of `up`, `down` and `status` lives.
#[derive(Debug, Args)]
struct Place {
    /// The stack's folder, for its data and logs. Several stacks may run at once, each in a folder of its own.
    #[arg(long, value_name = "DIR", help_heading = "Place")]
    directory: Option<PathBuf>,
}

impl Place {
    /// The folder given, or the user's usual one.
    fn directory(self) -> Result<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.directory
            .or_else(|| set("XDG_STATE_HOME").map(|state| state.join("recwatch/stack")))
            .or_else(|| set("HOME").map(|home| home.join(".local/state/recwatch/stack")))
            .context("there is no usual place for the stack's files (HOME is not set): give one with --directory")
    }
}

/// Parses the command line and runs it; an error ends with a message and exit code 1.
pub(crate) fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(demo) => demo.run().map(|()| ExitCode::SUCCESS),
        Command::Replay(replay) => replay.run().map(|()| ExitCode::SUCCESS),
        Command::Generate(generate) => generate.run().map(|()| ExitCode::SUCCESS),
        Command::Measure(measure) => measure.run().map(|()| ExitCode::SUCCESS),
        Command::PollAndDecode(consumer) => consumer.run().map(|()| ExitCode::SUCCESS),
        Command::Torture(torture) => torture.run().map(|()| ExitCode::SUCCESS),
        Command::Up(up) => up.run(),
        Command::Down(down) => down.run(),
        Command::Status(status) => status.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
